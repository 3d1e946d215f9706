"""What a file holds, read from its structure alone: nothing is decoded (FORMAT.md, "info as JSON")."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, BinaryIO

from invcodec.container.reader import Reader
from invcodec.container.records import FrameEntry, Record, RecordType
from invcodec.container.scan import Scanner, scan

SCHEMA = 1
"""Version of what `describe` returns; raised when a field changes its meaning or goes away."""


def describe(path: str | os.PathLike[str], *, records: bool = False) -> dict[str, Any]:
    """All that can be said of a file without decoding it, in plain types. Sizes are bytes in the file.

    Args:
        records: list every record under `records`.

    Raises:
        UsageError: no such file, or not an .inv file.
        DamagedError, UnsupportedError, LimitError: nothing can be said of it.
    """
    with Reader(path) as reader:
        result = _describe(reader, str(path))
        if records:
            result["records"] = [_record(found.record) for found in reader.records()]
        return result


def describe_stream(file: BinaryIO, name: str, *, records: bool = False) -> dict[str, Any]:
    """As `describe`, of a pipe that is read to its end."""
    scanner = Scanner(name)
    listed = [_record(found.record) for found in scan(file, scanner)]
    return _describe(scanner, name) | ({"records": listed} if records else {})


def _describe(source: Reader | Scanner, name: str) -> dict[str, Any]:
    head, frames = source.head, source.frames
    assert head is not None
    total = {kind: sum(e.length for e in frames if e.kind == kind) for kind in ("key", "delta")}
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
        "networks": [
            {
                "name": network.name,
                "role": network.role,
                "profile": network.profile_name,
                "profile_id": network.profile,
                "profile_version": network.version,
                "config": network.config,
                "space": network.space,
                "weights": {
                    group: sum(t.size for t in network.tensors if t.group == group) for group in ("structure", "colour")
                },
            }
            for network in head.networks
        ],
        "weights": head.weights,
        "cameras": [camera.to_dict() for camera in head.cameras],
        "source_size": list(head.source_size),
        "downscale": head.downscale,
        "background": None if head.background is None else list(head.background),
        "colour_space": head.colour_space,
        "units": head.units,
        "frame_rate": [head.frame_rate.numerator, head.frame_rate.denominator],
        "frames": {
            "count": len(frames),
            "first": frames[0].number if frames else None,
            "last": frames[-1].number if frames else None,
            "gaps": _gaps([entry.number for entry in frames]),
            "key": sum(entry.kind == "key" for entry in frames),
            "key_interval": _interval(frames),
            "duration": float(duration),
        },
        "bytes": {
            "file": source.size,
            "per_frame": source.size / len(frames) if frames else None,
            "key": total["key"],
            "delta": total["delta"],
            "other": source.size - total["key"] - total["delta"],
            "mean_key": _mean([e.length for e in frames if e.kind == "key"]),
            "mean_delta": _mean([e.length for e in frames if e.kind == "delta"]),
        },
        "bits_per_weight": {
            kind: None if mean is None else 8 * mean / head.weights
            for kind in ("key", "delta")
            for mean in [_mean([e.length for e in frames if e.kind == kind])]
        },
        "bit_rate": 8 * source.size / float(duration) if frames else None,
    }


def _record(record: Record) -> dict[str, Any]:
    is_frame = record.type in (RecordType.KEY, RecordType.DELTA)
    return {
        "type": _type_name(record.type),
        "frame": record.frame if is_frame else None,
        "offset": record.offset,
        "bytes": record.end - record.offset,
    }


def _type_name(number: int) -> str:
    try:
        return RecordType(number).name
    except ValueError:
        return f"0x{number:02x}"


def _mean(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _gaps(numbers: Sequence[int]) -> list[list[int]]:
    """Missing frame numbers, as [first, last]."""
    return [[before + 1, after - 1] for before, after in pairwise(numbers) if after > before + 1]


def _interval(frames: Sequence[FrameEntry]) -> int | None:
    """Frames from one keyframe to the next where that is always the same, else None."""
    keys = [index for index, entry in enumerate(frames) if entry.kind == "key"]
    steps = {after - before for before, after in pairwise(keys)}
    return steps.pop() if len(steps) == 1 else None
