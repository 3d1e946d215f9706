"""How the next frame is encoded: as a keyframe or a delta, and which of its tensors are trained."""

from __future__ import annotations

from dataclasses import dataclass

from invcodec.container.frame import Stage
from invcodec.encoding.settings import Settings
from invcodec.training.schedule import Schedule

_REFRESH_LOSS = 2.0
"""A frame this many dB worse than the scene was learned calls for its colour layers: the next frame trains all."""


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
    def first(self) -> bool:
        """Whether it is the file's first frame, which has nothing to start from."""
        return self.stage == "key"

    def schedule(self, settings: Settings) -> Schedule:
        """How settings have this frame trained."""
        if self.stage == "key":
            return settings.key
        return settings.delta if self.stage == "transfer" else settings.warm


class Planner:
    """Decides the stage of each frame from its place in the file and the quality of those before it (INV, section 3.2).

    After the warm-up only structure is trained. Where the scene changes more than structure can follow, one frame
    trains everything again.
    """

    def __init__(self, warmup: int) -> None:
        self._warmup = warmup
        self._learned_psnr: float | None = None
        self._refresh = False

    def stage(self, index: int) -> Stage:
        """The stage of the file's frame `index`, counted from 0."""
        if index == 0:
            return "key"
        if index <= self._warmup:
            return "warmup"
        return "refresh" if self._refresh else "transfer"

    def observe(self, stage: Stage, psnr: float) -> None:
        """Take note of how well a frame was learned, in dB."""
        if self._learned_psnr is None or stage in ("key", "warmup"):
            self._learned_psnr = psnr
        self._refresh = stage != "refresh" and psnr < self._learned_psnr - _REFRESH_LOSS
