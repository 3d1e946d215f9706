"""aniposelib: a TOML file with a table for each camera, as Anipose, Pose2Sim, Caliscope and FreeMoCap write it.

A table has `name`, `size`, `matrix`, `distortions`, `rotation` (Rodrigues, or in Caliscope's own files a matrix),
`translation` and `fisheye`. Caliscope numbers its cameras instead of naming them, in tables below `cameras`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from invcodec.capture.layouts.calibration import OPENCV_CORNER, Values, first_with, load_toml, with_pictures
from invcodec.capture.layouts.listing import Layout, Listing
from invcodec.errors import CaptureError
from invcodec.geometry.convention import OPENCV_INVERTED
from invcodec.names import Source

_KEYS = ("matrix", "rotation", "translation")


def files(folder: Path) -> list[Path]:
    """The TOML file with cameras; others may be a tool's settings."""
    keys = [re.compile(rf"^[ \t]*{key}[ \t]*=", re.MULTILINE) for key in _KEYS]
    return first_with(folder, "*.toml", lambda text: all(key.search(text) for key in keys))


def cameras_of(path: Path) -> list[Any]:
    """The cameras of a file.

    Raises:
        CaptureError
    """
    data = load_toml(path)
    below = data.get("cameras")
    tables = {f"cam_{key}": row for key, row in below.items()} if isinstance(below, dict) else data
    cameras = []
    for key, row in tables.items():
        if not isinstance(row, dict) or key == "metadata" or row.get("ignore") is True:
            continue
        name = row["name"] if isinstance(row.get("name"), str) else key
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
    if not (found := files(folder)):
        raise CaptureError(f"{folder}: no .toml file with cameras ({', '.join(_KEYS)})")
    return with_pictures(folder, found[0], cameras_of(found[0]), source)


LAYOUT = Layout(files, read, "a .toml file of aniposelib", OPENCV_INVERTED)
