"""Writing files (FORMAT.md, "Order of records").

Bytes that have been written are never patched. INDEX records and END close a finished file; a file without them is
read by scanning.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import BinaryIO

from invcodec.container.frame import FrameHead
from invcodec.container.head import Head
from invcodec.container.index import INDEX_FIXED_BYTES, FrameEntry, FrameList, pack_ending
from invcodec.container.records import FRAMING_BYTES, MAGIC, RecordType, pack_record, parse_header
from invcodec.errors import InvError, LimitError
from invcodec.limits import MAX_FRAMES


class Writer:
    """Appends records to a file object, flushing each one.

    Args:
        file: writable binary file, positioned where the next record belongs.
        head: written first, unless the file already has records.
        entries: the frames that the file already holds if it is being resumed; else None.
    """

    def __init__(self, file: BinaryIO, head: Head, entries: Iterable[FrameEntry] | None = None) -> None:
        self._file = file
        self.head = head
        self._torn = False
        self.entries = FrameList(head.time_base, entries or ())
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
        if self._torn:
            raise InvError("nothing can follow half a record")
        before = self._file.tell() if self._file.seekable() else None
        self._torn = True
        try:
            self._file.write(data)
            self._file.flush()
        except BaseException:
            if before is not None:
                with suppress(OSError, InvError):
                    self._file.seek(before)
                    self._file.truncate()
                    self._torn = False
            raise
        self._torn = False
        self._position += len(data)

    def frame(self, number: int, frame: FrameHead, coded: bytes) -> FrameEntry:
        """Append a frame."""
        type_ = RecordType.KEY if frame.is_key else RecordType.DELTA
        return self.copy(pack_record(type_, number, frame.to_bytes() + coded), frame)

    def copy(self, data: bytes, frame: FrameHead) -> FrameEntry:
        """Append a frame's whole record as it is; `frame` is the frame header in it.

        Raises:
            LimitError: the file has as many frames as a file may have.
        """
        if len(self.entries) == MAX_FRAMES:
            raise LimitError(f"a file holds {MAX_FRAMES} frames at most; begin another one")
        entry = FrameEntry.of(parse_header(data, self._position), frame, self.head.time_base)
        self._write(data)
        self.entries.append(entry)
        return entry

    def finish(self, complete: bool) -> None:
        """Append INDEX and END."""
        self._write(pack_ending(self.entries, self._position, complete))


def record_bytes(frame: FrameHead, coded: bytes) -> int:
    """Size of a frame's record, framing included."""
    return FRAMING_BYTES + len(frame.to_bytes()) + len(coded)


def bytes_without_frames(head: Head) -> int:
    """Size of a file that holds no frame, with an index that has room for what compresses badly in a short one."""
    return len(_beginning(head)) + len(pack_ending(FrameList(head.time_base), 0, True)) + INDEX_FIXED_BYTES


def _beginning(head: Head) -> bytes:
    return MAGIC + pack_record(RecordType.HEAD, 0, head.to_bytes())
