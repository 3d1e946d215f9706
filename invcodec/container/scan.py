"""Records out of bytes as they come: from a file, from a pipe, from a file that still grows or that is damaged.

FORMAT.md, "Record" and "Recovery". Nothing is sought, and no more than one record is held.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from invcodec.container.records import (
    COMPLETE,
    END_PAYLOAD,
    HEADER_BYTES,
    MAGIC,
    SYNC,
    TRAILER,
    FrameEntry,
    Record,
    RecordType,
    parse_header,
)
from invcodec.container.schema import FrameHead, Head, unpack_index
from invcodec.errors import DamagedError, InvError, UsageError

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Found:
    """A record.

    Attributes:
        data: all its bytes, framing included; empty if its payload fails its checksum.
        entry, frame, coded: of a good KEY or DELTA record, else None.
    """

    record: Record
    data: bytes
    entry: FrameEntry | None = None
    frame: FrameHead | None = None
    coded: bytes | None = None


class Scanner:
    """Finds records in bytes that are fed to it.

    Args:
        name: of the file or pipe, for messages.
        head: the header, if it is known from elsewhere; else the first sound copy counts, and frames before it are
            lost.

    Attributes:
        head: what the file declares, or None as long as no sound copy was found.
        frames: all good frames so far, in file order.
        lost: numbers of frame records that are not good.
        problems: one line for each thing that is wrong.
        size: bytes fed so far.
    """

    def __init__(self, name: str, head: Head | None = None) -> None:
        self.name = name
        self.head = head
        self.frames: list[FrameEntry] = []
        self.lost: list[int] = []
        self.problems: list[str] = []
        self.size = 0
        self.head_end = 0
        self._buffer = bytearray()
        self._offset = 0
        self._begun = False
        self._searching = False
        self._damaged = False
        self._truncated = False
        self._head_record: bytes | None = None
        self._chained = False
        self._index: Record | None = None
        self._end: int | None = None

    @property
    def status(self) -> str:
        """See `invcodec.container.reader.Reader`; final once `finish` was called."""
        if self._damaged:
            return "damaged"
        if self._truncated:
            return "truncated"
        if self._end is None:
            return "open"
        return "complete" if self.says_complete else "incomplete"

    @property
    def says_complete(self) -> bool:
        """Whether there is an end mark that says that everything which was to be encoded is there."""
        return self._end is not None and bool(self._end & COMPLETE)

    def feed(self, data: bytes) -> Iterator[Found]:
        """Take the next bytes; gives every record that they complete.

        Raises:
            UsageError: this is no .inv file.
            UnsupportedError, LimitError: a record that may not be skipped.
        """
        self._buffer += data
        self.size += len(data)
        if not self._begun:
            if len(self._buffer) < len(MAGIC) + HEADER_BYTES:
                return
            self._begin()
        yield from self._records()

    def finish(self) -> Iterator[Found]:
        """There are no more bytes: decide what the rest means.

        Raises:
            UsageError, UnsupportedError, LimitError: as `feed`.
            DamagedError: there is no sound header.
        """
        if not self._begun:
            self._begin()
        while self._buffer and not self._searching:
            if self._is_tail():
                self._cut_off()
                break
            # What looked like a record that goes on beyond the end hides others.
            self._skip_damage(f"no record at byte {self._offset}")
            yield from self._records()
        if self.head is None:
            raise DamagedError(f"{self.name}: no sound header in the file; nothing can be recovered")

    def _cut_off(self) -> None:
        """The file ends in the record at the beginning of the buffer."""
        self._truncated = True
        self.problems.append(f"the file is cut off in the record at byte {self._offset}")
        if len(self._buffer) >= HEADER_BYTES:
            record = parse_header(bytes(self._buffer[:HEADER_BYTES]), self._offset)
            if record.type in (RecordType.KEY, RecordType.DELTA):
                self.lost.append(record.frame)

    def _begin(self) -> None:
        """Check the magic."""
        self._begun = True
        magic = bytes(self._buffer[: len(MAGIC)])
        if magic != MAGIC:
            try:
                header = bytes(self._buffer[len(MAGIC) : len(MAGIC) + HEADER_BYTES])
                is_head = parse_header(header, len(MAGIC)).type == RecordType.HEAD
            except InvError:
                is_head = False
            if not is_head:
                kind = "is not an .inv file (its first bytes are not the .inv magic)" if magic else "is empty"
                raise UsageError(f"{self.name}: {kind}")
            self._note("the magic, the first bytes of the file, is damaged")
        self._drop(len(MAGIC))

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._offset += count

    def _note(self, problem: str) -> None:
        self._damaged = True
        if problem not in self.problems:
            self.problems.append(problem)

    def _records(self) -> Iterator[Found]:
        """All records that the buffer holds in full."""
        while True:
            if self._searching and not self._search():
                return
            if len(self._buffer) < HEADER_BYTES:
                return
            try:
                record = parse_header(bytes(self._buffer[:HEADER_BYTES]), self._offset)
            except DamagedError as error:
                self._skip_damage(str(error))
                continue
            total = record.end - record.offset
            if len(self._buffer) < total:
                return
            data = bytes(self._buffer[:total])
            self._drop(total)
            yield self._take(record, data)

    def _skip_damage(self, problem: str) -> None:
        self._note(problem)
        self._drop(1)
        self._searching = True

    def _search(self) -> bool:
        """Drop bytes up to the next sound header; False if there is none yet."""
        while (at := self._buffer.find(SYNC)) >= 0:
            self._drop(at)
            if len(self._buffer) < HEADER_BYTES:
                return False
            try:
                parse_header(bytes(self._buffer[:HEADER_BYTES]), self._offset)
            except DamagedError:
                self._drop(1)
                continue
            self._searching = False
            return True
        # The first bytes of a sync may still be the last of what is here.
        self._drop(max(0, len(self._buffer) - len(SYNC) + 1))
        return False

    def _is_tail(self) -> bool:
        """Whether the data merely ended inside the record at its beginning."""
        start = bytes(self._buffer[:HEADER_BYTES])
        if len(start) < HEADER_BYTES:
            return start.startswith(SYNC[: len(start)])
        at = self._buffer.find(SYNC, 1)
        while at >= 0:
            try:
                parse_header(bytes(self._buffer[at : at + HEADER_BYTES]), self._offset + at)
                return False
            except DamagedError:
                at = self._buffer.find(SYNC, at + 1)
        return True

    def _take(self, record: Record, data: bytes) -> Found:
        """Make sense of a record, its payload's checksum included."""
        if self._end is not None:
            self._note(f"the end mark before byte {record.offset} is not the last record")
            self._end = None
        if record.offset == len(MAGIC) and record.type != RecordType.HEAD:
            self._note("the first record is not a header")
        is_frame = record.type in (RecordType.KEY, RecordType.DELTA)
        payload, crc = data[HEADER_BYTES : -TRAILER.size], TRAILER.unpack(data[-TRAILER.size :])[0]
        if zlib.crc32(payload) != crc:
            what = f"frame {record.frame} is lost: " if is_frame else ""
            self._note(f"{what}the record at byte {record.offset} fails its checksum")
            if is_frame:
                self._lose(record)
            return Found(record, b"")
        if is_frame:
            return self._take_frame(record, data, payload)
        if record.type == RecordType.HEAD:
            self._take_head(record, payload)
        elif record.type == RecordType.INDEX:
            self._take_index(record, payload)
        elif record.type == RecordType.END:
            self._take_end(record, payload)
        return Found(record, data)

    def _take_head(self, record: Record, payload: bytes) -> None:
        if self._head_record is None:
            head = Head.from_bytes(payload)
            self._head_record = payload
            self.head_end = record.end
            if self.head is None:
                self.head = head
        elif payload != self._head_record:
            self._note(f"the header at byte {record.offset} differs from the first one")

    def _take_frame(self, record: Record, data: bytes, payload: bytes) -> Found:
        try:
            if self.head is None:
                raise DamagedError("there is no sound header before it")
            frame, coded = FrameHead.split(payload)
            entry = FrameEntry.of(record, frame, self.head)
            self._check_order(record, entry, frame)
        except DamagedError as error:
            self._note(f"frame {record.frame} is lost: {error}")
            self._lose(record)
            return Found(record, data)
        self.frames.append(entry)
        self._chained = True
        return Found(record, data, entry, frame, coded)

    def _lose(self, record: Record) -> None:
        self.lost.append(record.frame)
        self._chained = False

    def _check_order(self, record: Record, entry: FrameEntry, frame: FrameHead) -> None:
        """Refuse a frame that does not follow the ones before it."""
        last = self.frames[-1] if self.frames else None
        if (entry.reference is None) != (record.type == RecordType.KEY):
            raise DamagedError("its record's type does not fit its reference")
        if entry.reference is not None and not (self._chained and last and entry.reference == last.number):
            raise DamagedError(f"it refers to frame {entry.reference}, which is missing")
        if last is not None and (entry.number <= last.number or entry.time <= last.time):
            raise DamagedError(f"it does not come after frame {last.number}")
        assert self.head is not None
        frame.check_fits(self.head)

    def _take_index(self, record: Record, payload: bytes) -> None:
        try:
            rows = unpack_index(payload)
        except InvError as error:
            self._note(str(error))
            return
        self._index = record
        if self.head is None:
            return
        if self._damaged:
            # It may know of frames of which nothing else is left.
            known = {entry.number for entry in self.frames} | set(self.lost)
            for row in rows:
                if row.number not in known:
                    self._note(f"frame {row.number} is lost: its record was not found")
                    self.lost.append(row.number)
        elif [FrameEntry.indexed(row, self.head) for row in rows] != self.frames:
            self._note("the index does not fit the frames")

    def _take_end(self, record: Record, payload: bytes) -> None:
        index = self._index
        if len(payload) != END_PAYLOAD.size:
            self._note("the end mark is damaged")
            return
        offset, flags = END_PAYLOAD.unpack(payload)
        if not self._damaged and (index is None or (index.offset, index.end) != (offset, record.offset)):
            self._note("the index or the end mark is damaged")
        self._end = flags


def scan(file: BinaryIO, scanner: Scanner) -> Iterator[Found]:
    """All records of a pipe or file, each as soon as it is there."""
    # A pipe's `read` waits until all that was asked for is there; `read1` takes what there is.
    read = getattr(file, "read1", file.read)
    while data := read(_CHUNK):
        yield from scanner.feed(data)
    yield from scanner.finish()
