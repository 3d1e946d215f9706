"""Description of a file from its structure alone, without decoding (FORMAT.md, "info as JSON")."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, BinaryIO, NotRequired, TypedDict, cast

import numpy as np

from invcodec.container.index import FrameList, RowFlags, end_of_last
from invcodec.container.reader import Reader
from invcodec.container.records import RecordHeader, RecordType
from invcodec.container.scan import Scanner, scan
from invcodec.limits import PAGE_FRAMES

SCHEMA = 1
"""Version of `Description`; incremented when a field changes its meaning or is removed."""


class TrainingDescription(TypedDict):
    """How one kind of frame was trained, at most; None where the file does not say or there is no limit."""

    rays: int | None
    """Of a step."""
    steps: int | None
    seconds: float | None


class EncoderDescription(TypedDict):
    """Which encoder wrote the file, and how; None where the file does not say."""

    name: str | None
    version: str | None
    preset: str | None
    key: TrainingDescription
    """The first frame."""
    later: TrainingDescription
    """Later frames."""


class WeightCounts(TypedDict):
    """Number of values in tensors of each group."""

    structure: int
    colour: int


class NetworkDescription(TypedDict):
    """A network, as the header declares it."""

    name: str
    role: str
    profile: str
    """The profile's name."""
    profile_id: int
    profile_version: int
    config: dict[str, Any]
    """The profile's configuration."""
    space: dict[str, Any]
    """The coordinate mapping."""
    weights: WeightCounts


class FramesDescription(TypedDict):
    """The file's frames."""

    count: int
    first: int | None
    """Frame number; None if there are no frames."""
    last: int | None
    gaps: list[list[int]]
    """Missing frame numbers, as [first, last]."""
    key: int
    """Number of keyframes."""
    key_interval: int | None
    """Frames from one keyframe to the next; None if that varies."""
    duration: float
    """In seconds."""


class BytesDescription(TypedDict):
    """Bytes in the file, records with their framing included; None where there are no such frames."""

    file: int
    per_frame: float | None
    """The whole file's bytes, divided by its frames."""
    key: int
    """All keyframes."""
    delta: int
    """All other frames."""
    other: int
    """Everything that is not a frame."""
    mean_key: float | None
    mean_delta: float | None


class BitsPerWeight(TypedDict):
    """Mean bits of a frame's record, divided by the number of weights; None where there are no such frames."""

    key: float | None
    delta: float | None


class RecordDescription(TypedDict):
    """A record in file order."""

    type: str
    """KEY for example, or a number such as 0x80."""
    frame: int | None
    """Frame number; None if the record is not a frame."""
    offset: int
    bytes: int


class Description(TypedDict):
    """Result of `describe`, in types that JSON has (FORMAT.md, "info as JSON")."""

    schema: int
    """`SCHEMA`."""
    file: str
    state: str
    """`Reader.status`."""
    problems: list[str]
    encoder: EncoderDescription
    networks: list[NetworkDescription]
    weights: int
    """Number of values in one frame's state."""
    cameras: list[dict[str, Any]]
    """Each as HEAD has it."""
    source_size: list[int]
    """Width and height in pixels of the captured images, before downscaling by `downscale`."""
    downscale: int
    background: list[float] | None
    """RGB from 0 to 1, or None if it is transparent."""
    colour_space: str
    units: str
    frame_rate: list[int]
    """[numerator, denominator], in Hz."""
    frames: FramesDescription
    bytes: BytesDescription
    bits_per_weight: BitsPerWeight
    bit_rate: float | None
    """Bits per second; None if there are no frames."""
    records: NotRequired[list[RecordDescription]]
    """All records, if they were asked for."""


def describe(path: str | os.PathLike[str], *, records: bool = False) -> Description:
    """Describe a file without decoding it.

    Args:
        records: list every record under `records`.

    Raises:
        UsageError: no such file, or not an .inv file.
        DamagedError, UnsupportedError, LimitError: the file has no usable header, or may not be read.
    """
    with Reader(path) as reader:
        result = reader.frames.ask(lambda frames: _describe(reader, frames, str(path)))
        if records:
            result["records"] = [_record(record.header) for record in reader.records()]
        return result


def describe_stream(file: BinaryIO, name: str, *, records: bool = False) -> Description:
    """As `describe`, for a pipe, which is read to its end."""
    scanner = Scanner(name)
    listed = [_record(record.header) for record in scan(file, scanner)]
    result = _describe(scanner, scanner.frames, name)
    if records:
        result["records"] = listed
    return result


def _describe(source: Reader | Scanner, frames: FrameList, name: str) -> Description:
    head = source.head
    assert head is not None
    count, total, keys = _counts(frames)
    mean = {kind: total[kind] / count[kind] if count[kind] else None for kind in count}
    duration = end_of_last(frames[-1].time, head.frame_rate) - frames[0].time if frames else Fraction(0)
    settings = _map(head.encoder, "settings")
    description = {
        "schema": SCHEMA,
        "file": name,
        "state": source.status,
        "problems": list(source.problems),
        "encoder": {
            "name": _text(head.encoder.get("name")),
            "version": _text(head.encoder.get("version")),
            "preset": _text(settings.get("preset")),
            "key": _training(_map(settings, "key")),
            "later": _training(_map(settings, "delta")),
        },
        **_jsonable(head.describe()),
        "frames": {
            "count": len(frames),
            "first": frames[0].number if frames else None,
            "last": frames[-1].number if frames else None,
            "gaps": _gaps(frames),
            "key": count["key"],
            "key_interval": _key_interval(keys),
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
    return cast(Description, description)


def _map(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An entry of what an encoder says of itself, which may be anything, if it is a map."""
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _jsonable(value: Any) -> Any:
    """With binary values, which an unknown profile may have, as hexadecimal digits."""
    if isinstance(value, dict):
        return {key: _jsonable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_jsonable(each) for each in value]
    return value.hex() if isinstance(value, bytes) else value


def _training(schedule: Mapping[str, Any]) -> TrainingDescription:
    budget = _map(schedule, "budget")

    def number(value: Any) -> Any:
        return value if type(value) in (int, float) else None

    return {
        "rays": number(schedule.get("rays")),
        "steps": number(budget.get("steps")),
        "seconds": number(budget.get("seconds")),
    }


def _record(header: RecordHeader) -> RecordDescription:
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


def _counts(frames: FrameList) -> tuple[dict[str, int], dict[str, int], np.ndarray]:
    """Number and bytes of frames by kind, and the positions of keyframes."""
    count, total, keys = dict.fromkeys(("key", "delta"), 0), dict.fromkeys(("key", "delta"), 0), [np.zeros(0, int)]
    for index, rows in enumerate(frames.pages()):
        is_key = (rows["flags"] & RowFlags.KEY).astype(bool)
        for kind, which in (("key", is_key), ("delta", ~is_key)):
            count[kind] += int(which.sum())
            total[kind] += int(rows["length"][which].sum())
        keys.append(index * PAGE_FRAMES + np.flatnonzero(is_key))
    return count, total, np.concatenate(keys)


def _gaps(frames: FrameList) -> list[list[int]]:
    """Missing frame numbers, as [first, last]."""
    gaps: list[list[int]] = []
    last = np.zeros(0, np.int64)
    for rows in frames.pages():
        numbers = np.concatenate([last, rows["number"]])
        after = 1 + np.flatnonzero(numbers[1:] != numbers[:-1] + 1)
        gaps += [[int(numbers[place - 1]) + 1, int(numbers[place]) - 1] for place in after]
        last = numbers[-1:]
    return gaps


def _key_interval(keys: np.ndarray) -> int | None:
    """Frames from one keyframe to the next if that is always the same, else None."""
    intervals = np.unique(np.diff(keys))
    return int(intervals[0]) if len(intervals) == 1 else None
