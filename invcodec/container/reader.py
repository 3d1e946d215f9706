"""Random access to files (FORMAT.md, part I)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import numpy as np

from invcodec.container.frame import FrameHead, Stats
from invcodec.container.head import Head
from invcodec.container.index import (
    END_BYTES,
    EndMark,
    FrameEntry,
    FrameList,
    Index,
    PagedFrames,
    begins_with_key,
    read_pages,
)
from invcodec.container.records import CRC_BYTES, HEADER_BYTES, MAGIC, RecordHeader, RecordType, parse_header
from invcodec.container.remote import RemoteFile, is_url
from invcodec.container.scan import Record, Scanner
from invcodec.errors import DamagedError, FrameNotFoundError, LimitError, UsageError
from invcodec.geometry.camera import Camera
from invcodec.limits import MAX_INDEX_BYTES

_CHUNK = 1 << 20
_MAX_ANSWER_BYTES = 1 << 24
"""Of the index of a growing file: some millions of frames."""


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
            self.frames = FrameList(Fraction(1))
            if not (trust_index and (self._use_index() or self._ask_for_index())):
                self._scan()
        except BaseException:
            self._file.close()
            raise

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
            index, top = self._index_at(end.index)
            if index.end != end_header.offset:
                return False
            if top.level == 0:
                self.frames = FrameList(self.head.time_base)
                self.frames.add_page(top.rows)
                if not begins_with_key(top.rows) or (self.frames and self.frames[-1].end > index.offset):
                    return False
            else:
                self.frames = PagedFrames(self.head.time_base, top.rows, self._page, self._rescan)
        except (DamagedError, LimitError, OSError, ValueError):
            return False
        self.status = "complete" if end.complete else "incomplete"
        return True

    def _index_at(self, offset: int) -> tuple[RecordHeader, Index]:
        header = self._header_at(offset)
        if header.type != RecordType.INDEX or header.length > MAX_INDEX_BYTES:
            raise DamagedError(f"no index at byte {offset}", offset=offset)
        return header, Index.from_bytes(self._payload(header))

    def _page(self, row: np.void) -> np.ndarray:
        """The rows of the INDEX of level 0 that a row of the INDEX of level 1 refers to."""
        header, index = self._index_at(int(row["offset"]))
        if index.level != 0 or header.size != row["length"]:
            raise DamagedError(f"no page of the index at byte {header.offset}", offset=header.offset)
        return index.rows

    def _rescan(self) -> FrameList:
        self._scan()
        return self.frames

    def _ask_for_index(self) -> bool:
        """Take the frames of a growing file from its server, if that is `invcodec serve`."""
        if not isinstance(self._file, RemoteFile):
            return False
        try:
            pages = self._file.ask("index", _MAX_ANSWER_BYTES)
            self._use_first_head()
            self.frames = read_pages(pages, self.head.time_base)
        except (DamagedError, LimitError, UsageError):
            return False
        # It may have grown since it was opened.
        self.size = max([self.size, *(entry.end for entry in self.frames[-1:])])
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
        return self.frames.position(number) is not None

    def entry(self, number: int) -> FrameEntry:
        """The frame with this number.

        Raises:
            FrameNotFoundError: there is none; the message names its neighbours.
        """
        return self.frames.ask(lambda frames: frames[position_of(self.name, number, frames)])

    def frame(self, entry: FrameEntry) -> tuple[FrameHead, bytes]:
        """A frame's header and its coded values.

        Raises:
            DamagedError: the record is unsound, or does not fit the index or the file's header.
        """
        header = self._header_at(entry.offset)
        if header.is_frame:
            frame, coded = FrameHead.split(self._payload(header))
            if FrameEntry.of(header, frame, self.head.time_base) == entry:
                frame.check_fits(header, self.head)
                return frame, coded
        raise DamagedError(f"the index does not fit the record at byte {entry.offset}", offset=entry.offset)

    def cameras_at(self, number: int) -> tuple[Camera, ...]:
        """The cameras that apply at a frame."""
        last = self.frames.ask(lambda frames: frames.cameras_before(position_of(self.name, number, frames)))
        if last is not None:
            cameras = self.frame(last)[0].cameras
            assert cameras is not None
            return cameras
        return self.head.cameras

    def stats_at(self, number: int) -> Stats:
        """The encoder's statistics of a frame."""
        return self.frame(self.entry(number))[0].stats


def position_of(name: str, number: int, frames: FrameList) -> int:
    """Position among a file's frames of the one with this number.

    Raises:
        FrameNotFoundError: there is none; the message names its neighbours.
    """
    position = frames.position(number)
    if position is None:
        raise not_found(name, number, frames)
    return position


def not_found(name: str, number: int, frames: FrameList) -> FrameNotFoundError:
    """The error for a frame number that is not among the file's frames."""
    if not frames:
        return FrameNotFoundError(f"{name}: holds no frames")
    place = frames.place(number) + 1
    if 0 < place < len(frames):
        hint = f"its neighbours are {frames[place - 1].number} and {frames[place].number}"
    else:
        hint = f"the file has frames {frames[0].number} to {frames[-1].number}"
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


def end_of_frames(reader: Reader) -> int:
    """Offset behind the last good frame, where a file is cut off to append others: no INDEX or END, nothing broken.

    Args:
        reader: which has examined the records themselves, since the end may be broken although the index is sound.

    Raises:
        UsageError: the file holds no good frame.
        DamagedError: its only sound header lies after its frames.
    """
    if not reader.frames:
        raise UsageError(f"{reader.name}: holds no sound frame to resume from; encode it again with -f")
    end = reader.frames[-1].end
    if reader.head_end > end:
        raise DamagedError(f"{reader.name}: its only sound header lies after its frames; encode it again with -f")
    return end
