"""nerfstudio, frame by frame: a folder `0/`, `1/`, ... for each frame, each with images and its own `transforms.json`.

A camera is called like its images (`images/cam00.png`), or as `camera` says.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from invcodec.capture.layouts.calibration import IMAGE_RATE
from invcodec.capture.layouts.listing import Layout, Listing
from invcodec.capture.layouts.transforms import FILE, from_images, load
from invcodec.errors import CaptureError
from invcodec.names import Source


def _by_number(folder: Path) -> dict[int, Path]:
    """The file of each frame, in order."""
    found: dict[int, Path] = {}
    for path in folder.iterdir():
        if path.name.isascii() and path.name.isdigit() and (path / FILE).exists():
            number = int(path.name)
            if number in found:
                raise CaptureError(f"{path}: is frame {number}, as {found[number].parent} is")
            found[number] = path / FILE
    return dict(sorted(found.items()))


def files(folder: Path) -> list[Path]:
    return list(_by_number(folder).values())


def read(folder: Path, source: Source | None) -> Listing:
    if source == "videos":
        raise CaptureError(f"{folder}: this layout has images only; omit --source or use --source images")
    described = _by_number(folder)
    if not described:
        raise CaptureError(f"{folder}: no folders with the numbers of frames and a {FILE} in each")
    rows: list[dict[str, Any]] = []
    for number, path in described.items():
        declared = load(path)
        tops = {key: value for key, value in declared.data.items() if key not in ("frames", "cameras")}
        found = []
        for row in declared.frames:
            if not isinstance(row.get("file_path"), str):
                raise CaptureError(f"{path}: an entry of 'frames' has no 'file_path'")
            name = str(row.get("camera", PurePosixPath(row["file_path"]).stem))
            place = {"file_path": f"{path.parent.name}/{row['file_path']}", "camera": name, "frame_index": number}
            if isinstance(row.get("mask_path"), str):
                place["mask_path"] = f"{path.parent.name}/{row['mask_path']}"
            found.append({**tops, **row, **place})
        rows += found
    first = load(next(iter(described.values())))
    whole = replace(first, data={}, frames=rows, cameras=[])
    return Listing(from_images(folder, folder / "*" / FILE, whole), first.rate or IMAGE_RATE, "images")


LAYOUT = Layout(files, read, f"N/{FILE} for each frame N")
