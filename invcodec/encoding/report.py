"""Progress and per-frame reports of an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NotRequired, TypedDict

from invcodec.container.frame import Stage
from invcodec.metrics import Fidelity


@dataclass(frozen=True)
class FrameReport:
    """Cost and result of encoding one frame.

    Attributes:
        kind: of its record.
        stage: what is trained: "key" everything from nothing, "all" every tensor, "lead" the lead tensors alone,
            "refresh" every tensor of a keyframe, from the last frame on.
        seconds: from receiving the images to the flushed record.
        fidelity: of the decoded frame on the validation pixels (`invcodec.training.validation`).
        bytes: of the record.
    """

    number: int
    kind: str
    stage: Stage
    time: Fraction
    seconds: float
    steps: int
    loss: float
    fidelity: Fidelity
    bytes: int


@dataclass(frozen=True)
class LiveReport(FrameReport):
    """Cost of encoding one live frame.

    Attributes:
        captured: arrival of its last image, in seconds since 1970.
        queue: seconds from then until the encoder took it.
        training: seconds of preparing and optimising.
        coding: seconds of quantising, coding, measuring and writing.
        deadline: seconds allowed.
        dropped: frames that arrived since the last encoded one and were not encoded.
    """

    captured: float = 0.0
    queue: float = 0.0
    training: float = 0.0
    coding: float = 0.0
    deadline: float = 0.0
    dropped: int = 0

    @property
    def late(self) -> bool:
        """Whether the frame missed its deadline."""
        return self.seconds > self.deadline


@dataclass(frozen=True)
class Outcome:
    """The result for one target.

    Attributes:
        name: of its field in `invcodec.encoding.rate.Target`.
        fidelity: means over frames, of a target PSNR.
    """

    name: str
    asked: float
    achieved: float
    met: bool
    fidelity: Fidelity | None = None

    def describe(self) -> OutcomeDescription:
        """In types that JSON has."""
        described: OutcomeDescription = {
            "target": self.name,
            "asked": self.asked,
            "achieved": self.achieved,
            "met": self.met,
        }
        if self.fidelity is not None:
            described["psnr"], described["psnr_moving"] = self.fidelity.psnr, self.fidelity.psnr_moving
        return described


class OutcomeDescription(TypedDict):
    """Result of `Outcome.describe`."""

    target: str
    asked: float
    achieved: float
    met: bool
    psnr: NotRequired[float]
    """Of a target PSNR: mean over frames, of all pixels, in dB."""
    psnr_moving: NotRequired[float | None]
    """The same of moving pixels; None if they are not known or too few."""


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of an encode.

    Attributes:
        key: seconds of the first frame, or None if nothing is known of this machine's speed.
        later: seconds of a later frame at most, keyframes that are due included; or None.
        later_share: steps of such a frame over those of the first, where nothing is known.
        frames: of the encode.
        bytes: of the file.
    """

    key: float | None
    later: float | None
    later_share: float
    frames: int
    bytes: int

    @property
    def seconds(self) -> float | None:
        """Of the whole encode."""
        if self.key is None or self.later is None:
            return None
        return self.key + (self.frames - 1) * self.later


class Progress:
    """Receives the progress of an encode; this base class ignores it."""

    def start(self, frames: int | None) -> None:
        """Called once by `encode_capture`, `resume` and `encode_live`, with the number of frames to encode if known."""

    def prepared(self, estimate: Estimate) -> None:
        """Called once before the first frame, if the number of frames is known: what the encode is expected to take."""

    def frame_started(self, number: int, stage: str) -> None: ...

    def step(self, fraction: float, loss: float, psnr: float) -> None:
        """Called after every training step."""

    def frame_done(self, report: FrameReport) -> None: ...

    def frames_there(self, count: int) -> None:
        """Called where so many of the frames to encode turn out to be encoded already."""

    def target_done(self, outcome: Outcome) -> None:
        """Called for each target once the file is complete."""

    def finish(self) -> None:
        """Called once by the same functions at the end, also after an error."""
