"""What an encoder says while it works."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from invcodec.container.frame import Stage
from invcodec.encoding.rate import Outcome


@dataclass(frozen=True)
class FrameReport:
    """What encoding one frame took and gave.

    Attributes:
        kind: of its record.
        stage: "key" and "warmup" train everything, "transfer" the lead structure tensors alone; "refresh" is a
            later frame that trains everything because the scene changed more than structure can follow.
        seconds: from receiving the images to the flushed record.
        psnr: in dB, of the decoded frame on the validation pixels (`invcodec.training.validation`).
        bytes: of the record.
    """

    number: int
    kind: str
    stage: Stage
    time: Fraction
    seconds: float
    steps: int
    loss: float
    psnr: float
    bytes: int


@dataclass(frozen=True)
class LiveReport(FrameReport):
    """What encoding a frame took while others came.

    Attributes:
        captured: when its last image arrived, in seconds as of `time.time`.
        queue: seconds from then until the encoder took it.
        training: seconds of preparing and optimising.
        coding: seconds of all that follows: quantising, coding, measuring, writing.
        deadline: seconds that it was given.
        dropped: frames that came and were not taken, since the last one that was.
    """

    captured: float = 0.0
    queue: float = 0.0
    training: float = 0.0
    coding: float = 0.0
    deadline: float = 0.0
    dropped: int = 0


class Progress:
    """Told how an encode goes; this one ignores it all."""

    def start(self, frames: int | None) -> None:
        """Called once, with the number of frames to come, if it is known."""

    def frame_started(self, number: int, stage: str) -> None: ...

    def step(self, fraction: float, loss: float, psnr: float) -> None:
        """Called after every training step."""

    def frame_done(self, report: FrameReport) -> None: ...

    def target_done(self, outcome: Outcome) -> None:
        """Called for each target once a file is complete."""

    def finish(self) -> None:
        """Called once, whatever happened."""
