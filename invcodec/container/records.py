"""Records to and from bytes, and the writer of files (FORMAT.md, part I).

A file is a magic number and then records, each delimited and protected by its own checksums. Nothing that was
written is ever patched. An index and an end mark close a finished file; a file without them is read by scanning.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import BinaryIO

from invcodec.container.schema import FrameHead, Head, IndexRow, pack_index
from invcodec.errors import DamagedError, LimitError, UnsupportedError
from invcodec.limits import MAX_HEAD_BYTES, MAX_RECORD_BYTES

MAGIC = b"\x89INV\r\n\x1a\n"
SYNC = b"\xb5INV"
_HEADER = struct.Struct("<4sBBHqII")
HEADER_BYTES = _HEADER.size
TRAILER = struct.Struct("<I")
END_PAYLOAD = struct.Struct("<QI")
INDEX_ROW_BYTES = 27
"""What a frame's row in the index takes at most, in files below 4 GiB whose frame numbers and ticks fit 32 bits."""
COMPLETE = 1
"""Flag of the end mark: everything that was to be encoded is there."""


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
        return self.payload_offset + self.length + TRAILER.size


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

    @classmethod
    def of(cls, record: Record, frame: FrameHead, head: Head) -> FrameEntry:
        """What a frame's record says."""
        kind = "key" if frame.reference is None else "delta"
        time, size = frame.time * head.time_base, record.end - record.offset
        return cls(record.frame, time, kind, record.offset, size, frame.reference, frame.cameras is not None)

    @classmethod
    def indexed(cls, row: IndexRow, head: Head) -> FrameEntry:
        """What the index says."""
        kind = "key" if row.reference is None else "delta"
        return cls(row.number, row.time * head.time_base, kind, row.offset, row.length, row.reference, row.cameras)


def pack_record(type_: int, frame: int, payload: bytes) -> bytes:
    """A whole record: header, its CRC-32, payload, the payload's CRC-32."""
    if len(payload) > MAX_RECORD_BYTES:
        raise LimitError(f"a record of {len(payload)} bytes exceeds {MAX_RECORD_BYTES}")
    header = _HEADER.pack(SYNC, type_, 0, 0, frame, len(payload), 0)[:-4]
    return b"".join([header, TRAILER.pack(zlib.crc32(header)), payload, TRAILER.pack(zlib.crc32(payload))])


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


def record_bytes(frame: FrameHead, coded: bytes) -> int:
    """Size of a frame's record, framing included."""
    return HEADER_BYTES + len(frame.to_bytes()) + len(coded) + TRAILER.size


def bytes_without_frames(head: Head) -> int:
    """Size of a file that holds no frame, with an index that has room for the length of a long one."""
    end = pack_record(RecordType.END, 0, END_PAYLOAD.pack(0, 0))
    index = pack_record(RecordType.INDEX, 0, bytes(5))
    return len(MAGIC) + len(pack_record(RecordType.HEAD, 0, head.to_bytes())) + len(index) + len(end)


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

    @property
    def size(self) -> int:
        """Bytes of the file so far."""
        return self._position

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self._position += len(data)

    def frame(self, number: int, frame: FrameHead, coded: bytes) -> FrameEntry:
        """Append a frame; a KEY if it refers to none, else a DELTA."""
        kind = RecordType.KEY if frame.reference is None else RecordType.DELTA
        return self.copy(pack_record(kind, number, frame.to_bytes() + coded), frame)

    def copy(self, data: bytes, frame: FrameHead) -> FrameEntry:
        """Append a frame's whole record as it is; `frame` is what it holds."""
        entry = FrameEntry.of(parse_header(data[:HEADER_BYTES], self._position), frame, self.head)
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
        self._write(pack_record(RecordType.END, 0, END_PAYLOAD.pack(index, COMPLETE if complete else 0)))
