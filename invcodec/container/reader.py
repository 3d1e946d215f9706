"""Random access to files (FORMAT.md, part I)."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from invcodec.container.frame import FrameHead, Stats
from invcodec.container.head import Head
from invcodec.container.index import END_BYTES, EndMark, FrameEntry, IndexRow, unpack_index
from invcodec.container.records import CRC_BYTES, HEADER_BYTES, MAGIC, RecordHeader, RecordType, parse_header
from invcodec.container.remote import RemoteFile, is_url
from invcodec.container.scan import Record, Scanner
from invcodec.errors import DamagedError, FrameNotFoundError, UsageError
from invcodec.geometry.camera import Camera
from invcodec.limits import MAX_INDEX_BYTES

_CHUNK = 1 << 20


class Reader:
    """Random access to a file: its header and the records of its frames.

    Args:
        path: of the file, or its URL, from which only the parts that are needed are fetched.
        trust_index: if a finished file has a sound index, take the frames from it and examine no other record.

    Attributes:
        name: for messages.
        head: what the file declares.
        frames: all good frames, in file order.
        status: "complete", "incomplete" (the encode was interrupted), "open" (whole records, no end mark),
            "truncated" (the last record is cut off) or "damaged" (records are missing or unsound).
        problems: one line for each problem.
        head_end: one past the last byte of the header in use.

    Raises:
        UsageError: no such file, or not an .inv file.
        DamagedError: no sound header.
    """

    def __init__(self, path: str | os.PathLike[str], *, trust_index: bool = True) -> None:
        self.name = os.fspath(path)
        self.path = Path(path)
        self._file, self.size = _opened(self.name)
        try:
            self.status = "open"
            self.problems: list[str] = []
            self.frames: list[FrameEntry] = []
            if not (trust_index and (self._use_index() or self._ask_for_index())):
                self._scan()
        except BaseException:
            self._file.close()
            raise
        self._by_number = {entry.number: entry for entry in self.frames}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def _use_index(self) -> bool:
        """Take the frames from the index of a finished file; False if anything on the way is unsound."""
        try:
            self._file.seek(0)
            if self._file.read(len(MAGIC)) != MAGIC:
                return False
            end_header = self._header_at(self.size - END_BYTES)
            if end_header.type != RecordType.END or end_header.end != self.size:
                return False
            self._use_first_head()
            end = EndMark.from_bytes(self._payload(end_header))
            index = self._header_at(end.index)
            if index.type != RecordType.INDEX or index.end != end_header.offset:
                return False
            rows = unpack_index(self._payload(index))
        except (DamagedError, OSError, ValueError):
            return False
        if rows and rows[-1].offset + rows[-1].length > end.index:
            return False
        self.frames = [FrameEntry.of(row, self.head.time_base) for row in rows]
        self.status = "complete" if end.complete else "incomplete"
        return True

    def _ask_for_index(self) -> bool:
        """Take the frames of a growing file from its server, if that is `invcodec serve`."""
        if not isinstance(self._file, RemoteFile):
            return False
        try:
            rows = unpack_index(self._file.ask("index", MAX_INDEX_BYTES))
            self._use_first_head()
        except (DamagedError, UsageError):
            return False
        self.frames = [FrameEntry.of(row, self.head.time_base) for row in rows]
        # It may have grown since it was opened.
        self.size = max([self.size, *(entry.offset + entry.length for entry in self.frames[-1:])])
        return True

    def _use_first_head(self) -> None:
        header = self._header_at(len(MAGIC))
        if header.type != RecordType.HEAD:
            raise DamagedError("the first record is not a header")
        self.head, self.head_end = Head.from_bytes(self._payload(header)), header.end

    def _scan(self) -> None:
        """Take the frames from the records themselves."""
        scanner = Scanner(self.name)
        for _ in self._feed(scanner):
            pass
        if scanner.lost and scanner.head is not None:
            # On the second pass, a header that came late is known from the beginning.
            again = Scanner(self.name, scanner.head)
            for _ in self._feed(again):
                pass
            scanner = again
        assert scanner.head is not None
        self.head, self.head_end, self.frames = scanner.head, scanner.head_end, scanner.frames
        self.status, self.problems = scanner.status, scanner.problems

    def _feed(self, scanner: Scanner) -> Iterator[Record]:
        self._file.seek(0)
        while data := self._file.read(min(_CHUNK, self.size - scanner.size)):
            yield from scanner.feed(data)
        yield from scanner.finish()

    def records(self) -> Iterator[Record]:
        """All records with sound headers, in file order, read one by one."""
        yield from self._feed(Scanner(self.name, self.head))

    def _header_at(self, offset: int) -> RecordHeader:
        self._file.seek(offset)
        header = parse_header(self._file.read(HEADER_BYTES), offset)
        if header.end > self.size:
            raise DamagedError(f"the record at byte {offset} is cut off", offset=offset)
        return header

    def _payload(self, header: RecordHeader) -> bytes:
        """A record's payload.

        Raises:
            DamagedError: the checksum differs.
        """
        self._file.seek(header.payload_offset)
        return header.check_payload(self._file.read(header.length + CRC_BYTES))

    def __contains__(self, number: int) -> bool:
        """Whether there is a frame with this number."""
        return number in self._by_number

    def entry(self, number: int) -> FrameEntry:
        """The frame with this number.

        Raises:
            FrameNotFoundError: there is none; the message names its neighbours.
        """
        if number not in self._by_number:
            raise not_found(self.name, number, list(self._by_number))
        return self._by_number[number]

    def frame(self, entry: FrameEntry) -> tuple[FrameHead, bytes]:
        """A frame's header and its coded values.

        Raises:
            DamagedError: the record is unsound, or does not fit the index or the file's header.
        """
        header = self._header_at(entry.offset)
        if header.is_frame:
            frame, coded = FrameHead.split(self._payload(header))
            if FrameEntry.of(IndexRow.of(header, frame), self.head.time_base) == entry:
                frame.check_fits(header, self.head)
                return frame, coded
        raise DamagedError(f"the index does not fit the record at byte {entry.offset}", offset=entry.offset)

    def cameras_at(self, number: int) -> tuple[Camera, ...]:
        """The cameras that apply at a frame."""
        entry = self.entry(number)
        before = [e for e in self.frames if e.cameras and e.offset <= entry.offset]
        if before:
            cameras = self.frame(before[-1])[0].cameras
            assert cameras is not None
            return cameras
        return self.head.cameras

    def stats_at(self, number: int) -> Stats:
        """The encoder's statistics of a frame."""
        return self.frame(self.entry(number))[0].stats


def not_found(name: str, number: int, numbers: Sequence[int]) -> FrameNotFoundError:
    """The error for a frame that is not among the file's frame numbers, which are in ascending order."""
    if not numbers:
        return FrameNotFoundError(f"{name}: holds no frames")
    place = bisect_left(numbers, number)
    if 0 < place < len(numbers):
        hint = f"its neighbours are {numbers[place - 1]} and {numbers[place]}"
    else:
        hint = f"the file has frames {numbers[0]} to {numbers[-1]}"
    return FrameNotFoundError(f"{name}: has no frame {number}; {hint}")


def _opened(name: str) -> tuple[BinaryIO, int]:
    """A file, local or on a web server, and its size in bytes."""
    if is_url(name):
        remote = RemoteFile(name)
        return cast(BinaryIO, remote), remote.size
    try:
        file = open(name, "rb")  # noqa: SIM115
        return file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror})") from None


def reopen(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to append frames: INDEX, END and anything broken at the end are cut off.

    Returns:
        The file, positioned after the last good frame.

    Raises:
        UsageError: it cannot be written to, or holds no good frame.
        DamagedError: its only sound header lies after its frames.
    """
    # The end may be broken although the index is sound, so the records themselves are examined.
    with Reader(path, trust_index=False) as reader:
        end = max((entry.offset + entry.length for entry in reader.frames), default=None)
        if end is None:
            raise UsageError(f"{path}: holds no sound frame to resume from; encode it again with -f")
        if reader.head_end > end:
            raise DamagedError(f"{path}: its only sound header lies after its frames; encode it again with -f")
    try:
        file = open(path, "r+b")  # noqa: SIM115
        file.truncate(end)
        file.seek(end)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written to ({error.strerror})") from None
    return file
