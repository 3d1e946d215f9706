"""A file that another process is writing, and which of its records are complete so far."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from invcodec.container.frame import FrameHead
from invcodec.container.head import Head
from invcodec.container.index import EndMark, FrameEntry, FrameList, pack_ending, pack_page
from invcodec.container.records import CRC_BYTES, HEADER_BYTES, MAGIC, RecordHeader, RecordType, parse_header
from invcodec.errors import DamagedError, InvError
from invcodec.limits import MAX_HEAD_BYTES, PAGE_FRAMES

POLL = 0.01
"""Seconds between polls of a growing file: short beside the time of a frame, and cheap."""
_RECORDS_PER_POLL = 100
"""A poll reads no more records than this, which takes a few milliseconds."""


@dataclass(frozen=True)
class FileId:
    """Identity of a file, which distinguishes it from a file that replaces it."""

    device: int
    inode: int

    @classmethod
    def of(cls, file: Path | int) -> FileId | None:
        """The file that has this path now, or that a descriptor refers to; None if there is none."""
        try:
            found = os.stat(file)
        except OSError:
            return None
        return cls(found.st_dev, found.st_ino)


class GrowingFile:
    """Tracks the complete records of a file while it is being written.

    Of each frame only its row of the index is kept in memory. One thread at a time may use an instance.

    Args:
        path: of the file, which need not exist yet.
        stale: a file of this name to ignore, because it is about to be replaced.

    Attributes:
        generation: incremented when another file takes the name or this one is truncated; all else is then reset.
        head: magic number and HEAD record; empty until they are complete.
        size: bytes of complete records.
        frames: frames so far.
        key, key_before: offsets of the last keyframe and of the one before it (of the last, if it is the only one).
        end: offset just past the last frame once the file is finished, or None.
        complete: whether there is an end mark that says that the encode is complete.
        broken: what follows `size` is not a record; the file is read no further.
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
        self.frames = FrameList(Fraction(1))
        self._pages = bytearray()
        self._index_at: int | None = None

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def finished(self) -> bool:
        """Whether the file has its end mark."""
        return self.end is not None

    @property
    def available(self) -> int:
        """Bytes of the file, incomplete and unsound records included."""
        assert self._file is not None
        return os.fstat(self._file).st_size

    def poll(self) -> bool:
        """Look for new records; returns whether anything has changed.

        A poll takes a few milliseconds at most. Of a file that was there before, it may read a part only; the last
        records have been reached once a poll finds no change.
        """
        before = (self.generation, self.size, self.broken)
        now = FileId.of(self.path)
        if now is None or now == self._stale:
            return False
        if self._file is None or now != self._id or self.available < self.size:
            with suppress(FileNotFoundError):
                self._open()
        if self._file is not None and not self.finished and not self.broken:
            self._read_on()
        return before != (self.generation, self.size, self.broken)

    def _open(self) -> None:
        file = os.open(self.path, os.O_RDONLY)
        self.close()
        # The path may refer to another file by now.
        self._file, self._id = file, FileId.of(file)
        self.generation += 1
        self._reset()

    def _read_on(self) -> None:
        available = self.available
        at = self.size or len(MAGIC)
        try:
            for _ in range(_RECORDS_PER_POLL):
                if at + HEADER_BYTES > available:
                    break
                header = parse_header(self.read(at, HEADER_BYTES), at)
                if header.end > available:
                    break
                self._take(header)
                self.size = at = header.end
        except InvError:
            self.broken = True

    def _take(self, header: RecordHeader) -> None:
        if not self.head and not header.is_skippable:
            if header.type != RecordType.HEAD:
                raise DamagedError("there is no header before it")
            payload = header.check_payload(self.read(header.payload_offset, header.length + CRC_BYTES))
            self.frames = FrameList(Head.from_bytes(payload).time_base)
            self.head = MAGIC + self.read(header.offset, header.size)
        elif header.is_frame:
            frame, _ = FrameHead.split(self.read(header.payload_offset, min(header.length, MAX_HEAD_BYTES)))
            self.frames.append(FrameEntry.of(header, frame, self.frames.time_base))
            if len(self.frames) % PAGE_FRAMES == 0:
                self._pages += pack_page(self.frames.page(len(self.frames) // PAGE_FRAMES - 1))
            if header.type == RecordType.KEY:
                self.key_before = header.offset if self.key is None else self.key
                self.key = header.offset
        elif header.type == RecordType.INDEX:
            if self._index_at is None:
                self._index_at = header.offset
        elif header.type == RecordType.END:
            payload = self.read(header.payload_offset, min(header.length, MAX_HEAD_BYTES))
            self.complete = EndMark.from_bytes(payload).complete
            self.end = header.offset if self._index_at is None else self._index_at

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file."""
        assert self._file is not None
        return os.pread(self._file, size, offset)

    def record_end(self, offset: int) -> int:
        """Offset just past the record that begins at `offset`."""
        return parse_header(self.read(offset, HEADER_BYTES), offset).end

    def index(self) -> bytes:
        """The frames so far, as INDEX records of level 0."""
        rest = self.frames.page(len(self.frames) // PAGE_FRAMES)
        return bytes(self._pages) + (pack_page(rest) if len(rest) else b"")


@dataclass
class StreamedRange:
    """A range of a file that was copied into a stream.

    Attributes:
        first, end: offsets in the file, from the first byte to one past the last.
        shift: offset in the stream, minus offset in the file.
    """

    first: int
    end: int
    shift: int


def stream_ending(frames: FrameList, ranges: list[StreamedRange], position: int, complete: bool) -> bytes:
    """INDEX records and END for a stream that holds some of a file's frames.

    Args:
        frames: all frames of the file.
        ranges: what the stream holds of it.
        position: offset in the stream at which these records will be.
        complete: whether the encode is complete.
    """
    streamed = FrameList(
        frames.time_base,
        (
            replace(entry, offset=entry.offset + part.shift)
            for part in ranges
            for entry in frames
            if part.first <= entry.offset < part.end
        ),
    )
    return pack_ending(streamed, position, complete)
