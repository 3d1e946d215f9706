"""A file, local or on a server, that may be growing while it is viewed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from invcodec.coding.chain import Follower, StateReader
from invcodec.coding.state import State
from invcodec.container.frame import Stats
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry, FrameList
from invcodec.container.reader import not_found
from invcodec.container.remote import is_url
from invcodec.container.scan import Record
from invcodec.errors import DamagedError, InvError
from invcodec.geometry.camera import Camera
from invcodec.streaming.follow import follow_file, follow_url

GROWING = ("open", "truncated")
"""Statuses of a file that may be growing."""
_PATIENCE = 1.0
"""Seconds that closing waits for the thread that follows the file."""
_KEPT = 4
"""Number of the newest frames whose states are kept."""


class FollowedFile:
    """An `invcodec.decoding.source.StateSource` of a file that may still be growing.

    New frames are decoded as they arrive, each from the one before. Other frames are read from the file on request.

    Args:
        name: path or URL.

    Attributes:
        frames: all known frames, in order. A list is only ever appended to; for a frame in between, it is replaced.
        growing: whether more frames may arrive.
        changed: called from another thread after any change.
        generation: incremented when another file takes this one's place; everything else is then reset.

    Raises:
        UsageError, DamagedError, UnsupportedError, LimitError: as `Reader`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = Path(name)
        self.changed: Callable[[], None] = lambda: None
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        """For everything but the reader; held briefly, and taken after `_reading`."""
        self._reading = threading.Lock()
        """For using, replacing and closing the reader."""
        self.generation = 0
        self._begin(StateReader(name))
        self.growing = self._reader.status in GROWING
        self._thread = threading.Thread(target=self._follow, daemon=True)
        if self.growing:
            self._thread.start()

    def _begin(self, reader: StateReader) -> None:
        self._reader = reader
        self.head: Head = reader.head
        # A finished file's stay on disk.
        self.frames = reader.frames.copy() if reader.status in GROWING else reader.frames
        self._live: dict[int, tuple[Record, State]] = {}

    @property
    def status(self) -> str:
        return self._reader.status

    @property
    def problems(self) -> list[str]:
        return self._reader.problems

    @property
    def size(self) -> int:
        return self._reader.size

    def close(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            # It may be waiting for its server; then it ends by itself, and `_replace` refuses its reader.
            self._thread.join(_PATIENCE)
        with self._reading:
            self._reader.close()

    def expects(self, number: int) -> bool:
        """Whether a frame may still arrive."""
        with self._lock:
            return self.growing and (not self.frames or number > self.frames[-1].number)

    def entry(self, number: int) -> FrameEntry:
        with self._lock:
            found = self._known(number)
            if found is None:
                raise not_found(self.name, number, self.frames)
            return found

    def _known(self, number: int) -> FrameEntry | None:
        position = self.frames.position(number)
        return None if position is None else self.frames[position]

    def _follow(self) -> None:
        try:
            self._take_all()
        except (InvError, OSError):
            # What can be shown are the frames so far.
            pass
        finally:
            self.growing = False
            self.changed()

    def _take_all(self) -> None:
        """Take frames as they arrive, until the file ends."""
        records = (
            follow_url(self.name, self._stopped.is_set)
            if is_url(self.name)
            else follow_file(self.path, self._stopped.is_set)
        )
        follower, scanner = Follower(), None
        with closing(records):
            for now, found in records:
                if now is not scanner:
                    follower, scanner = Follower(), now
                    self._catch_up()
                if found.entry is None or scanner.head is None:
                    continue
                try:
                    state = follower.apply(scanner.head, found)
                except DamagedError:
                    continue
                self._take(scanner.head, found, state)

    def _catch_up(self) -> None:
        """Add the frames before the start of a stream, which starts at the last keyframe.

        If another file has taken the name, start over.
        """
        try:
            fresh = StateReader(self.name)
        except InvError:
            # Gone again; the next stream tries again.
            return
        with self._reading, self._lock:
            if not self._replace(fresh):
                return
            known = [self._known(entry.number) for entry in fresh.frames]
            same = all(
                a is None or (a.time, a.length) == (b.time, b.length) for a, b in zip(known, fresh.frames, strict=True)
            )
            if fresh.head != self.head or not same or len(fresh.frames) < len(self.frames):
                self._begin(fresh)
                self.generation += 1
            else:
                self._add([entry for entry, there in zip(fresh.frames, known, strict=True) if there is None])
        self.changed()

    def _replace(self, fresh: StateReader) -> bool:
        """Replace the reader, whose lock is held; False if this file has been closed, and then `fresh` is, too."""
        if self._stopped.is_set():
            fresh.close()
            return False
        self._reader.close()
        self._reader = fresh
        return True

    def _add(self, entries: list[FrameEntry]) -> None:
        """Add new frames, which are in order themselves."""
        if entries and self.frames and entries[0].number < self.frames[-1].number:
            entries = sorted([*self.frames, *entries], key=lambda entry: entry.number)
            self.frames = FrameList(self.head.time_base)
        for entry in entries:
            self.frames.append(entry)

    def _take(self, head: Head, found: Record, state: State) -> None:
        entry = found.entry
        assert entry is not None
        with self._lock:
            if head != self.head:
                return
            if self._known(entry.number) is None:
                self._add([entry])
            self._live[entry.number] = found, state
            while len(self._live) > _KEPT:
                del self._live[next(iter(self._live))]
        self.changed()

    @contextmanager
    def _reader_with(self, number: int) -> Iterator[StateReader]:
        """A reader that has a frame; the file is opened again if the frame is newer than the reader."""
        with self._reading:
            if number not in self._reader:
                self._replace(StateReader(self.name))
            yield self._reader

    def state_at(self, number: int) -> State:
        with self._lock:
            live = self._live.get(number)
        if live:
            return live[1]
        with self._reader_with(number) as reader:
            return reader.state_at(number)

    def stats_at(self, number: int) -> Stats:
        """The encoder's statistics of a frame."""
        with self._lock:
            live = self._live.get(number)
        if live and live[0].frame is not None:
            return live[0].frame.stats
        with self._reader_with(number) as reader:
            return reader.stats_at(number)

    def cameras_at(self, number: int) -> tuple[Camera, ...]:
        with self._lock:
            live = self._live.get(number)
            moving = self.frames.cameras_before(len(self.frames) - 1) is not None
        if not moving:
            return self.head.cameras
        if live and live[0].frame is not None and live[0].frame.cameras is not None:
            return live[0].frame.cameras
        with self._reader_with(number) as reader:
            return reader.cameras_at(number)
