"""Qualisys Track Manager: a calibration `*.qca.txt` (XML), intrinsics in 64ths of a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from invcodec.capture.layouts.calibration import OPENCV_CORNER, Values, first_with, read_xml, with_pictures
from invcodec.capture.layouts.listing import Layout, Listing
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera
from invcodec.names import Source

_UNIT = 64.0


def files(folder: Path) -> list[Path]:
    return first_with(folder, "*.qca*", lambda text: "<calibration" in text and "<intrinsic" in text)


def cameras_of(path: Path) -> list[Camera]:
    """The cameras of a file, with lengths as it has them, usually millimetres.

    Raises:
        CaptureError
    """
    cameras: list[Camera] = []
    for entry in read_xml(path).iterfind("cameras/camera"):
        name = entry.get("serial", f"camera {len(cameras)}")
        where = f"{path}: camera '{name}'"
        parts = {key: entry.find(key) for key in ("fov_video", "transform", "intrinsic")}
        if missing := [key for key, part in parts.items() if part is None]:
            raise CaptureError(f"{where}: has no <{missing[0]}>")
        view, place, lens = (Values(dict(part.attrib), where) for part in parts.values() if part is not None)
        left, top, right, bottom = (view.number(key) for key in ("left", "top", "right", "bottom"))
        size = view.size((right - left + 1, bottom - top + 1))
        fx, fy, cx, cy, skew, k1, k2, k3, p1, p2 = (
            lens.number(key, 0)
            for key in (
                "focalLengthU", "focalLengthV", "centerPointU", "centerPointV", "skew", "radialDistortion1",
                "radialDistortion2", "radialDistortion3", "tangentalDistortion1", "tangentalDistortion2",
            )
        )  # fmt: skip
        matrix = np.array([[fx / _UNIT, skew / _UNIT, cx / _UNIT - left], [0, fy / _UNIT, cy / _UNIT - top], [0, 0, 1]])
        # The file has the axes of the camera as rows.
        axes = np.array([[place.number(f"r{row}{column}") for row in (1, 2, 3)] for column in (1, 2, 3)])
        centre = [place.number(key) for key in "xyz"]
        pose = np.column_stack([axes, centre])
        cameras.append(lens.camera(name, size, matrix, pose, (k1, k2, p1, p2, k3), corner=OPENCV_CORNER))
    return cameras


def read(folder: Path, source: Source | None) -> Listing:
    if not (found := files(folder)):
        raise CaptureError(f"{folder}: no *.qca.txt with cameras")
    return with_pictures(folder, found[0], cameras_of(found[0]), source)


LAYOUT = Layout(files, read, "a .qca.txt file of Qualisys")
