"""How the next frame is encoded: as a keyframe or a delta, and which of its tensors are trained."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from invcodec.container.frame import FRAME_NUMBER, TICKS, Stage, Stats
from invcodec.container.index import FrameEntry
from invcodec.encoding.keyframes import is_due
from invcodec.encoding.settings import Settings
from invcodec.errors import DamagedError, UsageError
from invcodec.training.schedule import Schedule

_TICKS_PER_FRAME = 1000
_REFRESH_LOSS = 2.0
"""If PSNR is this many dB below that of the warm-up, the next frame trains all tensors."""


def time_base_of(frame_rate: Fraction) -> Fraction:
    """Seconds per tick of a file with this nominal frame rate: fine enough for any moment between frames."""
    return Fraction(1, frame_rate.numerator * _TICKS_PER_FRAME)


def ticks_of(number: int, time: Fraction | float, time_base: Fraction) -> int:
    """A frame's time in ticks.

    Raises:
        UsageError: its number or its time in seconds exceeds what a file can hold.
    """
    try:
        ticks = round(Fraction(time) / time_base)
        FRAME_NUMBER.read(number)
        TICKS.read(ticks)
    except (DamagedError, ValueError, OverflowError) as error:
        raise UsageError(
            f"frame {number} at {float(time):g} s: out of range for a file ({error}); count frames and seconds from 0"
        ) from None
    return ticks


def check_numbers(numbers: range, frame_rate: Fraction) -> None:
    """Refuse frame numbers of a capture that a file cannot hold, before any frame is read or trained.

    Raises:
        UsageError
    """
    for number in (numbers[0], numbers[-1]):
        ticks_of(number, number / frame_rate, time_base_of(frame_rate))


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

    @property
    def kind(self) -> str:
        """ "key" or "delta"."""
        return "key" if self.key else "delta"

    def schedule(self, settings: Settings) -> Schedule:
        """This frame's training schedule."""
        if self.stage == "key":
            return settings.key
        if self.stage == "refresh":
            assert settings.refresh is not None
            return settings.refresh
        return settings.delta if self.stage == "lead" else settings.warm


class Planner:
    """Plans one frame after another (INV, section 3.2).

    A scene begins with the file, and with each cut: its first frame is a keyframe that is trained from nothing. If
    there is a warm-up, only lead tensors are trained after it. Where the scene changes more than these can follow, one
    frame trains everything again. Keyframes that are only due start from the last frame as well. Since they cost the
    bytes of all weights and not of changes, they are refreshed: trained for longer, and for few weights instead of few
    changes.

    Args:
        warmup: frames after the first of a scene in which everything is trained, or None for all of them.
        key_every: most frames from one keyframe to the next, or None for keyframes at cuts alone.
        refreshes: whether keyframes that are due are refreshed.
        time_base: seconds per tick of the file.
    """

    def __init__(self, warmup: int | None, key_every: int | None, refreshes: bool, time_base: Fraction) -> None:
        self._warmup = warmup
        self._key_every = key_every
        self._refreshes = refreshes
        self._time_base = time_base
        self._since_key = 0
        self._since_cut = 0
        self._learned_psnr: float | None = None
        self._behind = False

    def plan(
        self,
        last: FrameEntry | None,
        time: Fraction | float,
        number: int | None,
        captured: float | None,
        *,
        cut: bool,
        hurried: bool = False,
    ) -> FramePlan:
        """Plan the frame that follows `last`.

        Args:
            time: presentation time in seconds.
            number: the capture's frame number; the next one if None.
            captured: when it was captured, in seconds since 1970, or None.
            cut: whether it shows another scene.
            hurried: whether it has a deadline, so that there is no time for a refresh.

        Raises:
            UsageError: it does not come after the last frame, or its number or time exceeds what a file can hold.
        """
        if number is None:
            number = last.number + 1 if last else 0
        ticks = ticks_of(number, time, self._time_base)
        if last and not last.precedes(number, ticks * self._time_base):
            raise UsageError(f"frame {number} at {float(time):g} s does not come after frame {last.number}")
        milliseconds = None if captured is None else round(1000 * captured)
        key = cut or is_due(self._since_key, self._key_every)
        stage = self._stage(cut)
        if key and stage != "key" and self._refreshes and not hurried:
            stage = "refresh"
        return FramePlan(number, ticks, key, stage, milliseconds)

    def _stage(self, cut: bool) -> Stage:
        if cut or self._since_cut == 0:
            return "key"
        if self._warmup is None or self._since_cut <= self._warmup or self._behind:
            return "all"
        return "lead"

    def begin_within_scene(self, stats: Stats) -> None:
        """The file begins within a scene that was learned before, in a frame of another file with these statistics."""
        self._note(stats)

    def observe(self, key: bool, stats: Stats) -> None:
        """A frame was written, as a keyframe or not; also for those of a file that is continued."""
        self._since_key = 1 if key else self._since_key + 1
        self._note(stats)

    def _note(self, stats: Stats) -> None:
        self._since_cut = 1 if stats.stage == "key" else self._since_cut + 1
        if stats.fidelity is None:
            return
        psnr = stats.fidelity.psnr
        if self._learned_psnr is None or (self._warmup is not None and self._since_cut <= self._warmup + 1):
            self._learned_psnr = psnr
        # One frame trains everything; the next one goes by what that achieved.
        self._behind = not self._behind and psnr < self._learned_psnr - _REFRESH_LOSS
