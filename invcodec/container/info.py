"""Description of a file from its structure alone, without decoding (FORMAT.md, "info as JSON")."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, BinaryIO

from invcodec.container.index import FrameEntry
from invcodec.container.reader import Reader
from invcodec.container.records import RecordHeader, RecordType
from invcodec.container.scan import Scanner, scan

SCHEMA = 1
"""Version of what `describe` returns; incremented when a field changes its meaning or is removed."""


def describe(path: str | os.PathLike[str], *, records: bool = False) -> dict[str, Any]:
    """Describe a file without decoding it, in plain types. Sizes are bytes in the file.

    Args:
        records: list every record under `records`.

    Raises:
        UsageError: no such file, or not an .inv file.
        DamagedError, UnsupportedError, LimitError: the file has no usable header, or may not be read.
    """
    with Reader(path) as reader:
        result = _describe(reader, str(path))
        if records:
            result["records"] = [_record(record.header) for record in reader.records()]
        return result


def describe_stream(file: BinaryIO, name: str, *, records: bool = False) -> dict[str, Any]:
    """As `describe`, for a pipe, which is read to its end."""
    scanner = Scanner(name)
    listed = [_record(record.header) for record in scan(file, scanner)]
    return _describe(scanner, name) | ({"records": listed} if records else {})


def _describe(source: Reader | Scanner, name: str) -> dict[str, Any]:
    head, frames = source.head, source.frames
    assert head is not None
    sizes = {"key": [e.length for e in frames if e.is_key], "delta": [e.length for e in frames if not e.is_key]}
    mean = {kind: sum(each) / len(each) if each else None for kind, each in sizes.items()}
    total = {kind: sum(each) for kind, each in sizes.items()}
    duration = frames[-1].time - frames[0].time + 1 / head.frame_rate if frames else Fraction(0)
    settings = head.encoder.get("settings")
    return {
        "schema": SCHEMA,
        "file": name,
        "state": source.status,
        "problems": list(source.problems),
        "encoder": {
            "name": head.encoder.get("name"),
            "version": head.encoder.get("version"),
            "preset": settings.get("preset") if isinstance(settings, dict) else None,
        },
        **head.describe(),
        "frames": {
            "count": len(frames),
            "first": frames[0].number if frames else None,
            "last": frames[-1].number if frames else None,
            "gaps": _gaps([entry.number for entry in frames]),
            "key": len(sizes["key"]),
            "key_interval": _key_interval(frames),
            "duration": float(duration),
        },
        "bytes": {
            "file": source.size,
            "per_frame": source.size / len(frames) if frames else None,
            **total,
            "other": source.size - sum(total.values()),
            **{f"mean_{kind}": each for kind, each in mean.items()},
        },
        "bits_per_weight": {kind: None if each is None else 8 * each / head.weights for kind, each in mean.items()},
        "bit_rate": 8 * source.size / float(duration) if frames else None,
    }


def _record(header: RecordHeader) -> dict[str, Any]:
    return {
        "type": _type_name(header.type),
        "frame": header.frame if header.is_frame else None,
        "offset": header.offset,
        "bytes": header.size,
    }


def _type_name(number: int) -> str:
    try:
        return RecordType(number).name
    except ValueError:
        return f"0x{number:02x}"


def _gaps(numbers: Sequence[int]) -> list[list[int]]:
    """Missing frame numbers, as [first, last]."""
    return [[before + 1, after - 1] for before, after in pairwise(numbers) if after > before + 1]


def _key_interval(frames: Sequence[FrameEntry]) -> int | None:
    """Frames from one keyframe to the next if that is always the same, else None."""
    keys = [index for index, entry in enumerate(frames) if entry.is_key]
    intervals = {after - before for before, after in pairwise(keys)}
    return intervals.pop() if len(intervals) == 1 else None
