"""How the next frame is encoded: as a keyframe or a delta, and which of its tensors are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from invcodec.container.frame import FRAME_NUMBER, TICKS, Stage
from invcodec.container.index import FrameEntry
from invcodec.encoding.keyframes import is_keyframe
from invcodec.encoding.settings import Settings
from invcodec.errors import DamagedError, UsageError
from invcodec.training.schedule import Schedule

_REFRESH_LOSS = 2.0
"""If PSNR is this many dB below that of the warm-up, the next frame trains all tensors."""


@dataclass(frozen=True)
class FramePlan:
    """One frame's part in the file.

    Attributes:
        number: the capture's frame number.
        ticks: presentation time in ticks of the file's time base.
        key: whether it becomes a KEY record.
        stage: what of it is trained; see `FrameReport`.
        captured: when it was captured, in milliseconds since 1970, or None if the file is not to say so.
    """

    number: int
    ticks: int
    key: bool
    stage: Stage
    captured: int | None = None

    def schedule(self, settings: Settings) -> Schedule:
        """This frame's training schedule."""
        if self.stage == "key":
            return settings.key
        return settings.delta if self.stage == "transfer" else settings.warm


class Planner:
    """Plans one frame after another (INV, section 3.2).

    After the warm-up only structure is trained. Where the scene changes more than structure can follow, one frame
    trains everything again.

    Args:
        warmup: frames after the first in which everything is trained.
        key_every: keyframe interval in frames, or None for a single keyframe.
        time_base: seconds per tick of the file.
    """

    def __init__(self, warmup: int, key_every: int | None, time_base: Fraction) -> None:
        self._warmup = warmup
        self._key_every = key_every
        self._time_base = time_base
        self._learned_psnr: float | None = None
        self._refresh = False

    def plan(
        self, frames: Sequence[FrameEntry], time: Fraction | float, number: int | None, captured: float | None
    ) -> FramePlan:
        """Plan the frame that follows `frames`.

        Args:
            time: presentation time in seconds.
            number: the capture's frame number; the next one if None.
            captured: when it was captured, in seconds since 1970, or None.

        Raises:
            UsageError: it does not come after the last frame, or its number or time exceeds what a file can hold.
        """
        last = frames[-1] if frames else None
        if number is None:
            number = last.number + 1 if last else 0
        ticks = round(Fraction(time) / self._time_base)
        try:
            FRAME_NUMBER.read(number)
            TICKS.read(ticks)
        except DamagedError as error:
            raise UsageError(f"frame {number} at {float(time):g} s: out of range for a file ({error})") from None
        if last and not last.precedes(number, ticks * self._time_base):
            raise UsageError(f"frame {number} at {float(time):g} s does not come after frame {last.number}")
        index = len(frames)
        milliseconds = None if captured is None else round(1000 * captured)
        return FramePlan(number, ticks, is_keyframe(index, self._key_every), self._stage(index), milliseconds)

    def _stage(self, index: int) -> Stage:
        if index == 0:
            return "key"
        if index <= self._warmup:
            return "warmup"
        return "refresh" if self._refresh else "transfer"

    def observe(self, stage: Stage, psnr: float) -> None:
        """Record a frame's PSNR in dB."""
        if self._learned_psnr is None or stage in ("key", "warmup"):
            self._learned_psnr = psnr
        self._refresh = stage != "refresh" and psnr < self._learned_psnr - _REFRESH_LOSS
