"""D-NeRF and its relatives: `transforms_train.json`, and `transforms_test.json`, each with images at times from 0 to 1.

Images from the same place are of the same camera, which is called like the first of them. A single moving camera, which
D-NeRF's own scenes have, is refused.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from invcodec.capture.layouts.calibration import IMAGE_RATE
from invcodec.capture.layouts.listing import Layout, Listing, existing
from invcodec.capture.layouts.transforms import from_images, load
from invcodec.errors import CaptureError
from invcodec.geometry.camera import check_pose
from invcodec.names import Source

_TRAIN, _TEST = "transforms_train.json", "transforms_test.json"
_SPLITS = ("", "train", "test", "val", "images")


def files(folder: Path) -> list[Path]:
    return existing(folder, _TRAIN, _TEST) or existing(folder, _TRAIN)


def read(folder: Path, source: Source | None) -> Listing:
    if source == "videos":
        raise CaptureError(f"{folder}: this layout has images only; omit --source or use --source images")
    names: dict[bytes, str] = {}
    rows: list[dict[str, Any]] = []
    test: set[str] = set()
    first = load(folder / _TRAIN)
    for file in (_TRAIN, _TEST):
        path = folder / file
        if file == _TEST and not path.is_file():
            continue
        declared = load(path)
        tops = {key: value for key, value in declared.data.items() if key not in ("frames", "cameras")}
        for row in declared.frames:
            if not isinstance(row.get("file_path"), str) or row.get("time") is None:
                raise CaptureError(f"{path}: an entry of 'frames' has no 'file_path' or no 'time'")
            pose = check_pose(row.get("transform_matrix"), f"{path}: '{row['file_path']}'")
            place = PurePosixPath(row["file_path"])
            # Adding zero makes a negative one positive.
            key = (np.round(pose, 5) + 0.0).tobytes()
            if key not in names:
                names[key] = _name(row, place, names.values())
            name = names[key]
            if file == _TEST:
                test.add(name)
            rows.append({**tops, **row, "camera": name})
    if len(names) == len(rows) and len({row["time"] for row in rows}) > 1:
        raise CaptureError(
            f"{folder / _TRAIN}: every image is from another place: this is one moving camera; cameras must be static"
        )
    whole = replace(first, data={}, frames=rows, cameras=[], test=sorted(test))
    return Listing(from_images(folder, folder / _TRAIN, whole), first.rate or IMAGE_RATE, "images")


def _name(row: dict[str, Any], place: PurePosixPath, taken: Collection[str]) -> str:
    """Of the camera of an image: as given, or its folder's, or its own where the folder is that of a split."""
    inside = place.parent.name
    name = str(row.get("camera", place.stem if inside in _SPLITS else inside))
    return name if name not in taken else f"{inside}_{place.stem}"


LAYOUT = Layout(files, read, _TRAIN)
