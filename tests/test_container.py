"""Files: sound records stay readable whatever happens to the rest, and no damage goes unnoticed."""

import io
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import a_camera, reference

from invcodec import limits
from invcodec.coding.chain import StateReader
from invcodec.coding.codec import delta_frame, encode_delta, encode_key, key_frame
from invcodec.coding.state import State
from invcodec.container.compressed import compress
from invcodec.container.frame import FrameHead, Stats
from invcodec.container.head import Head, NetworkInfo, TensorInfo
from invcodec.container.index import (
    END_BYTES,
    ROW,
    EndMark,
    FrameEntry,
    FrameList,
    Index,
    PagedFrames,
    pack_page,
    read_pages,
)
from invcodec.container.info import describe
from invcodec.container.reader import Reader
from invcodec.container.records import MAGIC, SYNC, RecordHeader, RecordType, pack_record, parse_header
from invcodec.container.scan import Scanner
from invcodec.container.writer import Writer
from invcodec.encoding.recording import Recording
from invcodec.errors import DamagedError, FrameNotFoundError, InvError, LimitError, UnsupportedError, UsageError
from invcodec.field.profile import TensorKey

KEYS: list[TensorKey] = [("scene", "w"), ("scene", "b")]
SHAPES = [(4, 3), (5,)]
QPS = dict(zip(KEYS, [-16, 0], strict=True))
HEAD = Head(
    frame_rate=Fraction(25),
    time_base=Fraction(1, 1000),
    source_size=(8, 6),
    downscale=1,
    background=None,
    cameras=(a_camera("left", 8, 6),),
    networks=(
        NetworkInfo(
            "scene",
            "scene",
            1,
            "mlp",
            0,
            {},
            {},
            (TensorInfo("w", SHAPES[0], "structure"), TensorInfo("b", SHAPES[1], "colour")),
        ),
    ),
)
MOVED = (replace(a_camera("left", 8, 6), held_out=True),)
NUMBERS = list(range(10, 18))
KEYFRAMES = (10, 14)
MOVED_AT = 12

HEADER, FRAMING = 24, 28
"""Bytes of a record's header, and of everything but its payload."""


@dataclass
class Made:
    """A file and its contents."""

    data: bytes
    entries: Sequence[FrameEntry]
    states: dict[int, State]
    body: int
    """Offset of the index; the bytes before it are the file before it was finished."""


def some_levels(number: int) -> dict[TensorKey, np.ndarray]:
    rng = np.random.default_rng(number)
    return {key: rng.integers(-9, 9, shape).astype(np.int32) for key, shape in zip(KEYS, SHAPES, strict=True)}


def add(append: Callable[[int, FrameHead, bytes], object], number: int, before: State | None) -> State:
    key = before is None or number in KEYFRAMES
    coded, state = encode_key(HEAD, some_levels(number), QPS) if key else encode_delta(before, some_levels(number))
    cameras = MOVED if number == MOVED_AT else None
    time, stats = (number - 10) * 40, Stats(steps=3)
    frame = key_frame(state, time, stats, cameras) if key else delta_frame(state, time, number - 1, stats, cameras)
    append(number, frame, coded)
    return state


def make(complete: bool = True) -> Made:
    file = io.BytesIO()
    writer = Writer(file, HEAD)
    states: dict[int, State] = {}
    state = None
    for number in NUMBERS:
        states[number] = state = add(writer.frame, number, state)
    body = file.tell()
    writer.finish(complete)
    return Made(file.getvalue(), writer.entries, states, body)


MADE = make()
HEAD_END = MADE.entries[0].offset
HEAD_RECORD = MADE.data[len(MAGIC) : HEAD_END]


Save = Callable[[bytes], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(data: bytes) -> Path:
        path = tmp_path / "file.inv"
        path.write_bytes(data)
        return path

    return write


def assert_right(reader: StateReader, number: int, states: dict[int, State] = MADE.states) -> None:
    state = reader.state_at(number)
    for key in KEYS:
        np.testing.assert_array_equal(state.levels[key], states[number].levels[key])
    assert state.qps == QPS


def numbers(reader: StateReader) -> list[int]:
    return [entry.number for entry in reader.frames]


# Whole files


def test_the_bytes_of_a_record_do_not_change() -> None:
    # If this fails, files written before the change can no longer be read: the format needs a new version.
    assert pack_record(RecordType.DELTA, -2, b"abc").hex() == (
        "b5494e5603000000feffffffffffffff03000000" + "78e673d6" + "616263" + "c2412435"
    )
    assert MAGIC.hex() == "89494e560d0a1a0a"
    frame = FrameHead(40, 9, bytes(range(8)), 1, None, Stats("lead", 150, 3012))
    assert frame.to_bytes().hex() == "972809c408000102030405060701c09302cc96cd0bc4c0"
    assert FrameHead.split(frame.to_bytes() + b"xyz") == (frame, b"xyz")


def test_layout_of_a_record_is_header_payload_and_checksums() -> None:
    data = pack_record(RecordType.KEY, 1 << 40, b"payload")
    assert struct.unpack("<4sBBHqI", data[:20]) == (SYNC, 2, 0, 0, 1 << 40, 7)
    assert data[20:24] == struct.pack("<I", zlib.crc32(data[:20]))
    assert data[24:] == b"payload" + struct.pack("<I", zlib.crc32(b"payload"))
    record = parse_header(data[:HEADER], 100)
    assert record == RecordHeader(2, 1 << 40, 100, 7)
    assert record.end == 100 + len(data)


def test_a_finished_file_reads_back(save: Save) -> None:
    with StateReader(save(MADE.data)) as reader:
        assert (reader.status, reader.problems, reader.head) == ("complete", [], HEAD)
        assert reader.frames == MADE.entries
        for number in NUMBERS:
            assert_right(reader, number)
    assert [e.kind for e in MADE.entries] == ["key" if n in KEYFRAMES else "delta" for n in NUMBERS]
    assert [e.time for e in MADE.entries] == [Fraction(n - 10, 25) for n in NUMBERS]


def test_index_agrees_with_scan(save: Save) -> None:
    with StateReader(save(MADE.data[: MADE.body])) as scanned:
        assert (scanned.status, scanned.problems) == ("open", [])
        assert scanned.frames == MADE.entries
    # The entries tile the file between header and index.
    assert all(a.offset + a.length == b.offset for a, b in zip(MADE.entries, MADE.entries[1:], strict=False))
    assert MADE.entries[-1].offset + MADE.entries[-1].length == MADE.body


def test_status_tells_how_a_file_ended(save: Save) -> None:
    for complete, status in ((True, "complete"), (False, "incomplete")):
        with StateReader(save(make(complete).data)) as reader:
            assert (reader.status, numbers(reader)) == (status, NUMBERS)
    with StateReader(save(MADE.data[:HEAD_END])) as reader:
        assert (reader.status, reader.frames) == ("open", [])
        with pytest.raises(UsageError, match="no frames"):
            reader.entry(10)


def test_writing_is_append_only_and_flushed(tmp_path: Path) -> None:
    # A file that is still being written is an unfinished file: readable after each record.
    path = tmp_path / "live.inv"
    with open(path, "wb") as file:
        writer = Writer(file, HEAD)
        state = None
        for count, number in enumerate(NUMBERS, 1):
            state = add(writer.frame, number, state)
            assert MADE.data.startswith(path.read_bytes())
            with StateReader(path) as reader:
                assert (reader.status, numbers(reader)) == ("open", NUMBERS[:count])
                assert_right(reader, number)


# Random access


def test_random_access_reads_only_the_chain_since_the_keyframe(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    frame = StateReader.frame

    def spy(self: StateReader, entry: FrameEntry) -> tuple[FrameHead, bytes]:
        read.append(entry.number)
        return frame(self, entry)

    monkeypatch.setattr(StateReader, "frame", spy)
    for number in NUMBERS:
        with StateReader(save(MADE.data)) as reader:
            read.clear()
            assert_right(reader, number)
            assert read == list(range(max(k for k in KEYFRAMES if k <= number), number + 1))
    with StateReader(save(MADE.data)) as reader:
        read.clear()
        for number in NUMBERS:
            assert_right(reader, number)
        # Played forwards, each record is read once.
        assert read == NUMBERS
        # Backwards, frames are right as well.
        for number in reversed(NUMBERS):
            assert_right(reader, number)


def test_opening_a_finished_file_reads_no_frame(save: Save) -> None:
    # Damaged frames are not noticed until they are read, and the others can still be read.
    data = bytearray(MADE.data)
    second = MADE.entries[KEYFRAMES[1] - 10].offset
    data[HEAD_END:second] = bytes(second - HEAD_END)
    with StateReader(save(bytes(data))) as reader:
        assert numbers(reader) == NUMBERS
        for number in range(KEYFRAMES[1], 18):
            assert_right(reader, number)
        with pytest.raises(DamagedError) as caught:
            reader.state_at(11)
        assert (caught.value.frame, caught.value.offset) == (10, HEAD_END)
        # The failure leaves no state behind.
        assert_right(reader, 16)


@pytest.mark.parametrize(
    ("number", "hint"),
    [(12, "11 and 20"), (19, "11 and 20"), (9, "10 to 21"), (22, "10 to 21"), (-1, "10 to 21")],
)
def test_a_missing_frame_is_named_with_its_neighbours(save: Save, number: int, hint: str) -> None:
    file = io.BytesIO()
    writer = Writer(file, HEAD)
    for each in (10, 11, 20, 21):
        add(writer.frame, each, None)
    writer.finish(True)
    with StateReader(save(file.getvalue())) as reader:
        for ask in (reader.state_at, reader.entry, reader.cameras_at):
            with pytest.raises(UsageError, match=hint):
                ask(number)
        reader.state_at(20)


def test_a_camera_list_holds_from_its_record_on(save: Save) -> None:
    for data in (MADE.data, MADE.data[: MADE.body]):
        with StateReader(save(data)) as reader:
            for number in NUMBERS:
                assert reader.cameras_at(number) == (MOVED if number >= MOVED_AT else HEAD.cameras)


# Cut off and damaged files


def test_every_truncation_keeps_every_whole_frame(save: Save) -> None:
    boundaries = {HEAD_END, *(e.offset + e.length for e in MADE.entries)}
    # The index ends where the end mark begins.
    boundaries.add(len(MADE.data) - FRAMING - 12)
    for size in range(len(MADE.data)):
        path = save(MADE.data[:size])
        if size < HEAD_END:
            with pytest.raises(UsageError if size < len(MAGIC) else DamagedError):
                StateReader(path)
            continue
        with StateReader(path) as reader:
            assert reader.status == ("open" if size in boundaries else "truncated"), size
            assert len(reader.problems) == (size not in boundaries)
            whole = [e for e in MADE.entries if e.offset + e.length <= size]
            assert reader.frames == whole
            # Losing the last frame may lose its whole chain; all frames are decoded where the cut is near the end.
            for entry in whole if size in boundaries else whole[-1:]:
                assert_right(reader, entry.number)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("finished", [True, False])
def test_every_flipped_byte_is_reported_or_harmless(save: Save, finished: bool, whole: bool) -> None:
    data = MADE.data if finished else MADE.data[: MADE.body]
    # Which bit flips depends on the byte, so that all kinds occur; every seventh byte is inverted as a whole. With an
    # index, the bytes of frames are not read before they are decoded, so every third of them is enough.
    for at in range(0, len(data), 7 if whole else 1):
        if finished and HEAD_END <= at < MADE.body and at % 3:
            continue
        broken = bytearray(data)
        broken[at] ^= 0xFF if whole else 1 << at % 8
        try:
            reader = StateReader(save(bytes(broken)))
        except InvError:
            assert at < HEAD_END, at
            continue
        with reader:
            # Only the groups of frames that hold the byte may be missing, and only from there on.
            hit = next((e for e in MADE.entries if e.offset <= at < e.offset + e.length), None)
            lost = [n for n in NUMBERS if hit and n >= hit.number and (hit.number >= 14 or n < 14)]
            good, failed = [], []
            for number in numbers(reader):
                try:
                    assert_right(reader, number)
                    good.append(number)
                except InvError:
                    failed.append(number)
            assert good == [n for n in NUMBERS if n not in lost], at
            if hit:
                assert failed or (reader.status == "damaged" and reader.problems), at
                # A scan lists nothing that cannot be decoded.
                assert finished or not failed, at
            else:
                # In the magic, the index or the end mark: nobody may call the file complete.
                assert finished or at < len(MAGIC), at
                assert reader.status == "damaged", at


@pytest.mark.parametrize("at", [-1, MADE.body + HEADER])
def test_a_damaged_index_or_end_mark_is_reported(save: Save, at: int) -> None:
    data = bytearray(MADE.data)
    data[at] ^= 1
    with StateReader(save(bytes(data))) as reader:
        assert reader.frames == MADE.entries
        assert (reader.status, len(reader.problems)) == ("damaged", 1)


def test_a_lost_key_costs_its_group_and_a_lost_delta_the_rest_of_it(save: Save) -> None:
    for lost, left in ((10, [14, 15, 16, 17]), (12, [10, 11, 14, 15, 16, 17]), (14, [10, 11, 12, 13])):
        entry = MADE.entries[lost - 10]
        # Cut out without a trace: all records are sound, but the chain is broken.
        data = MADE.data[: entry.offset] + MADE.data[entry.offset + entry.length : MADE.body]
        with StateReader(save(data)) as reader:
            assert (reader.status, numbers(reader)) == ("damaged", left)
            assert any(f"refers to frame {lost}" in problem for problem in reader.problems)
            for number in left:
                assert_right(reader, number)


def test_garbage_between_records_is_skipped(save: Save) -> None:
    at = MADE.entries[3].offset
    # With bytes that look like the beginning of a record.
    for garbage in (b"x", SYNC, SYNC * 9, MADE.data[at : at + 10], bytes(100)):
        with StateReader(save(MADE.data[:at] + garbage + MADE.data[at : MADE.body])) as reader:
            assert (reader.status, numbers(reader)) == ("damaged", NUMBERS)
            assert_right(reader, 17)


def test_the_search_for_a_record_crosses_its_blocks(save: Save) -> None:
    # A sync at each position around the boundary of the 1 MiB blocks in which the file is searched.
    at = MADE.entries[4].offset
    for shift in range(-26, 3, 2):
        garbage = bytes((1 << 20) + shift)
        with StateReader(save(MADE.data[:at] + garbage + MADE.data[at : MADE.body])) as reader:
            assert numbers(reader) == NUMBERS, shift


def test_random_files_are_refused_or_empty(save: Save) -> None:
    rng = np.random.default_rng(3)
    for case in range(150):
        data = rng.bytes(int(rng.integers(0, 300)))
        if case % 3 == 1:
            data = MAGIC + data
        if case % 3 == 2:
            data = MAGIC + HEAD_RECORD + data
        try:
            with StateReader(save(data)) as reader:
                assert reader.frames == []
                assert reader.status != "complete"
        except InvError:
            continue


def test_files_that_are_none_are_usage_errors(tmp_path: Path, save: Save) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        StateReader(tmp_path / "none.inv")
    with pytest.raises(UsageError, match="cannot be read"):
        StateReader(tmp_path)
    with pytest.raises(UsageError, match="is empty"):
        StateReader(save(b""))
    with pytest.raises(UsageError, match=r"not an \.inv file"):
        StateReader(save(b"\x89PNG\r\n\x1a\n" + bytes(100)))


@pytest.mark.parametrize("place", [HEAD_END, MADE.entries[3].offset, MADE.body])
@pytest.mark.parametrize("at", [len(MAGIC), len(MAGIC) + 4, len(MAGIC) + HEADER, HEAD_END - 1])
def test_a_second_copy_of_the_header_is_used_when_the_first_is_damaged(save: Save, place: int, at: int) -> None:
    data = bytearray(MADE.data[:place] + HEAD_RECORD + MADE.data[place : MADE.body])
    with StateReader(save(bytes(data))) as reader:
        assert (reader.status, numbers(reader)) == ("open", NUMBERS)
    data[at] ^= 0x10
    with StateReader(save(bytes(data))) as reader:
        assert (reader.status, reader.head, numbers(reader)) == ("damaged", HEAD, NUMBERS)
        assert reader.problems
        for number in NUMBERS:
            assert_right(reader, number)


def test_both_copies_of_the_header_damaged_are_refused(save: Save) -> None:
    data = bytearray(MADE.data[: MADE.body] + HEAD_RECORD)
    data[HEAD_END - 1] ^= 1
    data[-1] ^= 1
    with pytest.raises(DamagedError, match="no sound header"):
        StateReader(save(bytes(data)))


# Unknown records


@pytest.mark.parametrize("type_", [0x80, 0x9C, 0xFF])
def test_unknown_ancillary_records_are_skipped(save: Save, type_: int) -> None:
    more = pack_record(type_, 12, b"of a later version")
    parts = [MADE.data[:HEAD_END], *(MADE.data[e.offset : e.offset + e.length] for e in MADE.entries)]
    with StateReader(save(more.join(parts) + more)) as reader:
        assert (reader.status, reader.problems, numbers(reader)) == ("open", [], NUMBERS)
        assert_right(reader, 17)
    # The high nibble of the flags may be ignored, in known types too.
    assert parse_header(with_header(type_, flags=0xF0), 0).type == type_


@pytest.mark.parametrize("type_", [0, 6, 0x7F])
@pytest.mark.parametrize("place", [HEAD_END, MADE.entries[3].offset, MADE.body])
def test_unknown_critical_records_are_unsupported(save: Save, type_: int, place: int) -> None:
    data = MADE.data[:place] + pack_record(type_, 0, b"") + MADE.data[place : MADE.body]
    with pytest.raises(UnsupportedError, match=f"byte {place}.*newer"):
        StateReader(save(data))


def with_header(type_: int, *, flags: int = 0, reserved: int = 0, length: int = 0) -> bytes:
    header = struct.pack("<4sBBHqI", SYNC, type_, flags, reserved, 0, length)
    return header + struct.pack("<I", zlib.crc32(header))


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (with_header(2, flags=0x01), UnsupportedError),
        (with_header(2, flags=0x08), UnsupportedError),
        (with_header(2, reserved=1), UnsupportedError),
        (with_header(0x80, reserved=0x8000), UnsupportedError),
        (with_header(2, length=limits.MAX_RECORD_BYTES + 1), LimitError),
        (with_header(0x80, length=2**32 - 1), LimitError),
        (with_header(1, length=limits.MAX_HEAD_BYTES + 1), LimitError),
        (with_header(2)[:-1], DamagedError),
        (b"", DamagedError),
        (b"x" + with_header(2)[1:], DamagedError),
        (with_header(2)[:-1] + b"x", DamagedError),
    ],
)
def test_headers_that_are_refused(header: bytes, error: type[InvError]) -> None:
    with pytest.raises(InvError) as caught:
        parse_header(header, 0)
    assert type(caught.value) is error


# Crafted files: sound checksums, unsound contents


def closed(
    rows: np.ndarray | bytes, body: bytes = MADE.data[: MADE.body], at: int | None = None, flags: int = 1
) -> bytes:
    """A file with these rows of an index, or with an index that has this payload."""
    payload = rows if isinstance(rows, bytes) else Index(0, rows).to_bytes()
    end = pack_record(RecordType.END, 0, struct.pack("<QI", len(body) if at is None else at, flags))
    return body + pack_record(RecordType.INDEX, 0, payload) + end


def rows() -> np.ndarray:
    return FrameList(HEAD.time_base, MADE.entries).page(0).copy()


def try_everything(path: Path) -> None:
    """Open, list and decode; whatever decodes is right."""
    try:
        with StateReader(path) as reader:
            for number in numbers(reader):
                try:
                    reader.cameras_at(number)
                    state = reader.state_at(number)
                except InvError:
                    continue
                assert state.digest() in {each.digest() for each in MADE.states.values()}
    except InvError:
        return


def test_the_crafted_index_is_the_real_one_when_nothing_is_changed() -> None:
    assert closed(rows()) == MADE.data


@pytest.mark.parametrize("flags", [0, 1, 2, 3, 2**31])
def test_end_flags_other_than_bit_0_are_ignored(save: Save, flags: int) -> None:
    data = closed(rows(), flags=flags)
    for trust_index in (True, False):
        with StateReader(save(data), trust_index=trust_index) as reader:
            assert (reader.status, reader.problems) == ("complete" if flags & 1 else "incomplete", [])


def test_the_end_mark_survives_and_has_one_size() -> None:
    for mark in (EndMark(2**64 - 1, True), EndMark(0, False)):
        assert EndMark.from_bytes(mark.to_bytes()) == mark
    for size in (0, 11, 13):
        with pytest.raises(DamagedError):
            EndMark.from_bytes(bytes(size))


def test_the_index_keeps_every_row() -> None:
    index = Index.from_bytes(Index(0, rows()).to_bytes())
    assert index.level == 0
    np.testing.assert_array_equal(index.rows, rows())
    again = FrameList(HEAD.time_base)
    again.add_page(index.rows)
    assert again == MADE.entries
    assert [entry.is_key for entry in again] == [entry.kind == "key" for entry in again]


def test_numbers_and_times_may_lie_as_far_apart_as_their_types_allow() -> None:
    far = np.zeros(3, ROW)
    far["number"] = [-(2**63), 0, 2**63 - 1]
    far["ticks"] = [-(2**53), 0, 2**53]
    far["offset"] = [0, 2**62, 2**63 - 2**33]
    far["length"] = [28, 2**32 - 1, 2**32 - 1]
    np.testing.assert_array_equal(Index.from_bytes(Index(0, far).to_bytes()).rows, far)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"\0text",
        b"\0" + compress(bytes(28)),
        b"\2" + compress(b""),
        b"\1" + compress(b""),
        b"\0" + compress(b"")[:-1],
        b"\0" + compress(b"") + b"x",
        b"\0" + compress(bytes(limits.MAX_INDEX_BYTES + 1)),
        bytes(limits.MAX_INDEX_BYTES + 1),
    ],
)
def test_an_index_that_is_none_falls_back_to_the_scan(save: Save, payload: bytes) -> None:
    with StateReader(save(closed(payload))) as reader:
        assert (reader.status, reader.frames) == ("damaged", MADE.entries)


@pytest.mark.parametrize(
    "at", [0, 8, 9, MADE.body - 1, MADE.body + 1, len(MADE.data), 2**40, 2**63 - 1, 2**63, 2**64 - 1]
)
def test_an_end_mark_that_points_elsewhere_falls_back_to_the_scan(save: Save, at: int) -> None:
    with StateReader(save(closed(rows(), at=at))) as reader:
        assert reader.frames == MADE.entries


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("number", 16),
        ("number", -5),
        ("number", -(2**63)),
        ("ticks", 10**15),
        ("ticks", 2**53 + 1),
        ("offset", 8),
        ("offset", MADE.entries[5].offset),
        ("offset", -1),
        ("offset", 2**63 - 1),
        ("length", 0),
        ("length", 2**32 - 1),
        ("flags", 0),
        ("flags", 1),
        ("flags", 2),
    ],
)
def test_an_index_that_lies_never_makes_a_wrong_state(save: Save, column: str, value: int) -> None:
    for row in range(len(NUMBERS)):
        lying = rows()
        lying[row][column] = value
        try_everything(save(closed(lying)))


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (0, "offset", MADE.body),
        (7, "length", 2**31),
        (3, "number", 12),
        (3, "ticks", 80),
        (3, "offset", MADE.entries[2].offset + 5),
        (0, "flags", 0),
    ],
)
def test_an_index_that_does_not_fit_is_not_believed(save: Save, row: int, column: str, value: int) -> None:
    lying = rows()
    lying[row][column] = value
    with StateReader(save(closed(lying))) as reader:
        assert (reader.status, reader.frames) == ("damaged", MADE.entries)
        assert_right(reader, 13)


def test_a_delta_that_the_index_places_behind_another_frame_is_damaged(save: Save) -> None:
    without = np.delete(rows(), 2)
    with StateReader(save(closed(without))) as reader:
        assert_right(reader, 11)
        with pytest.raises(DamagedError, match="frame 13: it changes frame 12, which is not the one before it"):
            reader.state_at(13)


# Long files


def long_file(count: int, *, complete: bool = True, gap: int = 0) -> bytes:
    """Keyframe records without values, every 100th with cameras and every 7th with a gap in numbers before it."""
    out = io.BytesIO()
    writer = Writer(out, HEAD)
    for place in range(count):
        frame = FrameHead(40 * place, None, bytes(8), 1, (0, 0), cameras=MOVED if place % 100 == 99 else None)
        writer.frame(place + gap * (place // 7), frame, b"")
    writer.finish(complete)
    return out.getvalue()


PAGE = limits.PAGE_FRAMES


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 1])
def test_a_long_file_is_read_by_its_index_as_by_its_records(save: Save, count: int) -> None:
    path = save(long_file(count, gap=3))
    with Reader(path) as reader, Reader(path, trust_index=False) as scanned:
        assert (reader.status, scanned.status, scanned.problems) == ("complete", "complete", [])
        assert isinstance(reader.frames, PagedFrames) == (count > PAGE)
        assert len(reader.frames) == len(scanned.frames) == count
        assert reader.frames == scanned.frames
        assert reader.frames[::-500] == scanned.frames[::-500]
        for place in (0, 1, 98, 99, 100, PAGE - 2, count // 2, count - 1):
            entry = scanned.frames[place]
            assert reader.entry(entry.number) == entry
            assert reader.frames.at(entry.time) == place
            assert reader.frames.at(entry.time + Fraction(1, 100)) == place
            before = [e for e in scanned.frames[: place + 1] if e.cameras]
            assert reader.frames.cameras_before(place) == (before[-1] if before else None)
            assert reader.cameras_at(entry.number) == (MOVED if before else HEAD.cameras)
            assert entry.number + 1 in reader or place % 7 == 6 or place == count - 1
        assert reader.frames.at(-1) == -1
        assert 7 not in reader
        assert reader.frames.numbered(10, 25) == [e for e in scanned.frames if 10 <= e.number < 25]
        with pytest.raises(FrameNotFoundError, match="its neighbours are 6 and 10"):
            reader.entry(7)


def test_a_long_file_is_opened_and_searched_without_reading_all_of_its_index(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = 24
    read: list[int] = []
    page = Reader._page

    def spy(self: Reader, row: np.void) -> np.ndarray:
        read.append(int(row["number"]) // PAGE)
        return page(self, row)

    path = save(long_file(pages * PAGE))
    monkeypatch.setattr(Reader, "_page", spy)
    with Reader(path) as reader:
        assert read == [pages - 1, 0]
        assert reader.entry(5 * PAGE + 7).offset == reader.frames[5 * PAGE + 7].offset
        assert reader.frames.at(Fraction(40 * (9 * PAGE + 1), 1000)) == 9 * PAGE + 1
        assert reader.frames.cameras_before(5 * PAGE) is not None
        assert len(read) <= 5
        # Memory stays bounded however much is read.
        assert sum(1 for _ in reader.frames.pages()) == pages
        assert len(reader.frames._frames._cache) < pages  # type: ignore[attr-defined]


@pytest.mark.parametrize("trust_index", [True, False])
def test_a_damaged_page_of_the_index_costs_no_frame(save: Save, trust_index: bool) -> None:
    count = 3 * PAGE + 5
    data = bytearray(long_file(count))
    path = save(bytes(data))
    with Reader(path) as reader:
        assert isinstance(reader.frames, PagedFrames)
        second = int(reader.frames._frames._top[1]["offset"])  # type: ignore[attr-defined]
    data[second + HEADER + 30] ^= 1
    path = save(bytes(data))
    searches: list[Callable[[Reader], int]] = [
        lambda reader: reader.frames[PAGE + 5].number,
        lambda reader: reader.entry(PAGE + 5).number,
        lambda reader: list(reader.frames)[PAGE + 5].number,
    ]
    for search in searches:
        with Reader(path, trust_index=trust_index) as reader:
            assert search(reader) == PAGE + 5
            assert (reader.status, len(reader.frames)) == ("damaged", count)
            assert [entry.number for entry in reader.frames] == list(range(count))


LOST = range(PAGE + 10, 2 * PAGE)


@pytest.fixture
def surprising(save: Save) -> Path:
    """A file whose frames `LOST` are damaged, and so is the page of the index that lists them."""
    data = bytearray(long_file(2 * PAGE + 5))
    with Reader(save(bytes(data))) as reader:
        page = int(reader.frames._frames._top[1]["offset"])  # type: ignore[attr-defined]
        for entry in reader.frames[LOST.start : LOST.stop]:
            data[entry.offset + HEADER + 4] ^= 1
    data[page + HEADER + 30] ^= 1
    return save(bytes(data))


def test_what_was_asked_when_the_index_proved_to_be_damaged_is_answered_by_the_records(surprising: Path) -> None:
    questions: list[Callable[[Reader], Any]] = [
        lambda reader: reader.entry(PAGE + 5),
        lambda reader: reader.frames[PAGE - 5 : PAGE + 30],
        lambda reader: reader.frames.at(Fraction(40 * (PAGE + 20), 1000)),
        lambda reader: reader.frames.position(PAGE + 20),
        lambda reader: reader.frames.numbered(PAGE, None),
        lambda reader: reader.frames.cameras_before(PAGE + 9),
        lambda reader: list(reader.frames),
        lambda reader: len(reader.frames.copy()),
        lambda reader: reader.cameras_at(PAGE + 5) == HEAD.cameras,
    ]
    with Reader(surprising, trust_index=False) as scanned:
        for question in questions:
            with Reader(surprising) as reader:
                assert reader.status == "complete"
                assert question(reader) == question(scanned)
                assert reader.status == "damaged"
    with Reader(surprising) as reader, pytest.raises(FrameNotFoundError, match=rf"are {PAGE + 9} and {2 * PAGE}"):
        reader.entry(PAGE + 20)
    found = describe(surprising)
    assert (found["state"], found["frames"]["count"]) == ("damaged", PAGE + 15)
    assert found["frames"]["gaps"] == [[LOST.start, LOST.stop - 1]]


def test_an_iteration_goes_on_behind_the_frame_at_which_the_index_proved_to_be_damaged(surprising: Path) -> None:
    with Reader(surprising) as reader:
        found = []
        for entry in reader.frames:
            found.append(entry.number)
            if entry.number == 5:
                # Another question meets the damage first.
                assert reader.frames[PAGE + 10].number == 2 * PAGE
        assert found == [number for number in range(2 * PAGE + 5) if number not in LOST]


def test_pages_of_a_growing_file_that_are_no_index_are_refused() -> None:
    data = long_file(2 * PAGE)
    top = Index.from_bytes(data[EndMark.from_bytes(data[-16:-4]).index + HEADER : -END_BYTES - 4]).rows
    one, two = (data[at : at + size] for at, size in zip(top["offset"], top["length"], strict=True))
    assert len(read_pages(one + two, HEAD.time_base)) == 2 * PAGE
    rows = Index.from_bytes(two[HEADER:-4]).rows
    deltas, early, overlapping = rows.copy(), rows.copy(), rows.copy()
    deltas["flags"] = 0
    early["ticks"] -= rows["ticks"][0]
    overlapping["offset"] -= 1
    for pages in (two + one, pack_page(deltas), one + pack_page(early), one + pack_page(overlapping), one + one):
        with pytest.raises(DamagedError, match="pages are not in order"):
            read_pages(pages, HEAD.time_base)


def test_a_frame_without_a_keyframe_before_it_is_damaged(save: Save) -> None:
    with StateReader(save(MADE.data)) as reader:
        reader.frames = FrameList(HEAD.time_base, MADE.entries[1:4])
        with pytest.raises(DamagedError, match="no keyframe before frame 12"):
            reader.state_at(12)


def test_a_file_of_more_frames_than_the_limit_is_refused(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(long_file(PAGE + 1))
    monkeypatch.setattr("invcodec.container.index.MAX_FRAMES", PAGE)
    for trust_index in (False, True):
        with pytest.raises(LimitError, match=f"more than {PAGE} frames"):
            Reader(path, trust_index=trust_index)
    monkeypatch.setattr(reference, "MAX_FRAMES", PAGE)
    with pytest.raises(reference.Refused, match="limit: frames"):
        reference.read(path.read_bytes())


def test_the_writer_refuses_more_frames_than_an_index_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invcodec.container.writer.MAX_FRAMES", 8)
    with pytest.raises(LimitError, match="begin another one"):
        long_file(9)
    long_file(8)


def frame_record(number: int, frame: FrameHead, coded: bytes = b"", type_: int = RecordType.DELTA) -> bytes:
    return pack_record(type_, number, frame.to_bytes() + coded)


def parsed(number: int) -> tuple[FrameHead, bytes]:
    entry = MADE.entries[number - 10]
    return FrameHead.split(MADE.data[entry.offset + HEADER : entry.offset + entry.length - 4])


@pytest.mark.parametrize(
    "record",
    [
        frame_record(18, replace(parsed(17)[0], reference=None), parsed(17)[1]),
        frame_record(18, replace(parsed(14)[0], reference=17), parsed(14)[1], RecordType.KEY),
        frame_record(18, replace(parsed(14)[0], reference=18), parsed(14)[1]),
        frame_record(17, replace(parsed(14)[0], reference=17), parsed(14)[1]),
        frame_record(18, replace(parsed(17)[0], reference=17), parsed(17)[1]),
        pack_record(RecordType.KEY, 18, b""),
        pack_record(RecordType.KEY, 18, b"\xff\xff\xff\xff"),
        pack_record(RecordType.KEY, 18, b"\x00\x00\x00\x00"),
        pack_record(RecordType.DELTA, 18, b"\x01\x00\x00\x00\x05"),
        frame_record(18, FrameHead(320, 17, bytes(8), 1, None), b"\1\2"),
        frame_record(18, FrameHead(320, 17, bytes(8), 1, (0,) * len(KEYS))),
        frame_record(18, FrameHead(320, None, bytes(8), 1, (0,) * 7), b"", RecordType.KEY),
        frame_record(18, FrameHead(320, None, bytes(8), 1, None), b"", RecordType.KEY),
        pack_record(RecordType.HEAD, 0, b"another"),
        pack_record(RecordType.INDEX, 0, b"another"),
        pack_record(RecordType.END, 0, b""),
    ],
)
def test_crafted_records_never_make_a_wrong_state(save: Save, record: bytes) -> None:
    path = save(MADE.data[: MADE.body] + record)
    try_everything(path)
    with StateReader(path) as reader:
        for number in NUMBERS[:-1]:
            assert_right(reader, number)


@pytest.mark.parametrize(("number", "time"), [(17, 320), (3, 320), (18, 280), (18, -1)])
def test_frames_whose_numbers_or_times_do_not_rise_are_reported(save: Save, number: int, time: int) -> None:
    frame, coded = parsed(14)
    record = frame_record(number, replace(frame, time=time), coded, RecordType.KEY)
    try:
        reader = StateReader(save(MADE.data[: MADE.body] + record))
    except InvError:
        return
    with reader:
        assert reader.status == "damaged"


# Resuming a file


@pytest.mark.parametrize("tail", [0, 1, 30, 200])
@pytest.mark.parametrize("complete", [True, False])
def test_what_closed_a_file_is_cut_off_once_there_is_more(save: Save, complete: bool, tail: int) -> None:
    data = make(complete).data
    data = data[: len(data) - tail]
    path = save(data)
    with Recording.resume(path) as recording, StateReader(path) as reader:
        last = reader.frames[-1].number
        state = reader.state_at(last)
        so_far = recording.so_far
        assert so_far is not None
        assert [each.digest() for each in so_far.states] == [MADE.states[last - 1].digest(), state.digest()]
        assert path.read_bytes() == data
        states = dict(MADE.states)
        for number in range(last + 1, 20):
            states[number] = state = add(recording.add, number, state)
            assert path.stat().st_size == recording.frames[-1].end
        recording.close(complete=True)
    with StateReader(path) as again:
        assert (again.status, numbers(again)) == ("complete", list(range(10, 20)))
        for number in numbers(again):
            assert_right(again, number, states)
        from_index = again.frames
    # The same as if it had been written in one go.
    with StateReader(save(path.read_bytes()[: from_index[-1].end])) as scanned:
        assert scanned.frames == from_index


BROKEN = bytearray(MADE.data)
BROKEN[MADE.body - 1] ^= 1
HALF = MADE.entries[5].offset


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (MADE.data[: HALF + 40], HALF),
        (MADE.data[:HALF] + MADE.data[HALF + 1 : MADE.body], HALF),
        (bytes(BROKEN), MADE.entries[-1].offset),
    ],
)
def test_a_half_frame_and_what_lost_its_reference_are_cut_off_once_there_is_more(
    save: Save, data: bytes, end: int
) -> None:
    path = save(data)
    with Recording.resume(path):
        pass
    assert path.read_bytes() == data
    with Recording.resume(path) as recording:
        recording.close(complete=True)
    assert path.read_bytes()[:end] == MADE.data[:end]
    with Reader(path) as reader:
        assert (reader.status, reader.frames[-1].end, reader.problems) == ("complete", end, [])


def test_a_file_without_frames_is_not_continued(save: Save) -> None:
    path = save(MADE.data[: HEAD_END + 50])
    with pytest.raises(UsageError, match="no sound frame"):
        Recording.resume(path)
    assert path.read_bytes() == MADE.data[: HEAD_END + 50]


def test_a_file_whose_only_sound_header_would_be_cut_off_is_not_continued(save: Save) -> None:
    data = bytearray(MADE.data[: MADE.body] + HEAD_RECORD)
    data[HEAD_END - 1] ^= 1
    path = save(bytes(data))
    with pytest.raises(DamagedError, match="header"):
        Recording.resume(path)
    assert path.read_bytes() == bytes(data)


def test_a_file_is_continued_by_one_process_at_a_time(save: Save) -> None:
    path = save(MADE.data[: MADE.body])
    with Recording.resume(path):
        with pytest.raises(UsageError, match=r"file\.inv: is being written by another process"):
            Recording.resume(path)
        with pytest.raises(UsageError, match="is being written by another process"):
            Recording(path, force=True)
    with Recording.resume(path) as recording:
        recording.close(complete=True)


# Much damage


def sound_header(type_: int, frame: int, length: int) -> bytes:
    head = struct.pack("<4sBBHqI", SYNC, type_, 0, 0, frame, length)
    return head + struct.pack("<I", zlib.crc32(head))


def listing(first: int) -> bytes:
    """An INDEX record with a page of frames that are nowhere."""
    page = np.zeros(PAGE, ROW)
    page["number"] = 1000 + first + np.arange(PAGE)
    page["ticks"] = 10**6 + page["number"]
    page["length"] = 28
    page["offset"] = 28 * np.arange(PAGE)
    return pack_record(RecordType.INDEX, 0, Index(0, page).to_bytes())


@pytest.mark.parametrize(
    "damage",
    [
        lambda n: sound_header(2, 9, 2**29) * n,
        lambda n: SYNC * (6 * n),
        lambda n: (sound_header(2, 9, 2**29) + SYNC * 200) * (n // 40),
        lambda n: b"".join(pack_record(3, i, b"x")[:-1] + b"?" for i in range(n)),
        lambda n: b"".join(pack_record(1, 0, struct.pack("<I", i)) for i in range(n)),
        lambda n: MADE.data[MADE.body : -40] * (n // 3),
        lambda n: b"".join(listing(PAGE * i) for i in range(n // 20)),
    ],
    ids=["headers", "syncs", "headers and syncs", "frames", "headers of files", "indexes", "indexes of nothing"],
)
def test_much_damage_takes_time_in_proportion(damage: Callable[[int], bytes]) -> None:
    def work(n: int) -> int:
        scanner, data, calls = Scanner("x"), MADE.data[: MADE.body] + damage(n), 0

        class Problems(list[str]):
            """Counts the comparisons of a search."""

            def __contains__(self, text: object) -> bool:
                nonlocal calls
                calls += len(self)
                return super().__contains__(text)

        scanner.problems = Problems()

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            for _ in [*scanner.feed(data), *scanner.finish()]:
                pass
        finally:
            sys.setprofile(None)
        assert [entry.number for entry in scanner.frames] == NUMBERS
        # A terminal is spared millions of lines.
        assert len(scanner.problems) <= 102
        return calls

    few, many = work(200), work(1600)
    assert many < 9 * few
