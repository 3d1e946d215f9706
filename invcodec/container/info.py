"""Description of a file from its structure alone, without decoding (FORMAT.md, "info as JSON")."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, BinaryIO, NotRequired, TypedDict, cast

from invcodec.container.index import FrameEntry, end_of_last
from invcodec.container.reader import Reader
from invcodec.container.records import RecordHeader, RecordType
from invcodec.container.scan import Scanner, scan

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
    """`Camera.to_dict` of each."""
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
        result = _describe(reader, str(path))
        if records:
            result["records"] = [_record(record.header) for record in reader.records()]
        return result


def describe_stream(file: BinaryIO, name: str, *, records: bool = False) -> Description:
    """As `describe`, for a pipe, which is read to its end."""
    scanner = Scanner(name)
    listed = [_record(record.header) for record in scan(file, scanner)]
    result = _describe(scanner, name)
    if records:
        result["records"] = listed
    return result


def _describe(source: Reader | Scanner, name: str) -> Description:
    head, frames = source.head, source.frames
    assert head is not None
    sizes = {"key": [e.length for e in frames if e.is_key], "delta": [e.length for e in frames if not e.is_key]}
    mean = {kind: sum(each) / len(each) if each else None for kind, each in sizes.items()}
    total = {kind: sum(each) for kind, each in sizes.items()}
    duration = end_of_last(frames[-1].time, head.frame_rate) - frames[0].time if frames else Fraction(0)
    settings = _map(head.encoder, "settings")
    description = {
        "schema": SCHEMA,
        "file": name,
        "state": source.status,
        "problems": list(source.problems),
        "encoder": {
            "name": head.encoder.get("name"),
            "version": head.encoder.get("version"),
            "preset": settings.get("preset"),
            "key": _training(_map(settings, "key")),
            "later": _training(_map(settings, "delta")),
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
    return cast(Description, description)


def _map(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An entry of what an encoder says of itself, which may be anything, if it is a map."""
    found = value.get(key)
    return found if isinstance(found, dict) else {}


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


def _gaps(numbers: Sequence[int]) -> list[list[int]]:
    """Missing frame numbers, as [first, last]."""
    return [[before + 1, after - 1] for before, after in pairwise(numbers) if after > before + 1]


def _key_interval(frames: Sequence[FrameEntry]) -> int | None:
    """Frames from one keyframe to the next if that is always the same, else None."""
    keys = [index for index, entry in enumerate(frames) if entry.is_key]
    intervals = {after - before for before, after in pairwise(keys)}
    return intervals.pop() if len(intervals) == 1 else None
