"""A file that another process writes: its whole records, as they come to be there."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from invcodec.container.canonical import pack, pack_list
from invcodec.container.frame import FrameHead
from invcodec.container.index import EndMark, IndexRow, pack_ending, unpack_index
from invcodec.container.records import HEADER_BYTES, MAGIC, RecordHeader, RecordType, parse_header
from invcodec.errors import InvError
from invcodec.limits import MAX_HEAD_BYTES

POLL = 0.01
"""Seconds between two looks at a file that grows: a hundredth of what a frame takes, and next to no work."""


@dataclass(frozen=True)
class FileId:
    """Which file it is that has a name now."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileId | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_dev, found.st_ino)


class Growing:
    """What of a growing file can be sent on.

    Only whole records count. Between two looks nothing is held but some bytes for each frame.

    Args:
        path: of the file, which need not be there yet.
        stale: a file of this name that is not meant, since it is about to be replaced.

    Attributes:
        generation: raised whenever another file takes the name, or the file is cut: then all is new.
        head: magic and header, or empty as long as there is no file.
        size: bytes of whole records.
        key, key_before: offsets of the last keyframe, and of the one before it (or the last, if it is the only one).
        end: offset behind the last frame once the file is finished, or None.
        complete: whether there is an end mark that says that the encode is complete.
        broken: records stop making sense at `size`; nothing more will come.
    """

    def __init__(self, path: Path, stale: FileId | None = None) -> None:
        self.path = path
        self._stale = stale
        self._file: int | None = None
        self._id: FileId | None = None
        self.generation = 0
        self._reset()

    def _reset(self) -> None:
        self.head = b""
        self.size = 0
        self.key: int | None = None
        self.key_before: int | None = None
        self.end: int | None = None
        self.complete = False
        self.broken = False
        self._rows = bytearray()
        self._count = 0
        self._index_at = 0

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def finished(self) -> bool:
        return self.end is not None

    def poll(self) -> bool:
        """Look again; returns whether there is anything new."""
        before = (self.generation, self.size, self.broken)
        now = FileId.of(self.path)
        if now is None or now == self._stale:
            return False
        if self._file is None or now != self._id or os.fstat(self._file).st_size < self.size:
            self.close()
            with suppress(FileNotFoundError):
                self._file = os.open(self.path, os.O_RDONLY)
                self._id = FileId.of(self.path)
                self.generation += 1
                self._reset()
        if self._file is not None and not self.finished and not self.broken:
            self._look()
        return before != (self.generation, self.size, self.broken)

    def _look(self) -> None:
        assert self._file is not None
        there = os.fstat(self._file).st_size
        at = self.size or len(MAGIC)
        try:
            while at + HEADER_BYTES <= there:
                record = parse_header(self.read(at, HEADER_BYTES), at)
                if record.end > there:
                    break
                self._take(record)
                at = record.end
                if self.head:
                    self.size = at
        except InvError:
            self.broken = True

    def _take(self, record: RecordHeader) -> None:
        if record.type == RecordType.HEAD and not self.head:
            self.head = self.read(0, record.end)
        elif record.is_frame:
            frame, _ = FrameHead.split(self.read(record.payload_offset, min(record.length, MAX_HEAD_BYTES)))
            self._rows += pack(IndexRow.of(record, frame).to_plain())
            self._count += 1
            if record.type == RecordType.KEY:
                self.key_before = record.offset if self.key is None else self.key
                self.key = record.offset
        elif record.type == RecordType.INDEX:
            self._index_at = record.offset
        elif record.type == RecordType.END:
            payload = self.read(record.payload_offset, min(record.length, MAX_HEAD_BYTES))
            self.complete = EndMark.from_bytes(payload).complete
            self.end = self._index_at or record.offset

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file."""
        assert self._file is not None
        return os.pread(self._file, size, offset)

    def record_end(self, offset: int) -> int:
        """Where the record ends that begins at a byte."""
        return parse_header(self.read(offset, HEADER_BYTES), offset).end

    def index(self) -> bytes:
        """The frames so far, as the payload of an INDEX record has them."""
        return pack_list(self._count, bytes(self._rows))

    def rows(self) -> list[IndexRow]:
        return unpack_index(self.index())


@dataclass
class Sent:
    """What of a file's frames went into a stream, and where it lies there."""

    first: int
    end: int
    shift: int


def ending(rows: list[IndexRow], sent: list[Sent], position: int, complete: bool) -> bytes:
    """Index and end mark of a stream that got some of a file's frames, from byte `position` of the stream on."""
    mine = [
        replace(row, offset=row.offset + part.shift)
        for part in sent
        for row in rows
        if part.first <= row.offset < part.end
    ]
    return pack_ending(mine, position, complete)
