"""What the records hold, declared once: their fields, how they become bytes, and what is refused.

Structured fields are msgpack in one canonical form: parsing packs again and compares, so duplicate keys and wasteful
integer widths never get through (FORMAT.md, "Structured fields").
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

import msgpack

from invcodec.errors import DamagedError, LimitError, UnsupportedError
from invcodec.geometry.camera import Camera
from invcodec.limits import (
    MAX_CAMERAS,
    MAX_HEAD_BYTES,
    MAX_IMAGE_SIDE,
    MAX_INDEX_BYTES,
    MAX_NAME_BYTES,
    MAX_NESTING,
    MAX_NETWORKS,
    MAX_QP,
    MAX_TENSOR_DIMS,
    MAX_TENSORS,
    MAX_WEIGHTS,
    MIN_QP,
)

FORMAT_VERSION = 1
"""Draft 1: may change without notice until a release. Files of draft 0 cannot be read."""

GROUPS = ("structure", "colour")
DIGEST_BYTES = 8
"""Enough to find mistakes: a wrong state passes once in 2^64 times. It is no defence against forgery."""


def pack(value: Any) -> bytes:
    """Canonical msgpack: keys in the order given, shortest integers, every float 64 bits."""
    return msgpack.packb(value, use_bin_type=True)


def unpack(data: bytes, what: str, limit: int = MAX_HEAD_BYTES) -> Any:
    """Inverse of `pack`.

    Raises:
        LimitError: more than `limit` bytes.
        DamagedError: not msgpack, not in canonical form, or with values that have no place in a file.
    """
    if len(data) > limit:
        raise LimitError(f"{what}: {len(data)} bytes, more than {limit} allowed")
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True)
        canonical = pack(value) == data
        _plain(value, what, 0)
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise DamagedError(f"{what}: not valid msgpack ({error})") from None
    if not canonical:
        raise DamagedError(f"{what}: msgpack is not in canonical form")
    return value


def field_size(data: bytes, what: str, limit: int = MAX_HEAD_BYTES) -> int:
    """Bytes of the structured field that `data` begins with.

    Raises:
        LimitError: more than `limit` bytes.
        DamagedError: not msgpack, or cut short.
    """
    # No string or list is too long in itself: what does not end within the limit ends beyond it.
    endless = dict.fromkeys(("max_str_len", "max_bin_len", "max_array_len", "max_map_len", "max_ext_len"), 2**32)
    unpacker = msgpack.Unpacker(max_buffer_size=limit, **endless)
    unpacker.feed(data[:limit])
    try:
        unpacker.skip()
    except msgpack.OutOfData:
        if len(data) > limit:
            raise LimitError(f"{what}: more than {limit} bytes") from None
        raise DamagedError(f"{what}: exceeds its record") from None
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise DamagedError(f"{what}: not valid msgpack ({error})") from None
    return unpacker.tell()


def _plain(value: Any, what: str, depth: int) -> None:
    """Refuse deep nesting, NaN and infinity (an infinite far plane is None), extension types, keys that are no text."""
    _check(depth <= MAX_NESTING, f"{what}: nested deeper than {MAX_NESTING}")
    if isinstance(value, float):
        _check(math.isfinite(value), f"{what}: not a finite number")
    elif isinstance(value, dict):
        for key, each in value.items():
            _check(isinstance(key, str), f"{what}: a key is not text")
            _plain(each, what, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _plain(each, what, depth + 1)
    else:
        _check(value is None or isinstance(value, (bool, int, str, bytes)), f"{what}: holds an extension type")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise DamagedError(message)


def _name(value: Any, what: str) -> str:
    _check(isinstance(value, str) and 0 < len(value.encode()) <= MAX_NAME_BYTES, f"{what}: not a name")
    return value


def _integer(value: Any, low: int, high: int, what: str, *, limit: bool = False) -> int:
    """An integer in a range, whose upper end is one of FORMAT.md's limits if `limit` says so."""
    _check(isinstance(value, int) and not isinstance(value, bool), f"{what}: not an integer")
    if limit and value > high:
        raise LimitError(f"{what}: {value} is more than {high}")
    _check(low <= value <= high, f"{what}: {value} is outside {low}..{high}")
    return value


def _count(value: Any, most: int, what: str) -> None:
    """Refuse what is no list, an empty one, or one that is longer than a limit."""
    _check(isinstance(value, list) and len(value) > 0, f"{what}: none, or not a list")
    if len(value) > most:
        raise LimitError(f"{what}: {len(value)}, at most {most} are allowed")


def _ratio(value: Any, what: str) -> Fraction:
    _check(isinstance(value, list) and len(value) == 2, f"{what}: not a ratio")
    return Fraction(_integer(value[0], 1, 2**31, what), _integer(value[1], 1, 2**31, what))


def _float(value: Any, what: str) -> float:
    _check(isinstance(value, float), f"{what}: not a float")
    return value


def _cameras(value: Any, what: str) -> tuple[Camera, ...]:
    """Parse and validate a camera list."""
    _count(value, MAX_CAMERAS, f"{what}: cameras")
    for camera in value:
        _check(isinstance(camera, dict), f"{what}: a camera is not a map")
        where = f"camera '{_name(camera['name'], what)}'"
        for side in ("width", "height"):
            _integer(camera[side], 1, MAX_IMAGE_SIDE, f"{where}: {side}", limit=True)
        for key in ("fl_x", "fl_y"):
            _check(_float(camera[key], f"{where}: {key}") > 0, f"{where}: {key} is not positive")
        for key in ("cx", "cy", "k1", "k2", "p1", "p2"):
            _float(camera[key], f"{where}: {key}")
        for key in ("near", "far"):
            _check(camera[key] is None or isinstance(camera[key], float), f"{where}: {key} is not a float")
        _check(isinstance(camera["held_out"], bool), f"{where}: held_out is not a boolean")
        _check(isinstance(camera["pose"], list) and len(camera["pose"]) == 12, f"{where}: pose is not 12 floats")
        for entry in camera["pose"]:
            _float(entry, f"{where}: pose")
    _check(len({camera["name"] for camera in value}) == len(value), f"{what}: two cameras have the same name")
    return tuple(Camera.from_dict(camera) for camera in value)


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as the file declares it: 1 to 4 dimensions, and one of `GROUPS`."""

    name: str
    shape: tuple[int, ...]
    group: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class NetworkInfo:
    """A network as the file declares it.

    Attributes:
        role: what it is for: "scene", "coarse", "fine", "camera-colour".
        profile, profile_name, version: which profile it is.
        config: the profile's configuration.
        space: the coordinate map, or an empty map.
    """

    name: str
    role: str
    profile: int
    profile_name: str
    version: int
    config: dict[str, Any]
    space: dict[str, Any]
    tensors: tuple[TensorInfo, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "role": self.role,
            "profile": self.profile,
            "profile_name": self.profile_name,
            "version": self.version,
            "config": self.config,
            "space": self.space,
            "tensors": [[t.name, list(t.shape), GROUPS.index(t.group)] for t in self.tensors],
        }

    @classmethod
    def from_dict(cls, data: Any) -> NetworkInfo:
        what = f"network '{data['name']}'"
        _check(isinstance(data["config"], dict) and isinstance(data["space"], dict), f"{what}: not a map")
        _count(data["tensors"], MAX_TENSORS, f"{what}: tensors")
        tensors = []
        for name, shape, group in data["tensors"]:
            _count(shape, MAX_TENSOR_DIMS, f"{what}: tensor dimensions")
            dims = tuple(_integer(n, 1, MAX_WEIGHTS, f"{what}: tensor dimension", limit=True) for n in shape)
            tensors.append(TensorInfo(_name(name, what), dims, GROUPS[_integer(group, 0, 1, f"{what}: group")]))
        _check(len({t.name for t in tensors}) == len(tensors), f"{what}: a tensor is declared twice")
        return cls(
            _name(data["name"], "network"),
            _name(data["role"], what),
            _integer(data["profile"], 0, 2**31, f"{what}: profile"),
            _name(data["profile_name"], what),
            _integer(data["version"], 0, 2**31, f"{what}: version"),
            data["config"],
            data["space"],
            tuple(tensors),
        )


@dataclass(frozen=True)
class Head:
    """The HEAD record: all that a decoder must know before the first frame.

    Attributes:
        frame_rate: frames per second.
        time_base: seconds per tick of the frames' times.
        source_size: width and height of the captured images, before downscaling by `downscale`.
        background: RGB in [0, 1], or None where it is transparent.
        cameras: unique names.
        encoder: name, version, settings, and what `--resume` needs.
        tags: free text by key.
    """

    frame_rate: Fraction
    time_base: Fraction
    source_size: tuple[int, int]
    downscale: int
    background: tuple[float, float, float] | None
    cameras: tuple[Camera, ...]
    networks: tuple[NetworkInfo, ...]
    encoder: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    units: str = "unknown"
    colour_space: str = "srgb"

    def to_bytes(self) -> bytes:
        return pack(
            {
                "version": FORMAT_VERSION,
                "reader": FORMAT_VERSION,
                "frame_rate": [self.frame_rate.numerator, self.frame_rate.denominator],
                "time_base": [self.time_base.numerator, self.time_base.denominator],
                "source_size": list(self.source_size),
                "downscale": self.downscale,
                "background": None if self.background is None else list(self.background),
                "colour_space": self.colour_space,
                "units": self.units,
                "cameras": [camera.to_dict() for camera in self.cameras],
                "networks": [network.to_dict() for network in self.networks],
                "encoder": self.encoder,
                "tags": self.tags,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """Parse and validate.

        Raises:
            DamagedError, LimitError, UnsupportedError
        """
        value = unpack(data, "header")
        try:
            version = _integer(value["reader"], 0, 2**31, "header: reader version")
            if version < FORMAT_VERSION:
                raise UnsupportedError(
                    f"the file is of format draft {version}, which is no longer read: encode it again"
                )
            if version > FORMAT_VERSION:
                raise UnsupportedError(f"the file needs format version {version}; this decoder knows {FORMAT_VERSION}")
            _count(value["networks"], MAX_NETWORKS, "header: networks")
            networks = tuple(NetworkInfo.from_dict(each) for each in value["networks"])
            _check(len({n.name for n in networks}) == len(networks), "header: a network is declared twice")
            if (total := sum(t.size for n in networks for t in n.tensors)) > MAX_WEIGHTS:
                raise LimitError(f"header: {total} weights, at most {MAX_WEIGHTS} are allowed")
            cameras = _cameras(value["cameras"], "header")
            _check(isinstance(value["encoder"], dict) and isinstance(value["tags"], dict), "header: not a map")
            _check(all(isinstance(text, str) for text in value["tags"].values()), "header: a tag is not text")
            background = value["background"]
            if background is not None:
                _check(isinstance(background, list) and len(background) == 3, "header: background is not a colour")
                for channel in background:
                    _check(0 <= _float(channel, "header: background") <= 1, "header: background is not a colour")
            width, height = value["source_size"]
            return cls(
                _ratio(value["frame_rate"], "header: frame rate"),
                _ratio(value["time_base"], "header: time base"),
                (
                    _integer(width, 1, 2**20, "header: source width"),
                    _integer(height, 1, 2**20, "header: source height"),
                ),
                _integer(value["downscale"], 1, 2**10, "header: downscale"),
                None if background is None else tuple(background),
                cameras,
                networks,
                value["encoder"],
                value["tags"],
                _name(value["units"], "header: units"),
                _name(value["colour_space"], "header: colour space"),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DamagedError(f"header: a field is missing or of the wrong kind ({error})") from None

    @property
    def weights(self) -> int:
        """Values in one frame's state."""
        return sum(t.size for n in self.networks for t in n.tensors)


Stage = Literal["key", "warmup", "transfer", "refresh"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Stats:
    """What an encoder has to say of a frame; each is None where it is not known.

    Attributes:
        stage: one of `STAGES`.
        steps: of training.
        milliseconds: that the frame took.
        centidecibels: quality, PSNR in hundredths of a decibel.
        captured: when a live frame was captured, in milliseconds since 1970.
    """

    stage: str | None = None
    steps: int | None = None
    milliseconds: int | None = None
    centidecibels: int | None = None
    captured: int | None = None

    @property
    def psnr(self) -> float | None:
        """In dB."""
        return None if self.centidecibels is None else self.centidecibels / 100

    def to_list(self) -> list[int | None]:
        stage = None if self.stage is None else STAGES.index(self.stage)
        values = [stage, self.steps, self.milliseconds, self.centidecibels, self.captured]
        while values and values[-1] is None:
            values.pop()
        return values

    @classmethod
    def from_list(cls, values: Any) -> Stats:
        _check(isinstance(values, list), "frame header: stats are not a list")
        known = [*values[:4], *[None] * (4 - len(values))]
        for value in known:
            _check(value is None or (isinstance(value, int) and not isinstance(value, bool)), "frame header: bad stats")
        stage, steps, milliseconds, centidecibels = known
        return cls(
            STAGES[stage] if stage is not None and 0 <= stage < len(STAGES) else None,
            steps,
            milliseconds,
            centidecibels,
            # What is no integer there means nothing.
            values[4] if len(values) > 4 and type(values[4]) is int else None,
        )


NO_STATS = Stats()


@dataclass(frozen=True)
class FrameHead:
    """The structured part of a KEY or DELTA record.

    Attributes:
        time: presentation time in ticks of the header's time base.
        reference: number of the frame that a delta refers to; None in a KEY.
        digest: of the integer state after this record.
        coder: of what follows.
        qps: quantisation parameter of every tensor of the table, in a KEY; None in a DELTA.
        stats: what the encoder has to say.
        cameras: a full camera list that holds from this frame on, or None.
    """

    time: int
    reference: int | None
    digest: bytes
    coder: int
    qps: tuple[int, ...] | None
    stats: Stats = NO_STATS
    cameras: tuple[Camera, ...] | None = None

    def check_fits(self, head: Head) -> None:
        """Refuse steps and cameras that are not those of the header's tensors and cameras."""
        tensors = sum(len(network.tensors) for network in head.networks)
        _check(self.qps is None or len(self.qps) == tensors, "it does not give the step of every tensor")
        if self.cameras is not None:
            names = [[camera.name for camera in cameras] for cameras in (self.cameras, head.cameras)]
            _check(names[0] == names[1], "its cameras are not those of the header")

    def to_bytes(self) -> bytes:
        qps = None if self.qps is None else list(self.qps)
        cameras = None if self.cameras is None else [camera.to_dict() for camera in self.cameras]
        return pack([self.time, self.reference, self.digest, self.coder, qps, self.stats.to_list(), cameras])

    @classmethod
    def split(cls, payload: bytes) -> tuple[FrameHead, bytes]:
        """The header at the beginning of a frame's payload, and what follows it."""
        size = field_size(payload, "frame header")
        value = unpack(payload[:size], "frame header")
        _check(isinstance(value, list) and len(value) >= 7, "frame header: fields are missing")
        time, reference, digest, coder, qps, stats, cameras = value[:7]
        try:
            if reference is not None:
                _integer(reference, -(2**63), 2**63 - 1, "frame header: reference")
            _check(isinstance(digest, bytes) and len(digest) == DIGEST_BYTES, "frame header: bad digest")
            _check((qps is None) == (reference is not None), "frame header: a keyframe has steps, a delta has none")
            _check(qps is None or isinstance(qps, list), "frame header: steps are not a list")
            frame = cls(
                _integer(time, -(2**53), 2**53, "frame header: time"),
                reference,
                digest,
                _integer(coder, 0, 255, "frame header: coder"),
                None if qps is None else tuple(_integer(qp, MIN_QP, MAX_QP, "frame header: qp") for qp in qps),
                Stats.from_list(stats),
                None if cameras is None else _cameras(cameras, "frame header"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"frame header: a field is missing or of the wrong kind ({error})") from None
        return frame, payload[size:]


@dataclass(frozen=True)
class IndexRow:
    """One frame in the INDEX record: its number and time in ticks, its record's place and size, and what it needs."""

    number: int
    time: int
    offset: int
    length: int
    reference: int | None
    cameras: bool


def pack_index(rows: list[IndexRow]) -> bytes:
    return pack([[r.number, r.time, r.offset, r.length, r.reference, r.cameras] for r in rows])


def unpack_index(data: bytes) -> list[IndexRow]:
    """Parse and validate, each row on its own and against the one before.

    Raises:
        DamagedError, LimitError
    """
    value = unpack(data, "index", MAX_INDEX_BYTES)
    _check(isinstance(value, list), "index: not a list")
    rows: list[IndexRow] = []
    try:
        for number, time, offset, length, reference, cameras in value:
            _check(isinstance(cameras, bool), "index: cameras is not a boolean")
            row = IndexRow(
                _integer(number, -(2**63), 2**63 - 1, "index: frame"),
                _integer(time, -(2**53), 2**53, "index: time"),
                _integer(offset, 0, 2**63, "index: offset"),
                _integer(length, 1, 2**32, "index: length"),
                None if reference is None else _integer(reference, -(2**63), 2**63 - 1, "index: reference"),
                cameras,
            )
            last = rows[-1] if rows else None
            _check(
                last is None
                or (row.number > last.number and row.time > last.time and row.offset >= last.offset + last.length),
                "index: frames are out of order",
            )
            _check(row.reference in (None, last and last.number), "index: a frame refers to one that is not before it")
            rows.append(row)
    except (TypeError, ValueError) as error:
        raise DamagedError(f"index: a row is not understood ({error})") from None
    return rows
