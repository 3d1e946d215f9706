"""Kalibr: `camchain.yaml` (or `*-camchain.yaml`), each camera's pose relative to the one before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from invcodec.capture.layouts.calibration import OPENCV_CORNER, Values, load_yaml, only, with_pictures
from invcodec.capture.layouts.listing import Layout, Listing
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera, check_pose
from invcodec.geometry.convention import OPENCV_INVERTED
from invcodec.geometry.rotations import pose_from_opencv
from invcodec.names import Source

_FILE = "*camchain*.yaml"
_FISHEYE = {"radtan": False, "none": False, "equidistant": True}


def files(folder: Path) -> list[Path]:
    return only(folder, _FILE)


def read(folder: Path, source: Source | None) -> Listing:
    if not (found := files(folder)):
        raise CaptureError(f"{folder}: no {_FILE}, or several")
    data = load_yaml(path := found[0])
    cameras: list[Camera] = []
    to_camera = np.eye(4)
    while (name := f"cam{len(cameras)}") in data:
        where = f"{path}: {name}"
        row = data[name]
        if not isinstance(row, dict):
            raise CaptureError(f"{where}: is not a map")
        values = Values(row, where)
        model, lens = row.get("camera_model", "pinhole"), row.get("distortion_model", "none")
        if model != "pinhole" or lens not in list(_FISHEYE):
            raise CaptureError(f"{where}: {model} with {lens} is not supported; calibrate as pinhole-radtan or -equi")
        if cameras:
            step = values.array("T_cn_cnm1", (4, 4))
            # A broken link would be blamed on all cameras behind it.
            check_pose(step, f"{where}: T_cn_cnm1")
            to_camera = step @ to_camera
        fx, fy, cx, cy = values.array("intrinsics", (4,))
        size = values.size(values.array("resolution", (2,)))
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        pose = pose_from_opencv(to_camera[:3, :3], to_camera[:3, 3])
        fisheye = _FISHEYE[lens]
        bent = () if lens == "none" else values.distortion("distortion_coeffs", fisheye=fisheye)
        cameras.append(values.camera(name, size, matrix, pose, bent, fisheye=fisheye, corner=OPENCV_CORNER))
    if left := [key for key in data if str(key).startswith("cam") and key not in {c.name for c in cameras}]:
        raise CaptureError(f"{path}: has {left[0]}, but no cam{len(cameras)} before it in the chain")
    return with_pictures(folder, path, cameras, source)


LAYOUT = Layout(files, read, "camchain.yaml of Kalibr", replace(OPENCV_INVERTED, note="each from the camera before it"))
