"""One frame of a non-seekable stream: read once, up to that frame, with one state in memory."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from invcodec.coding.chain import Follower
from invcodec.coding.state import State
from invcodec.container.frame import Stats
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry, FrameList, end_of_last
from invcodec.container.scan import Scanner, scan
from invcodec.errors import DamagedError, FrameNotFoundError, UsageError
from invcodec.geometry.camera import Camera


@dataclass(frozen=True)
class FrameSelector:
    """Selects a frame: by number, by a time in seconds at which it is on screen, the latest, or else the first."""

    number: int | None = None
    time: Fraction | None = None
    latest: bool = False

    @property
    def first(self) -> bool:
        return self == FrameSelector()

    def precedes(self, entry: FrameEntry) -> bool:
        """Whether the selected frame can only come before this one."""
        if self.number is not None:
            return self.number < entry.number
        return self.time is not None and self.time < entry.time


class PipedFrame:
    """A `StateSource` of a single frame, taken from a pipe.

    Args:
        file: the pipe, which is read up to the frame and left open.
        name: for messages.
        selector: which frame.

    Attributes:
        selected: the frame's entry.
        state: its decoded state.

    Raises:
        FrameNotFoundError: the stream has no such frame.
        UsageError: not an .inv stream, or no frame is on screen at the time.
        DamagedError: the frame is lost.
    """

    def __init__(self, file: BinaryIO, name: str, selector: FrameSelector) -> None:
        self.name = name
        self.path = Path(name)
        self._scanner = Scanner(name)
        self._cameras: tuple[Camera, ...] | None = None
        self._stats = Stats()
        self.selected, self.state = self._find(file, selector)

    def _find(self, file: BinaryIO, selector: FrameSelector) -> tuple[FrameEntry, State]:
        held: tuple[FrameEntry, State] | None = None
        follower = Follower()
        lost: DamagedError | None = None
        for found in scan(file, self._scanner):
            if found.entry is None or found.frame is None:
                continue
            if held and selector.precedes(found.entry):
                break
            try:
                state = follower.apply(self.head, found)
            except DamagedError as error:
                lost = error
                continue
            if found.frame.cameras is not None:
                self._cameras = found.frame.cameras
            self._stats = found.frame.stats
            held = found.entry, state
            if found.entry.number == selector.number or selector.first:
                break
        else:
            self._check_end(held, selector)
        if held is None or selector.number not in (None, held[0].number):
            if lost is not None:
                raise lost
            if held is None:
                hint = "it is empty"
            elif selector.precedes(held[0]):
                hint = f"it begins with frame {held[0].number}"
            else:
                hint = f"frame {held[0].number} is the last one before it"
            raise FrameNotFoundError(f"{self.name}: has no frame {selector.number}; {hint}")
        if selector.time is not None and held[0].time > selector.time:
            begins, asked = float(held[0].time), float(selector.time)
            raise UsageError(f"{self.name}: begins at {begins:g} s, later than {asked:g} s")
        return held

    def _check_end(self, held: tuple[FrameEntry, State] | None, selector: FrameSelector) -> None:
        """The last frame does not stay on screen for ever."""
        if held is None or selector.time is None:
            return
        end = end_of_last(held[0].time, self.head.frame_rate)
        if selector.time >= end:
            raise UsageError(f"{self.name}: ends at {float(end):g} s, before {float(selector.time):g} s")

    @property
    def head(self) -> Head:
        assert self._scanner.head is not None
        return self._scanner.head

    @property
    def frames(self) -> FrameList:
        return FrameList(self.head.time_base, [self.selected])

    @property
    def status(self) -> str:
        return self._scanner.status

    @property
    def problems(self) -> list[str]:
        return self._scanner.problems

    @property
    def size(self) -> int:
        """Bytes read so far."""
        return self._scanner.size

    def entry(self, number: int) -> FrameEntry:
        if number != self.selected.number:
            raise FrameNotFoundError(f"{self.name}: only frame {self.selected.number} was taken from this pipe")
        return self.selected

    def state_at(self, number: int) -> State:
        self.entry(number)
        return self.state

    def stats_at(self, number: int) -> Stats:
        self.entry(number)
        return self._stats

    def cameras_at(self, number: int) -> tuple[Camera, ...]:
        self.entry(number)
        return self._cameras or self.head.cameras

    def close(self) -> None:
        """Nothing to release: the pipe belongs to the caller."""
