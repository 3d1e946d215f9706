"""RealityCapture: "Internal/External camera parameters", a `.csv` whose first column is `#name`.

Focal length and principal point are in millimetres of a sensor 36 wide; angles are in degrees. Conventions as in
nerfstudio's converter: rotation about z by -heading, then x by pitch, then y by roll.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np

from invcodec.capture.layouts.calibration import Values, first_with, picture_size, read_csv, with_pictures
from invcodec.capture.layouts.listing import Layout, Listing
from invcodec.errors import CaptureError
from invcodec.geometry.convention import OPENGL
from invcodec.geometry.rotations import from_axis_angle
from invcodec.names import Source

_COLUMNS = ("#name", "x", "y", "alt", "heading", "pitch", "roll", "f", "px", "py", "k1", "k2", "k3", "t1", "t2")
_SENSOR = 36.0


def files(folder: Path) -> list[Path]:
    return first_with(folder, "*.csv", lambda text: text.startswith("#name,"))


def read(folder: Path, source: Source | None) -> Listing:
    if not (found := files(folder)):
        raise CaptureError(f"{folder}: no .csv file that begins with '#name,'")
    cameras = []
    for row in read_csv(path := found[0], _COLUMNS):
        name = PurePath(row["#name"]).stem
        values = Values(row, f"{path}: camera '{name}'")
        if row.get("k4") and values.number("k4"):
            raise CaptureError(f"{values.where}: 'k4' is not supported; export undistorted images")
        width, height = size = picture_size(folder, name, path)
        scale = max(width, height) / _SENSOR
        f, px, py = (values.number(key) * scale for key in ("f", "px", "py"))
        matrix = np.array([[f, 0, width / 2 + px], [0, f, height / 2 + py], [0, 0, 1]])
        turns = [(-values.number("heading"), 2), (values.number("pitch"), 0), (values.number("roll"), 1)]
        about_z, about_x, about_y = (from_axis_angle(np.radians(angle) * np.eye(3)[axis]) for angle, axis in turns)
        centre = np.array([values.number(key) for key in ("x", "y", "alt")])
        pose = np.column_stack([about_z @ about_x @ about_y, centre])
        distortion = tuple(values.number(key) for key in ("k1", "k2", "t1", "t2", "k3"))
        cameras.append(values.camera(name, size, matrix, pose, distortion))
    return with_pictures(folder, path, cameras, source)


LAYOUT = Layout(
    files,
    read,
    "a .csv file of RealityCapture",
    replace(OPENGL, note="by heading, pitch and roll"),
)
