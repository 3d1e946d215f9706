"""Streams: each frame decodes as soon as its record is complete, and nothing beyond one record is buffered."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pytest
from conftest import Cli
from files import make_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from invcodec.coding.chain import Follower
from invcodec.container.records import HEADER_BYTES, MAGIC, pack_record
from invcodec.container.scan import Record, Scanner
from invcodec.decoding.stream import FrameSelector, PipedFrame
from invcodec.errors import DamagedError, UsageError

MADE = make_vectors.two_segments()
FILE: bytes = MADE.finish()
ENTRIES = MADE.writer.entries
PROGRAM = [sys.executable, "-c", "import sys; from invcodec_cli import main; sys.exit(main())"]


def digests(found: list[Record]) -> dict[int, bytes]:
    """Digest of each frame's state; `apply` raises if it is not the one in the record."""
    follower = Follower()
    return {f.entry.number: follower.apply(MADE.head, f).digest() for f in found if f.entry}


def test_each_frame_decodes_as_soon_as_its_record_is_complete() -> None:
    scanner, follower = Scanner("pipe"), Follower()
    done = 0
    for count in range(1, len(FILE) + 1):
        found = [f for f in scanner.feed(FILE[count - 1 : count]) if f.entry]
        ended = [e for e in ENTRIES if e.offset + e.length == count]
        assert [f.entry for f in found] == ended
        for each in found:
            assert each.frame is not None
            assert follower.apply(MADE.head, each).digest() == each.frame.digest
            done += 1
    assert list(scanner.finish()) == []
    assert (done, scanner.status, scanner.problems) == (4, "complete", [])


@given(st.lists(st.integers(1, 900), max_size=40))
@settings(max_examples=40, deadline=None)
def test_how_the_bytes_are_divided_makes_no_difference(sizes: list[int]) -> None:
    whole = Scanner("whole")
    expected = [*whole.feed(FILE), *whole.finish()]
    scanner, found, at = Scanner("parts"), [], 0
    for size in [*sizes, len(FILE)]:
        found += scanner.feed(FILE[at : at + size])
        at += size
    found += scanner.finish()
    assert found == expected
    assert scanner.status == whole.status


def test_no_more_than_one_record_is_buffered() -> None:
    longest = max(ENTRIES[0].offset, *(e.length for e in ENTRIES))
    scanner = Scanner("pipe")
    for at in range(0, len(FILE), 64):
        for _ in scanner.feed(FILE[at : at + 64]):
            pass
        assert len(scanner._buffer) < longest + 64


@pytest.mark.parametrize(
    ("payload", "kept", "sound", "status", "numbers"),
    [
        (b"x" * 500, None, True, "complete", [0, 1, 2, 3]),
        (FILE[ENTRIES[2].offset : ENTRIES[2].end], None, True, "complete", [0, 1, 2, 3]),
        (b"\xb5INV" * 100, None, True, "complete", [0, 1, 2, 3]),
        (b"x" * 500, None, False, "damaged", [0, 1, 2, 3]),
        # The file ends inside the record: it was cut off there, or the header is not what it seems and hides a frame.
        (b"x" * 500, 300, True, "truncated", [0, 1]),
        (b"x" * 90 + FILE[ENTRIES[2].offset : ENTRIES[2].end], 95, True, "truncated", [0, 1]),
        (b"x" * 90 + FILE[ENTRIES[2].offset : ENTRIES[2].end] + b"x", -1, True, "damaged", [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_private_records_are_passed_over(
    payload: bytes, kept: int | None, sound: bool, status: str, numbers: list[int], size: int
) -> None:
    record = pack_record(200, 0, payload)
    if not sound:
        record = record[:-1] + bytes([record[-1] ^ 1])
    at = ENTRIES[2].offset
    if kept is None:
        # Without INDEX and END, whose offsets would be wrong.
        data = FILE[:at] + record + FILE[at : ENTRIES[3].end]
        status = status.replace("complete", "open")
    else:
        data = FILE[:at] + record[: HEADER_BYTES + (kept if kept > 0 else len(payload) + kept)]
    scanner = Scanner("file")
    found = [each for i in range(0, len(data), size) for each in scanner.feed(data[i : i + size])]
    found += scanner.finish()
    assert (scanner.status, list(digests(found))) == (status, numbers), scanner.problems
    assert [each.header.type for each in found].count(200) == (kept is None)


def test_a_private_record_is_not_buffered() -> None:
    size = 50_000_000
    scanner = Scanner("pipe")
    list(scanner.feed(FILE[: ENTRIES[0].offset]))
    # It says more than there is of it.
    list(scanner.feed(pack_record(255, 0, bytes(size))[:HEADER_BYTES]))
    for _ in range(size // 100_000 - 1):
        assert list(scanner.feed(bytes(100_000))) == []
        assert len(scanner._buffer) < HEADER_BYTES
    [passed] = scanner.feed(bytes(100_000) + zlib.crc32(bytes(size)).to_bytes(4, "little"))
    assert (passed.header.type, passed.header.length, passed.data, scanner.problems) == (255, size, b"", [])


def test_garbage_is_not_buffered() -> None:
    scanner = Scanner("pipe")
    for _ in scanner.feed(FILE[: ENTRIES[1].offset]):
        pass
    for _ in range(100):
        for _ in scanner.feed(b"\xb5INV garbage " * 1000):
            pass
        assert len(scanner._buffer) < 14_000
    later = [f.entry.number for f in scanner.feed(FILE[ENTRIES[2].offset :]) if f.entry]
    assert (later, scanner.status) == ([2, 3], "damaged")


def test_a_late_joiner_starts_at_the_next_keyframe() -> None:
    head = FILE[: ENTRIES[0].offset]
    for first in (1, 2, 3):
        scanner = Scanner("late")
        found = [*scanner.feed(head + FILE[ENTRIES[first].offset :]), *scanner.finish()]
        expected = [n for n in (2, 3) if first <= 2]
        assert list(digests(found)) == expected


def test_a_late_joiner_that_has_the_header_needs_no_other() -> None:
    scanner = Scanner("late", MADE.head)
    found = [*scanner.feed(MAGIC + FILE[ENTRIES[2].offset :]), *scanner.finish()]
    assert list(digests(found)) == [2, 3]


class Pipe(io.RawIOBase):
    """Yields one record per read, and counts the bytes read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.ends = sorted({e.offset for e in ENTRIES} | {e.offset + e.length for e in ENTRIES} | {len(data)})
        self.taken = 0

    def read1(self, size: int) -> bytes:
        until = next((end for end in self.ends if end > self.taken), self.taken)
        part = self.data[self.taken : min(until, self.taken + size)]
        self.taken += len(part)
        return part

    def seek(self, *_: object) -> int:
        raise OSError("a pipe cannot be sought in")


def piped_frame(selector: FrameSelector, data: bytes = FILE) -> tuple[PipedFrame, Pipe]:
    pipe = Pipe(data)
    return PipedFrame(cast(BinaryIO, pipe), "pipe", selector), pipe


@pytest.mark.parametrize("number", range(4))
def test_a_pipe_is_not_read_beyond_the_selected_frame(number: int) -> None:
    found, pipe = piped_frame(FrameSelector(number=number))
    assert found.selected == ENTRIES[number]
    assert pipe.taken == ENTRIES[number].offset + ENTRIES[number].length
    whole = Scanner("whole")
    assert found.state.digest() == digests([*whole.feed(FILE)])[number]


def test_frames_of_a_pipe_are_selected_by_position_and_time() -> None:
    # Frames are at 0, 40, 80 and 120 ms, and the last one is shown for 40 ms.
    assert piped_frame(FrameSelector())[0].selected.number == 0
    assert piped_frame(FrameSelector(latest=True))[0].selected.number == 3
    for milliseconds, number in [(0, 0), (39, 0), (40, 1), (119, 2), (159, 3)]:
        assert piped_frame(FrameSelector(time=Fraction(milliseconds, 1000)))[0].selected.number == number


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (FrameSelector(number=9), "frame 3 is the last one before it"),
        (FrameSelector(number=-1), "has no frame -1; it begins with frame 0"),
        (FrameSelector(time=Fraction(1)), "ends at 0.16 s"),
        (FrameSelector(time=Fraction(-1)), "begins at 0 s"),
    ],
)
def test_a_missing_frame_of_a_pipe_is_a_usage_error(selector: FrameSelector, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        piped_frame(selector)


def test_a_damaged_frame_of_a_pipe_is_damage() -> None:
    bad = make_vectors.flip(FILE, ENTRIES[1].offset + 40)
    assert piped_frame(FrameSelector(number=2), bad)[0].status == "damaged"
    with pytest.raises((DamagedError, UsageError)):
        piped_frame(FrameSelector(number=1), bad)


def piped(data: bytes, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*PROGRAM, *map(str, arguments)], input=data, capture_output=True)


@pytest.mark.slow
def test_commands_read_and_write_pipes(cli: Cli, capture: Path, encoded: Path, tmp_path: Path) -> None:
    data = encoded.read_bytes()
    assert cli("decode", encoded, "--frame", 2, "--pose", "cam03", "-o", tmp_path / "file.png").code == 0
    view = piped(data, "decode", "-", "--frame", 2, "--pose", "cam03", "-o", "-")
    assert (view.returncode, view.stdout) == (0, (tmp_path / "file.png").read_bytes())
    assert b"complete" in piped(data, "info", "-").stdout
    assert piped(data, "verify", "-").returncode == 0
    assert piped(data[:-500], "verify", "-").returncode == 3
    assert piped(data, "decode", "-", "--pose", "cam03").returncode == 2

    encode = [*PROGRAM, "encode", capture, "-", "--frames", "0:2", "--steps", "5", "--threads", "2"]
    made = subprocess.run([str(part) for part in encode], capture_output=True, check=True).stdout
    path = tmp_path / "made.inv"
    path.write_bytes(made)
    assert cli("verify", path).code == 0
    assert cli("encode", capture, path, "-f", "--frames", "0:2", "--steps", "5", "--threads", "2").code == 0
    states: list[Callable[[], object]] = []
    for data in (made, path.read_bytes()):
        scanner, follower = Scanner("it"), Follower()
        found = [*scanner.feed(data), *scanner.finish()]
        assert scanner.head is not None
        states.append([follower.apply(scanner.head, f).digest() for f in found if f.entry])  # type: ignore[arg-type]
    assert states[0] == states[1]
    assert np.array(states[0]).size == 2
