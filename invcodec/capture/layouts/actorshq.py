"""ActorsHQ: `calibration.csv`, a row for each camera, with intrinsics as fractions of the picture's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from invcodec.capture.layouts.calibration import Values, read_csv, with_pictures
from invcodec.capture.layouts.listing import Layout, Listing, existing
from invcodec.geometry.convention import OPENCV
from invcodec.geometry.rotations import from_axis_angle, from_opencv_axes
from invcodec.names import Source

_FILE = "calibration.csv"
_COLUMNS = ("name", "w", "h", "rx", "ry", "rz", "tx", "ty", "tz", "fx", "fy", "px", "py")


def files(folder: Path) -> list[Path]:
    return existing(folder, _FILE)


def read(folder: Path, source: Source | None) -> Listing:
    path = folder / _FILE
    cameras = []
    for row in read_csv(path, _COLUMNS):
        values = Values(row, f"{path}: camera '{row['name']}'")
        width, height = size = values.size((values.number("w"), values.number("h")))
        fx, fy, px, py = (values.number(key) for key in ("fx", "fy", "px", "py"))
        matrix = np.array([[fx * width, 0, px * width], [0, fy * height, py * height], [0, 0, 1]])
        rotation = from_axis_angle(np.array([values.number(key) for key in ("rx", "ry", "rz")]))
        centre = np.array([values.number(key) for key in ("tx", "ty", "tz")])
        cameras.append(values.camera(row["name"], size, matrix, from_opencv_axes(rotation, centre)))
    return with_pictures(folder, path, cameras, source)


LAYOUT = Layout(files, read, f"{_FILE} of ActorsHQ", OPENCV)
