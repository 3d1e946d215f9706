"""COLMAP: a sparse model in `sparse/0`, binary or text, with a video or a folder of images for each camera.

The model is of one instant: `cam00.png`, or `cam00/0000.png`. Pictures may be smaller than those that it was made from.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from invcodec.capture import colmap
from invcodec.capture.colmap import LensModel, View
from invcodec.capture.layouts.calibration import Values, fisheye_distortion, with_pictures
from invcodec.capture.layouts.listing import Layout, Listing
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera
from invcodec.geometry.convention import OPENCV_INVERTED
from invcodec.names import Source

_STILL = 0.02
"""How far apart COLMAP may have placed pictures of a camera that stands still, as a fraction of the rig's radius and in
elements of the rotation."""


def files(folder: Path) -> list[Path]:
    return colmap.find(folder, "cameras", "images")


def read(folder: Path, source: Source | None) -> Listing:
    paths = files(folder)
    if not paths:
        raise CaptureError(
            f"{folder / colmap.FOLDERS[0]}: no model of COLMAP; expected cameras and images, .bin or .txt"
        )
    lenses, views = colmap.read_lenses(paths[0]), colmap.read_views(paths[1])
    by_camera: dict[str, list[View]] = {}
    for view in sorted(views, key=lambda view: view.name):
        path = PurePosixPath(view.name)
        # A picture in a folder is a frame of that camera.
        name = path.parent.name or path.stem
        by_camera.setdefault(name, []).append(view)
    centres = np.array([view.pose[:, 3] for view in views]).reshape(-1, 3)
    radius = float(np.linalg.norm(centres - centres.mean(0), axis=1).max(initial=0)) if len(centres) else 0.0
    cameras = []
    for name, of_camera in by_camera.items():
        first = of_camera[0]
        for view in of_camera[1:]:
            if (np.abs(view.pose - first.pose) > _STILL * np.array([1, 1, 1, radius])).any():
                raise CaptureError(
                    f"{paths[1]}: camera '{name}' moves ({view.name} is not where {first.name} is); "
                    "cameras must be static"
                )
        if first.lens not in lenses:
            raise CaptureError(f"{paths[0]}: has no lens {first.lens}, which {first.name} was taken with")
        cameras.append(_camera(name, first, lenses[first.lens], paths[0]))
    return with_pictures(folder, paths[1], cameras, source)


def _camera(name: str, view: View, lens: LensModel, path: Path) -> Camera:
    """The camera of a picture; see colmap/src/colmap/sensor/models.h for the order of parameters."""
    where = f"{path}: the lens of '{name}'"
    values = Values({}, where)
    rest = list(lens.parameters)
    if lens.model == "FOV":
        raise CaptureError(f"{where}: camera model FOV is not supported; undistort with COLMAP's undistorter")
    one_focal = lens.model.startswith("SIMPLE") or lens.model.startswith("RADIAL")
    fx, fy, cx, cy, *rest = [rest[0], *rest] if one_focal else rest
    fisheye = lens.model.endswith("FISHEYE")
    if lens.model == "THIN_PRISM_FISHEYE":
        k1, k2, p1, p2, k3, k4, s1, s3 = rest
        distortion: tuple[float, ...] = (k1, k2, p1, p2, k3, k4, 0.0, 0.0, s1, 0.0, s3)
    else:
        # Radial models have k1 and k2 alone; the others are in OpenCV's order.
        distortion = fisheye_distortion(rest) if fisheye else tuple(rest)
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    size = values.size((lens.width, lens.height))
    return values.camera(name, size, matrix, view.pose, distortion, fisheye=fisheye)


LAYOUT = Layout(files, read, "sparse/0 of COLMAP", OPENCV_INVERTED)
