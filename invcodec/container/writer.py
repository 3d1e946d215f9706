"""Writing files (FORMAT.md, "Order of records").

Bytes that have been written are never patched. INDEX and END close a finished file; a file without them is read by
scanning.
"""

from __future__ import annotations

from typing import BinaryIO

from invcodec.container.frame import FrameHead
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry, IndexRow, pack_ending
from invcodec.container.records import FRAMING_BYTES, MAGIC, RecordType, pack_record, parse_header


class Writer:
    """Appends records to a file object, flushing each one.

    Args:
        file: writable binary file, positioned where the next record belongs.
        head: written first, unless the file already has records.
        entries: the frames that the file already holds if it is being resumed; else None.
    """

    def __init__(self, file: BinaryIO, head: Head, entries: list[FrameEntry] | None = None) -> None:
        self._file = file
        self.head = head
        self.entries = list(entries or [])
        if entries is None:
            self._position = 0
            self._write(_beginning(head))
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
        """Append a frame."""
        type_ = RecordType.KEY if frame.is_key else RecordType.DELTA
        return self.copy(pack_record(type_, number, frame.to_bytes() + coded), frame)

    def copy(self, data: bytes, frame: FrameHead) -> FrameEntry:
        """Append a frame's whole record as it is; `frame` is the frame header in it."""
        row = IndexRow.of(parse_header(data, self._position), frame)
        self._write(data)
        self.entries.append(FrameEntry.of(row, self.head.time_base))
        return self.entries[-1]

    def finish(self, complete: bool) -> None:
        """Append INDEX and END."""
        rows = [entry.row(self.head.time_base) for entry in self.entries]
        self._write(pack_ending(rows, self._position, complete))


def record_bytes(frame: FrameHead, coded: bytes) -> int:
    """Size of a frame's record, framing included."""
    return FRAMING_BYTES + len(frame.to_bytes()) + len(coded)


def bytes_without_frames(head: Head) -> int:
    """Size of a file that holds no frame, with an index that has room for the length of a long one."""
    # The header of a msgpack list takes 5 bytes at most, 1 of which an empty list has.
    return len(_beginning(head)) + len(pack_ending([], 0, True)) + 4


def _beginning(head: Head) -> bytes:
    return MAGIC + pack_record(RecordType.HEAD, 0, head.to_bytes())
