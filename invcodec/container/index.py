"""The frames of a file: as readers list them, and as INDEX has them; and the end mark (FORMAT.md, "INDEX and END").

Files may hold millions of frames. A list of frames takes 33 bytes for each in memory, or those of a few pages if it is
read from a file that has an index.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from fractions import Fraction
from itertools import count
from typing import TypeVar, overload

import numpy as np

from invcodec.container.compressed import compress, decompress
from invcodec.container.frame import FrameHead
from invcodec.container.records import FRAMING_BYTES, HEADER_BYTES, RecordHeader, RecordType, pack_record, parse_header
from invcodec.errors import DamagedError, LimitError
from invcodec.limits import MAX_FRAMES, MAX_INDEX_BYTES, MAX_TICKS, PAGE_FRAMES

INDEX_ROW_BYTES = 9
"""What a frame adds to INDEX at most, in files whose records are below 16 MiB and whose numbers and times step evenly
but for a few milliseconds."""
INDEX_FIXED_BYTES = 48
"""What INDEX takes beyond its rows, in files of one page."""
_CACHED_PAGES = 16

T = TypeVar("T")

ROW = np.dtype([("number", "<i8"), ("ticks", "<i8"), ("offset", "<i8"), ("length", "<i8"), ("flags", "u1")])
"""A row of INDEX in memory: a frame's number, time, place of the record in bytes, and `RowFlags`."""
_NAMES = ("number", "ticks", "offset", "length", "flags")
_STORED = ("<i8", "<i8", "<i8", "<u4", "u1")
_STORED_ROW_BYTES = sum(np.dtype(stored).itemsize for stored in _STORED)


class RowFlags(IntFlag):
    """Flags of a row. Readers ignore all others."""

    KEY = 1
    CAMERAS = 2
    """The frame header carries cameras."""


@dataclass(frozen=True)
class FrameEntry:
    """One frame of a file.

    Attributes:
        number: the capture's frame number.
        time: presentation time in seconds.
        offset, length: of the record, in bytes, framing included.
        is_key: whether it is a keyframe; else it changes the frame before it.
        cameras: whether the record carries a camera list.
    """

    number: int
    time: Fraction
    offset: int
    length: int
    is_key: bool
    cameras: bool

    @classmethod
    def of(cls, header: RecordHeader, frame: FrameHead, time_base: Fraction) -> FrameEntry:
        """The entry of a frame record; `time_base` is HEAD's."""
        return cls(
            header.frame, frame.time * time_base, header.offset, header.size, frame.is_key, frame.cameras is not None
        )

    @property
    def end(self) -> int:
        """Offset of what follows the record."""
        return self.offset + self.length

    @property
    def kind(self) -> str:
        """ "key" or "delta"."""
        return "key" if self.is_key else "delta"

    def precedes(self, number: int, time: Fraction) -> bool:
        """Whether a frame may follow: number and time strictly increase (FORMAT.md, "Order of records")."""
        return self.number < number and self.time < time


class FrameList(Sequence[FrameEntry]):
    """Frames in file order, kept as rows of INDEX.

    Args:
        time_base: HEAD's.
        entries: to begin with.
    """

    def __init__(self, time_base: Fraction, entries: Iterable[FrameEntry] = ()) -> None:
        self.time_base = time_base
        self._pages: list[np.ndarray] = []
        self._count = 0
        for entry in entries:
            self.append(entry)

    def ask(self, question: Callable[[FrameList], T]) -> T:
        """Answer a question that takes several steps, all of them from the same list.

        Args:
            question: may be asked twice, see `PagedFrames`.
        """
        return question(self)

    def append(self, entry: FrameEntry) -> None:
        """Add a frame, which comes after all others.

        Raises:
            LimitError: there are as many as a file may have.
        """
        self._check_room(1)
        if self._count == len(self._pages) * PAGE_FRAMES:
            self._pages.append(np.zeros(PAGE_FRAMES, ROW))
        flags = RowFlags.KEY * entry.is_key | RowFlags.CAMERAS * entry.cameras
        ticks = int(entry.time / self.time_base)
        self._pages[-1][self._count % PAGE_FRAMES] = (entry.number, ticks, entry.offset, entry.length, flags)
        self._count += 1

    def add_page(self, rows: np.ndarray) -> None:
        """Add `[N]` rows, at most `PAGE_FRAMES` of them, to a list whose pages are full.

        Raises:
            LimitError: there would be more than a file may have.
        """
        self._check_room(len(rows))
        page = np.zeros(PAGE_FRAMES, ROW)
        page[: len(rows)] = rows
        self._pages.append(page)
        self._count += len(rows)

    def _check_room(self, count: int) -> None:
        if self._count + count > MAX_FRAMES:
            raise LimitError(f"more than {MAX_FRAMES} frames")

    def copy(self) -> FrameList:
        """A list of the same frames, to which others can be added."""
        result = FrameList(self.time_base)
        for rows in self.pages():
            result.add_page(rows)
        return result

    def _first(self, page: int) -> np.void:
        """A row with number and time of the first frame of a page."""
        return self._pages[page][0]

    def page(self, index: int) -> np.ndarray:
        """`[N]` rows: frames `PAGE_FRAMES` * `index` and on, if there are any."""
        if index * PAGE_FRAMES >= self._count:
            return np.zeros(0, ROW)
        return self._pages[index][: self._count - index * PAGE_FRAMES]

    def pages(self) -> Iterator[np.ndarray]:
        """All rows."""
        for index in count():
            rows = self.page(index)
            if not len(rows):
                return
            yield rows

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, position: int) -> FrameEntry: ...
    @overload
    def __getitem__(self, position: slice) -> list[FrameEntry]: ...
    def __getitem__(self, position: int | slice) -> FrameEntry | list[FrameEntry]:
        places = range(len(self))[position]
        if isinstance(places, range):
            return [self[place] for place in places]
        index, row = divmod(places, PAGE_FRAMES)
        return self._entry(self.page(index)[row])

    def __iter__(self) -> Iterator[FrameEntry]:
        for rows in self.pages():
            for row in rows:
                yield self._entry(row)

    def _entry(self, row: np.void) -> FrameEntry:
        number, ticks, offset, length, flags = row.item()
        is_key, cameras = bool(flags & RowFlags.KEY), bool(flags & RowFlags.CAMERAS)
        return FrameEntry(number, ticks * self.time_base, offset, length, is_key, cameras)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905

    __hash__ = None  # type: ignore[assignment]

    def place(self, number: int) -> int:
        """Position of the last frame whose number is at most this; -1 if there is none."""
        return self._last("number", number)

    def at(self, seconds: Fraction | float) -> int:
        """Position of the last frame that begins at this time or before; -1 if there is none."""
        return self._last("ticks", math.floor(Fraction(seconds) / self.time_base))

    def position(self, number: int) -> int | None:
        """Position of the frame with this number, or None."""
        place = self.place(number)
        return place if place >= 0 and self[place].number == number else None

    def numbered(self, first: int | None, stop: int | None) -> list[FrameEntry]:
        """The frames with numbers from `first` to before `stop`; None: from the beginning, to the end."""
        return self[
            0 if first is None else self.place(first - 1) + 1 : len(self) if stop is None else self.place(stop - 1) + 1
        ]

    def _last(self, column: str, value: int) -> int:
        """Position of the last frame whose number or ticks are at most `value`; -1 if there is none."""
        pages = range(-(-len(self) // PAGE_FRAMES))
        index = bisect_right(pages, value, key=lambda page: int(self._first(page)[column])) - 1
        if index < 0:
            return -1
        rows = self.page(index)
        return index * PAGE_FRAMES + bisect_right(range(len(rows)), value, key=lambda row: int(rows[row][column])) - 1

    def cameras_before(self, position: int) -> FrameEntry | None:
        """The last frame up to a position that carries cameras, or None."""
        index, row = divmod(position, PAGE_FRAMES)
        for page in range(index, -1, -1):
            if page == index or self._has_cameras(page):
                rows = self.page(page)[: row + 1 if page == index else None]
                found = np.flatnonzero(rows["flags"] & RowFlags.CAMERAS)
                if len(found):
                    return self._entry(rows[found[-1]])
        return None

    def _has_cameras(self, page: int) -> bool:
        return bool((self.page(page)["flags"] & RowFlags.CAMERAS).any())


class _UnfitError(DamagedError):
    """A page of an index that is damaged, or is not the one that the INDEX of level 1 says."""


class _IndexedFrames(FrameList):
    """Frames whose rows are read page by page, as they are needed.

    Raises:
        _UnfitError: a page does not fit; then, too, wherever rows are asked for.
    """

    def __init__(self, time_base: Fraction, top: np.ndarray, load: Callable[[np.void], np.ndarray]) -> None:
        super().__init__(time_base)
        self._top = top
        self._load = load
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._count = (len(top) - 1) * PAGE_FRAMES
        last = len(self.page(len(top) - 1))
        self._check_room(last)
        self._count += last
        self.page(0)

    def page(self, index: int) -> np.ndarray:
        """A page, which must fit its row and the next one."""
        if index >= len(self._top):
            return np.zeros(0, ROW)
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        row, following = self._top[index], self._top[index + 1 : index + 2]
        try:
            rows = self._load(row)
        except DamagedError as error:
            raise _UnfitError(str(error), offset=error.offset) from None
        if (
            not len(rows)
            or page_row(rows, row["offset"], row["length"]) != row
            or (len(following) and len(rows) < PAGE_FRAMES)
            or any(rows[-1][name] >= following[0][name] for name in ("number", "ticks") if len(following))
            or (index == 0 and not begins_with_key(rows))
            or rows[-1]["offset"] + rows[-1]["length"] > self._top[0]["offset"]
        ):
            raise _UnfitError(f"the index at byte {row['offset']} does not fit", offset=int(row["offset"]))
        self._cache[index] = rows
        while len(self._cache) > _CACHED_PAGES:
            self._cache.popitem(last=False)
        return rows

    def _first(self, page: int) -> np.void:
        return self._top[page]

    def _has_cameras(self, page: int) -> bool:
        return bool(self._top[page]["flags"] & RowFlags.CAMERAS)


class PagedFrames(FrameList):
    """Frames of a finished file, whose index is read page by page as it is needed.

    Once a page proves to be damaged, the frames are found without the index. Then there may be others, at other
    positions, so whatever was asked is asked again.

    Args:
        time_base: HEAD's.
        top: `[N]` rows of the INDEX of level 1.
        load: reads the rows of a page from the INDEX record that a row of `top` refers to; may raise `DamagedError`.
        recover: finds the frames without the index.

    Raises:
        DamagedError: the first page or the last one does not fit.
        LimitError: these are more frames than a file may have.
    """

    def __init__(
        self,
        time_base: Fraction,
        top: np.ndarray,
        load: Callable[[np.void], np.ndarray],
        recover: Callable[[], FrameList],
    ) -> None:
        super().__init__(time_base)
        self._frames: FrameList = _IndexedFrames(time_base, top, load)
        self._recover = recover

    def ask(self, question: Callable[[FrameList], T]) -> T:
        try:
            return question(self._frames)
        except _UnfitError:
            self._frames = self._recover()
        return question(self._frames)

    def __len__(self) -> int:
        return len(self._frames)

    def page(self, index: int) -> np.ndarray:
        return self.ask(lambda frames: frames.page(index))

    def pages(self) -> Iterator[np.ndarray]:
        """All rows. If a page is damaged, what follows begins behind the last row that was given."""
        index = skipped = 0
        given, last = self._frames, None
        while True:
            rows = self.page(index)
            if self._frames is not given:
                given = self._frames
                index, skipped = divmod(0 if last is None else given.place(last) + 1, PAGE_FRAMES)
                rows = given.page(index)
            rows = rows[skipped:]
            if not len(rows):
                return
            yield rows
            index, skipped, last = index + 1, 0, int(rows[-1]["number"])

    def copy(self) -> FrameList:
        return self.ask(FrameList.copy)

    @overload
    def __getitem__(self, position: int) -> FrameEntry: ...
    @overload
    def __getitem__(self, position: slice) -> list[FrameEntry]: ...
    def __getitem__(self, position: int | slice) -> FrameEntry | list[FrameEntry]:
        return self.ask(lambda frames: frames[position])

    def __eq__(self, other: object) -> bool:
        return self.ask(lambda frames: FrameList.__eq__(frames, other))

    __hash__ = None

    def place(self, number: int) -> int:
        return self.ask(lambda frames: frames.place(number))

    def at(self, seconds: Fraction | float) -> int:
        return self.ask(lambda frames: frames.at(seconds))

    def position(self, number: int) -> int | None:
        return self.ask(lambda frames: frames.position(number))

    def numbered(self, first: int | None, stop: int | None) -> list[FrameEntry]:
        return self.ask(lambda frames: frames.numbered(first, stop))

    def cameras_before(self, position: int) -> FrameEntry | None:
        return self.ask(lambda frames: frames.cameras_before(position))


def begins_with_key(rows: np.ndarray) -> bool:
    """Whether `[N]` rows may be the first ones of a file."""
    return not len(rows) or bool(rows[0]["flags"] & RowFlags.KEY)


def page_row(rows: np.ndarray, offset: int, length: int) -> np.ndarray:
    """The row, a scalar of `ROW`, that an INDEX of level 1 has for the INDEX of level 0 with these `[N]` rows.

    Args:
        offset, length: of its record.
    """
    first = (rows[0]["number"], rows[0]["ticks"]) if len(rows) else (0, 0)
    return np.array((*first, offset, length, np.bitwise_or.reduce(rows["flags"])), ROW)


@dataclass(frozen=True)
class Index:
    """The payload of INDEX.

    Attributes:
        level: 0: its rows are frames; 1: they are INDEX records of level 0.
        rows: `[N]`, of type `ROW`.
    """

    level: int
    rows: np.ndarray

    def to_bytes(self) -> bytes:
        rows = self.rows
        gaps = rows["offset"].copy()
        gaps[1:] -= rows["offset"][:-1] + rows["length"][:-1]
        steps = [np.diff(rows[name], prepend=0) for name in ("number", "ticks")]
        columns = zip([*steps, gaps, rows["length"], rows["flags"]], _STORED, strict=True)
        return bytes([self.level]) + compress(b"".join(column.astype(stored).tobytes() for column, stored in columns))

    @classmethod
    def from_bytes(cls, payload: bytes) -> Index:
        """Parse and validate, each row on its own and against the one before.

        Raises:
            DamagedError
        """
        if not payload or len(payload) > MAX_INDEX_BYTES:
            raise DamagedError(f"index: {len(payload)} bytes")
        try:
            data = decompress(payload[1:], "index", MAX_INDEX_BYTES)
        except LimitError as error:
            # A larger one does not fit.
            raise DamagedError(str(error)) from None
        level, (size, rest) = payload[0], divmod(len(data), _STORED_ROW_BYTES)
        if rest or level > 1 or (level == 0 and size > PAGE_FRAMES) or (level == 1 and size < 2):
            raise DamagedError("index: does not consist of rows")
        rows, at = np.zeros(size, ROW), 0
        for name, stored in zip(_NAMES, _STORED, strict=True):
            rows[name] = np.frombuffer(data, stored, size, at)
            at += size * np.dtype(stored).itemsize
        rows["flags"] &= int(RowFlags.KEY | RowFlags.CAMERAS)
        gaps = rows["offset"].copy()
        # Sums are modulo 2^64: what overflows is out of order.
        for name in ("number", "ticks"):
            rows[name] = np.cumsum(rows[name])
        rows["offset"] = np.cumsum(gaps) + np.cumsum(rows["length"]) - rows["length"]
        number, ticks, offset = (rows[name] for name in ("number", "ticks", "offset"))
        if not (
            (number[1:] > number[:-1]).all()
            and (ticks[1:] > ticks[:-1]).all()
            and (abs(ticks) <= MAX_TICKS).all()
            and (gaps >= 0).all()
            and (offset >= 0).all()
            and (rows["length"] >= FRAMING_BYTES).all()
            and (offset + rows["length"] > 0).all()
        ):
            raise DamagedError("index: frames are out of order")
        return cls(level, rows)


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
        index: offset of the last INDEX record.
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


def pack_page(rows: np.ndarray) -> bytes:
    """An INDEX record of level 0 with these `[N]` rows."""
    return pack_record(RecordType.INDEX, 0, Index(0, rows).to_bytes())


def pack_ending(frames: FrameList, position: int, complete: bool) -> bytes:
    """All INDEX records and END, to be written at byte `position` of the file."""
    records: list[bytes] = []
    top: list[np.ndarray] = []
    at = position
    for rows in frames.pages():
        records.append(pack_page(rows))
        top.append(page_row(rows, at, len(records[-1])))
        at += len(records[-1])
    if not records:
        records.append(pack_page(np.zeros(0, ROW)))
    if len(records) > 1:
        records.append(pack_record(RecordType.INDEX, 0, Index(1, np.stack(top)).to_bytes()))
    last = position + sum(map(len, records[:-1]))
    return b"".join([*records, pack_record(RecordType.END, 0, EndMark(last, complete).to_bytes())])


def read_pages(data: bytes, time_base: Fraction) -> FrameList:
    """The frames of a file from INDEX records of level 0, one after the other, of which all but the last are full.

    Raises:
        DamagedError: they are no index.
        LimitError: these are more frames than a file may have.
    """
    frames, at = FrameList(time_base), 0
    while at < len(data):
        header = parse_header(data[at : at + HEADER_BYTES], at)
        index = Index.from_bytes(header.check_payload(data[header.payload_offset : header.end]))
        first = index.rows[:1]
        if not frames:
            follows = begins_with_key(first)
        else:
            last = frames.page((len(frames) - 1) // PAGE_FRAMES)[-1]
            later = all((first[name] > last[name]).all() for name in ("number", "ticks"))
            follows = later and bool((first["offset"] >= last["offset"] + last["length"]).all())
        if len(frames) % PAGE_FRAMES or index.level != 0 or not follows:
            raise DamagedError("index: pages are not in order")
        frames.add_page(index.rows)
        at = header.end
    return frames
