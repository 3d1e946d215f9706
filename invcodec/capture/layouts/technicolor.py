"""Technicolor light fields: `cameras_parameters.txt` and `<Scene>_undist_<frame>_<camera>.png`.

After a heading, a row for each camera: focal length, principal point, aspect ratio, skew, rotation as a quaternion
(w, x, y, z) and translation from the world to the camera.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from invcodec.capture.image import image_size
from invcodec.capture.layouts.calibration import IMAGE_RATE, Values, parsing, read_text
from invcodec.capture.layouts.listing import CameraFiles, Layout, Listing, existing
from invcodec.errors import CaptureError
from invcodec.geometry.convention import OPENCV_INVERTED
from invcodec.geometry.rotations import from_quaternion, pose_from_opencv
from invcodec.names import Source

_FILE = "cameras_parameters.txt"
_PICTURE = re.compile(r".*_(\d+)_(\d+)\.png")
_NUMBERS = 12


def files(folder: Path) -> list[Path]:
    return existing(folder, _FILE)


def read(folder: Path, source: Source | None) -> Listing:
    if source == "videos":
        raise CaptureError(f"{folder}: this layout has images only; omit --source or use --source images")
    path = folder / _FILE
    with parsing(path, "table of numbers"):
        lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
        rows = [[float(word) for word in line] for line in lines[1:]]
    images: dict[int, dict[int, Path]] = {}
    for file in sorted(folder.glob("*.png")):
        if found := _PICTURE.fullmatch(file.name):
            other = images.setdefault(int(found[2]), {}).setdefault(int(found[1]), file)
            if other != file:
                raise CaptureError(f"{file}: is of the same camera and frame as {other.name}")
    if images and max(images) >= len(rows):
        raise CaptureError(f"{path}: has {len(rows)} cameras, but there are pictures of camera {max(images)}")
    listed = []
    for index, row in enumerate(rows):
        name = f"cam{index:02d}"
        values = Values({"row": row}, f"{path}: camera {index}")
        f, cx, cy, aspect, skew, *_ = numbers = values.array("row", (_NUMBERS,))
        if index not in images:
            raise CaptureError(f"{folder}: no pictures of camera {index} ('..._undist_<frame>_{index:02d}.png')")
        matrix = np.array([[f, skew, cx], [0, f * aspect, cy], [0, 0, 1]])
        pose = pose_from_opencv(from_quaternion(numbers[5:9]), numbers[9:])
        camera = values.camera(name, image_size(next(iter(images[index].values()))), matrix, pose)
        listed.append(CameraFiles(camera, images=images[index]))
    return Listing(tuple(listed), IMAGE_RATE, "images")


LAYOUT = Layout(files, read, f"{_FILE} of Technicolor", OPENCV_INVERTED)
