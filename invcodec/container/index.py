"""The frames of a file: as readers list them, and as INDEX has them; and the end mark (FORMAT.md, "INDEX and END")."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from fractions import Fraction
from typing import Annotated

from invcodec.container.canonical import pack, unpack
from invcodec.container.fields import BOOLEAN, ListStructure, integer, list_of, nested, optional, within
from invcodec.container.frame import FRAME_NUMBER, TICKS, FrameHead
from invcodec.container.records import FRAMING_BYTES, RecordHeader, RecordType, pack_record
from invcodec.errors import DamagedError, InvError
from invcodec.limits import MAX_INDEX_BYTES

INDEX_ROW_BYTES = 27
"""Size of an INDEX row at most, in files below 4 GiB whose frame numbers and ticks fit 32 bits."""


@dataclass(frozen=True)
class IndexRow(ListStructure):
    """A frame in INDEX: its number, time in ticks, the record's offset and size in bytes, and what it needs."""

    frame: Annotated[int, FRAME_NUMBER]
    time: Annotated[int, TICKS]
    offset: Annotated[int, integer(0, 2**63)]
    length: Annotated[int, integer(1, 2**32)]
    reference: Annotated[int | None, optional(FRAME_NUMBER)]
    cameras: Annotated[bool, BOOLEAN]

    @classmethod
    def of(cls, header: RecordHeader, frame: FrameHead) -> IndexRow:
        """The row of a frame record."""
        has_cameras = frame.cameras is not None
        return cls(header.frame, frame.time, header.offset, header.size, frame.reference, has_cameras)


def pack_index(rows: Sequence[IndexRow]) -> bytes:
    """The payload of INDEX."""
    return pack([row.to_plain() for row in rows])


def unpack_index(data: bytes) -> list[IndexRow]:
    """Parse and validate, each row on its own and against the one before.

    Raises:
        DamagedError, LimitError
    """
    value = unpack(data, "index", MAX_INDEX_BYTES)
    try:
        rows = list_of(nested(IndexRow)).read(value)
        last: IndexRow | None = None
        for row in rows:
            if last and not (
                row.frame > last.frame and row.time > last.time and row.offset >= last.offset + last.length
            ):
                raise DamagedError("frames are out of order")
            if row.reference is not None and not (last and row.reference == last.frame):
                raise DamagedError("a frame refers to one that is not before it")
            last = row
    except InvError as error:
        raise within("index", error) from None
    return list(rows)


@dataclass(frozen=True)
class FrameEntry:
    """One frame of a file.

    Attributes:
        number: the capture's frame number.
        time: presentation time in seconds.
        offset, length: of the record, in bytes, framing included.
        reference: number of the frame that a delta changes; None for a keyframe.
        cameras: whether the record carries a camera list.
    """

    number: int
    time: Fraction
    offset: int
    length: int
    reference: int | None
    cameras: bool

    @classmethod
    def of(cls, row: IndexRow, time_base: Fraction) -> FrameEntry:
        """From a row of INDEX; `time_base` is HEAD's."""
        return cls(row.frame, row.time * time_base, row.offset, row.length, row.reference, row.cameras)

    def row(self, time_base: Fraction) -> IndexRow:
        """Inverse of `of`."""
        ticks = int(self.time / time_base)
        return IndexRow(self.number, ticks, self.offset, self.length, self.reference, self.cameras)

    @property
    def is_key(self) -> bool:
        return self.reference is None

    @property
    def kind(self) -> str:
        """ "key" or "delta"."""
        return "key" if self.is_key else "delta"

    def precedes(self, number: int, time: Fraction) -> bool:
        """Whether a frame may follow: number and time strictly increase (FORMAT.md, "Order of records")."""
        return self.number < number and self.time < time


def end_of_last(start: Fraction, frame_rate: Fraction) -> Fraction:
    """When the last frame, which is shown from `start` on, ends: after one period of the nominal frame rate."""
    return start + 1 / frame_rate


class EndFlags(IntFlag):
    """Flags of the end mark. Readers ignore all others."""

    COMPLETE = 1
    """Everything that was to be encoded is there; else the encode was interrupted."""


_END = struct.Struct("<QI")
END_BYTES = FRAMING_BYTES + _END.size
"""Size of the END record, the last of a finished file."""


@dataclass(frozen=True)
class EndMark:
    """The payload of END.

    Attributes:
        index: offset of the INDEX record.
        complete: whether everything that was to be encoded is there.
    """

    index: int
    complete: bool

    def to_bytes(self) -> bytes:
        return _END.pack(self.index, EndFlags.COMPLETE if self.complete else 0)

    @classmethod
    def from_bytes(cls, payload: bytes) -> EndMark:
        """Parse.

        Raises:
            DamagedError: of another size.
        """
        if len(payload) != _END.size:
            raise DamagedError("the end mark is damaged")
        index, flags = _END.unpack(payload)
        return cls(index, bool(flags & EndFlags.COMPLETE))


def pack_ending(rows: Sequence[IndexRow], position: int, complete: bool) -> bytes:
    """INDEX and END, to be written at byte `position` of the file."""
    index = pack_record(RecordType.INDEX, 0, pack_index(rows))
    return index + pack_record(RecordType.END, 0, EndMark(position, complete).to_bytes())
