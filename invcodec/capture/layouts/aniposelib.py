"""aniposelib: a TOML file with a table for each camera, as Anipose, Pose2Sim, Caliscope and FreeMoCap write it.

A table has `name`, `size`, `matrix`, `distortions`, `rotation` (Rodrigues, or in Caliscope's own files a matrix),
`translation` and `fisheye`. Caliscope numbers its cameras instead of naming them, in tables below `cameras`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from invcodec.capture.layouts.calibration import OPENCV_CORNER, Values, parsing, read_text, with_pictures
from invcodec.capture.layouts.listing import OPENCV_AXES, Layout, Listing
from invcodec.errors import CaptureError
from invcodec.names import Source

_KEYS = ("matrix", "rotation", "translation")


def _file(folder: Path) -> Path | None:
    """The TOML file with cameras; others may be a tool's settings."""
    for path in sorted(folder.glob("*.toml")):
        try:
            text = read_text(path)
        except CaptureError:
            continue
        if all(re.search(rf"^\s*{key}\s*=", text, re.MULTILINE) for key in _KEYS):
            return path
    return None


def matches(folder: Path) -> bool:
    return _file(folder) is not None


def cameras_of(path: Path) -> list[Any]:
    """The cameras of a file.

    Raises:
        CaptureError
    """
    with parsing(path, "TOML"):
        data = tomllib.loads(read_text(path))
    below = data.get("cameras")
    tables = {f"cam_{key}": row for key, row in below.items()} if isinstance(below, dict) else data
    cameras = []
    for key, row in tables.items():
        if not isinstance(row, dict) or key == "metadata" or row.get("ignore") is True:
            continue
        name = str(row.get("name", key))
        values = Values(row, f"{path}: [{key}]")
        fisheye = row.get("fisheye") is True
        size = values.size(values.array("size", (2,)))
        turns = values.number("rotation_count", 0)
        if turns:
            raise CaptureError(
                f"{path}: [{key}]: 'rotation_count' is {turns:g}; turn the videos and calibrate them upright"
            )
        cameras.append(
            values.camera(
                name,
                size,
                values.array("matrix", (3, 3)),
                values.pose("rotation", "translation"),
                values.distortion("distortions", fisheye=fisheye),
                fisheye=fisheye,
                corner=OPENCV_CORNER,
            )
        )
    return cameras


def read(folder: Path, source: Source | None) -> Listing:
    path = _file(folder)
    if path is None:
        raise CaptureError(f"{folder}: no .toml file with cameras ({', '.join(_KEYS)})")
    return with_pictures(folder, path, cameras_of(path), source)


LAYOUT = Layout(matches, read, "a .toml file of aniposelib", OPENCV_AXES)
