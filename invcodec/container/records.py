"""Framing: records to and from bytes (FORMAT.md, "File" and "Record").

A file is a magic number followed by records, each delimited and protected by checksums of its own.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from invcodec.errors import DamagedError, LimitError, UnsupportedError
from invcodec.limits import MAX_HEAD_BYTES, MAX_RECORD_BYTES

MAGIC = b"\x89INV\r\n\x1a\n"
SYNC = b"\xb5INV"
_HEADER = struct.Struct("<4sBBHqII")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size
CRC_BYTES = _CRC.size
FRAMING_BYTES = HEADER_BYTES + CRC_BYTES
"""A record's bytes beyond its payload."""


class RecordType(IntEnum):
    HEAD = 1
    KEY = 2
    DELTA = 3
    INDEX = 4
    END = 5


CRC_RESIDUE = zlib.crc32(bytes(CRC_BYTES))
"""CRC-32 of any payload that its own CRC-32 follows."""
_SKIPPABLE = 0x80
"""Types from here on may be skipped by a reader that does not know them."""


@dataclass(frozen=True)
class RecordHeader:
    """A record's header, and its place in the file: `length` bytes of payload at `payload_offset`."""

    type: int
    frame: int
    offset: int
    length: int

    @property
    def is_frame(self) -> bool:
        return self.type in (RecordType.KEY, RecordType.DELTA)

    @property
    def is_skippable(self) -> bool:
        """Whether readers pass over the record."""
        return self.type >= _SKIPPABLE

    @property
    def payload_offset(self) -> int:
        return self.offset + HEADER_BYTES

    @property
    def size(self) -> int:
        """Bytes of the whole record, framing included."""
        return self.length + FRAMING_BYTES

    @property
    def end(self) -> int:
        """Offset of the record that follows."""
        return self.offset + self.size

    def check_payload(self, data: bytes) -> bytes:
        """The payload, from `data`: payload and CRC.

        Raises:
            DamagedError: cut short, or the checksum differs.
        """
        payload, crc = data[: self.length], data[self.length :]
        if crc != _CRC.pack(zlib.crc32(payload)):
            what = f"the record at byte {self.offset} fails its checksum"
            raise DamagedError(what, offset=self.offset, frame=self.frame if self.is_frame else None)
        return payload


def pack_record(type_: int, frame: int, payload: bytes) -> bytes:
    """A whole record: header, its CRC-32, payload, the payload's CRC-32."""
    if len(payload) > MAX_RECORD_BYTES:
        raise LimitError(f"a record of {len(payload)} bytes exceeds {MAX_RECORD_BYTES}")
    header = _HEADER.pack(SYNC, type_, 0, 0, frame, len(payload), 0)[:-CRC_BYTES]
    return b"".join([header, _CRC.pack(zlib.crc32(header)), payload, _CRC.pack(zlib.crc32(payload))])


def parse_header(data: bytes, offset: int) -> RecordHeader:
    """The record header that `data` begins with, at byte `offset` of the file.

    Raises:
        DamagedError: no sound header.
        LimitError: a payload over the limit.
        UnsupportedError: a record that must be understood and is not.
    """
    if len(data) < HEADER_BYTES or data[: len(SYNC)] != SYNC:
        raise DamagedError(f"no record at byte {offset}", offset=offset)
    _, type_, flags, reserved, frame, length, crc = _HEADER.unpack_from(data)
    if zlib.crc32(data[: HEADER_BYTES - CRC_BYTES]) != crc:
        raise DamagedError(f"the record header at byte {offset} fails its checksum", offset=offset)
    if length > MAX_RECORD_BYTES or (type_ == RecordType.HEAD and length > MAX_HEAD_BYTES):
        raise LimitError(f"the record at byte {offset} has {length} bytes, more than allowed")
    if reserved or flags & 0x0F or (type_ < _SKIPPABLE and type_ not in set(RecordType)):
        raise UnsupportedError(f"the record at byte {offset} (type {type_}) needs a newer invcodec")
    return RecordHeader(type_, frame, offset, length)
