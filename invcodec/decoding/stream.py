"""Files out of pipes: one pass, no seeking, one frame held at a time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from invcodec.coding.state import Follower, State
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry
from invcodec.container.scan import Scanner, scan
from invcodec.errors import DamagedError, UsageError
from invcodec.geometry.camera import Camera


@dataclass(frozen=True)
class Wanted:
    """Which frame to take: a number, the one on screen at a time in seconds, or with neither the first or latest."""

    number: int | None = None
    time: Fraction | None = None
    latest: bool = False


class Moment:
    """One frame of a stream, with what `invcodec.decoding.decoder.Decoder` needs of a file.

    Args:
        file: a pipe, read as far as is necessary.
        name: for messages.
        wanted: which frame.

    Raises:
        UsageError: not an .inv stream, or it has no such frame.
        DamagedError: the frame is lost.
    """

    def __init__(self, file: BinaryIO, name: str, wanted: Wanted) -> None:
        self.name = name
        self.path = Path(name)
        self._scanner = Scanner(name)
        self._cameras: tuple[Camera, ...] | None = None
        self.entry_, self.state = self._find(file, wanted)

    def _find(self, file: BinaryIO, wanted: Wanted) -> tuple[FrameEntry, State]:
        held: tuple[FrameEntry, State] | None = None
        follower = Follower()
        lost: DamagedError | None = None
        for found in scan(file, self._scanner):
            if found.entry is None or found.frame is None:
                continue
            if held and self._is_past(found.entry, wanted):
                break
            try:
                state = follower.apply(self.head, found)
            except DamagedError as error:
                lost = error
                continue
            if found.frame.cameras is not None:
                self._cameras = found.frame.cameras
            held = found.entry, state
            if found.entry.number == wanted.number or wanted == Wanted():
                break
        else:
            self._check_end(held, wanted)
        if held is None or wanted.number not in (None, held[0].number):
            if lost is not None:
                raise lost
            hint = "it is empty" if held is None else f"frame {held[0].number} is the last one before it"
            raise UsageError(f"{self.name}: has no frame {wanted.number}; {hint}")
        if wanted.time is not None and held[0].time > wanted.time:
            raise UsageError(f"{self.name}: begins at {float(held[0].time):g} s, later than {float(wanted.time):g} s")
        return held

    @staticmethod
    def _is_past(entry: FrameEntry, wanted: Wanted) -> bool:
        if wanted.number is not None:
            return entry.number > wanted.number
        return wanted.time is not None and entry.time > wanted.time

    def _check_end(self, held: tuple[FrameEntry, State] | None, wanted: Wanted) -> None:
        """The last frame stays on screen for one frame time only."""
        if held is None or wanted.time is None:
            return
        end = held[0].time + 1 / self.head.frame_rate
        if wanted.time >= end:
            raise UsageError(f"{self.name}: ends at {float(end):g} s, before {float(wanted.time):g} s")

    @property
    def head(self) -> Head:
        assert self._scanner.head is not None
        return self._scanner.head

    @property
    def frames(self) -> list[FrameEntry]:
        return [self.entry_]

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
        if number != self.entry_.number:
            raise UsageError(f"{self.name}: a pipe gives one frame at a time")
        return self.entry_

    def state_at(self, number: int) -> State:
        self.entry(number)
        return self.state

    def cameras_at(self, number: int) -> tuple[Camera, ...]:
        self.entry(number)
        return self._cameras or self.head.cameras

    def close(self) -> None:
        """The pipe belongs to the caller."""
