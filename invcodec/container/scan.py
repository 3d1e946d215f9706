"""Records out of a stream of bytes: a file, a pipe, a file that is still growing, or one that is damaged.

FORMAT.md, "Record" and "Recovery". Never seeks; buffers at most one record, and none that readers pass over.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from invcodec.container.frame import FrameHead
from invcodec.container.head import Head
from invcodec.container.index import EndMark, FrameEntry, FrameList, Index, page_row
from invcodec.container.records import (
    CRC_RESIDUE,
    HEADER_BYTES,
    MAGIC,
    SYNC,
    RecordHeader,
    RecordType,
    parse_header,
)
from invcodec.errors import DamagedError, InvError, UsageError
from invcodec.limits import PAGE_FRAMES

_CHUNK = 1 << 16
_LISTED = 100
"""Problems of a file at most: a hostile one could have millions."""


@dataclass(frozen=True)
class Record:
    """A record with a sound header.

    Attributes:
        data: all its bytes, framing included; empty if readers pass over it, or if the payload fails its checksum.
        entry, frame, coded: of a good KEY or DELTA record, else None.
    """

    header: RecordHeader
    data: bytes
    entry: FrameEntry | None = None
    frame: FrameHead | None = None
    coded: bytes | None = None


def add_problem(problems: list[str], problem: str) -> None:
    """List a problem, unless it is listed already; after the first hundred, only that there are more."""
    if len(problems) < _LISTED and problem not in problems:
        problems.append(problem)
    elif len(problems) == _LISTED and problem not in problems:
        problems.append("there are more problems, which are not listed")


class Scanner:
    """Finds records in bytes that are fed to it.

    Args:
        name: of the file or pipe, for messages.
        head: the header, if it is already known; else the first sound copy is used, and frames before it are lost.

    Attributes:
        head: what the file declares; None until a sound copy is found.
        frames: all good frames so far, in file order.
        lost: numbers of frame records that are not good.
        problems: one line for each problem, as `add_problem` lists them.
        size: bytes fed so far.
        head_end: one past the last byte of the header in use.
    """

    def __init__(self, name: str, head: Head | None = None) -> None:
        self.name = name
        self.head = head
        self.frames = FrameList(head.time_base if head else Fraction(1))
        self.lost: list[int] = []
        self.problems: list[str] = []
        self.size = 0
        self.head_end = 0
        self._buffer = bytearray()
        self._offset = 0
        self._passing: RecordHeader | None = None
        """The record that is being passed over; `_crc` is that of its bytes up to offset `_summed`."""
        self._crc = self._summed = 0
        self._lost: set[int] = set()
        self._listed = 0
        self._begun = False
        self._searching = False
        self._damaged = False
        self._truncated = False
        self._head_payload: bytes | None = None
        self._chained = False
        self._pages: list[np.ndarray] = []
        self._index: tuple[RecordHeader, int] | None = None
        self._end: EndMark | None = None

    @property
    def status(self) -> str:
        """See `invcodec.container.reader.Reader`; final once `finish` has been called."""
        if self._damaged:
            return "damaged"
        if self._truncated:
            return "truncated"
        if self._end is None:
            return "open"
        return "complete" if self._end.complete else "incomplete"

    @property
    def says_complete(self) -> bool:
        """Whether there is an end mark that says that the encode is complete."""
        return self._end is not None and self._end.complete

    def feed(self, data: bytes) -> Iterator[Record]:
        """Take the next bytes; yields every record that they complete.

        Raises:
            UsageError: not an .inv file.
            UnsupportedError, LimitError: a record that may not be skipped.
        """
        self._buffer += data
        self.size += len(data)
        if not self._begun:
            if len(self._buffer) < len(MAGIC) + HEADER_BYTES:
                return
            self._begin()
        yield from self._records()

    def finish(self) -> Iterator[Record]:
        """Signal the end of the data and classify the rest.

        Raises:
            UsageError, UnsupportedError, LimitError: as `feed`.
            DamagedError: there is no sound header.
        """
        if not self._begun:
            self._begin()
        if self._passing is not None:
            header, self._passing = self._passing, None
            if len(self._buffer) < HEADER_BYTES:
                self._buffer.clear()
                self._cut_off(header.offset)
            else:
                self._note(f"no record at byte {header.offset}")
                yield from self._records()
        while self._buffer and not self._searching:
            if self._is_tail():
                self._cut_off(self._offset)
                break
            # What looked like a record that extends past the end hides others.
            self._skip_damage(f"no record at byte {self._offset}")
            yield from self._records()
        if self.head is None:
            raise DamagedError(f"{self.name}: no sound header in the file; nothing can be recovered")

    def _cut_off(self, offset: int) -> None:
        """The file ends inside a record, of which the buffer holds what matters."""
        self._truncated = True
        self.problems.append(f"the file is cut off in the record at byte {offset}")
        if len(self._buffer) >= HEADER_BYTES:
            header = self._header()
            if header.is_frame:
                self._lose_number(header.frame)

    def _header(self, at: int = 0) -> RecordHeader:
        """The record header at a place in the buffer."""
        return parse_header(bytes(self._buffer[at : at + HEADER_BYTES]), self._offset + at)

    def _begin(self) -> None:
        """Check the magic."""
        self._begun = True
        magic = bytes(self._buffer[: len(MAGIC)])
        if magic != MAGIC:
            try:
                is_head = self._header(len(MAGIC)).type == RecordType.HEAD
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
        add_problem(self.problems, problem)

    def _records(self) -> Iterator[Record]:
        """All records that the buffer holds in full."""
        while True:
            if self._passing is not None:
                passed = self._pass_over(self._passing)
                if passed is None:
                    return
                yield passed
            if self._searching and not self._search():
                return
            if len(self._buffer) < HEADER_BYTES:
                return
            try:
                header = self._header()
            except DamagedError as error:
                self._skip_damage(str(error))
                continue
            if header.is_skippable:
                self._drop(HEADER_BYTES)
                self._passing, self._crc, self._summed = header, 0, self._offset
                continue
            if len(self._buffer) < header.size:
                return
            data = bytes(self._buffer[: header.size])
            self._drop(header.size)
            yield self._take(header, data)

    def _skip_damage(self, problem: str) -> None:
        self._note(problem)
        self._drop(1)
        self._searching = True

    def _search(self) -> bool:
        """Drop bytes up to the next sound header; False if there is none yet."""
        self._drop(self._next_header(0))
        self._searching = len(self._buffer) < HEADER_BYTES
        return not self._searching

    def _next_header(self, start: int) -> int:
        """Where in the buffer, from `start` on, there is a sound header, or else where the next one may begin."""
        at = self._buffer.find(SYNC, start)
        while 0 <= at <= len(self._buffer) - HEADER_BYTES:
            try:
                self._header(at)
            except DamagedError:
                at = self._buffer.find(SYNC, at + 1)
            except InvError:
                # It is sound; whether it is a record will be seen.
                return at
            else:
                return at
        # The last bytes may be the first of a sync.
        return at if at >= 0 else max(start, len(self._buffer) - len(SYNC) + 1)

    def _pass_over(self, header: RecordHeader) -> Record | None:
        """Take what the buffer holds of a record that is passed over; None if more is to come.

        Should the record turn out to be cut off, others may hide in it: from the first sound header on, it is kept.
        """
        until = min(self._offset + len(self._buffer), header.end)
        self._crc = zlib.crc32(self._buffer[self._summed - self._offset : until - self._offset], self._crc)
        self._summed = until
        if until < header.end:
            self._drop(self._next_header(0))
            return None
        self._drop(header.end - self._offset)
        self._passing = None
        self._arrive(header)
        if self._crc != CRC_RESIDUE:
            self._note(f"the record at byte {header.offset} fails its checksum")
        return Record(header, b"")

    def _is_tail(self) -> bool:
        """Whether the data merely ended inside the record at the beginning of the buffer."""
        if len(self._buffer) < HEADER_BYTES:
            return self._buffer.startswith(SYNC[: len(self._buffer)])
        return len(self._buffer) - self._next_header(1) < HEADER_BYTES

    def _arrive(self, header: RecordHeader) -> None:
        """Check a record's place in the file."""
        if self._end is not None:
            self._note(f"the end mark before byte {header.offset} is not the last record")
            self._end = None
        if header.offset == len(MAGIC) and header.type != RecordType.HEAD:
            self._note("the first record is not a header")
        if self._index is not None and header.type not in (RecordType.INDEX, RecordType.END):
            self._note(f"the record at byte {header.offset} follows the index, where only the end mark may")

    def _take(self, header: RecordHeader, data: bytes) -> Record:
        """Interpret a record, after its payload's checksum."""
        self._arrive(header)
        try:
            payload = header.check_payload(data[HEADER_BYTES:])
        except DamagedError as error:
            if header.is_frame:
                self._lose(header, error)
            else:
                self._note(str(error))
            return Record(header, b"")
        if header.is_frame:
            return self._take_frame(header, data, payload)
        if header.type == RecordType.HEAD:
            self._take_head(header, payload)
        elif header.type == RecordType.INDEX:
            self._take_index(header, payload)
        elif header.type == RecordType.END:
            self._take_end(header, payload)
        return Record(header, data)

    def _take_head(self, header: RecordHeader, payload: bytes) -> None:
        if self._head_payload is None:
            head = Head.from_bytes(payload)
            self._head_payload = payload
            self.head_end = header.end
            if self.head is None:
                self.head = head
                self.frames = FrameList(head.time_base)
        elif payload != self._head_payload:
            self._note(f"the header at byte {header.offset} differs from the first one")

    def _take_frame(self, header: RecordHeader, data: bytes, payload: bytes) -> Record:
        try:
            if self.head is None:
                raise DamagedError("there is no sound header before it")
            frame, coded = FrameHead.split(payload)
            frame.check_fits(header, self.head)
            entry = FrameEntry.of(header, frame, self.head.time_base)
            self._check_order(entry, frame.reference)
        except DamagedError as error:
            self._lose(header, error)
            return Record(header, data)
        self.frames.append(entry)
        self._chained = True
        return Record(header, data, entry, frame, coded)

    def _lose(self, header: RecordHeader, error: DamagedError) -> None:
        self._note(f"frame {header.frame} is lost: {error}")
        self._lose_number(header.frame)
        self._chained = False

    def _check_order(self, entry: FrameEntry, reference: int | None) -> None:
        """Refuse a frame that does not follow the frames before it."""
        last = self.frames[-1] if self.frames else None
        if not entry.is_key and not (self._chained and last and reference == last.number):
            raise DamagedError(f"it refers to frame {reference}, which is missing")
        if last is not None and not last.precedes(entry.number, entry.time):
            raise DamagedError(f"it does not come after frame {last.number}")

    def _take_index(self, header: RecordHeader, payload: bytes) -> None:
        try:
            index = Index.from_bytes(payload)
        except DamagedError as error:
            self._note(str(error))
            return
        before, self._index = self._index, (header, index.level)
        if self._damaged:
            if index.level == 0:
                self._lose_unfound(index.rows, header)
            return
        if index.level == 0:
            fits = np.array_equal(index.rows, self.frames.page(len(self._pages)))
            self._pages.append(page_row(index.rows, header.offset, header.size))
        else:
            fits = np.array_equal(index.rows, np.stack(self._pages)) if self._pages else False
        if not fits or (before is not None and before[0].end != header.offset):
            self._note("the index does not fit the frames")

    def _lose_unfound(self, rows: np.ndarray, header: RecordHeader) -> None:
        """Note frames of which only a row of the index is left; rows for which the file has no room are false."""
        if not len(rows) or rows[0]["offset"] < self._listed or rows[-1]["offset"] + rows[-1]["length"] > header.offset:
            return
        self._listed = int(rows[-1]["offset"] + rows[-1]["length"])
        for number in rows["number"].tolist():
            if number not in self._lost and self.frames.position(number) is None:
                self._note(f"frame {number} is lost: its record was not found")
                self._lose_number(number)

    def _lose_number(self, number: int) -> None:
        self.lost.append(number)
        self._lost.add(number)

    def _take_end(self, header: RecordHeader, payload: bytes) -> None:
        try:
            end = EndMark.from_bytes(payload)
        except DamagedError as error:
            self._note(str(error))
            return
        if not self._damaged:
            index, level = self._index or (None, 0)
            pages = max(1, -(-len(self.frames) // PAGE_FRAMES))
            if index is None or (index.offset, index.end) != (end.index, header.offset):
                self._note("the index or the end mark is damaged")
            elif (len(self._pages), level) != (pages, int(pages > 1)):
                self._note("the index does not fit the frames")
        self._end = end


def scan(file: BinaryIO, scanner: Scanner) -> Iterator[Record]:
    """All records of a pipe or file, each as soon as it is there."""
    # A pipe's `read` waits until all that was asked for is there; `read1` takes what there is.
    read = getattr(file, "read1", file.read)
    while data := read(_CHUNK):
        yield from scanner.feed(data)
    yield from scanner.finish()
