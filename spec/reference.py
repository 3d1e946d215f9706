"""Reference decoder of the .inv format, draft 1: slow and plain, written from FORMAT.md alone.

It shares no code with the invcodec package, so that the specification, the package and this file can be checked against
one another. `read` implements Part I, `states` and `weights` Part II, `render` Part III.
"""

from __future__ import annotations

import argparse
import itertools
import math
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x89INV\r\n\x1a\n"
SYNC = b"\xb5INV"
HEAD, KEY, DELTA, INDEX, END = 1, 2, 3, 4, 5
KINDS = {KEY: "key", DELTA: "delta"}
TYPE_NAMES = {HEAD: "HEAD", KEY: "KEY", DELTA: "DELTA", INDEX: "INDEX", END: "END"}
EXIT_CODES = {"usage": 2, "damaged": 3, "unsupported": 4, "limit": 5}
DRAFT = 1

# FORMAT.md "Limits"
MAX_PAYLOAD = 2**30
MAX_HEADER = 2**20
MAX_INDEX = 2**21
PAGE = 2**10  # rows of an INDEX of level 0
MAX_FRAMES = 2**26
MAX_CAMERAS = 1024
MAX_NETWORKS = 8
MAX_TENSORS = 256
MAX_DIMENSIONS = 4
MAX_VALUES = 2**27
MAX_SIDE = 16384
MAX_SAMPLES = 4096
MAX_DEPTH = 32  # of nested fields

Array = NDArray[Any]
State = dict[tuple[int, int], tuple[int, Array]]


class Refused(Exception):
    """A refusal required by FORMAT.md; `kind` is its error class: usage, damaged, unsupported or limit."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class CutShort(Refused):
    """The data end inside a structured field."""


@dataclass
class Frame:
    """A good frame whose coded values are not decoded yet."""

    number: int
    ticks: int
    kind: str
    offset: int
    length: int
    reference: int | None
    header: dict[str, Any]
    coded: bytes
    cameras: list[dict[str, Any]]


@dataclass
class File:
    """The result of `read`: HEAD, records, good and lost frames, and the problems found."""

    head: dict[str, Any]
    status: str = "open"
    records: list[tuple[int, int, int, int]] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class Record:
    """A record with a sound header; `payload` is None if its CRC is wrong."""

    type: int
    frame: int
    offset: int
    total: int
    payload: bytes | None = None


def need(ok: bool, text: str, kind: str = "damaged") -> None:
    """Raise `Refused` unless ok."""
    if not ok:
        raise Refused(kind, text)


# ---- Part I: structured fields ----


class _Unpacker:
    """FORMAT.md "Structured fields": MessagePack in canonical form; anything else is damaged."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise CutShort("damaged", "field cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str, low: int, high: int | None = None) -> int:
        """An integer in a longer form, refused if a shorter form would hold it.

        Shorter forms hold values below `low` or, if `high` is given, values of `high` and above.
        """
        value = int(struct.unpack(">" + code, self.take(struct.calcsize(code)))[0])
        need(value >= low if high is None else value < high, "integer or length not in its shortest form")
        return value

    def value(self, depth: int = 0) -> Any:
        need(depth <= MAX_DEPTH, "fields nested too deeply")
        tag = self.take(1)[0]
        if tag <= 0x7F or tag >= 0xE0:
            return tag if tag <= 0x7F else tag - 256
        if tag <= 0x8F:
            return self.map(tag & 15, depth)
        if tag <= 0x9F:
            return self.list(tag & 15, depth)
        if tag <= 0xBF:
            return self.text(tag & 31)
        if tag in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[tag]
        if tag == 0xCB:
            return self.real()
        if 0xCC <= tag <= 0xCF:
            return self.number("BHIQ"[tag - 0xCC], (2**7, 2**8, 2**16, 2**32)[tag - 0xCC])
        if 0xD0 <= tag <= 0xD3:
            return self.number("bhiq"[tag - 0xD0], 0, (-(2**5), -(2**7), -(2**15), -(2**31))[tag - 0xD0])
        if 0xC4 <= tag <= 0xC6:
            return self.take(self.number("BHI"[tag - 0xC4], (0, 2**8, 2**16)[tag - 0xC4]))
        if 0xD9 <= tag <= 0xDB:
            return self.text(self.number("BHI"[tag - 0xD9], (2**5, 2**8, 2**16)[tag - 0xD9]))
        if tag in (0xDC, 0xDD):
            return self.list(self.number("HI"[tag - 0xDC], (2**4, 2**16)[tag - 0xDC]), depth)
        if tag in (0xDE, 0xDF):
            return self.map(self.number("HI"[tag - 0xDE], (2**4, 2**16)[tag - 0xDE]), depth)
        raise Refused("damaged", f"field type {tag:02x} is not canonical")

    def real(self) -> float:
        value = float(struct.unpack(">d", self.take(8))[0])
        need(math.isfinite(value), "float is not finite")
        return value

    def text(self, count: int) -> str:
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused("damaged", "string is not UTF-8") from error

    def list(self, count: int, depth: int) -> Any:
        return [self.value(depth + 1) for _ in range(count)]

    def map(self, count: int, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            need(isinstance(key, str), "key is not a string")
            need(key not in result, "key occurs twice")
            result[key] = self.value(depth + 1)
        return result


def unpack(data: bytes) -> Any:
    """Unpack one structured field, which must fill the data exactly."""
    unpacker = _Unpacker(data)
    value = unpacker.value()
    need(unpacker.at == len(data), "bytes after a structured field")
    return value


def inflate(data: bytes, most: int) -> bytes:
    """FORMAT.md "Compression"."""
    stream = zlib.decompressobj()
    try:
        result = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise Refused("damaged", f"not a zlib stream: {error}") from error
    need(len(result) <= most, "compressed data", "limit")
    need(stream.eof and not stream.unused_data, "not one whole zlib stream")
    return result


def is_int(value: Any, low: int = -(2**63), high: int = 2**64) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_float(value: Any) -> bool:
    return isinstance(value, float)


def is_name(value: Any) -> bool:
    """FORMAT.md "Structured fields": a name is a string of 1 to 255 bytes."""
    return isinstance(value, str) and 1 <= len(value.encode("utf-8")) <= 255


def is_ratio(value: Any) -> bool:
    return is_list(value, 2, lambda item: is_int(item, 1, 2**31 - 1))


def is_list(value: Any, count: int | None, item: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and count in (None, len(value)) and all(item(each) for each in value)


def is_map(value: Any) -> bool:
    return isinstance(value, dict)


def check_fields(value: Any, rules: dict[str, Callable[[Any], bool]], what: str) -> None:
    """Require a map with every key of `rules`, each with a value that satisfies its rule."""
    need(is_map(value), f"{what} is not a map")
    for key, rule in rules.items():
        need(key in value and rule(value[key]), f"{what}: bad or missing {key}")


# ---- Part I: HEAD ----

HIGHER = ("k3", "k4", "k5", "k6", "s1", "s2", "s3", "s4")

CAMERA_RULES: dict[str, Callable[[Any], bool]] = {
    "name": is_name,
    "width": lambda v: is_int(v, 1),
    "height": lambda v: is_int(v, 1),
    **{key: lambda v: is_float(v) and v > 0 for key in ("fl_x", "fl_y")},
    **dict.fromkeys(("cx", "cy", "k1", "k2", "p1", "p2"), is_float),
    **{key: lambda v: v is None or is_float(v) for key in ("near", "far")},
    **dict.fromkeys(HIGHER, is_float),
    **{key: lambda v: isinstance(v, bool) for key in ("held_out", "fisheye")},
    "pose": lambda v: is_list(v, 12, is_float),
}

HEAD_RULES: dict[str, Callable[[Any], bool]] = {
    "frame_rate": is_ratio,
    "time_base": is_ratio,
    "source_size": lambda v: is_list(v, 2, lambda item: is_int(item, 1, 2**20)),
    "downscale": lambda v: is_int(v, 1, 1024),
    "background": lambda v: v is None or is_list(v, 3, lambda item: is_float(item) and 0 <= item <= 1),
    "colour_space": is_name,
    "units": is_name,
    "encoder": is_map,
    "tags": lambda v: is_map(v) and all(isinstance(item, str) for item in v.values()),
}

NETWORK_RULES: dict[str, Callable[[Any], bool]] = {
    "name": is_name,
    "role": is_name,
    "profile": lambda v: is_int(v, 0, 2**31 - 1),
    "profile_name": is_name,
    "version": lambda v: is_int(v, 0, 2**31 - 1),
    "config": lambda v: is_map(v) and all(is_int(item) or is_list(item, None, is_int) for item in v.values()),
    "space": is_map,
}


def counted(value: Any, most: int, what: str) -> list[Any]:
    """A list of 1 to `most` items (FORMAT.md "Limits")."""
    need(isinstance(value, list) and len(value) > 0, f"no {what}")
    need(len(value) <= most, f"too many {what}", "limit")
    return list(value)


def unique(items: list[dict[str, Any]], what: str) -> None:
    need(len({item["name"] for item in items}) == len(items), f"two {what} of one name")


def check_cameras(value: Any) -> list[dict[str, Any]]:
    """FORMAT.md "Cameras"."""
    cameras = counted(value, MAX_CAMERAS, "cameras")
    for camera in cameras:
        need(is_map(camera), "camera is not a map")
        whole = {**dict.fromkeys(HIGHER, 0.0), "fisheye": False, **camera}
        check_fields(whole, CAMERA_RULES, "camera")
        need(max(camera["width"], camera["height"]) <= MAX_SIDE, "image side", "limit")
    unique(cameras, "cameras")
    return cameras


def check_head(payload: bytes) -> dict[str, Any]:
    """FORMAT.md "HEAD". The draft is checked first, because everything else may differ in another draft."""
    need(len(payload) >= 2, "HEAD is too short")
    need(payload[1:2] == bytes([DRAFT]), "file of another draft", "unsupported")
    head = unpack(inflate(payload[2:], MAX_HEADER))
    check_fields(head, HEAD_RULES, "HEAD")
    check_cameras(head.get("cameras"))
    networks = counted(head.get("networks"), MAX_NETWORKS, "networks")
    for network in networks:
        check_fields(network, NETWORK_RULES, "network")
        check_tensors(network)
    unique(networks, "networks")
    need(sum(math.prod(shape) for shape in table(head).values()) <= MAX_VALUES, "values of a state", "limit")
    return dict(head)


def check_tensors(network: dict[str, Any]) -> None:
    """Check the rows of a network's `tensors`, independently of its profile."""
    rows = counted(network.get("tensors"), MAX_TENSORS, "tensors")
    for row in rows:
        need(is_list(row, 3, lambda item: True) and is_name(row[0]) and is_int(row[2], 0, 1), "bad tensor row")
        shape = counted(row[1], MAX_DIMENSIONS, "dimensions")
        need(is_list(shape, None, lambda item: is_int(item, 1)), "bad shape")
    need(len({row[0] for row in rows}) == len(rows), "two tensors of one name")


def table(head: dict[str, Any]) -> dict[tuple[int, int], tuple[int, ...]]:
    """Shapes of all tensors of all networks, in table order, by network and tensor index."""
    rows = [(n, t, row) for n, network in enumerate(head["networks"]) for t, row in enumerate(network["tensors"])]
    return {(n, t): tuple(row[1]) for n, t, row in rows}


# ---- Part III: the profiles' and spaces' constraints on HEAD ----


def setting(config: dict[str, Any], key: str, low: int, most: int | None = None) -> int:
    """An integer of a configuration: at least `low`, and at most the limit `most`."""
    value: Any = config.get(key)
    need(is_int(value, low), f"configuration: bad or missing {key}")
    need(most is None or value <= most, f"configuration: {key}", "limit")
    return int(value)


def nerf_tensors(config: dict[str, Any]) -> list[Any]:
    """Tensor rows of FORMAT.md "Profile 1: nerf"."""
    depth, width = setting(config, "depth", 1, 32), setting(config, "width", 2, 1024)
    position, direction = setting(config, "position_octaves", 0, 16), setting(config, "direction_octaves", 0, 16)
    structure = setting(config, "structure_layers", 0)
    samples = setting(config, "samples", 1) + setting(config, "importance", 0)
    need(samples <= MAX_SAMPLES, "samples", "limit")
    need(width % 2 == 0 and structure <= depth, "configuration: width or structure_layers")
    layers = [(f"layers.{i}", width, width if i else 3 + 6 * position, int(i >= structure)) for i in range(depth)]
    layers += [("density", 1, width, 1), ("feature", width, width, 1)]
    layers += [("direction", width // 2, width + 3 + 6 * direction, 1), ("rgb", 3, width // 2, 1)]
    cells = setting({"occupancy": 0} | config, "occupancy", 0, 256)
    rows: list[Any] = [["occupancy", [cells, cells, cells], 0]] if cells else []
    return rows + linear_tensors(layers)


def grid_tensors(config: dict[str, Any]) -> list[Any]:
    """Tensor rows of FORMAT.md "Profile 2: grid"."""
    resolutions: Any = config.get("resolutions")
    need(is_list(resolutions, None, lambda item: is_int(item, 1)), "configuration: resolutions")
    levels = len(resolutions)
    need(all(r <= 4096 for r in resolutions), "configuration: resolution", "limit")
    entries = 2 ** setting(config, "log2_table", 0, 24)
    hidden, features = setting(config, "hidden", 1), setting(config, "features", 1)
    colour, cells = setting(config, "colour_hidden", 1), setting(config, "occupancy", 1, 256)
    setting(config, "samples", 1, MAX_SAMPLES)
    widths = (hidden, features + 1, colour, 2 * levels)
    need(all(w % 4 == 0 and 4 <= w <= 256 for w in widths), "configuration: layer widths")
    shapes = [[r + 1, r + 1, r + 1, 2] if (r + 1) ** 3 <= entries else [entries, 2] for r in resolutions]
    rows: list[Any] = [[f"grid.{i}", shape, 0] for i, shape in enumerate(shapes)]
    rows.append(["occupancy", [cells, cells, cells], 0])
    if parts := setting({"parts": 0} | config, "parts", 0, 16):
        rows.append(["motion", [parts, 12], 0])
    layers = [("density.0", hidden, 2 * levels, 0), ("density.1", 1 + features, hidden, 0)]
    layers += [("colour.0", colour, features + 9, 1), ("colour.1", colour, colour, 1), ("colour.2", 3, colour, 1)]
    return rows + linear_tensors(layers)


def image_tensors(config: dict[str, Any]) -> list[Any]:
    """Tensor rows of FORMAT.md "Profile 4: image"."""
    resolutions: Any = config.get("resolutions")
    need(is_list(resolutions, None, lambda item: is_int(item, 1)), "configuration: resolutions")
    need(len(resolutions) <= 16 and all(r <= 4096 for r in resolutions), "configuration: resolutions", "limit")
    depth, width = setting(config, "depth", 1, 32), setting(config, "width", 1, 1024)
    inputs = 2 + 4 * setting(config, "octaves", 0, 16) + 2 * len(resolutions)
    structure = setting(config, "structure_layers", 0)
    need(structure <= depth, "configuration: structure_layers")
    layers = [(f"layers.{i}", width, width if i else inputs, int(i >= structure)) for i in range(depth)]
    rows: list[Any] = [[f"grid.{i}", [r + 1, r + 1, 2], 0] for i, r in enumerate(resolutions)]
    return rows + linear_tensors([*layers, ("rgb", 3, width, 1)])


def linear_tensors(layers: list[tuple[str, int, int, int]]) -> list[Any]:
    """Tensor rows `.weight` [out, in] and `.bias` [out] of layers given as (name, out, in, group)."""
    pairs = [([f"{n}.weight", [out, into], group], [f"{n}.bias", [out], group]) for n, out, into, group in layers]
    return [row for pair in pairs for row in pair]


def is_known(network: dict[str, Any]) -> bool:
    return network["profile"] in (1, 2, 3, 4) and network["version"] == 1


def check_profile(network: dict[str, Any], cameras: int) -> None:
    """FORMAT.md "HEAD": tensors must be those that profile and configuration imply, if the profile is known."""
    if not is_known(network):
        return
    config = network["config"]
    if network["profile"] == 1:
        implied = nerf_tensors(config)
    elif network["profile"] == 2:
        implied = grid_tensors(config)
    elif network["profile"] == 4:
        implied = image_tensors(config)
    else:
        need(setting(config, "cameras", 1) == cameras, "affine: number of cameras")
        implied = [["gain", [cameras, 3], 1], ["offset", [cameras, 3], 1]]
    need(network["tensors"] == implied, "tensors are not those of the profile")


def check_space(network: dict[str, Any]) -> None:
    """FORMAT.md "Coordinate mapping": check the space of a network, if its kind is known."""
    space = network["space"]
    if network["role"] == "camera-colour":
        need(not space, "space of camera-colour is not empty")
    if network["role"] not in ("scene", "coarse", "fine"):
        return
    check_fields(space, {"kind": is_name, "pose": lambda v: is_list(v, 12, is_float)}, "space")
    if space["kind"] not in SPACES:
        return
    ndc, bound = space["kind"] == "ndc", lambda v: is_list(v, 3, is_float)
    infinite = ndc and is_list(space.get("high"), 3, lambda v: True) and space["high"][2] is None
    if infinite:
        space = {**space, "high": [*space["high"][:2], math.inf]}
    check_fields(space, {"low": bound, "high": bound}, "space")
    extents = [high - low for low, high in zip(space["low"], space["high"], strict=True)]
    need(all(extent > 0 for extent in extents), "space is empty")
    need(all(math.isfinite(extent) for extent in extents[: 2 if infinite else 3]), "space is endless")
    need(not ndc or space["low"][2] > 0, "near is not above 0")


# ---- Part I: records ----


def sound_header(data: bytes, at: int) -> tuple[int, int, int, int, int] | None:
    """FORMAT.md "Record": type, flags, reserved, frame, length of the header at an offset; None if not sound."""
    header = data[at : at + 24]
    if len(header) < 24 or header[:4] != SYNC or zlib.crc32(header[:20]) != struct.unpack_from("<I", header, 20)[0]:
        return None
    return struct.unpack_from("<BBHqI", header, 4)


def check_allowed(header: tuple[int, int, int, int, int]) -> None:
    """Refuse a header that is sound but not allowed."""
    kind, flags, reserved, _, length = header
    need(length <= (MAX_HEADER if kind == HEAD else MAX_PAYLOAD), "length of a record", "limit")
    need(reserved == 0 and flags & 15 == 0, "reserved bits of a record", "unsupported")
    need(kind in TYPE_NAMES or kind >= 128, f"record type {kind}", "unsupported")


def check_magic(data: bytes) -> bool:
    """Whether the magic is right; a wrong magic is refused unless a sound HEAD header immediately follows it."""
    if data[:8] == MAGIC:
        return True
    header = sound_header(data, 8)
    need(header is not None and header[0] == HEAD, "not an .inv file", "usage")
    return False


def next_sound(data: bytes, at: int) -> int:
    """FORMAT.md "Recovery": offset of the next sync with a sound header, or of the end."""
    at = data.find(SYNC, at)
    while at >= 0 and sound_header(data, at) is None:
        at = data.find(SYNC, at + 1)
    return at if at >= 0 else len(data)


def scan(data: bytes, problems: list[str], lost: list[int]) -> tuple[list[Record], bool]:
    """All records with sound headers, and whether the file ends inside one. A frame that is cut off is lost."""
    if not check_magic(data):
        problems.append("wrong magic")
    records: list[Record] = []
    at = len(MAGIC)
    while at < len(data):
        header = sound_header(data, at)
        if header is None:
            if len(data) - at < 24 and data[at : at + 4] == SYNC[: len(data) - at]:
                return records, True
            problems.append(f"no record at {at}")
            at = next_sound(data, at + 1)
            continue
        check_allowed(header)
        record = Record(header[0], header[3], at, header[4] + 28)
        at += record.total
        if at > len(data):
            if (hidden := next_sound(data, record.offset + 1)) == len(data):
                if record.type in KINDS:
                    lost.append(record.frame)
                return records, True
            problems.append(f"the record at {record.offset} extends past the end")
            at = hidden
            continue
        records.append(record)
        payload = data[record.offset + 24 : at - 4]
        if zlib.crc32(payload) == struct.unpack_from("<I", data, at - 4)[0]:
            record.payload = payload
        else:
            problems.append(f"wrong payload CRC at {record.offset}")
    return records, False


def read(data: bytes) -> File:
    """Part I: find all records, the first sound HEAD, the good frames and the file's status."""
    problems: list[str] = []
    cut_off: list[int] = []
    records, truncated = scan(data, problems, cut_off)
    heads = [record.payload for record in records if record.type == HEAD and record.payload is not None]
    need(bool(heads), "no sound HEAD")
    file = File(check_head(heads[0]), problems=problems)
    file.records = [(record.type, record.frame, record.offset, record.total) for record in records]
    if records[0].type != HEAD:
        problems.append("HEAD does not come first")
    if any(payload != heads[0] for payload in heads):
        problems.append("HEAD repeated with other bytes")
    find_frames(file, records, len(data))
    file.lost += cut_off
    complete = check_end(file, records, len(data))
    if problems:
        file.status = "damaged"
    elif truncated:
        file.status = "truncated"
    elif complete is not None:
        file.status = "complete" if complete else "incomplete"
    return file


def find_frames(file: File, records: list[Record], size: int) -> None:
    """FORMAT.md "Recovery": find the good frames."""
    # The preceding frame record, None if it is not good; and the last good frame.
    before: Frame | None = None
    last: Frame | None = None
    for record in records:
        if record.type not in KINDS:
            continue
        try:
            need(record.payload is not None, "record is not sound")
            frame = parse_frame(file.head, record, last.cameras if last else file.head["cameras"])
            if last is not None:
                need(frame.number > last.number and frame.ticks > last.ticks, "frame is not later than the last one")
            if frame.kind == "delta":
                need(before is not None and frame.reference == before.number, "reference is not the preceding frame")
        except Refused as refusal:
            if refusal.kind != "damaged":
                raise
            before = None
            file.lost.append(record.frame)
            if record.offset + record.total <= size:
                file.problems.append(f"frame {record.frame}: {refusal}")
            continue
        need(len(file.frames) < MAX_FRAMES, "frames", "limit")
        before = last = frame
        file.frames.append(frame)


FRAME_RULES: list[Callable[[Any], bool]] = [
    lambda v: is_int(v, -(2**53), 2**53),
    lambda v: v is None or is_int(v, -(2**63), 2**63 - 1),
    lambda v: isinstance(v, bytes) and len(v) == 8,
    lambda v: is_int(v, 0, 255),
    lambda v: v is None or is_list(v, None, lambda qp: is_int(qp, -160, 64)),
    lambda v: isinstance(v, list) and all(item is None or is_int(item) for item in v[:5]),
    lambda v: v is None or isinstance(v, list),
]
FRAME_FIELDS = ("time", "reference", "digest", "coder", "qps", "stats", "cameras")


def frame_header(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """FORMAT.md "KEY and DELTA": the frame header's fields by name, and the coded values that follow it."""
    unpacker = _Unpacker(payload[:MAX_HEADER])
    try:
        fields = unpacker.value()
    except CutShort:
        need(len(payload) <= MAX_HEADER, "length of a frame header", "limit")
        raise
    need(isinstance(fields, list) and len(fields) >= len(FRAME_FIELDS), "frame header is not a list, or too short")
    for name, rule, value in zip(FRAME_FIELDS, FRAME_RULES, fields, strict=False):
        need(rule(value), f"frame header: bad {name}")
    return dict(zip(FRAME_FIELDS, fields, strict=False)), payload[unpacker.at :]


def parse_frame(head: dict[str, Any], record: Record, cameras: list[dict[str, Any]]) -> Frame:
    """FORMAT.md "KEY and DELTA": parse a frame record; `cameras` are those in effect before it."""
    header, coded = frame_header(record.payload or b"")
    need((header["reference"] is None) == (record.type == KEY), "reference does not fit the record's type")
    need((header["qps"] is None) == (record.type == DELTA), "qps do not fit the record's type")
    need(record.type == DELTA or len(header["qps"]) == len(table(head)), "number of qps differs from that of tensors")
    if header["cameras"] is not None:
        replaced = check_cameras(header["cameras"])
        need([c["name"] for c in replaced] == [c["name"] for c in cameras], "cameras are not those of HEAD")
        cameras = replaced
    where = (record.offset, record.total)
    return Frame(record.frame, header["time"], KINDS[record.type], *where, header["reference"], header, coded, cameras)


def check_end(file: File, records: list[Record], size: int) -> bool | None:
    """FORMAT.md "INDEX and END": bit 0 of END's flags, or None without END. What does not fit is noted as a problem."""
    last = records[-1]
    ended = last.type == END and last.payload is not None and last.offset + last.total == size
    indexes: list[Record] = []
    for record in records[:-1] if last.type == END else records:
        if record.type == INDEX:
            indexes.append(record)
        elif record.type == END or indexes:
            place = indexes[0].offset if indexes else record.offset
            file.problems.append(f"INDEX or END at {place} is not at the end")
    check_indexes(file, [record for record in indexes if record.payload is not None], ended)
    if not ended:
        return None
    payload = last.payload or b""
    if len(payload) != 12:
        file.problems.append("END is not 12 bytes")
        return None
    offset, flags = struct.unpack("<QI", payload)
    if not indexes or offset != indexes[-1].offset or indexes[-1].offset + indexes[-1].total != last.offset:
        file.problems.append("END does not point to the INDEX that precedes it")
    return bool(flags & 1)


Row = tuple[int, int, int, int, int]


def parse_index(payload: bytes) -> tuple[int, list[Row]]:
    """FORMAT.md "INDEX and END": level and rows, with numbers, times and offsets in place of steps."""
    need(0 < len(payload) <= MAX_INDEX, "INDEX is empty or too long")
    data = inflate(payload[1:], MAX_INDEX)
    count, rest = divmod(len(data), 29)
    need(rest == 0, "INDEX does not consist of rows")
    kinds = zip("qqqIB", (0, 8, 16, 24, 28), strict=True)
    columns = [struct.unpack_from(f"<{count}{kind}", data, count * before) for kind, before in kinds]
    rows: list[Row] = []
    number = ticks = end = 0
    for step, wait, gap, length, flags in zip(*columns, strict=True):
        number, ticks, offset = wrap(number + step), wrap(ticks + wait), wrap(end + gap)
        end = offset + length
        need(gap >= 0 and offset >= 0 and length >= 28 and end < 2**63, "INDEX: records overlap or are too short")
        need(abs(ticks) <= 2**53, "INDEX: ticks are out of range")
        need(not rows or (number > rows[-1][0] and ticks > rows[-1][1]), "INDEX: rows are out of order")
        rows.append((number, ticks, offset, length, flags & 3))
    return payload[0], rows


def wrap(value: int) -> int:
    """A sum modulo 2^64, as a signed integer."""
    return (value + 2**63) % 2**64 - 2**63


def check_indexes(file: File, indexes: list[Record], ended: bool) -> None:
    """Compare all rows with the frame records and with the INDEX records of level 0."""
    frames = [
        (f.number, f.ticks, f.offset, f.length, (f.kind == "key") + 2 * (f.header["cameras"] is not None))
        for f in file.frames
    ]
    known = {frame.number for frame in file.frames} | set(file.lost)
    pages: list[Row] = []
    level = listed = 0
    for record in indexes:
        try:
            level, rows = parse_index(record.payload or b"")
            if file.problems:
                if level == 0 and rows and rows[0][2] >= listed and rows[-1][2] + rows[-1][3] <= record.offset:
                    listed = rows[-1][2] + rows[-1][3]
                    file.lost += [row[0] for row in rows if row[0] not in known]
                    known |= set(file.lost)
                continue
            if level == 0:
                need(rows == frames[PAGE * len(pages) : PAGE * (len(pages) + 1)], "INDEX does not fit the frames")
                first = rows[0] if rows else (0, 0)
                flags = any(row[4] & 1 for row in rows) + 2 * any(row[4] & 2 for row in rows)
                pages.append((first[0], first[1], record.offset, record.total, flags))
            else:
                need(level == 1 and rows == pages, "INDEX of level 1 does not fit those of level 0")
        except Refused as refusal:
            file.problems.append(f"INDEX: {refusal}")
    if ended and not file.problems:
        wanted = max(1, -(-len(frames) // PAGE))
        if len(pages) != wanted or level != (wanted > 1):
            file.problems.append("INDEX is not complete")


# ---- Part II ----


L = [22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793, 47911, 53581]
L += [57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514]


def squash(d: int) -> int:
    j, r = (d + 2048) >> 7, (d + 2048) & 127
    return ((128 - r) * L[j] + r * L[j + 1] + 64) >> 7


STRETCH = [next((d for d in range(-2047, 2048) if squash(d) >> 4 >= x), 2047) for x in range(4096)]
FIRST = dict.fromkeys(("BLOCK", "BLOCK_NEAR"), 2**22 // 4)
FIRST |= dict.fromkeys(("HINT", "PAST", "HISTORY", "BEFORE", "FORM"), 2**22 // 16)

Context = tuple[Any, ...]


class Statistics:
    """FORMAT.md "Adaptive bits": [P, n] of each context and the weights of each mixer; unused ones are absent."""

    def __init__(self) -> None:
        self.contexts: dict[Context, list[int]] = {}
        self.mixers: dict[Context, list[int]] = {}


class RangeDecoder:
    """The range decoder of FORMAT.md "Bits" and "Adaptive bits"."""

    def __init__(self, data: bytes, statistics: Statistics) -> None:
        self.data, self.used, self.statistics = data, 4, statistics
        self.range, self.code = 0xFFFFFFFF, int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def raw(self, p: int) -> int:
        """Decode a bit whose probability of being 1 is p / 2^16."""
        bound = (self.range >> 16) * p
        bit = int(self.code < bound)
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        while self.range < 2**24:
            byte = self.data[self.used] if self.used < len(self.data) else 0
            self.used += 1
            self.range = (self.range << 8) & 0xFFFFFFFF
            self.code = (self.code << 8 | byte) & 0xFFFFFFFF
        return bit

    def bit(self, mixer: Context, *names: Context) -> int:
        """Decode an adaptive bit with a mixer and contexts, each named by family and indices."""
        k = len(names)
        w = self.statistics.mixers.setdefault(mixer, [72000 // k] * k + [0])
        contexts = [self.statistics.contexts.setdefault(c, [FIRST.get(c[0], 2**22 // 2), 0]) for c in names]
        s = [STRETCH[chance >> 10] for chance, _ in contexts] + [256]
        d = (sum(a * b for a, b in zip(w, s, strict=True)) + 2**15) >> 16
        p = squash(min(max(d, -2047), 2047))
        bit = self.raw(p)
        e = (bit << 16) - p
        for i in range(k + 1):
            w[i] = min(max(w[i] + ((s[i] * e + 2**16) >> 17), -(2**20)), 2**20)
        for context in contexts:
            chance, n = context
            target = 2**22 - 1 if bit else 0
            context[:] = chance + (((target - chance) * (131072 // (2 * n + 3))) >> 16), min(n + 1, 1023)
        return bit

    def finish(self) -> None:
        """Require that all data are consumed: a record has exactly one encoding."""
        need(len(self.data) <= self.used, "coded data is longer than needed")
        need(not self.data.endswith(b"\0"), "coded data ends with a zero byte")


def size(m: int) -> int:
    m = abs(m)
    return m if m < 3 else min((m - 1).bit_length() + 1, 7)


def sgn(m: int) -> int:
    return 0 if m == 0 else 1 if m > 0 else 2


@dataclass
class Past:
    """State of a tensor before a DELTA: integers, last residual, and history of places, as flat lists."""

    before: list[int]
    recent: list[int]
    history: list[int]


class Places:
    """FORMAT.md "Places": how the values of a tensor are grouped."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        grouped = len(shape) > 1 and shape[-1] <= 4
        self.features = shape[-1] if grouped else 1
        dims = list(shape[:-1] if grouped else shape)
        self.kind = (1 if grouped else 3) if len(dims) == 1 else 2 if len(dims) == 2 else 0
        if len(dims) == 4:
            dims = [dims[0] * dims[1], *dims[2:]]
        self.dims = [1] * (3 - len(dims)) + dims
        self.count = math.prod(dims)


class Walk:
    """FORMAT.md "Walk", with its names: decodes the values of one tensor. `past` is None in a KEY."""

    def __init__(
        self, coder: RangeDecoder, t: int, shape: tuple[int, ...], hints: list[int], past: Past | None
    ) -> None:
        self.coder, self.t, self.places, self.hints, self.delta = coder, t, Places(shape), hints, past is not None
        self.k, self.features, self.count = self.places.kind, self.places.features, self.places.count
        _, height, self.width = self.places.dims
        self.plane = height * self.width
        zeros = [0] * (self.count * self.features)
        self.past = past or Past(zeros, zeros, [0] * self.count)
        self.v = list(zeros)
        self.changed = [0] * self.count
        self.mean = 200

    def run(self) -> list[int]:
        u = 0
        for start in range(0, self.count, 32):
            block = range(start, min(start + 32, self.count))
            may_be_cold = self.delta or self.features > 1
            cold = [i for i in block if may_be_cold and self.past.history[i] == 0 and self.hints[i] == 0]
            passed = set()
            if cold:
                g = min(8 * len(cold) // 32, 7)
                n = 0
                if self.k == 0:
                    n += any(i >= self.width and self.changed[i - self.width] for i in block)
                    n += 2 * any(i >= self.plane and self.changed[i - self.plane] for i in block)
                u = self.coder.bit(("BLOCK", self.k), ("BLOCK", self.t, g, u), ("BLOCK_NEAR", self.k, n, g))
                passed = set() if u else set(cold)
            for i in block:
                if i not in passed:
                    self.place(i)
        return self.v

    def neighbours(self, i: int) -> list[int | None]:
        if self.k == 1:
            return [i - back if i >= back else None for back in (1, 2, 3)]
        x, y = i % self.width, i % self.plane
        left, up = i - 1 if x > 0 else None, i - self.width if y >= self.width else None
        return [left, up, i - self.plane if i >= self.plane else None]

    def following(self, i: int) -> list[int]:
        """The next places along each of the three dimensions that are in the tensor."""
        x, y = i % self.width, i % self.plane
        places = [(i + 1, x < self.width - 1), (i + self.width, y + self.width < self.plane)]
        return [j for j, inside in [*places, (i + self.plane, i + self.plane < self.count)] if inside]

    def values(self, of: list[int], i: int | None) -> list[int]:
        return [] if i is None else of[i * self.features : (i + 1) * self.features]

    def nearness(self, i: int, near: list[int | None], q: int) -> int:
        if self.k == 1:
            return sum(self.changed[max(i - 8, 0) : i]) + sum(self.changed[max(i - 2, 0) : i])
        if self.k > 1:
            return size(sum(abs(v) for j in near[:2] for v in self.values(self.v, j)))
        x, n = i % self.width, 2 * q
        for j in near[1:]:
            if j is not None:
                n += self.changed[j - 1] if x > 0 else 0
                n += self.changed[j + 1] if x < self.width - 1 else 0
        return n

    def ahead(self, i: int) -> int:
        places = self.following(i) if self.k == 0 else [i - 2, i - 1, i + 1, i + 2] if self.k == 1 else []
        return sum(self.past.history[j] != 0 for j in places if 0 <= j < self.count)

    def form(self, i: int, near: list[int | None]) -> int:
        if self.k == 1:
            return self.hints[i]
        if self.k == 0 and self.features == 1 and self.delta:
            sides = [self.past.before[j] + self.v[j] for j in near if j is not None]
            sides += [self.past.before[j] for j in self.following(i)]
            return 1 + 2 * sum(side != 0 for side in sides) + (self.past.before[i] != 0)
        if self.k == 2:
            x, row = i % self.width, i // self.width
            line = sum(abs(v) for v in self.v[row * self.width * self.features : i * self.features])
            column = [abs(v) for r in range(row) for v in self.values(self.v, r * self.width + x)]
            return 8 * size(4 * line // x if x else 2) + size(4 * sum(column) // row if row else 2)
        return 0

    def place(self, i: int) -> None:
        k, t, hint, history = self.k, self.t, self.hints[i], self.past.history[i]
        near = self.neighbours(i)
        q = sum(self.changed[j] for j in near if j is not None)
        n, o = min(self.nearness(i, near, q), 7), self.form(i, near)
        a = 0 if history == 0 else 1 if history < 32 else 2 if history < 128 else 3
        most = max(abs(r) for r in self.values(self.past.recent, i))
        weight = size(max(abs(b) for b in self.values(self.past.before, i)))
        self.changed[i] = self.coder.bit(
            ("PLACE", k, a > 0, hint > 0, n > 0),
            ("HINT", t, hint, a),
            ("PAST", k, n, self.ahead(i), a),
            ("HISTORY", k, history >> 3, most),
            ("BEFORE", k, weight, hint, a > 0),
            ("FORM", k, o, q),
        )
        s = 0
        for f in range(self.features if self.changed[i] else 0):
            recent, known = abs(self.past.recent[i * self.features + f]), (f, min(abs(s), 3))
            if f < self.features - 1 or any(self.values(self.v, i)):
                contexts = [("FEATURE", t, *known), ("FEATURE_RECENT", recent, most, *known)]
                if not self.coder.bit(("FEATURE",), *contexts, ("FEATURE_HINT", hint, a, *known)):
                    s = 0
                    continue
            s = self.value(i, f, near, s, o)

    def value(self, i: int, f: int, near: list[int | None], s: int, o: int) -> int:
        """Decode a value that is not 0."""
        k, t, hint, place = self.k, self.t, self.hints[i], i * self.features + f
        v = [0 if j is None else self.v[j * self.features + f] for j in near]
        recent, before = self.past.recent[place], self.past.before[place]
        negative = self.coder.bit(
            ("SIGN", k),
            ("SIGN", t, sgn(recent), sgn(before)),
            ("SIGN_BEFORE", k, size(before), sgn(before), sgn(s)),
            ("SIGN_NEAR", t, *(sgn(each) for each in v)),
        )
        c = o if k == 2 else 8 * size(sum(abs(each) for each in v)) + size(s)
        scale = min(max(self.mean.bit_length() - 5, 0), 15)
        e = 0
        while True:
            level = min(e, 15)
            contexts = [("SIZE", t, abs(recent), level), ("SIZE_NEAR", k, c, level), ("SIZE_HINT", k, hint, level)]
            if not self.coder.bit(("SIZE", k, min(e, 2)), *contexts, ("SIZE_MEAN", k, scale, level)):
                break
            e += 1
            need(e < 25, "magnitude too large")
        m = 1
        for _ in range(e):
            if m < 4:
                bit = self.coder.bit(("BITS",), ("BITS", t, min(e, 15), m), ("BITS_MEAN", k, scale, min(e, 15), m))
            else:
                bit = self.coder.raw(2**15)
            m = 2 * m + bit
        self.mean += (128 * m - self.mean) >> 4
        self.v[place] = -m if negative else m
        return self.v[place]


class Hints:
    """FORMAT.md "Hints" of one network in one record."""

    THRESHOLDS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 17, 20, 25, 32)

    def __init__(self, network: dict[str, Any], delta: bool) -> None:
        self.network, self.delta, self.cells = network, delta, 0
        self.occupied: list[int] = []
        self.activity: dict[int, int] = {}

    def set_occupancy(self, values: Array) -> None:
        """Take the integers of the occupancy after the record."""
        if values.ndim == 3 and len(set(values.shape)) == 1 and values.shape[0] <= 128:
            self.cells = values.shape[0]
            self.occupied = np.flatnonzero(values).tolist()

    def level(self, t: int) -> tuple[int, int] | None:
        """Resolution and table size (0: dense) of tensor t if it is a level of a grid, else None."""
        resolutions = self.network["config"].get("resolutions")
        name, shape, _ = self.network["tensors"][t]
        if not (
            is_grid(self.network) and self.cells and isinstance(resolutions, list) and t < min(len(resolutions), 16)
        ):
            return None
        r = resolutions[t]
        if not is_int(r, 1, 4096) or name != f"grid.{t}":
            return None
        if shape == [r + 1, r + 1, r + 1, 2]:
            return r, 0
        return (r, shape[0]) if len(shape) == 2 and shape[1] == 2 and shape[0] & (shape[0] - 1) == 0 else None

    def may_visit(self, r: int, cells: list[int]) -> bool:
        return len(cells) * ((r + self.cells - 1) // self.cells + 2) ** 3 <= 2**26

    def active(self) -> list[int]:
        return [cell for cell in self.occupied if self.activity.get(cell, 0) > 0]

    def entries(self, cell: int, r: int, table: int) -> list[int]:
        """Entries in which the vertices that a cell touches are looked up."""
        side = self.cells
        spans = [
            range(a * r // side, min(((a + 1) * r + side - 1) // side, r) + 1)
            for a in (cell // side**2, cell // side % side, cell % side)
        ]
        vertices = itertools.product(*spans)
        if not table:
            return [(x * (r + 1) + y) * (r + 1) + z for x, y, z in vertices]
        return [(x ^ (y * 2654435761 % 2**32) ^ (z * 805459861 % 2**32)) % table for x, y, z in vertices]

    def hints(self, t: int, count: int) -> list[int]:
        """Hints of all places of tensor t, which is coded next."""
        level = self.level(t)
        result = [0] * count
        cells = self.active() if self.delta else self.occupied
        if level is None or not self.may_visit(level[0], cells):
            return result
        for cell in cells:
            for entry in self.entries(cell, *level):
                result[entry] = max(result[entry], self.activity[cell]) if self.delta else result[entry] + 1
        if self.delta:
            return [sum(limit <= activity for limit in self.THRESHOLDS) for activity in result]
        return [min(pairs.bit_length(), 15) for pairs in result]

    def learn(self, t: int, changed: list[int]) -> None:
        """Update activities after tensor t of a DELTA, given which of its places changed."""
        level = self.level(t)
        if level is None:
            return
        cells = self.active() if level[1] else self.occupied
        if self.may_visit(level[0], cells):
            for cell in cells:
                entries = self.entries(cell, *level)
                share = 32 * sum(changed[entry] for entry in entries) // len(entries)
                self.activity[cell] = (self.activity.get(cell, 0) + share) >> 1


def is_grid(network: dict[str, Any]) -> bool:
    return network["profile"] == 2 and network["version"] == 1


def coding_order(head: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """FORMAT.md "Order": indices of network and tensor in coding order."""
    for n, network in enumerate(head["networks"]):
        names = [row[0] for row in network["tensors"]]
        first = [t for t, name in enumerate(names) if is_grid(network) and name == "occupancy"]
        yield from ((n, t) for t in first + [t for t in range(len(names)) if t not in first])


@dataclass
class Memory:
    """FORMAT.md "State": the decoder's context from one DELTA to the next; an absent tensor is all 0."""

    statistics: Statistics = field(default_factory=Statistics)
    recent: dict[tuple[int, int], Array] = field(default_factory=dict)
    history: dict[tuple[int, int], list[int]] = field(default_factory=dict)


def decode_frame(head: dict[str, Any], frame: Frame, old: State, memory: Memory) -> State:
    """FORMAT.md "State": the state after a frame. Updates `memory`, which is that of the previous frame."""
    need(frame.header["coder"] == 1, f"coder {frame.header['coder']}", "unsupported")
    shapes, state, delta = table(head), dict(old), frame.kind == "delta"
    index = {where: place for place, where in enumerate(shapes)}
    coder = RangeDecoder(frame.coded, memory.statistics if delta else Statistics())
    hints: Hints | None = None
    for n, t in coding_order(head):
        where, place = (n, t), index[n, t]
        network, shape = head["networks"][n], shapes[n, t]
        if hints is None or hints.network is not network:
            hints = Hints(network, delta)
        size_ = math.prod(shape)
        count = size_ // Places(shape).features
        past = None
        if delta:
            recent = memory.recent[where].ravel().tolist() if where in memory.recent else [0] * size_
            past = Past(old[where][1].ravel().tolist(), recent, memory.history.get(where, [0] * count))
        values, changed = np.zeros(shape, np.int32), [0] * count
        if not delta or coder.bit(("CHANGES",), ("CHANGES", min(place, 63))):
            walk = Walk(coder, min(place, 63), shape, hints.hints(t, count), past)
            values, changed = np.array(walk.run(), np.int32).reshape(shape), walk.changed
        after = values + old[where][1] if delta else values
        need(int(np.abs(after).max()) < 2**24, "integer out of range")
        state[where] = (old[where][0] if delta else frame.header["qps"][place], after)
        if past is not None:
            memory.recent[where] = np.clip(values, -3, 3)
            memory.history[where] = [(h >> 1) + 128 * c for h, c in zip(past.history, changed, strict=True)]
        if is_grid(network) and network["tensors"][t][0] == "occupancy":
            hints.set_occupancy(after)
        elif delta:
            hints.learn(t, changed)
    coder.finish()
    need(digest(state, shapes) == frame.header["digest"], "digest differs")
    return {where: state[where] for where in shapes}


def digest(state: State, shapes: dict[tuple[int, int], Any]) -> bytes:
    """FORMAT.md "State": all qps and integers, each times a number that follows from its index, summed."""
    qps = np.array([state[where][0] for where in shapes])
    values = np.concatenate([qps, *(state[where][1].ravel() for where in shapes)]).astype(np.int64).view(np.uint64)
    z = np.arange(1, len(values) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    z = z ^ (z >> np.uint64(32)) | np.uint64(1)
    total = int((values * z).sum(dtype=np.uint64)) + 0x9E3779B97F4A7C15
    return (total % 2**64).to_bytes(8, "little")


def states(file: File) -> Iterator[tuple[int, State]]:
    """Yield number and state of every frame that decodes, in order; add the others to `file.lost`."""
    state: State | None = None
    memory = Memory()
    before: int | None = None
    for frame in file.frames:
        if frame.kind == "key":
            state, memory = {}, Memory()
        elif frame.reference != before:
            state = None
        before = frame.number
        try:
            need(state is not None, "reference is lost")
            state = decode_frame(file.head, frame, state or {}, memory)
        except Refused as refusal:
            if refusal.kind != "damaged":
                raise
            state = None
            file.status = "damaged"
            file.problems.append(f"frame {frame.number}: {refusal}")
            if frame.number not in file.lost:
                file.lost.append(frame.number)
            continue
        yield frame.number, state


def weights(state: State) -> dict[tuple[int, int], NDArray[np.float32]]:
    """FORMAT.md "Lattice": integers times steps, rounded once to binary32."""
    return {where: values.astype(np.float32) * step(qp) for where, (qp, values) in state.items()}


def step(qp: int) -> np.float32:
    return np.float32((8 + (qp & 7)) * 2.0 ** ((qp >> 3) - 3))


# ---- Part III: rays and spaces ----


def distort(x: Array, y: Array, camera: dict[str, Any]) -> tuple[Array, Array]:
    """FORMAT.md "From pixels to rays": the function that the undistorted point solves."""
    k1, k2, p1, p2 = (camera[key] for key in ("k1", "k2", "p1", "p2"))
    k3, k4, k5, k6, s1, s2, s3, s4 = (camera.get(key, 0.0) for key in HIGHER)
    r2 = x**2 + y**2
    if camera.get("fisheye", False):
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
    else:
        radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2) + s1 * r2 + s2 * r2**2,
        y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y + s3 * r2 + s4 * r2**2,
    )


def undistort(xy: Array, camera: dict[str, Any]) -> Array:
    """FORMAT.md "From pixels to rays": ten iterations of Newton's method on points [..., 2]."""
    x, y = xy[..., 0].copy(), xy[..., 1].copy()
    # Derivatives as the imaginary part of a step along it: exact, and nothing to derive by hand.
    step = 1e-30
    for _ in range(10):
        (fx, fy), along_x, along_y = (
            distort(x + dx, y + dy, camera) for dx, dy in ((0, 0), (1j * step, 0), (0, 1j * step))
        )
        (xx, yx), (xy_, yy) = (tuple(part.imag / step for part in each) for each in (along_x, along_y))
        fx, fy, det = fx - xy[..., 0], fy - xy[..., 1], xx * yy - xy_ * yx
        x, y = x - (yy * fx - xy_ * fy) / det, y - (xx * fy - yx * fx) / det
    if camera.get("fisheye", False):
        angle = np.maximum(np.hypot(x, y), 1e-9)
        factor = np.tan(np.minimum(angle, 1.5)) / angle
        x, y = x * factor, y * factor
    return np.stack([x, y], axis=-1)


def camera_rays(camera: dict[str, Any], size: tuple[int, int]) -> tuple[Array, Array]:
    """Origins and directions [H * W, 3] of the rays through all pixel centres, in world axes; t is z-depth."""
    width, height = size
    u = (np.arange(width) + 0.5) * camera["width"] / width
    v = (np.arange(height) + 0.5) * camera["height"] / height
    x, y = np.meshgrid((u - camera["cx"]) / camera["fl_x"], (v - camera["cy"]) / camera["fl_y"])
    xy = undistort(np.stack([x, y], axis=-1), camera).reshape(-1, 2)
    pose = np.array(camera["pose"], np.float64).reshape(3, 4)
    directions = np.stack([xy[:, 0], -xy[:, 1], -np.ones(len(xy))], axis=-1) @ pose[:, :3].T
    return np.broadcast_to(pose[:, 3], directions.shape), directions


class Space:
    """FORMAT.md "Coordinate mapping" of R rays: start e and extent f are [R, 3], ray parameters s are [R, S]."""

    e: Array
    f: Array

    def __init__(self, space: dict[str, Any], origins: Array, directions: Array) -> None:
        pose = np.array(space["pose"], np.float64).reshape(3, 4)
        self.low = np.array(space["low"], np.float64)
        self.high = np.array([math.inf if v is None else v for v in space["high"]], np.float64)
        self.valid = np.ones(len(origins), bool)
        self.enter((origins - pose[:, 3]) @ pose[:, :3], directions @ pose[:, :3])

    def enter(self, o: Array, d: Array) -> None:
        raise NotImplementedError

    def depth(self, s: Array) -> Array:
        raise NotImplementedError

    def points(self, s: Array) -> Array:
        return self.e[:, None] + s[..., None] * self.f[:, None]

    def lengths(self, low: Array, high: Array) -> Array:
        return np.linalg.norm(self.f, axis=-1)[:, None] * (high - low)


class Ndc(Space):
    """Between a near and a far plane; s is linear in disparity."""

    def enter(self, o: Array, d: Array) -> None:
        near, far = self.low[2], self.high[2]
        w = np.minimum(d[:, 2], -1e-4 * np.linalg.norm(d, axis=-1))
        a = (o[:, :2] + ((-near - o[:, 2]) / w)[:, None] * d[:, :2]) / near
        if math.isinf(far):
            b = d[:, :2] / -w[:, None]
        else:
            b = (o[:, :2] + ((-far - o[:, 2]) / w)[:, None] * d[:, :2]) / far
        low, side = self.low[:2], self.high[:2] - self.low[:2]
        start, end = (a - low) / side, (b - low) / side
        zero = np.zeros((len(o), 1))
        self.e = np.concatenate([start, zero], axis=-1)
        self.f = np.concatenate([end, zero + 1], axis=-1) - self.e
        self.oz, self.w = o[:, 2], w

    def depth(self, s: Array) -> Array:
        z = 1 / ((1 - s) / self.low[2] + s / self.high[2])
        return (-self.oz / self.w)[:, None] - z / self.w[:, None]


class Box(Space):
    """A bounded box."""

    def enter(self, o: Array, d: Array) -> None:
        o, d = (o - self.low) / (self.high - self.low), d / (self.high - self.low)
        inside = (o >= 0) & (o < 1)
        sides = np.stack([-o / d, (1 - o) / d])
        first = np.where(d == 0, np.where(inside, -np.inf, np.inf), sides.min(axis=0))
        last = np.where(d == 0, np.where(inside, np.inf, -np.inf), sides.max(axis=0))
        t0, t1 = np.maximum(first.max(axis=-1), 0), last.min(axis=-1)
        self.valid = t0 < t1
        self.t0, self.extent = np.where(self.valid, t0, 0), np.where(self.valid, t1 - t0, 0)
        self.e, self.f = o + self.t0[:, None] * d, self.extent[:, None] * d

    def depth(self, s: Array) -> Array:
        return self.t0[:, None] + s * self.extent[:, None]


class Contract(Space):
    """Unbounded space: an inner box is kept, everything outside is contracted around it."""

    def enter(self, o: Array, d: Array) -> None:
        half = (self.high - self.low) / 2
        o, d = (o - self.low) / half - 1, d / half
        self.norm, self.reach = np.linalg.norm(d, axis=-1), np.abs(o).max(axis=-1) + 1
        self.e, self.f = o + (0.05 / self.norm)[:, None] * d, (self.reach / self.norm)[:, None] * d

    @staticmethod
    def tau(s: Array) -> Array:
        return np.where(s < 0.5, 2 * s, 1 / (2 - 2 * s))

    def points(self, s: Array) -> Array:
        x = super().points(self.tau(s))
        m = np.abs(x).max(axis=-1, keepdims=True)
        outside = np.where(np.abs(x) == m, np.sign(x) * (2 - 1 / m), x / m)
        return np.where(m > 1, outside, x) / 4 + 0.5

    def lengths(self, low: Array, high: Array) -> Array:
        ends = np.maximum(low, 0), np.minimum(high, 1 - 1 / (4 * low.shape[-1]))
        return np.linalg.norm(self.points(ends[1]) - self.points(ends[0]), axis=-1)

    def depth(self, s: Array) -> Array:
        tau = self.tau(np.minimum(s, 1 - 1e-6))
        return (0.05 / self.norm)[:, None] + tau * (self.reach / self.norm)[:, None]


SPACES: dict[str, type[Space]] = {"ndc": Ndc, "box": Box, "contract": Contract}


# ---- Part III: profiles ----


def linear(w: dict[str, Array], name: str, x: Array) -> Array:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


class Nerf:
    """The field of FORMAT.md "Profile 1: nerf"."""

    def __init__(self, config: dict[str, Any], w: dict[str, Array]) -> None:
        self.config, self.w, self.occupancy, self.motion = config, w, w.get("occupancy"), np.zeros((0, 12))
        self.samples, self.importance, self.features = config["samples"], config["importance"], 3

    @staticmethod
    def encode(x: Array, octaves: int) -> Array:
        return np.concatenate([x] + [f(2.0**k * x) for k in range(octaves) for f in (np.sin, np.cos)], axis=-1)

    def sample(self, p: Array, v: Array) -> tuple[Array, Array]:
        """Densities [P] and features [P, 3] of points [P, 3] seen along unit directions [P, 3]."""
        h = self.encode(2 * p - 1, self.config["position_octaves"])
        for i in range(self.config["depth"]):
            h = relu(linear(self.w, f"layers.{i}", h))
        seen = np.concatenate([linear(self.w, "feature", h), self.encode(v, self.config["direction_octaves"])], axis=-1)
        colour = sigmoid(linear(self.w, "rgb", relu(linear(self.w, "direction", seen))))
        return relu(linear(self.w, "density", h))[:, 0], colour

    def picture(self, features: Array, opacity: Array, v: Array) -> Array:
        return features


class Grid:
    """The field of FORMAT.md "Profile 2: grid"."""

    def __init__(self, config: dict[str, Any], w: dict[str, Array]) -> None:
        self.config, self.w, self.occupancy = config, w, w["occupancy"]
        self.motion = w.get("motion", np.zeros((0, 12)))
        self.samples, self.importance, self.features = config["samples"], 0, config["features"]

    def look_up(self, level: int, p: Array) -> Array:
        entries, r = self.w[f"grid.{level}"], self.config["resolutions"][level]
        q = r * p
        base = np.minimum(np.floor(q), r - 1).astype(np.int64)
        fraction, total = q - base, np.zeros((len(p), 2))
        for corner in np.ndindex(2, 2, 2):
            x, y, z = (base + corner).T
            share = np.where(corner, fraction, 1 - fraction).prod(axis=-1)
            if entries.ndim == 4:
                found = entries[x, y, z]
            else:
                found = entries[(x ^ (y * 2654435761 % 2**32) ^ (z * 805459861 % 2**32)) % len(entries)]
            total += share[:, None] * found
        return total

    def sample(self, p: Array, v: Array) -> tuple[Array, Array]:
        """Densities [P] and features [P, F] of points [P, 3]."""
        encoding = np.concatenate([self.look_up(i, p) for i in range(len(self.config["resolutions"]))], axis=-1)
        out = linear(self.w, "density.1", relu(linear(self.w, "density.0", encoding)))
        return np.exp(np.minimum(out[:, 0], 12)), out[:, 1:]

    @staticmethod
    def harmonics(v: Array) -> Array:
        x, y, z = v.T
        bands = [np.full_like(x, 0.28209479), -0.48860251 * y, 0.48860251 * z, -0.48860251 * x]
        bands += [1.09254843 * x * y, -1.09254843 * y * z, 0.94617470 * z * z - 0.31539157]
        return np.stack([*bands, -1.09254843 * x * z, 0.54627422 * (x * x - y * y)], axis=-1)

    def picture(self, features: Array, opacity: Array, v: Array) -> Array:
        g = np.concatenate([features, self.harmonics(v)], axis=-1)
        g = relu(linear(self.w, "colour.1", relu(linear(self.w, "colour.0", g))))
        return opacity[:, None] * sigmoid(features[:, :3] + linear(self.w, "colour.2", g))


class Image:
    """The field of FORMAT.md "Profile 4: image"."""

    samples, importance, features, occupancy = 1, 0, 3, None

    def __init__(self, config: dict[str, Any], w: dict[str, Array]) -> None:
        self.config, self.w, self.motion = config, w, np.zeros((0, 12))

    def look_up(self, level: int, p: Array) -> Array:
        r = self.config["resolutions"][level]
        base = np.minimum(np.floor(r * p), r - 1).astype(np.int64)
        fraction, total = r * p - base, np.zeros((len(p), 2))
        for corner in np.ndindex(2, 2):
            share = np.where(corner, fraction, 1 - fraction).prod(axis=-1)
            total += share[:, None] * self.w[f"grid.{level}"][tuple((base + corner).T)]
        return total

    def sample(self, p: Array, v: Array) -> tuple[Array, Array]:
        """Densities [P] and features [P, 3] of points [P, 3]."""
        levels = [self.look_up(i, p[:, :2]) for i in range(len(self.config["resolutions"]))]
        h = np.concatenate([Nerf.encode(2 * p[:, :2] - 1, self.config["octaves"]), *levels], axis=-1)
        for i in range(self.config["depth"]):
            h = relu(linear(self.w, f"layers.{i}", h))
        return np.full(len(p), 100.0), sigmoid(linear(self.w, "rgb", h))

    def picture(self, features: Array, opacity: Array, v: Array) -> Array:
        return features


Field = Nerf | Grid | Image
FIELDS: dict[int, type[Nerf] | type[Grid] | type[Image]] = {1: Nerf, 2: Grid, 4: Image}


# ---- Part III: marching and compositing ----


@dataclass
class March:
    """Result of compositing along R rays: summed features [R, F], remaining T [R], depth [R], sample weights [R, S]."""

    features: Array
    left: Array
    depth: Array
    weights: Array


def field_of(network: dict[str, Any], tensors: list[Array]) -> Field:
    """The field of a network, with weights in double precision."""
    w = {row[0]: tensor.astype(np.float64) for row, tensor in zip(network["tensors"], tensors, strict=True)}
    return FIELDS[network["profile"]](network["config"], w)


def in_cube(points: Array) -> Array:
    return np.asarray(((points >= 0) & (points < 1)).all(axis=-1))


def taken(net: Field, space: Space, points: Array) -> tuple[Array, Array]:
    """FORMAT.md "Compositing": which samples are used, and at which points the field is evaluated for them."""
    mask, at = in_cube(points) & space.valid[:, None], points.copy()
    occupancy = net.occupancy
    if occupancy is None:
        return mask, at

    def cell_weights(inside: Array) -> Array:
        return np.asarray(occupancy[tuple(np.floor(inside * len(occupancy)).astype(np.int64).T)])

    own = cell_weights(points[mask])
    free, used = mask.copy(), np.zeros_like(mask)
    used[mask] = (own != 0) & ~np.isin(own, np.arange(len(net.motion)) + 2)
    for p, row in enumerate(net.motion):
        moved = points + np.concatenate([points - 0.5, np.ones((*points.shape[:-1], 1))], axis=-1) @ row.reshape(3, 4).T
        belongs = free & in_cube(moved)
        belongs[belongs] = cell_weights(moved[belongs]) == p + 2
        at[belongs], used[belongs], free[belongs] = moved[belongs], True, False
    return used, at


def composite(net: Field, space: Space, v: Array, s: Array, lengths: Array) -> March:
    """FORMAT.md "Compositing" along rays with unit view directions v [R, 3], at samples s [R, S]."""
    mask, points = taken(net, space, space.points(s))
    sigma, features = np.zeros(s.shape), np.zeros((*s.shape, net.features))
    where = np.argwhere(mask)
    for start in range(0, len(where), 2**14):
        r, k = where[start : start + 2**14].T
        sigma[r, k], features[r, k] = net.sample(points[r, k], v[r])
    depths = space.depth(s)
    result = March(np.zeros((len(s), net.features)), np.ones(len(s)), np.full(len(s), np.inf), np.zeros(s.shape))
    for k in range(s.shape[1]):
        alpha = np.where(mask[:, k] & (result.left > 1e-3), 1 - np.exp(-sigma[:, k] * lengths[:, k]), 0)
        result.weights[:, k] = result.left * alpha
        result.features += result.weights[:, k, None] * features[:, k]
        behind = result.left * (1 - alpha)
        result.depth = np.where((result.left >= 0.5) & (behind < 0.5), depths[:, k], result.depth)
        result.left = behind
    return result


def even_samples(net: Field, space: Space, rays: int) -> tuple[Array, Array]:
    """FORMAT.md "Sampling": the centres of N intervals, and their lengths."""
    s = np.broadcast_to((np.arange(net.samples) + 0.5) / net.samples, (rays, net.samples))
    half = 0.5 / net.samples
    return s, space.lengths(s - half, s + half)


def importance_samples(net: Field, space: Space, s: Array, shares: Array) -> tuple[Array, Array]:
    """FORMAT.md "Importance samples": s and M additional samples where the weights of a first pass are large."""
    shares = shares + 1e-5
    sums = np.cumsum(shares / shares.sum(axis=-1, keepdims=True), axis=-1)
    sums = np.concatenate([np.zeros((len(s), 1)), sums], axis=-1)
    edges, wanted = np.linspace(0, 1, s.shape[1] + 1), (np.arange(net.importance) + 0.5) / net.importance
    more = np.array([np.interp(wanted, row, edges) for row in sums]).reshape(len(s), net.importance)
    s = np.sort(np.concatenate([s, more], axis=-1), axis=-1)
    ends = np.concatenate([np.zeros((len(s), 1)), (s[:, 1:] + s[:, :-1]) / 2, np.ones((len(s), 1))], axis=-1)
    return s, space.lengths(ends[:, :-1], ends[:, 1:])


def march(first: Field, main: Field, space: Space, v: Array) -> March:
    """FORMAT.md "Roles": sample `first` evenly if that is to guide `main`, and composite `main`."""
    s, lengths = even_samples(first, space, len(v))
    if main.importance > 0:
        guide = composite(first, space, v, s, lengths)
        s, lengths = importance_samples(main, space, s, guide.weights)
    return composite(main, space, v, s, lengths)


def find_roles(head: dict[str, Any]) -> tuple[int, int, int | None]:
    """FORMAT.md "Roles": indices of the guiding network, the composited one and the camera-colour one (or None)."""
    networks = head["networks"]
    roles = [network["role"] for network in networks]
    for network, role in zip(networks, roles, strict=True):
        need(is_known(network), f"profile {network['profile']} version {network['version']}", "unsupported")
        need((network["profile"] == 3) == (role == "camera-colour"), f"profile of role {role}", "unsupported")
    affine = roles.index("camera-colour") if "camera-colour" in roles else None
    kinds = sorted(roles[:affine] + roles[affine + 1 :] if affine is not None else roles)
    need(kinds in (["scene"], ["coarse", "fine"]), f"roles {roles}", "unsupported")
    first, main = (roles.index(kinds[0]), roles.index(kinds[-1]))
    space, other = networks[main]["space"], networks[first]["space"]
    need(space == other and space["kind"] in SPACES, "space", "unsupported")
    for network in networks:
        check_profile(network, len(head["cameras"]))
        check_space(network)
    return first, main, affine


def render(
    file: File, state: State, camera: dict[str, Any], size: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8], Array, Array]:
    """Part III: rgb [H, W, 3], opacity [H, W] and depth [H, W]. Camera colour goes by name, size is (w, h)."""
    head = file.head
    need(head["colour_space"] == "srgb", f"colour space {head['colour_space']}", "unsupported")
    first, main, affine = find_roles(head)
    networks, floats = head["networks"], weights(state)
    tensors = [[floats[n, t] for t in range(len(network["tensors"]))] for n, network in enumerate(networks)]
    nets = [field_of(networks[i], tensors[i]) for i in (first, main)]
    width, height = size or (camera["width"], camera["height"])
    need(min(width, height) >= 1 and max(width, height) <= MAX_SIDE, "picture size", "limit")
    with np.errstate(all="ignore"):
        origins, directions = camera_rays(camera, (width, height))
        chunk = max(1, 2**17 // (nets[1].samples + nets[1].importance))
        parts = [
            shade(nets, networks[main]["space"], origins[i : i + chunk], directions[i : i + chunk])
            for i in range(0, len(origins), chunk)
        ]
        colour, opacity, depth = (np.concatenate(part) for part in zip(*parts, strict=True))
        background = head["background"]
        if background is None:
            colour = colour / np.maximum(opacity, 1e-4)[:, None]
        else:
            colour = colour + (1 - opacity)[:, None] * np.array(background)
        names = [each["name"] for each in head["cameras"]]
        if affine is not None and camera.get("name") in names:
            gain, offset = (tensor[names.index(camera["name"])] for tensor in tensors[affine])
            colour = gain * colour + offset
        rgb = np.rint(255 * np.clip(np.nan_to_num(colour), 0, 1)).astype(np.uint8)
    return rgb.reshape(height, width, 3), opacity.reshape(height, width), depth.reshape(height, width)


def shade(nets: list[Field], space: dict[str, Any], origins: Array, directions: Array) -> tuple[Array, Array, Array]:
    """Premultiplied colour [R, 3], opacity [R] and depth [R] of R rays."""
    view = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    result = march(nets[0], nets[1], SPACES[space["kind"]](space, origins, directions), view)
    opacity = 1 - result.left
    return nets[1].picture(result.features, opacity, view), opacity, result.depth


# ---- command line ----


def print_file(file: File) -> None:
    """Print a row per record, then a row per frame with the result of its digest check."""
    for kind, number, offset, total in file.records:
        print(f"{TYPE_NAMES.get(kind, kind)!s:6} {number:8} {offset:12} {total:10}")
    checked = {number for number, _ in states(file)}
    for frame in file.frames:
        print(f"frame {frame.number} {frame.kind} {'ok' if frame.number in checked else 'LOST'}")
    for problem in file.problems:
        print(f"problem: {problem}")
    print(f"{file.status}, lost: {file.lost}")


def save_picture(file: File, number: int, name: str | None, path: Path) -> None:
    frames = {frame.number: frame for frame in file.frames}
    need(number not in file.lost or number in frames, f"frame {number} is lost")
    need(number in frames, f"no frame {number}", "usage")
    cameras = [each for each in frames[number].cameras if name is None or each["name"] == name]
    need(bool(cameras), f"no camera {name}", "usage")
    state = next((state for each, state in states(file) if each == number), None)
    need(state is not None, f"frame {number} is lost")
    np.save(path, render(file, state or {}, cameras[0])[0])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code (FORMAT.md "Exit codes")."""
    parser = argparse.ArgumentParser(description="Reference decoder of .inv files.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--frame", type=int)
    parser.add_argument("--camera")
    parser.add_argument("-o", "--output", type=Path, default=Path("out.npy"))
    options = parser.parse_args(arguments)
    try:
        file = read(options.file.read_bytes())
        if options.frame is None:
            print_file(file)
        else:
            save_picture(file, options.frame, options.camera, options.output)
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return EXIT_CODES[refusal.kind]
    return 3 if file.status in ("damaged", "truncated") else 0


if __name__ == "__main__":
    sys.exit(main())
