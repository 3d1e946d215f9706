"""Makes the conformance vectors: small files with the results that a decoder must produce.

    python spec/make_vectors.py            check that the vectors are what this script makes
    python spec/make_vectors.py --write    write them; only after a deliberate change of the format

Each vector is a folder with `input.inv` and `expect.json`:

- `intent`: the purpose of the vector.
- `refused`: the class of error with which the file as a whole is refused (FORMAT.md, "Exit codes"), or null. Then also:
- `status`, and `records`: [type, frame, offset, bytes] of each record with a sound header.
- `frames`: [number, ticks, kind, digest] of each frame that decodes; `lost`: numbers of the frame records that do not.
- `render`: `frame`, `camera`, and `rgb`, `[H, W, 3]`, or instead of that `refused`.

`SHA256SUMS` freezes all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from invcodec.coding.chain import Follower
from invcodec.coding.codec import delta_frame, encode_delta, encode_key, key_frame
from invcodec.coding.state import State
from invcodec.container.canonical import pack, packed_size
from invcodec.container.compressed import compress, decompress
from invcodec.container.frame import FrameHead
from invcodec.container.head import CAMERAS, FORMAT_VERSION, Head
from invcodec.container.index import END_BYTES, ROW, Index
from invcodec.container.records import MAGIC, RecordType, pack_record
from invcodec.container.scan import Scanner
from invcodec.container.writer import Writer
from invcodec.decoding.video import Video
from invcodec.errors import DamagedError, InvError, LimitError, UnsupportedError, UsageError
from invcodec.field.profile import TensorKey
from invcodec.field.registry import build
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import look_at
from invcodec.geometry.space import Space
from invcodec.limits import MAX_HEAD_BYTES, PAGE_FRAMES
from invcodec.render import camera_colour
from invcodec.render.networks import Network, declare

ROOT = Path(__file__).resolve().parent / "vectors"
CLASSES = {UsageError: "usage", DamagedError: "damaged", UnsupportedError: "unsupported", LimitError: "limit"}

GRID = {
    "resolutions": [3, 7],
    "log2_table": 7,
    "hidden": 4,
    "features": 3,
    "colour_hidden": 4,
    "occupancy": 4,
    "samples": 12,
}
NERF = {
    "depth": 3,
    "width": 8,
    "structure_layers": 1,
    "position_octaves": 2,
    "direction_octaves": 1,
    "samples": 8,
    "importance": 4,
}
IMAGE = {"resolutions": [3, 7], "octaves": 0, "depth": 1, "width": 8, "structure_layers": 0}
SPACES = {
    "ndc": Space("ndc", np.eye(3, 4), np.array([-0.7, -0.6, 1.0]), np.array([0.7, 0.6, np.inf])),
    "ndc-far": Space("ndc", np.eye(3, 4), np.array([-0.7, -0.6, 1.0]), np.array([0.7, 0.6, 6.0])),
    "box": Space("box", np.eye(3, 4), -np.ones(3), np.ones(3)),
    "contract": Space("contract", np.eye(3, 4), -np.ones(3), np.ones(3)),
}


def cameras(kind: str, count: int = 2, lens: tuple[float, ...] = (0, 0, 0, 0)) -> tuple[Camera, ...]:
    """A small rig: in front of the scene for `ndc`, otherwise around it."""
    rig = []
    for index in range(count):
        angle = 0.3 * (index - (count - 1) / 2)
        if kind.startswith("ndc"):
            pose = look_at(np.array([angle, 0.1, 0.1]), np.array([0, 0, -3.0]), np.array([0, 1.0, 0]))
        else:
            position = 2.5 * np.array([np.sin(angle), 0.2, np.cos(angle)])
            pose = look_at(position, np.zeros(3), np.array([0, 1.0, 0]))
        # Poses are rounded, so that files do not depend on the implementation of sine.
        pose = np.round(pose, 6)
        lens = tuple(float(k) for k in lens)
        rig.append(Camera(f"cam{index:02d}", 8, 6, 9.0, 9.0, 4.0, 3.0, pose, lens, held_out=index == 0))
    return tuple(rig)


def header(networks: Sequence[Network], rig: Sequence[Camera], colour: bool = False, **changes: Any) -> Head:
    declared = [declare(network) for network in networks]
    if colour:
        declared.append(camera_colour.declare(len(rig)))
    fields: dict[str, Any] = {
        "frame_rate": Fraction(25),
        "time_base": Fraction(1, 1000),
        "source_size": (16, 12),
        "downscale": 2,
        "background": (0.25, 0.5, 0.75),
        "cameras": tuple(rig),
        "networks": tuple(declared),
        "encoder": {"name": "make_vectors"},
        "tags": {"title": "conformance vector"},
    }
    return Head(**(fields | changes))


def grid(space: str, **changes: Any) -> Network:
    return Network("scene", "scene", build("grid", GRID | changes), SPACES[space])


def nerf(role: str, space: str, **changes: Any) -> Network:
    return Network(role, role, build("nerf", NERF | changes), SPACES[space])


def image(space: str, **changes: Any) -> Network:
    return Network("scene", "scene", build("image", IMAGE | changes), SPACES[space])


def levels(head: Head, rng: np.random.Generator) -> tuple[dict[TensorKey, np.ndarray], dict[TensorKey, int]]:
    """Random integers and quantisation parameters that render to something visible."""
    values, qps = {}, {}
    for network in head.networks:
        for tensor in network.tensors:
            key = (network.name, tensor.name)
            spread, qp = 40, -32
            value: np.ndarray
            if tensor.name == "occupancy":
                value = (rng.random(tensor.shape) < 0.8).astype(np.int32)
                qp = 0
                if any(each.name == "motion" for each in network.tensors):
                    value = np.where(value > 0, rng.integers(1, 4, tensor.shape), 0)
            elif tensor.name == "motion":
                value, qp = rng.integers(-3000, 3000, tensor.shape), -112
            elif tensor.name == "gain":
                value, qp = rng.integers(200, 300, tensor.shape), -64
            elif tensor.name == "offset":
                value, qp = rng.integers(-20, 20, tensor.shape), -64
            else:
                value = rng.integers(-spread, spread + 1, tensor.shape)
                qp = -40 if tensor.name.startswith("colour") else -48 if network.profile_name == "image" else -32
            values[key], qps[key] = value.astype(np.int32), qp
    return values, qps


class Maker:
    """Writes a file frame by frame.

    Args:
        head: header of the file.
        seed: seed of all its integers.
    """

    def __init__(self, head: Head, seed: int) -> None:
        self.head = head
        self.rng = np.random.default_rng(seed)
        self.out = io.BytesIO()
        self.writer = Writer(self.out, head)
        self.state: State | None = None
        self.last = 0

    def key(self, number: int, time: int, **changes: Any) -> Maker:
        coded, self.state = encode_key(self.head, *levels(self.head, self.rng))
        return self._frame(number, key_frame(self.state, time), coded, changes)

    def delta(self, number: int, time: int, share: float = 0.1, only: str = "", **changes: Any) -> Maker:
        """Change a share of the values of tensors whose names begin with `only`."""
        assert self.state is not None
        new = {}
        for key, old in self.state.levels.items():
            if key[1].startswith(only) and share:
                change = self.rng.integers(-3, 4, old.shape) * (self.rng.random(old.shape) < share)
                if key[1] == "occupancy":
                    change = change * 0 + ((self.rng.random(old.shape) < share) & (old == 0))
                if key[1] == "motion":
                    change = 500 * change
                new[key] = (old + change).astype(np.int32)
        coded, self.state = encode_delta(self.state, new)
        return self._frame(number, delta_frame(self.state, time, self.last), coded, changes)

    def _frame(self, number: int, frame: FrameHead, coded: bytes, changes: dict[str, Any]) -> Maker:
        self.writer.frame(number, replace(frame, **changes), coded)
        self.last = number
        return self

    def raw(self, data: bytes) -> Maker:
        """Append bytes between records."""
        self.writer._write(data)
        return self

    def open(self) -> bytes:
        return self.out.getvalue()

    def finish(self, complete: bool = True) -> bytes:
        self.writer.finish(complete)
        return self.out.getvalue()

    def offsets(self) -> list[int]:
        """Offsets of the frame records."""
        return [entry.offset for entry in self.writer.entries]


def simple(seed: int = 0) -> Maker:
    """A keyframe and two deltas of a small grid."""
    return Maker(header([grid("ndc")], cameras("ndc")), seed).key(0, 0).delta(1, 40).delta(2, 80)


def two_segments(seed: int = 1) -> Maker:
    """Keyframes 0 and 2, a delta after each."""
    return Maker(header([grid("ndc")], cameras("ndc")), seed).key(0, 0).delta(1, 40).key(2, 80).delta(3, 120)


def long() -> Maker:
    """More frames than an INDEX of level 0 has rows, with cameras that move once."""
    tiny = nerf("scene", "ndc", depth=1, width=2, structure_layers=1, position_octaves=0, direction_octaves=0)
    made = Maker(header([tiny], cameras("ndc")), 23).key(0, 0)
    for number in range(1, PAGE_FRAMES + 2):
        moved = cameras("ndc", lens=(0.1, 0, 0, 0)) if number == 9 else None
        made.delta(number, 40 * number, share=0.0, cameras=moved)
    return made


def head_record(head: Head) -> bytes:
    return pack_record(RecordType.HEAD, 0, head.to_bytes())


def head_fields(head: Head) -> bytes:
    """The map of a header, packed but not compressed."""
    return decompress(head.to_bytes()[2:], "header", MAX_HEAD_BYTES)


def packed_head(fields: bytes, version: int = FORMAT_VERSION, reader: int = FORMAT_VERSION) -> bytes:
    """A HEAD record with these packed fields."""
    return pack_record(RecordType.HEAD, 0, bytes([version, reader]) + compress(fields))


def changed_head(change: Callable[[dict[str, Any]], Any], made: Maker | None = None) -> bytes:
    """A file with a modified header map and one good frame."""
    import msgpack

    made = made or simple()
    fields = msgpack.unpackb(head_fields(made.head))
    change(fields)
    first, second = made.offsets()[:2]
    return MAGIC + packed_head(pack(fields)) + made.open()[first:second]


def changed_network(part: str, changes: Mapping[str, Any], made: Maker | None = None) -> bytes:
    """A file with a modified map of its first network, such as `config`, and one good frame."""
    return changed_head(lambda f: f["networks"][0][part].update(changes), made)


def changed_frame(change: Callable[[list[Any]], Any], coded: Callable[[bytes], bytes] = bytes) -> bytes:
    """A file whose second frame has a modified header or modified coded values; keyframe 2 follows."""
    import msgpack

    made = two_segments()
    data, places = made.open(), made.offsets()
    record = data[places[1] : places[2]]
    payload = record[24:-4]
    size = packed_size(payload, "frame header")
    fields = msgpack.unpackb(payload[:size])
    change(fields)
    body = pack(fields) + coded(payload[size:])
    return data[: places[1]] + pack_record(RecordType.DELTA, 1, body) + data[places[2] :]


def raw_record(
    type_: int, payload: bytes, *, frame: int = 0, flags: int = 0, reserved: int = 0, length: int = -1
) -> bytes:
    """A record with an arbitrary header and correct checksums."""
    top = struct.pack("<4sBBHqI", b"\xb5INV", type_, flags, reserved, frame, len(payload) if length < 0 else length)
    return top + struct.pack("<I", zlib.crc32(top)) + payload + struct.pack("<I", zlib.crc32(payload))


def flip(data: bytes, at: int, bits: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


@dataclass(frozen=True)
class Vector:
    """A file and its purpose; `view` is the frame and camera to render, if any."""

    path: str
    intent: str
    data: bytes
    view: tuple[int, str] | None = None


def vectors() -> Iterator[Vector]:
    yield from _valid()
    yield from _uncommon()
    yield from _faulty()


def _valid() -> Iterator[Vector]:
    yield Vector("valid/grid-ndc", "a grid in NDC with an infinite far plane", simple().finish(), (2, "cam01"))
    made = Maker(header([grid("box")], cameras("box"), background=None), 2).key(0, 0).delta(1, 40)
    yield Vector("valid/grid-box-transparent", "a box, transparent background", made.finish(), (1, "cam00"))
    made = Maker(header([grid("contract")], cameras("contract"), colour=True), 3)
    made.key(0, 0).delta(1, 40, only="grid").key(2, 80).delta(3, 120, only="grid")
    yield Vector(
        "valid/grid-contract-colour", "contracted space, camera colour, two keyframes", made.finish(), (3, "cam01")
    )
    made = Maker(header([nerf("scene", "ndc-far")], cameras("ndc")), 21).key(0, 0).delta(1, 40, only="layers.0")
    yield Vector("valid/nerf-scene", "one MLP that guides its own importance samples", made.finish(), (1, "cam01"))
    pair = [nerf("coarse", "ndc", importance=0), nerf("fine", "ndc")]
    made = Maker(header(pair, cameras("ndc")), 5).key(0, 0).delta(1, 40).delta(2, 80, only="layers.0")
    yield Vector("valid/nerf-coarse-fine", "two networks: warm-up, then structure alone", made.finish(), (2, "cam00"))
    made = Maker(header([nerf("scene", "box", occupancy=4)], cameras("box")), 20).key(0, 0)
    made.delta(1, 40, only="occupancy").delta(2, 80)
    yield Vector("valid/nerf-occupancy", "an MLP with occupied cells, which change", made.finish(), (2, "cam01"))
    made = Maker(header([grid("box", parts=2)], cameras("box")), 27).key(0, 0).delta(1, 40, only="motion", share=1.0)
    made.delta(2, 80, only="occupancy").delta(3, 120, only="motion", share=0.5)
    yield Vector("valid/grid-parts", "two parts, which move and overlap", made.finish(), (3, "cam01"))
    made = Maker(header([nerf("scene", "contract")], cameras("contract")), 15).key(0, 0)
    yield Vector("valid/nerf-contract", "importance samples in contracted space", made.finish(), (0, "cam01"))
    made = Maker(header([image("ndc")], cameras("ndc", 1)), 26).key(0, 0).delta(1, 40).delta(2, 80, only="grid")
    yield Vector("valid/image-grid", "a picture over a grid", made.finish(), (2, "cam00"))
    waves = {"resolutions": [], "octaves": 3, "depth": 3, "structure_layers": 2}
    made = Maker(header([image("ndc", **waves)], cameras("ndc", 1)), 27).key(0, 0).delta(1, 40, only="layers")
    yield Vector("valid/image-waves", "a picture by an MLP of encoded positions", made.finish(), (1, "cam00"))
    made = Maker(header([grid("ndc")], cameras("ndc")), 6).key(0, 0).delta(1, 40).delta(2, 80, only="grid")
    made.delta(3, 120, only="grid").delta(4, 160, only="colour")
    yield Vector(
        "valid/frozen-and-changed-colour", "warm-up, frozen colour layers, colour alone", made.finish(), (4, "cam01")
    )
    yield Vector("valid/long", "an index of two levels", long().finish(), (PAGE_FRAMES + 1, "cam01"))
    made = Maker(header([grid("ndc")], cameras("ndc")), 7).key(-3, -100).delta(0, 7).delta(100, 8).key(2**40, 10**6)
    yield Vector(
        "valid/gaps-and-uneven-times", "numbers with gaps, uneven and negative times", made.finish(), (100, "cam00")
    )
    rig = cameras("ndc")
    moved = tuple(replace(camera, pose=camera.pose + 0.125) for camera in rig)
    made = Maker(header([grid("ndc")], rig), 8).key(0, 0).delta(1, 40, cameras=moved).key(2, 80)
    yield Vector(
        "valid/moving-cameras", "cameras that change, and stay so across a keyframe", made.finish(), (2, "cam01")
    )
    lens: tuple[float, ...] = (0.2, -0.05, 0.01, -0.02)
    made = Maker(header([grid("box")], cameras("box", lens=lens)), 9).key(0, 0)
    yield Vector("valid/distortion", "radial and tangential distortion", made.finish(), (0, "cam00"))
    lens = (0.2, -0.05, 0.01, -0.02, 0.03, 0.1, -0.02, 0.01, 0.01, -0.02, 0.02, 0.01)
    made = Maker(header([grid("box")], cameras("box", lens=lens)), 9).key(0, 0)
    yield Vector("valid/distortion-rational", "all coefficients of a perspective lens", made.finish(), (0, "cam00"))
    rig = tuple(
        replace(camera, fisheye=True, fx=3.0, fy=3.0) for camera in cameras("box", lens=(0.1, 0.02, 0, 0, -0.01))
    )
    made = Maker(header([grid("box")], rig), 9).key(0, 0)
    yield Vector("valid/fisheye", "a fisheye lens, wide enough that angles are clamped", made.finish(), (0, "cam00"))
    made = Maker(header([grid("contract", resolutions=[2, 3, 5, 9], log2_table=8)], cameras("contract")), 22).key(0, 0)
    for number in range(1, 12):
        made.delta(number, 40 * number, share=0.02, only=("grid", "", "occupancy", "grid")[number % 4])
    yield Vector("valid/long-chain", "eleven deltas that learn from each other", made.finish(), (11, "cam01"))
    made = Maker(header([grid("ndc", samples=40, occupancy=1)], cameras("ndc", 3)), 10).key(0, 0).delta(1, 1, share=1.0)
    yield Vector("valid/every-value-changes", "a delta in which every value may change", made.finish(), (1, "cam02"))
    yield Vector("valid/extreme-values", "the largest integers, and the largest changes of them", _extremes(), None)


def _extremes() -> bytes:
    made = Maker(header([grid("ndc")], cameras("ndc")), 11)
    most = (1 << 24) - 1
    values, qps = levels(made.head, made.rng)
    high = {key: np.full_like(value, most) for key, value in values.items()}
    steps = dict(zip(qps, [-160, 64, 0, 7, -1, -160, 64, 0, 7, -1, 63, -159, 1], strict=False)) | {}
    steps = {key: steps.get(key, 0) for key in qps}
    coded, state = encode_key(made.head, high, steps)
    made.writer.frame(0, key_frame(state, 0), coded)
    signs = {
        key: np.where(np.arange(v.size).reshape(v.shape) % 3 == 0, -most, v).astype(np.int32) for key, v in high.items()
    }
    coded, state = encode_delta(state, signs)
    made.writer.frame(1, delta_frame(state, 1, 0), coded)
    return made.finish()


def _uncommon() -> Iterator[Vector]:
    yield Vector("uncommon/open", "still being written: no index, no end mark", simple().open(), (2, "cam00"))
    yield Vector("uncommon/incomplete", "interrupted in order", simple().finish(complete=False), (0, "cam00"))
    both = {"octaves": 1, "depth": 2, "structure_layers": 1}
    made = Maker(header([image("box", **both)], cameras("box"), background=None), 28).key(0, 0)
    yield Vector("uncommon/image-box", "a picture in a box, seen from the side", made.finish(), (0, "cam01"))
    made = Maker(header([grid("ndc")], cameras("ndc")), 12).key(0, 0)
    made.raw(head_record(made.head)).delta(1, 40).raw(head_record(made.head)).raw(head_record(made.head)).key(2, 80)
    yield Vector("uncommon/repeated-head", "the header again, byte for byte", made.finish(), (2, "cam01"))
    made = Maker(header([grid("ndc")], cameras("ndc")), 13).raw(raw_record(128, b"later")).key(0, 0)
    made.raw(raw_record(200, b"private", frame=-7, flags=0xF0)).delta(1, 40).raw(raw_record(255, b""))
    yield Vector(
        "uncommon/ancillary", "unknown records that may be skipped, ignorable flags", made.finish(), (1, "cam00")
    )
    made = Maker(header([grid("ndc")], cameras("ndc")), 14).key(0, 0).delta(1, 40, share=0.0).delta(2, 80)
    yield Vector("uncommon/nothing-changes", "a delta without tensors", made.finish(), (1, "cam00"))
    made = Maker(header([grid("ndc")], cameras("ndc")), 16)
    yield Vector("uncommon/no-frames", "a finished file without frames", made.finish())
    yield Vector(
        "uncommon/unknown-keys",
        "keys that no reader knows",
        changed_head(lambda f: f.update(mood="bright")),
        (0, "cam00"),
    )
    late = changed_head(lambda fields: [fields.update({key: fields.pop(key)}) for key in list(fields)[::-1]])
    yield Vector("uncommon/other-order", "keys in another order", late, (0, "cam00"))
    head = header([grid("ndc")], cameras("ndc"))
    private = replace(head, networks=(replace(head.networks[0], profile=65536, profile_name="private"),))
    made = Maker(private, 17).key(0, 0).delta(1, 40)
    yield Vector("uncommon/unknown-profile", "listed and verified, not rendered", made.finish(), (0, "cam00"))
    later = changed_frame(lambda f: f.extend(["mood", {"bright": 1}]))
    yield Vector("uncommon/unknown-fields", "a frame header with more fields than this draft has", later, (1, "cam00"))
    said = changed_frame(lambda f: f.__setitem__(5, [9, None, 3101, 2750, 61, "more", 7]))
    yield Vector("uncommon/unknown-stats", "a stage that no reader knows, and more behind", said)
    more = changed_head(lambda f: f["networks"][0]["config"].update(mood=7))
    yield Vector("uncommon/unknown-setting", "a configuration with a key that no reader knows", more, (0, "cam00"))
    coloured = Maker(header([grid("contract")], cameras("contract"), colour=True), 10).key(0, 0).delta(1, 40)
    more = changed_head(lambda f: f["networks"][1]["config"].update(mood=7), coloured)
    yield Vector("uncommon/unknown-colour-setting", "the same of the cameras' colours", more, (0, "cam00"))
    made = Maker(header([nerf("scene", "ndc", structure_layers=0)], cameras("ndc")), 33).key(0, 0).delta(1, 40)
    yield Vector("uncommon/no-structure", "an MLP of colour alone", made.finish(), (1, "cam01"))
    made = Maker(header([grid("ndc", log2_table=0)], cameras("ndc")), 30).key(0, 0).delta(1, 40)
    yield Vector("uncommon/one-entry", "hashed levels of one entry", made.finish(), (1, "cam01"))
    borrowed = replace(head.networks[0], profile=70_000, profile_name="grid", config={})
    made = Maker(replace(head, networks=(borrowed,)), 32).key(0, 0)
    yield Vector("uncommon/borrowed-name", "a private profile by the name of another", made.finish(), (0, "cam00"))
    role = changed_head(lambda f: f["networks"][0].update(role="dynamic"))
    yield Vector("uncommon/unknown-role", "listed and verified, not rendered", role, (0, "cam00"))
    torus = changed_network("space", {"kind": "torus", "low": None})
    yield Vector("uncommon/unknown-space", "listed and verified, not rendered", torus, (0, "cam00"))
    version = changed_head(lambda f: f.update(version=7))
    yield Vector("uncommon/later-draft", "written to a later draft that this one can read", version, (0, "cam00"))


def _faulty() -> Iterator[Vector]:
    made = two_segments()
    whole, places = made.open(), made.offsets()
    finished = two_segments().finish()
    yield Vector("faulty/truncated-payload", "cut off in a frame", whole[: places[3] + 60])
    yield Vector("faulty/truncated-header", "cut off in a record's header", whole[: places[3] + 11])
    yield Vector("faulty/truncated-sync", "cut off in a sync", whole[: places[3] + 2])
    yield Vector("faulty/truncated-head", "cut off in the header", whole[:200])
    yield Vector("faulty/truncated-index", "cut off in the index", finished[:-50])
    yield Vector("faulty/flipped-payload", "a bit flipped in a delta's payload", flip(finished, places[1] + 100))
    yield Vector("faulty/flipped-key", "a bit flipped in a keyframe's payload", flip(finished, places[0] + 300, 16))
    yield Vector("faulty/flipped-sync", "a bit flipped in a sync", flip(finished, places[1]))
    yield Vector("faulty/flipped-length", "a bit flipped in a record's length", flip(finished, places[1] + 17, 64))
    yield Vector(
        "faulty/flipped-last-length", "the last frame claims more than there is", flip(whole, places[3] + 17, 64)
    )
    yield Vector("faulty/flipped-index", "a bit flipped in the index", flip(finished, len(whole) + 30))
    yield Vector("faulty/flipped-end", "a bit flipped in the end mark", flip(finished, len(finished) - 10))
    yield Vector("faulty/flipped-magic", "a bit flipped in the magic", flip(finished, 3))
    yield Vector("faulty/flipped-head", "the only header is damaged", flip(finished, 60))
    both = whole[: places[2]] + head_record(made.head) + whole[places[2] :]
    yield Vector("faulty/first-head-damaged", "a later copy of the header is sound", flip(both, 60), (1, "cam00"))
    other = replace(made.head, tags={"title": "another"})
    yield Vector(
        "faulty/two-heads", "a second header that differs", whole[: places[2]] + head_record(other) + whole[places[2] :]
    )
    first = whole[places[0] : places[1]]
    yield Vector(
        "faulty/head-late", "a frame before the header", MAGIC + first + head_record(made.head) + whole[places[2] :]
    )
    yield Vector(
        "faulty/garbage-between", "bytes between records", whole[: places[2]] + b"\xb5INVgarbage" + whole[places[2] :]
    )
    yield Vector("faulty/magic-between", "two files appended", finished + simple(5).finish())
    unmarked = finished[:-END_BYTES] + raw_record(130, b"late")
    yield Vector("faulty/behind-the-index", "a record between the index and the end of the file", unmarked)
    yield Vector("faulty/behind-the-end", "a record behind the end mark", finished + raw_record(130, b"late"))
    yield Vector(
        "faulty/record-missing",
        "a delta whose reference is gone",
        whole[: places[1]] + simple().open()[simple().offsets()[2] :],
    )
    yield Vector("faulty/frame-twice", "a keyframe with a number that was there", whole + whole[places[2] : places[3]])
    yield Vector(
        "faulty/time-goes-back", "a frame that is earlier", Maker(made.head, 3).key(0, 40).key(1, 40).key(2, 41).open()
    )
    yield Vector("faulty/starts-with-delta", "joined late", MAGIC + head_record(made.head) + whole[places[1] :])
    yield Vector("faulty/key-with-reference", "a KEY that refers to a frame", _retyped(whole, places, RecordType.KEY))
    yield Vector(
        "faulty/wrong-digest", "a digest that is not the state's", changed_frame(lambda f: f.__setitem__(2, bytes(8)))
    )
    yield Vector(
        "faulty/delta-with-steps", "a delta that gives steps", changed_frame(lambda f: f.__setitem__(4, [-32] * 15))
    )
    few = Maker(made.head, 3).key(0, 0).key(1, 40, qps=(-32,)).key(2, 80)
    yield Vector("faulty/steps-missing", "a keyframe that does not give the step of every tensor", few.open())
    far = Maker(made.head, 3).key(0, 0).key(1, 40, qps=(65,) * 15).key(2, 80)
    yield Vector("faulty/step-too-far", "a quantisation parameter out of range", far.open())
    long = changed_frame(lambda f: None, lambda c: c + b"\1" * 9)
    yield Vector("faulty/bytes-left-over", "coded bytes that nothing is decoded from", long)
    zero = changed_frame(lambda f: None, lambda c: c + b"\0")
    yield Vector("faulty/trailing-zero", "coded bytes that end with a zero", zero)
    short = changed_frame(lambda f: None, lambda c: c[:20])
    yield Vector("faulty/bytes-missing", "coded bytes that end too early", short)
    cameras_ = [camera | {"name": "x"} for camera in CAMERAS.write(cameras("ndc")[:1])]
    yield Vector(
        "faulty/other-cameras", "cameras that are not the header's", changed_frame(lambda f: f.__setitem__(6, cameras_))
    )
    yield Vector("faulty/short-header", "a frame header that lacks a field", changed_frame(lambda f: f.pop()))
    yield Vector("faulty/unknown-coder", "a coder that nobody knows", changed_frame(lambda f: f.__setitem__(3, 9)))
    said = changed_frame(lambda f: f.__setitem__(5, [1, 5, 3101, "2750"]))
    yield Vector("faulty/stats-of-text", "statistics with a number as text", said)
    yield from _faulty_ends(whole, places)
    yield from _faulty_heads(whole, places, made.head)


def _retyped(whole: bytes, places: list[int], type_: RecordType) -> bytes:
    payload = whole[places[1] + 24 : places[2] - 4]
    return whole[: places[1]] + pack_record(type_, 1, payload) + whole[places[2] :]


def _faulty_ends(whole: bytes, places: list[int]) -> Iterator[Vector]:
    ends = [*places[1:], len(whole)]
    rows = np.array(
        [(n, 40 * n, place, end - place, n % 2 == 0) for n, (place, end) in enumerate(zip(places, ends, strict=True))],
        ROW,
    )

    def closed(index: bytes, offset: int = len(whole), flags: int = 1) -> bytes:
        mark = pack_record(RecordType.END, 0, struct.pack("<QI", offset, flags))
        return whole + pack_record(RecordType.INDEX, 0, index) + mark

    index = Index(0, rows).to_bytes()
    assert closed(index) == two_segments().finish()
    for name, intent, row, field, value in (
        ("lies", "an index that points elsewhere", 2, "offset", places[2] + 4),
        ("overlaps", "an index with records that overlap", 2, "offset", places[2] - 1),
        ("stands-still", "an index with a frame number twice", 2, "number", 1),
        ("without-key", "an index that begins with a delta", 0, "flags", 0),
    ):
        changed = rows.copy()
        changed[row][field] = value
        yield Vector(f"faulty/index-{name}", intent, closed(Index(0, changed).to_bytes()))
    yield Vector("faulty/index-short", "an index that leaves out a frame", closed(Index(0, rows[:3]).to_bytes()))
    yield Vector("faulty/index-level", "an index of level 1 where there is none of level 0", closed(b"\1" + index[1:]))
    yield Vector("faulty/index-rest", "an index that is no whole number of rows", closed(b"\0" + compress(bytes(30))))
    yield Vector(
        "faulty/index-bomb", "an index that is 4 MiB when it is decompressed", closed(b"\0" + compress(bytes(1 << 22)))
    )
    yield Vector("faulty/index-twice", "the index twice", closed(index)[:-40] + closed(index)[len(whole) :])
    yield from _faulty_pages(long())
    yield Vector("faulty/end-elsewhere", "an end mark that points elsewhere", closed(index, offset=places[1]))


def _faulty_pages(made: Maker) -> Iterator[Vector]:
    """Faults of an index of two levels."""
    body, whole = made.open(), made.finish()
    top = struct.unpack_from("<Q", whole, len(whole) - 16)[0]
    rows = Index.from_bytes(whole[top + 24 : -44]).rows
    pages = [whole[start : start + size] for start, size in zip(rows["offset"], rows["length"], strict=True)]

    def closed(first: bytes, rows: np.ndarray | None) -> bytes:
        records = [body, first, pages[1]]
        if rows is not None:
            records.append(pack_record(RecordType.INDEX, 0, Index(1, rows).to_bytes()))
        mark = struct.pack("<QI", sum(map(len, records[:-1])), 1)
        return b"".join([*records, pack_record(RecordType.END, 0, mark)])

    assert closed(pages[0], rows) == whole
    flipped = bytearray(pages[0])
    flipped[40] ^= 1
    yield Vector("faulty/index-page", "an index of level 0 with a flipped bit", closed(bytes(flipped), rows))
    yield Vector("faulty/index-no-top", "no index of level 1", closed(pages[0], None))
    hiding = rows.copy()
    hiding[0]["flags"] = 1
    yield Vector("faulty/index-hides-cameras", "an index of level 1 that hides cameras", closed(pages[0], hiding))


def _faulty_heads(whole: bytes, places: list[int], head: Head) -> Iterator[Vector]:
    first = whole[places[0] : places[1]]
    yield Vector("faulty/empty", "no bytes at all", b"")
    yield Vector("faulty/not-inv", "another kind of file", b"\x89PNG\r\n\x1a\n" + bytes(64))
    yield Vector("faulty/magic-only", "a magic and nothing else", MAGIC)
    payload = head_fields(head)
    newer = MAGIC + packed_head(b"anything", 2, 2) + first
    yield Vector("faulty/newer-reader", "a draft that this one cannot read", newer)
    for name, intent, sound in (
        ("old-draft", "a header as it was before it was compressed", pack({"version": 1, "reader": 1}) + payload),
        ("head-cut", "a header whose compressed data are cut off", head.to_bytes()[:-9]),
        ("head-tail", "bytes after a header's compressed data", head.to_bytes() + b"0"),
    ):
        yield Vector(f"faulty/{name}", intent, MAGIC + pack_record(RecordType.HEAD, 0, sound) + first)
    bomb = MAGIC + packed_head(bytes(1 << 21)) + first
    yield Vector("faulty/head-bomb", "a header of 2 MiB when it is decompressed", bomb)
    critical = raw_record(6, b"what may this be")
    yield Vector("faulty/critical-record", "an unknown record that may not be skipped", whole + critical)
    yield Vector("faulty/reserved-bits", "reserved bits that are set", whole + raw_record(130, b"", reserved=1))
    yield Vector("faulty/low-flags", "flags that must be understood", whole + raw_record(2, b"", flags=1))
    yield Vector("faulty/huge-record", "a record of 2 GiB", whole + raw_record(2, b"", length=1 << 31))
    yield Vector("faulty/huge-head", "a header of 2 MiB", MAGIC + raw_record(1, b"", length=1 << 21))
    yield Vector("faulty/no-cameras", "a header without cameras", changed_head(lambda f: f.update(cameras=[])))
    many = changed_head(lambda f: f.update(networks=[{**f["networks"][0], "name": f"n{i}"} for i in range(9)]))
    yield Vector("faulty/many-networks", "nine networks", many)
    bomb = changed_head(lambda f: f["networks"][0].update(tensors=[["w", [1 << 27, 1 << 27, 1 << 27], 0]]))
    yield Vector("faulty/many-values", "2^81 values", bomb)
    yield Vector(
        "faulty/wide-image", "a camera of 10^6 pixels", changed_head(lambda f: f["cameras"][0].update(width=10**6))
    )
    yield Vector(
        "faulty/no-name",
        "a tensor without a name",
        changed_head(lambda f: f["networks"][0]["tensors"][0].__setitem__(0, "")),
    )
    twice = changed_head(lambda f: f.update(cameras=[f["cameras"][0]] * 2))
    yield Vector("faulty/camera-twice", "two cameras of one name", twice)
    yield Vector("faulty/flat-focal", "a focal length of 0", changed_head(lambda f: f["cameras"][0].update(fl_x=0.0)))
    at = payload.index(b"\xabsource_size") + 12
    wide = payload[: at + 1] + b"\xcd\x00\x10" + payload[at + 2 :]
    yield Vector("faulty/wide-integer", "an integer in a longer form than it needs", MAGIC + packed_head(wide) + first)
    key = payload.replace(b"\xa5units", b"\xa5title").replace(b"\xa4tags", b"\xa5title")
    yield Vector("faulty/key-twice", "a map with a key twice", MAGIC + packed_head(key) + first)
    nan = payload.replace(struct.pack(">d", 0.25), struct.pack(">d", float("nan")), 1)
    yield Vector("faulty/not-a-number", "a NaN", MAGIC + packed_head(nan) + first)
    deep = changed_head(lambda f: f.update(encoder={"nest": _nest(40)}))
    yield Vector("faulty/nested", "lists nested 40 deep", deep)
    yield Vector(
        "faulty/bad-space",
        "a space without extent",
        changed_head(lambda f: f["networks"][0]["space"].update(low=[9.0] * 3)),
        (0, "cam00"),
    )
    huge = {"low": [-1e308, -1e308, 1e-320], "high": [1e308] * 3}
    yield Vector(
        "faulty/endless-space",
        "a space whose extent is beyond all numbers",
        changed_head(lambda f: f["networks"][0]["space"].update(huge)),
        (0, "cam00"),
    )
    yield Vector(
        "faulty/bad-config",
        "a configuration that does not fit its tensors",
        changed_head(lambda f: f["networks"][0]["config"].update(hidden=8)),
        (0, "cam00"),
    )
    yield Vector(
        "faulty/config-of-text",
        "a configuration with a number as text",
        changed_head(lambda f: f["networks"][0]["config"].update(more=["8"])),
    )
    wide = changed_head(lambda f: f.update(source_size=[2**20 + 1, 12]))
    yield Vector("faulty/wide-source", "a source of more than 2^20 pixels a side", wide)
    small = changed_head(lambda f: f.update(downscale=1025))
    yield Vector("faulty/much-downscaled", "images that were shrunk by more than 1024", small)
    late = changed_head(lambda f: f["networks"][0].update(version=2**31))
    yield Vector("faulty/late-version", "a version of a profile of more than 31 bits", late)
    both = changed_head(lambda f: f["networks"][0].update(profile=70_000, tensors=[["w", [2], 0]] * 2))
    yield Vector("faulty/tensor-twice", "two tensors of one name", both)
    poses: dict[str, list[Any]] = {"text": ["1.0"] * 12, "nils": [None] * 12, "integers": [1] * 12}
    for name, pose in poses.items():
        data = changed_network("space", {"pose": pose})
        yield Vector(f"faulty/pose-of-{name}", f"a space whose pose is of {name}", data, (0, "cam00"))
    for name, intent, changes in (
        ("no-samples", "a ray without samples", {"samples": 0}),
        ("many-samples", "a ray of more samples than the limit", {"samples": 4097}),
        ("odd-width", "a layer whose width is no multiple of 4", {"hidden": 6}),
        ("listed-samples", "a list in place of a number of samples", {"samples": [12]}),
    ):
        yield Vector(f"faulty/{name}", intent, changed_network("config", changes), (0, "cam00"))
    lacking = changed_head(lambda f: f["networks"][0]["config"].pop("samples"))
    yield Vector("faulty/samples-missing", "a configuration that lacks a key", lacking, (0, "cam00"))
    picture = Maker(header([image("ndc")], cameras("ndc", 1)), 29).key(0, 0).delta(1, 40)
    yield Vector(
        "faulty/image-resolution",
        "a grid of a picture with more cells than the limit",
        changed_head(lambda f: f["networks"][0]["config"].update(resolutions=[3, 4097]), picture),
        (0, "cam00"),
    )
    flat = changed_network("config", {"resolutions": 3}, picture)
    yield Vector("faulty/flat-levels", "a number in place of a list of resolutions", flat, (0, "cam00"))
    coloured = Maker(header([grid("contract")], cameras("contract"), colour=True), 10).key(0, 0).delta(1, 40)
    yield Vector(
        "faulty/bad-colour-config",
        "camera colour configured for another number of cameras",
        changed_head(lambda f: f["networks"][1]["config"].update(cameras=7), coloured),
        (0, "cam00"),
    )
    yield Vector(
        "faulty/bad-colour-space",
        "camera colour with a space",
        changed_head(lambda f: f["networks"][1]["space"].update(kind="box"), coloured),
        (0, "cam00"),
    )


def _nest(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


def observe(data: bytes) -> dict[str, Any]:
    """The expected results of a file, from the package."""
    first, follower = Scanner("vector"), Follower()
    try:
        for _ in [*first.feed(data), *first.finish()]:
            pass
        # In the second pass a late header is known from the start.
        scanner = Scanner("vector", first.head)
        found = [*scanner.feed(data), *scanner.finish()]
        assert scanner.head is not None
        frames, lost = [], list(scanner.lost)
        for each in found:
            if each.entry is None or each.frame is None:
                continue
            try:
                state = follower.apply(scanner.head, each)
            except DamagedError:
                lost.append(each.entry.number)
                continue
            frames.append([each.entry.number, each.frame.time, each.entry.kind, state.digest().hex()])
    except InvError as error:
        return {"refused": CLASSES[type(error)]}
    records = [[f.header.type, f.header.frame, f.header.offset, f.header.size] for f in found]
    return {
        "refused": None,
        "status": "damaged" if len(lost) > len(scanner.lost) else scanner.status,
        "records": records,
        "frames": frames,
        "lost": sorted(lost),
    }


def expect(vector: Vector, folder: Path) -> dict[str, Any]:
    result = {"intent": vector.intent, **observe(vector.data)}
    if vector.view is None:
        return result
    number, name = vector.view
    view: dict[str, Any] = {"frame": number, "camera": name}
    path = folder / "input.inv"
    path.write_bytes(vector.data)
    try:
        with Video(path, device="cpu", threads=1) as video:
            view["rgb"] = video[number].render(name).rgb.tolist()
    except InvError as error:
        view["refused"] = CLASSES[type(error)]
    return result | {"render": view}


def sums(files: Mapping[str, bytes]) -> str:
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))


def make(folder: Path) -> dict[str, bytes]:
    """All files of all vectors, by name."""
    files = {}
    for vector in vectors():
        files[f"{vector.path}/input.inv"] = vector.data
        files[f"{vector.path}/expect.json"] = (json.dumps(expect(vector, folder)) + "\n").encode()
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the vectors")
    write = parser.parse_args().write
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        files = make(Path(folder))
    total = sums(files)
    if write:
        for name, data in files.items():
            path = ROOT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (ROOT / "SHA256SUMS").write_text(total)
    same = (ROOT / "SHA256SUMS").read_text() == total
    print(f"{len(files) // 2} vectors, {'as they are on disk' if same else 'NOT as they are on disk'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
