"""Immersive light fields (Broxton et al. 2020): `models.json` and `camera_0001.mp4`, ...; fisheye lenses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from invcodec.capture.layouts.calibration import Values, fisheye_distortion, with_pictures
from invcodec.capture.layouts.listing import Layout, Listing, existing
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera
from invcodec.geometry.camera_json import load_json
from invcodec.geometry.convention import OPENCV_INVERTED
from invcodec.geometry.rotations import pose_from_opencv
from invcodec.names import Source

_FILE = "models.json"


def files(folder: Path) -> list[Path]:
    return existing(folder, _FILE)


def read(folder: Path, source: Source | None) -> Listing:
    path = folder / _FILE
    rows = load_json(path, CaptureError)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CaptureError(f"{path}: is not a list of cameras")
    cameras: list[Camera] = []
    for row in rows:
        name = str(row.get("name", f"camera_{len(cameras) + 1:04d}"))
        values = Values(row, f"{path}: camera '{name}'")
        kind = row.get("projection_type", "perspective")
        if kind not in ("fisheye", "perspective"):
            raise CaptureError(f"{values.where}: 'projection_type' is {kind!r}, expected fisheye or perspective")
        f, aspect = values.number("focal_length"), values.number("pixel_aspect_ratio", 1)
        cx, cy = values.array("principal_point", (2,))
        rotation = values.rotation("orientation")
        pose = pose_from_opencv(rotation, -rotation @ values.array("position", (3,)))
        size = values.size((values.number("width"), values.number("height")))
        bent = values.array("radial_distortion", (2,), (3,), default=[]).tolist()
        k1, k2, k3 = (*bent, 0.0, 0.0, 0.0)[:3]
        fisheye = kind == "fisheye"
        distortion = fisheye_distortion((k1, k2, k3)) if fisheye else (k1, k2, 0.0, 0.0, k3)
        matrix = np.array([[f, 0, cx], [0, f * aspect, cy], [0, 0, 1]])
        cameras.append(values.camera(name, size, matrix, pose, distortion, fisheye=fisheye))
    return with_pictures(folder, path, cameras, source)


_CONVENTION = replace(OPENCV_INVERTED, note="but positions are those of the cameras")
LAYOUT = Layout(files, read, f"{_FILE} of immersive light fields", _CONVENTION)
