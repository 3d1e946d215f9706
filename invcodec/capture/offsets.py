"""When each video of a capture began: `sync.json` beside them, which `invcodec sync` writes.

`videos[]` has one entry per video, with its path and `offset`, seconds to be added to the times of its frames, which
count from its first one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from invcodec.capture.image import check_file
from invcodec.errors import CaptureError
from invcodec.geometry.camera_json import Fields, load_json
from invcodec.output import written
from invcodec.places import exists, relative

FILE = "sync.json"
_LARGEST = 86400.0
"""Seconds that an offset may have."""


def read(folder: Path, videos: Sequence[Path]) -> list[Fraction] | None:
    """The offset of each video in seconds, or None if the folder does not tell.

    Raises:
        CaptureError: the file is none, or lacks one of the videos.
    """
    path = folder / FILE
    if not exists(path):
        return None
    check_file(path, "file")
    data = load_json(path, CaptureError)
    rows = data.get("videos") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CaptureError(f"{path}: 'videos' is not a list of objects")
    known: dict[str, float] = {}
    for row in rows:
        name = row.get("video")
        offset = Fields(row, str(path), CaptureError).number("offset")
        if not isinstance(name, str) or offset is None:
            raise CaptureError(f"{path}: an entry of 'videos' has no 'video' or no 'offset'")
        if abs(offset) > _LARGEST:
            raise CaptureError(f"{path}: 'offset' of {name} is {offset:g} s, which is more than a day")
        if name in known:
            raise CaptureError(f"{path}: has two entries for {name}")
        known[name] = offset
    names = [relative(video, folder) for video in videos]
    for name in names:
        if name not in known:
            raise CaptureError(f"{path}: has no entry for {name}; run 'invcodec sync' again, or remove the file")
    return [Fraction(known[name]).limit_denominator(10**6) for name in names]


def write(folder: Path, offsets: Mapping[Path, float], force: bool) -> Path:
    """Write the offset of each video.

    Raises:
        UsageError: the file exists, and `force` is false; or it cannot be written.
    """
    path = folder / FILE
    rows = [{"video": relative(video, folder), "offset": round(each, 6)} for video, each in offsets.items()]
    with written(path, force=force) as out:
        out.file.write((json.dumps({"videos": rows}, indent=1) + "\n").encode())
    return path


def starts(offsets: Sequence[Fraction], rate: Fraction) -> list[Fraction]:
    """For each video, the seconds after its first frame at which the capture's frame 0 is.

    That is the first time at which all videos have a frame, to within half a frame. Between two frames, it is where all
    videos' nearest frames are least far apart.
    """
    # Frames of the videos, as places on a circle of one frame. Number 0 is opposite to the widest gap between them.
    phases = sorted({offset * rate % 1 for offset in offsets})
    gaps = [after - before for before, after in pairwise([*phases, phases[0] + 1])]
    widest = gaps.index(max(gaps))
    middle = phases[widest] + (gaps[widest] + 1) / 2
    latest = max(offsets) * rate - Fraction(1, 2)
    zero = latest + (middle - latest) % 1
    return [zero / rate - offset for offset in offsets]
