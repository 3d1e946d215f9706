"""Records to and from bytes: write, scan, recover, seek (FORMAT.md, part I).

A file is a magic number and then records, each delimited and protected by its own checksums. Nothing that was
written is ever patched. An index and an end mark close a finished file; a file without them is read by scanning.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from invcodec.coding.schema import FrameHead, Head, IndexRow, pack_index, unpack_index
from invcodec.errors import DamagedError, InvError, LimitError, UnsupportedError, UsageError
from invcodec.limits import MAX_HEAD_BYTES, MAX_RECORD_BYTES

if TYPE_CHECKING:
    from invcodec.coding.state import State

MAGIC = b"\x89INV\r\n\x1a\n"
SYNC = b"\xb5INV"
_HEADER = struct.Struct("<4sBBHqII")
_LENGTH = struct.Struct("<I")
_END = struct.Struct("<QI")
_COMPLETE = 1


class RecordType(IntEnum):
    HEAD = 1
    KEY = 2
    DELTA = 3
    INDEX = 4
    END = 5


_ANCILLARY = 0x80
"""Types from here on may be skipped by a reader that does not know them."""


@dataclass(frozen=True)
class Record:
    """A record's place in the file: its payload is `length` bytes at `payload_offset`."""

    type: int
    frame: int
    offset: int
    length: int

    @property
    def payload_offset(self) -> int:
        return self.offset + _HEADER.size

    @property
    def end(self) -> int:
        return self.payload_offset + self.length + _LENGTH.size


@dataclass(frozen=True)
class FrameEntry:
    """One frame of a file.

    Attributes:
        number: the capture's frame number.
        time: presentation time in seconds.
        kind: "key" or "delta".
        offset, length: the record's place and size in bytes, framing included.
        reference: number of the frame that a delta refers to, or None.
        cameras: whether the record carries a camera list.
    """

    number: int
    time: Fraction
    kind: str
    offset: int
    length: int
    reference: int | None
    cameras: bool


def pack_record(type_: int, frame: int, payload: bytes) -> bytes:
    """A whole record: header, its CRC-32, payload, the payload's CRC-32."""
    if len(payload) > MAX_RECORD_BYTES:
        raise LimitError(f"a record of {len(payload)} bytes exceeds {MAX_RECORD_BYTES}")
    header = _HEADER.pack(SYNC, type_, 0, 0, frame, len(payload), 0)[:-4]
    return b"".join([header, _LENGTH.pack(zlib.crc32(header)), payload, _LENGTH.pack(zlib.crc32(payload))])


def parse_header(data: bytes, offset: int) -> Record:
    """The record whose header is `data`.

    Raises:
        DamagedError: no sound header.
        LimitError: a payload over MAX_RECORD_BYTES.
        UnsupportedError: a record that must be understood and is not.
    """
    if len(data) < _HEADER.size or data[:4] != SYNC:
        raise DamagedError(f"no record at byte {offset}", offset=offset)
    _, type_, flags, reserved, frame, length, crc = _HEADER.unpack(data)
    if zlib.crc32(data[:-4]) != crc:
        raise DamagedError(f"the record header at byte {offset} fails its checksum", offset=offset)
    if length > MAX_RECORD_BYTES or (type_ == RecordType.HEAD and length > MAX_HEAD_BYTES):
        raise LimitError(f"the record at byte {offset} has {length} bytes, more than allowed")
    if reserved or flags & 0x0F or (type_ < _ANCILLARY and type_ not in set(RecordType)):
        raise UnsupportedError(f"the record at byte {offset} (type {type_}) needs a newer invcodec")
    return Record(type_, frame, offset, length)


def pack_frame(frame: FrameHead, parts: list[bytes]) -> bytes:
    """Payload of a KEY or DELTA record."""
    header = frame.to_bytes()
    return b"".join([_LENGTH.pack(len(header)), header, *parts])


def split_frame(payload: bytes) -> tuple[FrameHead, bytes]:
    """The structured header and the coded tensors of a KEY or DELTA payload."""
    if len(payload) < 4 or (size := _LENGTH.unpack_from(payload)[0]) > len(payload) - 4:
        raise DamagedError("a frame's header exceeds its record")
    return FrameHead.from_bytes(payload[4 : 4 + size]), payload[4 + size :]


class Writer:
    """Appends records to a file object, flushing each one.

    Args:
        file: writable binary file, positioned where the next record belongs.
        head: written first, unless `entries` says that the file already has records.
        entries: frames that the file already holds, when it is being resumed.
    """

    def __init__(self, file: BinaryIO, head: Head, entries: list[FrameEntry] | None = None) -> None:
        self._file = file
        self.head = head
        self.entries = list(entries or [])
        if entries is None:
            self._position = 0
            self._write(MAGIC + pack_record(RecordType.HEAD, 0, head.to_bytes()))
        else:
            self._position = file.tell()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self._position += len(data)

    def frame(self, number: int, frame: FrameHead, parts: list[bytes]) -> FrameEntry:
        """Append a frame; a KEY if it refers to none, else a DELTA."""
        kind = RecordType.KEY if frame.reference is None else RecordType.DELTA
        data = pack_record(kind, number, pack_frame(frame, parts))
        entry = FrameEntry(
            number,
            frame.time * self.head.time_base,
            kind.name.lower(),
            self._position,
            len(data),
            frame.reference,
            frame.cameras is not None,
        )
        self._write(data)
        self.entries.append(entry)
        return entry

    def finish(self, complete: bool) -> None:
        """Append index and end mark."""
        index = self._position
        rows = [
            IndexRow(e.number, int(e.time / self.head.time_base), e.offset, e.length, e.reference, e.cameras)
            for e in self.entries
        ]
        self._write(pack_record(RecordType.INDEX, 0, pack_index(rows)))
        self._write(pack_record(RecordType.END, 0, _END.pack(index, _COMPLETE if complete else 0)))


class Reader:
    """Random access to a file: its header, its frames, and the state at any of them.

    Args:
        path: of the file.
        trust_index: take the frames from a finished file's index, where it is sound, and look at no other record.

    Attributes:
        head: what the file declares.
        frames: all sound frames, in file order.
        status: "complete", "incomplete" (interrupted on purpose), "open" (whole records, no end mark),
            "truncated" (the last record is cut off) or "damaged" (records are missing or unsound).
        problems: one line for each thing that is wrong.
        head_end: offset behind the copy of the header that is used.

    Raises:
        UsageError: no such file, or not an .inv file.
        DamagedError: no sound header.
    """

    def __init__(self, path: str | os.PathLike[str], *, trust_index: bool = True) -> None:
        self.path = Path(path)
        try:
            self._file: BinaryIO = open(self.path, "rb")  # noqa: SIM115
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be read ({error.strerror})") from None
        try:
            self.problems: list[str] = []
            self.status = "open"
            self._check_magic()
            self.head = self._read_head()
            self.frames: list[FrameEntry] = []
            indexed = self._use_index()
            if not (indexed and trust_index):
                self._scan(indexed)
        except BaseException:
            self._file.close()
            raise
        self._by_number = {entry.number: entry for entry in self.frames}
        self._cached: tuple[int, State] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def _check_magic(self) -> None:
        """Refuse what is not an .inv file; a magic that is merely damaged has a header right behind it."""
        magic = self._file.read(len(MAGIC))
        if magic == MAGIC:
            return
        try:
            head = self._header_at(len(MAGIC)).type == RecordType.HEAD
        except InvError:
            head = False
        if not head:
            kind = "is not an .inv file (its first bytes are not the .inv magic)" if magic else "is empty"
            raise UsageError(f"{self.path}: {kind}")
        self._note("the first bytes of the file, its magic, are damaged")

    def _header_at(self, offset: int) -> Record:
        self._file.seek(offset)
        record = parse_header(self._file.read(_HEADER.size), offset)
        if record.end > self.size:
            raise DamagedError(f"the record at byte {offset} is cut off", offset=offset)
        return record

    def payload(self, record: Record) -> bytes:
        """A record's payload, after its checksum was verified.

        Raises:
            DamagedError
        """
        self._file.seek(record.payload_offset)
        data = self._file.read(record.length + _LENGTH.size)
        if len(data) < record.length + _LENGTH.size:
            raise DamagedError(f"the record at byte {record.offset} is cut off", offset=record.offset)
        payload, crc = data[: record.length], _LENGTH.unpack(data[record.length :])[0]
        if zlib.crc32(payload) != crc:
            raise DamagedError(
                f"the record at byte {record.offset} fails its checksum",
                offset=record.offset,
                frame=record.frame,
            )
        return payload

    def _read_head(self) -> Head:
        """The first sound copy of the header, normally right behind the magic."""
        try:
            record = self._header_at(len(MAGIC))
            if record.type != RecordType.HEAD:
                raise DamagedError("the first record is not a header", offset=record.offset)
            self.head_end = record.end
            return Head.from_bytes(self.payload(record))
        except DamagedError as first:
            self._note(str(first))
            for record in self.walk(len(MAGIC)):
                if record.type == RecordType.HEAD:
                    try:
                        self.head_end = record.end
                        return Head.from_bytes(self.payload(record))
                    except DamagedError:
                        continue
            raise DamagedError(f"{self.path}: no sound header in the file; nothing can be recovered") from None

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)
        self.status = "damaged"

    def _use_index(self) -> bool:
        """Take the frames from the index of a finished file; False if there is none that is sound and fits."""
        try:
            end = self._header_at(self.size - _HEADER.size - _END.size - _LENGTH.size)
            if end.type != RecordType.END or end.length != _END.size:
                return False
            offset, flags = _END.unpack(self.payload(end))
            index = self._header_at(offset)
            if index.type != RecordType.INDEX or index.end != end.offset:
                return False
            rows = unpack_index(self.payload(index))
        except (InvError, OSError, ValueError):
            return False
        if rows and (rows[0].reference is not None or rows[-1].offset + rows[-1].length > offset):
            return False
        self.frames = [
            FrameEntry(
                row.number,
                row.time * self.head.time_base,
                "key" if row.reference is None else "delta",
                row.offset,
                row.length,
                row.reference,
                row.cameras,
            )
            for row in rows
        ]
        if self.status == "open":
            self.status = "complete" if flags & _COMPLETE else "incomplete"
        return True

    def walk(self, offset: int) -> Iterator[Record]:
        """All records with sound headers from an offset on; damage is noted, and the next sound header searched."""
        while offset < self.size:
            try:
                record = self._header_at(offset)
            except DamagedError as error:
                if self._is_tail(offset):
                    self.status = "truncated" if self.status == "open" else self.status
                    self.problems.append(f"{self.path}: {error}")
                    return
                self._note(str(error))
                found = self._next_sync(offset + 1)
                if found is None:
                    return
                offset = found
                continue
            yield record
            offset = record.end

    def _is_tail(self, offset: int) -> bool:
        """Whether the file merely ends inside the record that starts here."""
        self._file.seek(offset)
        data = self._file.read(_HEADER.size)
        if len(data) < _HEADER.size:
            return SYNC.startswith(data[:4]) or data[:4] == SYNC
        try:
            return parse_header(data, offset).end > self.size and self._next_sync(offset + 1) is None
        except InvError:
            return False

    def _next_sync(self, offset: int) -> int | None:
        """Offset of the next record with a sound header, or None."""
        size = 1 << 20
        while offset < self.size:
            self._file.seek(offset)
            data = self._file.read(size + _HEADER.size)
            at = data.find(SYNC)
            while 0 <= at < size:
                try:
                    parse_header(data[at : at + _HEADER.size], offset + at)
                    return offset + at
                except InvError:
                    at = data.find(SYNC, at + 1)
            offset += size
        return None

    def _scan(self, indexed: bool) -> None:
        """Take the frames from the records themselves, leaving out those whose chain is broken.

        Args:
            indexed: the file has a sound index all the same.
        """
        self.frames = []
        last: FrameEntry | None = None
        chained = False
        finished = False
        for record in self.walk(len(MAGIC)):
            if record.type == RecordType.END:
                finished = True
            if record.type not in (RecordType.KEY, RecordType.DELTA):
                continue
            try:
                frame, _ = split_frame(self.payload(record))
                entry = FrameEntry(
                    record.frame,
                    frame.time * self.head.time_base,
                    "key" if frame.reference is None else "delta",
                    record.offset,
                    record.end - record.offset,
                    frame.reference,
                    frame.cameras is not None,
                )
                self._check_order(record, entry, last if chained else None, last)
            except DamagedError as error:
                self._note(f"frame {record.frame} is lost: {error}")
                chained = False
                continue
            last, chained = entry, True
            self.frames.append(entry)
        if finished and not indexed:
            # What could have been used was: this index or end mark is unsound, or does not fit.
            self._note("the index or the end mark is damaged")

    @staticmethod
    def _check_order(record: Record, entry: FrameEntry, before: FrameEntry | None, last: FrameEntry | None) -> None:
        """Refuse a frame that does not follow: `before` is the frame right before it, `last` the last sound one."""
        if (entry.reference is None) != (record.type == RecordType.KEY):
            raise DamagedError("its record's type does not fit its reference")
        if entry.reference is not None and (before is None or entry.reference != before.number):
            raise DamagedError(f"it refers to frame {entry.reference}, which is missing")
        if last is not None and (entry.number <= last.number or entry.time <= last.time):
            raise DamagedError(f"it does not come after frame {last.number}")

    def entry(self, number: int) -> FrameEntry:
        """The frame with this number.

        Raises:
            UsageError: no such frame; names its neighbours.
        """
        if number in self._by_number:
            return self._by_number[number]
        if not self.frames:
            raise UsageError(f"{self.path}: holds no frames")
        numbers = sorted(self._by_number)
        below = [n for n in numbers if n < number]
        above = [n for n in numbers if n > number]
        if below and above:
            hint = f"its neighbours are {below[-1]} and {above[0]}"
        else:
            hint = f"the file has frames {numbers[0]} to {numbers[-1]}"
        raise UsageError(f"{self.path}: has no frame {number}; {hint}")

    def frame(self, entry: FrameEntry) -> tuple[FrameHead, bytes]:
        """A frame's structured header and its coded tensors, verified."""
        record = self._header_at(entry.offset)
        if record.frame != entry.number or record.type not in (RecordType.KEY, RecordType.DELTA):
            raise DamagedError(f"the index does not fit the record at byte {entry.offset}", offset=entry.offset)
        frame, coded = split_frame(self.payload(record))
        if (frame.reference, frame.time * self.head.time_base) != (entry.reference, entry.time):
            raise DamagedError(f"the index does not fit the record at byte {entry.offset}", offset=entry.offset)
        names = [camera["name"] for camera in self.head.cameras]
        if frame.cameras is not None and [camera["name"] for camera in frame.cameras] != names:
            raise DamagedError(f"frame {record.frame}: its cameras are not those of the header", offset=entry.offset)
        return frame, coded

    def state_at(self, number: int) -> State:
        """The decoded state at a frame: the last keyframe, and the deltas since.

        Raises:
            UsageError: no such frame.
            DamagedError: a record on the way is unsound.
        """
        from invcodec.coding.state import decode

        chain = [self.entry(number)]
        while chain[-1].kind != "key" and (self._cached is None or chain[-1].number != self._cached[0]):
            reference = chain[-1].reference
            before = self._by_number.get(reference) if reference is not None else None
            if before is None or before.offset >= chain[-1].offset:
                raise DamagedError(
                    f"frame {chain[-1].number} refers to frame {reference}, which is not before it",
                    frame=number,
                )
            chain.append(before)
        state: State | None = None
        if self._cached is not None and chain[-1].number == self._cached[0]:
            state = self._cached[1]
            chain.pop()
        for entry in reversed(chain):
            try:
                frame, coded = self.frame(entry)
                state = decode(self.head, frame, coded, state if entry.kind == "delta" else None)
            except DamagedError as error:
                raise DamagedError(
                    f"{self.path}: frame {entry.number}: {error}", offset=entry.offset, frame=entry.number
                ) from None
            self._cached = (entry.number, state)
        assert state is not None
        return state

    def cameras_at(self, number: int) -> tuple[dict[str, Any], ...]:
        """The camera list that holds at a frame."""
        entry = self.entry(number)
        before = [e for e in self.frames if e.cameras and e.offset <= entry.offset]
        if before:
            cameras = self.frame(before[-1])[0].cameras
            assert cameras is not None
            return cameras
        return self.head.cameras


def reopen(path: str | os.PathLike[str]) -> tuple[Reader, BinaryIO]:
    """Open a file to append frames: index and end mark, and what is broken at the end, are cut off.

    Returns:
        A reader of what is sound, and the file, positioned behind the last sound frame.
    """
    # The end may be broken although the index is sound, so the records themselves are looked at.
    with Reader(path, trust_index=False) as reader:
        end = max((entry.offset + entry.length for entry in reader.frames), default=None)
        if end is None:
            raise UsageError(f"{path}: holds no sound frame to go on from; encode it again with -f")
        if reader.head_end > end:
            raise DamagedError(f"{path}: its only sound header lies behind its frames; encode it again with -f")
    try:
        file = open(path, "r+b")  # noqa: SIM115
        file.truncate(end)
        file.seek(end)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written to ({error.strerror})") from None
    return Reader(path), file
