"""Progress of long tasks: a bar on a terminal, JSON lines for programs, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from invcodec.encoding.report import Estimate, FrameReport, LiveReport, Outcome, Progress

from .terminal import note, say_json
from .values import bits_text, bytes_text, psnr_text, seconds_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_SHOWN_FROM = 5_000_000
"""Bytes; smaller files are done before a bar would be noticed."""


def choose(mode: str) -> Progress:
    """The progress of an encode, by the value of --progress."""
    if mode == "json":
        return JsonProgress()
    if mode == "bar" or (mode == "auto" and sys.stderr.isatty()):
        return BarProgress()
    return QuietProgress()


def target_text(outcome: Outcome) -> str:
    """The outcome of a target, such as `size 498 kB, requested 500 kB`."""
    name, shown = {
        "psnr": ("PSNR", lambda value: f"{value:.2f} dB"),
        "size": ("size", bytes_text),
        "bitrate": ("bit rate", bits_text),
        "max_frame_bytes": ("largest frame", bytes_text),
    }[outcome.name]
    text = f"{name} {shown(outcome.achieved)}, requested {shown(outcome.asked)}"
    if outcome.fidelity is None or outcome.fidelity.psnr_moving is None:
        return text
    return f"{text} (all pixels {psnr_text(outcome.fidelity)})"


def report_missed(outcome: Outcome) -> None:
    """Report a missed target on standard error."""
    if not outcome.met:
        note(f"target missed: {target_text(outcome)}")


class QuietProgress(Progress):
    """Reports only missed targets."""

    def target_done(self, outcome: Outcome) -> None:
        report_missed(outcome)


class JsonProgress(Progress):
    """One JSON object per line on standard error: one for each frame, then one for each target."""

    def frame_done(self, report: FrameReport) -> None:
        line = {
            "frame": report.number,
            "kind": report.kind,
            "stage": report.stage,
            "time": float(report.time),
            "seconds": round(report.seconds, 3),
            "steps": report.steps,
            "loss": report.loss,
            "psnr": round(report.fidelity.psnr, 3),
            "psnr_moving": _rounded(report.fidelity.psnr_moving),
            "moving_share": _rounded(report.fidelity.moving_share),
            "bytes": report.bytes,
        }
        if isinstance(report, LiveReport):
            for name in ("captured", "queue", "training", "coding", "deadline"):
                line[name] = round(getattr(report, name), 3)
            line["dropped"] = report.dropped
        say_json(line, err=True, indent=None)

    def target_done(self, outcome: Outcome) -> None:
        say_json(outcome.describe(), err=True, indent=None)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


class TimeLeft:
    """How long an encode will still take.

    Attributes:
        frames: that are still to be encoded, the current one included.
        estimate: what this machine is expected to take, as far as that is known.
        stage: of the current frame.
    """

    _TELLING = 0.1
    """From this fraction of a frame on, its own pace tells more than the estimate: its first steps are small."""

    def __init__(self) -> None:
        self.frames = 0
        self.estimate: Estimate | None = None
        self.stage = ""
        self._later: float | None = None

    def now(self, fraction: float, elapsed: float) -> float | None:
        """Seconds left once a fraction of the current frame is done, after `elapsed` seconds; None if unknown."""
        key, later, share = None, self._later, 1.0
        if self.estimate is not None:
            key, later, share = self.estimate.key, later or self.estimate.later, self.estimate.later_share
        this = key if self.stage == "key" else later
        if this is None or fraction > self._TELLING:
            if fraction <= 0:
                return None
            this = elapsed / min(fraction, 1.0)
        if later is None:
            later = share * this if self.stage == "key" else this
        return max(0.0, this - elapsed) + (self.frames - 1) * later

    def frame_done(self, report: FrameReport) -> None:
        self.frames -= 1
        if report.stage != "key":
            self._later = report.seconds


class BarProgress(Progress):
    """A bar over all frames, with PSNR of the current one in training and of the last one, bytes and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._bar: RichProgress = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[training]}"),
            TextColumn("{task.fields[last]}"),
            TextColumn("{task.fields[size]}"),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
            refresh_per_second=4,
        )
        self._left = TimeLeft()
        self._done = 0
        self._bytes = 0
        self._dropped = 0
        self._outcomes: list[Outcome] = []

    def start(self, frames: int | None) -> None:
        self._frames = frames
        self._left.frames = frames or 0
        self._task = self._bar.add_task("preparing", total=frames, training="", last="", size="", left="")
        self._bar.start()

    def prepared(self, estimate: Estimate) -> None:
        self._left.estimate = estimate

    def frame_started(self, number: int, stage: str) -> None:
        self._began = monotonic()
        self._left.stage = stage
        count = self._done + 1
        self._bar.update(
            self._task, description=f"frame {number} ({f'{count}/{self._frames}' if self._frames else count}, {stage})"
        )

    def step(self, fraction: float, loss: float, psnr: float) -> None:
        self._bar.update(
            self._task,
            completed=self._done + min(fraction, 1.0),
            training=f"{psnr:.2f} dB",
        )
        if self._frames is not None:
            left = self._left.now(fraction, monotonic() - self._began)
            self._bar.update(self._task, left="" if left is None else f"{seconds_text(left)} left")

    def frame_done(self, report: FrameReport) -> None:
        self._done += 1
        self._bytes += report.bytes
        self._left.frame_done(report)
        last = f"last {psnr_text(report.fidelity)}"
        self._bar.update(self._task, completed=self._done, last=last, size=bytes_text(self._bytes))
        if isinstance(report, LiveReport):
            self._dropped += report.dropped
            late = f", {seconds_text(report.seconds - report.deadline)} late" if report.late else ""
            self._bar.update(self._task, left=f"{self._dropped} dropped{late}")

    def frames_there(self, count: int) -> None:
        self._done += count
        self._left.frames -= count
        self._bar.update(self._task, completed=self._done)

    def target_done(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)

    def finish(self) -> None:
        self._bar.stop()
        for outcome in self._outcomes:
            if outcome.met:
                note(f"target met: {target_text(outcome)}")
            report_missed(outcome)


@contextmanager
def measured(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar over `total` bytes, if standard error is a terminal; yields a function that takes the bytes done."""
    if not total or total < _SHOWN_FROM or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    with RichProgress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar over `total` items, if standard error is a terminal; yields a function to call after each item."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    with RichProgress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
