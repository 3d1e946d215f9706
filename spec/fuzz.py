"""Feeds damaged and hostile files to the decoder: `python spec/fuzz.py --inputs 20000`.

Inputs are mutated conformance vectors: bytes, records, structured fields, coded values. Checksums and most digests are
corrected, so that mutations reach the code behind them. The outcome must be a typed error of the package or a decoded
file, in bounded memory. An input with any other outcome is printed and kept.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
import resource
import struct
import sys
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import msgpack
import numpy as np
from invcodec_cli.info import facts

from invcodec.coding.codec import apply
from invcodec.container.canonical import packed_size
from invcodec.container.compressed import compress, decompress
from invcodec.container.index import EndMark, Index, pack_page, page_row
from invcodec.container.info import describe
from invcodec.container.records import HEADER_BYTES, MAGIC, RecordType, pack_record, parse_header
from invcodec.container.scan import Scanner
from invcodec.decoding.video import Video
from invcodec.editing.transcode import transcode
from invcodec.editing.verify import repair, verify
from invcodec.errors import InvError
from invcodec.limits import MAX_INDEX_BYTES, MAX_QP, MIN_QP

VECTORS = Path(__file__).resolve().parent / "vectors"
NUMBERS = [0, 1, -1, 2, 7, 8, 63, 64, 127, 128, 255, 256, 2**15, 2**16, 2**24, 2**27, 2**31 - 1, 2**31, 2**32, 2**53]
NUMBERS += [2**63 - 1, 2**64 - 1, -(2**31), -(2**63)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-308, 1e308, float("inf"), float("nan"), 0.5]
NAMES = ["nerf", "grid", "affine", "image", "scene", "coarse", "fine", "camera-colour", "ndc", "box", "contract"]
ROW_NAMES = ["number", "ticks", "offset", "length", "flags"]
QPS = 4
"""Element of a frame header."""
MAX_RENDERED = 400
"""Pixels to render at most, so that a legal but costly picture does not stop the run."""
MAX_TRANSCODED = 20
"""Frames."""


def records(data: bytes) -> list[tuple[int, int, bytes]]:
    """Type, frame and payload of each record of a sound file."""
    found, at = [], len(MAGIC)
    while at < len(data):
        record = parse_header(data[at : at + HEADER_BYTES], at)
        found.append((record.type, record.frame, data[record.payload_offset : record.end - 4]))
        at = record.end
    return found


def joined(parts: list[tuple[int, int, bytes]]) -> bytes:
    """A file of these records, with correct checksums."""
    out = [MAGIC]
    for type_, frame, payload in parts:
        top = struct.pack("<4sBBHqI", b"\xb5INV", type_ & 255, 0, 0, frame, len(payload))
        out.append(top + struct.pack("<I", zlib.crc32(top)) + payload + struct.pack("<I", zlib.crc32(payload)))
    return b"".join(out)


class Fuzzer:
    """Generates inputs, each determined by its number."""

    def __init__(self) -> None:
        paths = sorted(VECTORS.glob("*/*/input.inv"))
        self.all = [path.read_bytes() for path in paths]
        self.sound = [path.read_bytes() for path in paths if path.parent.parent.name != "faulty"]
        self.long = (VECTORS / "valid/long/input.inv").read_bytes()

    def make(self, number: int) -> bytes:
        rng = random.Random(number)
        kind = rng.randrange(10)
        if kind < 2:
            data = bytearray(rng.choice(self.all))
            for _ in range(rng.randint(1, 8)):
                self._bytes(data, rng)
            return bytes(data)
        if rng.random() < 0.01:
            return self._paged(rng)
        parts = records(rng.choice(self.sound))
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            self._record(parts, rng)
        whole = joined(parts)
        return with_right_digests(whole) if rng.random() < 0.8 else whole

    def _paged(self, rng: random.Random) -> bytes:
        """A file with an index of several pages that agree with each other, but maybe not with the frames."""
        scanner = Scanner("it")
        found = [*scanner.feed(self.long), *scanner.finish()]
        body = bytearray(
            self.long[: next(each.header.offset for each in found if each.header.type == RecordType.INDEX)]
        )
        pages = [rows.copy() for rows in scanner.frames.pages()]
        for _ in range(rng.randint(0, 3)):
            row = rng.choice(rng.choice(pages))
            name = rng.choice(ROW_NAMES)
            row[name] = rng.choice([0, 1] if name == "flags" else [0, 1, row[name] + 1, row[name] - 1])
        for _ in range(rng.choice([0, 0, 1, 1000])):
            body[rng.randrange(len(MAGIC), len(body))] ^= 1
        written: list[bytes] = []
        top = []
        for rows in pages * rng.choice([1, 1, 2]):
            page = pack_page(rows)
            top.append(page_row(rows, len(body) + sum(map(len, written)), len(page)))
            written.append(page)
        if rng.random() < 0.5:
            damaged = bytearray(written[-2])
            damaged[rng.randrange(len(damaged))] ^= 1
            written[-2] = bytes(damaged)
        mark = EndMark(len(body) + sum(map(len, written)), True)
        written.append(pack_record(RecordType.INDEX, 0, Index(1, np.stack(top)).to_bytes()))
        return bytes(body) + b"".join(written) + pack_record(RecordType.END, 0, mark.to_bytes())

    def _bytes(self, data: bytearray, rng: random.Random) -> None:
        if not data:
            return
        at = rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 40))
        else:
            other = rng.choice(self.all) or b"\0"
            start = rng.randrange(len(other))
            data[at : at + rng.randint(0, 60)] = other[start : start + rng.randint(0, 200)]

    def _record(self, parts: list[tuple[int, int, bytes]], rng: random.Random) -> None:
        at = rng.randrange(len(parts))
        type_, frame, payload = parts[at]
        kind = rng.randrange(12)
        if kind == 0:
            parts.insert(rng.randint(0, len(parts)), parts[at])
        elif kind == 1 and len(parts) > 1:
            del parts[at]
        elif kind == 2:
            rng.shuffle(parts)
        elif kind == 3:
            parts[at] = (rng.choice([1, 2, 3, 4, 5, 6, 128, 255]), frame, payload)
        elif kind == 4:
            parts[at] = (type_, rng.choice(NUMBERS[:20]), payload)
        elif type_ in (RecordType.KEY, RecordType.DELTA):
            parts[at] = (type_, frame, self._frame(payload, rng))
        elif type_ in (RecordType.HEAD, RecordType.INDEX) and rng.random() < 0.9:
            parts[at] = (type_, frame, self._compressed(payload, 2 if type_ == RecordType.HEAD else 1, rng))
        else:
            raw = bytearray(payload)
            self._bytes(raw, rng)
            parts[at] = (type_, frame, bytes(raw))

    def _compressed(self, payload: bytes, plain: int, rng: random.Random) -> bytes:
        """A payload that is compressed after its first `plain` bytes, changed before compression."""
        try:
            data = decompress(payload[plain:], "payload", MAX_INDEX_BYTES)
        except InvError:
            # It was changed before.
            return payload
        if plain == 2:
            data = self._fields(data, rng)
        else:
            raw = bytearray(data)
            self._bytes(raw, rng)
            data = bytes(raw)
        return payload[:plain] + compress(data)

    def _frame(self, payload: bytes, rng: random.Random) -> bytes:
        try:
            size = packed_size(payload, "frame header")
        except InvError:
            # It was changed before.
            return payload
        head, coded = payload[:size], bytearray(payload[size:])
        if rng.random() < 0.5:
            head = self._fields(head, rng)
        else:
            self._bytes(coded, rng)
        return head + bytes(coded)

    def _fields(self, payload: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.15:
            raw = bytearray(payload)
            self._bytes(raw, rng)
            return bytes(raw)
        try:
            value = msgpack.unpackb(payload, strict_map_key=False)
        except (ValueError, TypeError):
            # It was changed before.
            return payload
        if isinstance(value, list) and len(value) > QPS and isinstance(value[QPS], list) and rng.random() < 0.2:
            value[QPS] = [rng.randint(MIN_QP, MAX_QP) for _ in value[QPS]]
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            value = self._change(value, rng)
        try:
            return msgpack.packb(value)
        except (ValueError, OverflowError):
            return payload

    def _change(self, value: Any, rng: random.Random) -> Any:
        """A copy of the value with one thing changed, at any depth."""
        if isinstance(value, dict) and value and rng.random() < 0.95:
            key = rng.choice(list(value))
            if rng.random() < 0.08:
                return {k: v for k, v in value.items() if k != key}
            return {**value, key: self._change(value[key], rng)}
        if isinstance(value, list) and value and rng.random() < 0.9:
            at = rng.randrange(len(value))
            kind = rng.random()
            if kind < 0.07:
                return value[:at] + value[at + 1 :]
            if kind < 0.14:
                return value[:at] + value[at : at + 1] * rng.choice([2, 3, 20]) + value[at + 1 :]
            return [*value[:at], self._change(value[at], rng), *value[at + 1 :]]
        choices: list[Any] = [rng.choice(NUMBERS), rng.choice(NUMBERS), rng.choice(FLOATS), None, True, "", "x" * 300]
        choices += [b"", [], {}, [value], {"a": value}]
        if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.7:
            return rng.choice([value + 1, value - 1, 2 * value, -value, rng.choice(NUMBERS)])
        if isinstance(value, float) and rng.random() < 0.7:
            return rng.choice([-value, 2 * value, value * 1e6, rng.choice(FLOATS)])
        if isinstance(value, str) and rng.random() < 0.7:
            return rng.choice(NAMES)
        return rng.choice(choices)


def with_right_digests(data: bytes) -> bytes:
    """Correct the digests of a file, so that changed integers get past them."""
    scanner = Scanner("it")
    state, out = None, {}
    try:
        found = [*scanner.feed(data), *scanner.finish()]
        for each in found:
            if each.entry is None or each.frame is None or each.coded is None or scanner.head is None:
                continue
            state = apply(scanner.head, each.frame, each.coded, None if each.entry.is_key else state)
            frame = replace(each.frame, digest=state.digest())
            out[each.header.offset] = pack_record(each.header.type, each.header.frame, frame.to_bytes() + each.coded)
    except InvError:
        pass
    # From last to first, because a frame header with unknown fields becomes shorter.
    for offset, record in reversed(out.items()):
        size = parse_header(data[offset : offset + HEADER_BYTES], offset).end - offset
        data = data[:offset] + record + data[offset + size :]
    return data


def attack(data: bytes, folder: Path) -> str:
    """Run everything that reads a file on one input and return the outcome. Only `InvError` may be raised."""
    path = folder / "input.inv"
    path.write_bytes(data)
    outcome = "decoded"
    try:
        verify(io.BytesIO(data), "input")
    except InvError as error:
        outcome = type(error).__name__
    for use in (lambda: facts(describe(path, records=True)), lambda: repair(path, io.BytesIO())):
        try:
            use()
        except InvError as error:
            outcome = type(error).__name__
    try:
        with Video(path, device="cpu", threads=1) as video:
            small = True
            for frame in video.frames[:3]:
                small = small and all(camera.width * camera.height <= MAX_RENDERED for camera in frame.cameras)
                for camera in frame.cameras[:2]:
                    if camera.width * camera.height <= MAX_RENDERED:
                        frame.render(camera)
            for frame in (*video.frames[-1:], *video[1020:1030]):
                assert video.at(frame.time).number == frame.number
                assert len(frame.weights()) > 0
        if small and len(video.frames) < MAX_TRANSCODED:
            transcode(path, io.BytesIO(), quality=0.0, device="cpu", threads=1)
    except InvError as error:
        outcome = type(error).__name__
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input; each number is one input")
    parser.add_argument("--keep", type=Path, help="folder for inputs with another outcome")
    arguments = parser.parse_args()
    fuzzer, outcomes, crashes = Fuzzer(), dict[str, int](), 0
    started = monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.first, arguments.first + arguments.inputs):
            data = fuzzer.make(number)
            try:
                outcome = attack(data, Path(folder))
            except Exception as error:
                crashes += 1
                outcome = f"CRASH {type(error).__name__}"
                print(f"input {number}: {type(error).__name__}: {error}")
                if arguments.keep:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    name = hashlib.sha256(data).hexdigest()[:16]
                    (arguments.keep / f"{name}.inv").write_bytes(data)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{arguments.inputs} inputs in {monotonic() - started:.0f} s, {crashes} crashes")
    print(", ".join(f"{name} {count}" for name, count in sorted(outcomes.items())))
    print(f"peak memory {peak / 1000:.0f} MB, {before / 1000:.0f} MB of it before the first input")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
