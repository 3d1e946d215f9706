"""A file, local or on a server, that may be growing while it is viewed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import time

from invcodec.coding.chain import Follower, StateReader
from invcodec.coding.state import State
from invcodec.container.frame import Stats
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry
from invcodec.container.reader import not_found
from invcodec.container.remote import is_url
from invcodec.container.scan import Record
from invcodec.errors import DamagedError, InvError
from invcodec.geometry.camera import Camera
from invcodec.streaming.follow import follow_file, follow_url

_GROWING = ("open", "truncated")
"""Status of a file that may be growing."""
_KEPT = 4
"""Number of the newest frames whose states are kept."""


@dataclass(frozen=True)
class Arrival:
    """When a frame of a growing file arrived.

    Attributes:
        at: in seconds since 1970.
        decoding: seconds that decoding took.
    """

    at: float
    decoding: float


class FollowedFile:
    """An `invcodec.decoding.source.StateSource` of a file that may still be growing.

    New frames are decoded as they arrive, each from the one before. Other frames are read from the file on request.

    Args:
        name: path or URL.
        changed: called from another thread after any change.

    Attributes:
        frames: all known frames, in order.
        arrivals: by number, for the newest frames that arrived since the file was opened.
        growing: whether more frames may arrive.
        connected: whether the server can be reached.
        generation: incremented when another file takes this one's place; everything else is then reset.

    Raises:
        UsageError, DamagedError, UnsupportedError, LimitError: as `Reader`.
    """

    def __init__(self, name: str, changed: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.path = Path(name)
        self._changed = changed
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.generation = 0
        self.connected = True
        self._begin(StateReader(name))
        self.growing = self._reader.status in _GROWING
        if self.growing:
            threading.Thread(target=self._follow, daemon=True).start()

    def _begin(self, reader: StateReader) -> None:
        self._reader = reader
        self.head: Head = reader.head
        self.frames: list[FrameEntry] = list(reader.frames)
        self._known = {entry.number: entry for entry in self.frames}
        self._live: dict[int, tuple[Record, State]] = {}
        self.arrivals: dict[int, Arrival] = {}

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
        self._reader.close()

    def entry(self, number: int) -> FrameEntry:
        with self._lock:
            if number not in self._known:
                raise not_found(self.name, number, list(self._known))
            return self._known[number]

    def _follow(self) -> None:
        try:
            records = (
                follow_url(self.name, self._stopped.is_set, self._set_connected)
                if is_url(self.name)
                else follow_file(self.path, self._stopped.is_set)
            )
            follower, scanner = Follower(), None
            for now, found in records:
                if now is not scanner:
                    follower, scanner = Follower(), now
                    self._catch_up()
                if found.entry is None or scanner.head is None:
                    continue
                arrived = time()
                try:
                    state = follower.apply(scanner.head, found)
                except DamagedError:
                    continue
                self._take(scanner.head, found, state, Arrival(arrived, time() - arrived))
        except InvError:
            self.connected = False
        self.growing = False
        self._changed()

    def _set_connected(self, status: str) -> None:
        self.connected = status == "connected"
        self._changed()

    def _catch_up(self) -> None:
        """Add the frames before the start of a stream, which starts at the last keyframe.

        If another file has taken the name, start over.
        """
        try:
            fresh = StateReader(self.name)
        except InvError:
            # Gone again; the next stream tries again.
            return
        with self._lock:
            known = [self._known.get(entry.number) for entry in fresh.frames]
            same = all(
                a is None or (a.time, a.length) == (b.time, b.length) for a, b in zip(known, fresh.frames, strict=True)
            )
            if fresh.head != self.head or not same or len(fresh.frames) < len(self.frames):
                old = self._reader
                self._begin(fresh)
                self.generation += 1
            else:
                old, self._reader = self._reader, fresh
                for entry, there in zip(fresh.frames, known, strict=True):
                    if there is None:
                        self._add(entry)
        old.close()
        self._changed()

    def _add(self, entry: FrameEntry) -> None:
        self.frames.append(entry)
        self._known[entry.number] = entry

    def _take(self, head: Head, found: Record, state: State, arrival: Arrival) -> None:
        entry = found.entry
        assert entry is not None
        with self._lock:
            if head != self.head:
                return
            if entry.number not in self._known:
                self._add(entry)
                self.arrivals[entry.number] = arrival
            self._live[entry.number] = found, state
            for old in (self._live, self.arrivals):
                while len(old) > _KEPT:
                    del old[next(iter(old))]
        self._changed()

    def _reader_with(self, number: int) -> StateReader:
        """A reader that has a frame; the file is opened again if the frame is newer than the reader."""
        with self._lock:
            reader = self._reader
        if number in reader:
            return reader
        fresh = StateReader(self.name)
        with self._lock:
            self._reader = fresh
        reader.close()
        return fresh

    def state_at(self, number: int) -> State:
        with self._lock:
            live = self._live.get(number)
        return live[1] if live else self._reader_with(number).state_at(number)

    def stats_at(self, number: int) -> Stats:
        """The encoder's statistics of a frame."""
        with self._lock:
            live = self._live.get(number)
        if live and live[0].frame is not None:
            return live[0].frame.stats
        return self._reader_with(number).stats_at(number)

    def cameras_at(self, number: int) -> tuple[Camera, ...]:
        with self._lock:
            live = self._live.get(number)
            moving = any(entry.cameras for entry in self.frames)
        if not moving:
            return self.head.cameras
        if live and live[0].frame is not None and live[0].frame.cameras is not None:
            return live[0].frame.cameras
        return self._reader_with(number).cameras_at(number)
