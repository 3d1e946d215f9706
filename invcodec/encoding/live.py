"""Live encoding: each frame is taken from the newest images and written within its deadline."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import partial
from time import perf_counter as clock
from typing import BinaryIO

import numpy as np

from invcodec.capture.live.source import LiveFrame, LiveSource, Newest
from invcodec.encoding.encode import recorded
from invcodec.encoding.encoder import Encoder
from invcodec.encoding.recording import Recording
from invcodec.encoding.report import FrameReport, LiveReport, Outcome, Progress
from invcodec.encoding.settings import Settings
from invcodec.errors import UsageError
from invcodec.interrupts import deferred, interruptible
from invcodec.training.schedule import LEAST_SECONDS, Budget, check_seconds

_MARGIN = 1.1
_SLACK = 0.01
"""Time reserved for everything but training: this factor of what it took before, plus this many seconds."""
_FORGET = 0.2
"""Decay of earlier, longer times."""
_OUTLIER = 2.0
"""Times longer than before by this factor are treated as outliers."""


@dataclass(frozen=True)
class Done:
    """Totals of a live encode: frames written, frames dropped, and frames that missed their deadline."""

    frames: int
    dropped: int
    late: int


def encode_live(
    source: LiveSource,
    path: str | os.PathLike[str] | BinaryIO,
    settings: Settings,
    *,
    key_seconds: float,
    seconds_per_frame: float,
    frames: tuple[int | None, int | None] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Done:
    """Encode from cameras until the source ends, the last frame is done, or Ctrl-C; each completes the file.

    A frame is taken, trained, coded and written within its deadline. Frames that arrive meanwhile are dropped and leave
    gaps in the file's frame numbers; encoding continues with the newest one. The file appears under its name with its
    first keyframe.

    Args:
        path: of the file, or a file object to write to, such as a pipe.
        key_seconds: deadline of the first keyframe.
        seconds_per_frame: deadline of every other frame.
        frames: first frame number, and one past the last; None leaves that end open.
        force: replace an existing file.

    Raises:
        UsageError: a deadline is out of range, the file exists or cannot be written, or no frame arrived.
        CaptureError: the source failed; finished frames are in the file.
        Interrupted: Ctrl-C before the first frame was finished.
    """
    check_seconds("key seconds", key_seconds)
    check_seconds("seconds per frame", seconds_per_frame)
    first, stop = frames or (None, None)
    timing = _Timing(progress or Progress())
    with deferred(), recorded(Recording(path, force=force), progress, None) as recording:
        pace = _rehearse(source, settings, _Pace(key_seconds, seconds_per_frame))
        dropped = late = 0
        with _encoder(source, recording, settings, pace, timing) as encoder:
            # After the first frame, Ctrl-C ends the recording normally.
            with _ended_by_interrupt(encoder), source.filming() as newest:
                taken = 0
                while (live := _take(source, newest, bool(encoder.frames))) is not None:
                    if stop is not None and live.frame.number >= stop:
                        break
                    skipped, taken = live.received - taken - 1, live.received
                    if first is not None and live.frame.number < first:
                        continue
                    report = _push(encoder, live, pace, timing, skipped if encoder.frames else 0)
                    dropped += report.dropped
                    late += report.late
                    if stop is not None and live.frame.number == stop - 1:
                        break
            if not encoder.frames:
                raise UsageError(f"{source.name}: ended before the first frame was finished; nothing was written")
        return Done(len(encoder.frames), dropped, late)


@contextmanager
def _ended_by_interrupt(encoder: Encoder) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if not encoder.frames:
            raise


def _take(source: LiveSource, newest: Newest, begun: bool) -> LiveFrame | None:
    with interruptible():
        return source.take(newest, begun)


def _encoder(
    source: LiveSource, out: Recording | BinaryIO, settings: Settings, pace: _Pace, progress: Progress | None
) -> Encoder:
    return Encoder(
        out,
        source.cameras,
        settings,
        fps=source.fps,
        source_size=source.source_size,
        downscale=source.downscale,
        transparent=source.transparent,
        points=source.points,
        pace=1 / Fraction(pace.seconds_per_frame).limit_denominator(1000),
        progress=progress,
    )


class _Pace:
    """Splits each frame's deadline between training and everything else, from what everything else took before."""

    def __init__(self, key_seconds: float, seconds_per_frame: float) -> None:
        self.key_seconds = key_seconds
        self.seconds_per_frame = seconds_per_frame
        self._rest: dict[str, float] = {}
        self._step = 0.0

    def deadline(self, index: int) -> float:
        return self.seconds_per_frame if index else self.key_seconds

    def training(self, index: int, kind: str) -> float:
        """Seconds to train frame `index`, which becomes a record of this kind."""
        # The last step may overrun by its own length.
        rest = _MARGIN * self._rest[kind] + self._step + _SLACK
        if index == 0:
            # A trained scene, not seen yet, takes longer to code than a rehearsal's noise.
            rest = 1.5 * rest + 0.02 * self.key_seconds
        return max(LEAST_SECONDS, self.deadline(index) - rest)

    def observe(self, kind: str, rest: float, step: float) -> None:
        """Record the seconds that a frame took apart from its training steps, and the seconds of one step."""
        before = self._rest.get(kind, rest)
        rest = min(rest, _OUTLIER * before + _SLACK)
        self._rest[kind] = max(rest, before + _FORGET * (rest - before))
        self._step = step if not self._step else self._step + _FORGET * (min(step, _OUTLIER * self._step) - self._step)


class _Timing(Progress):
    """Forwards an encoder's progress and notes when it trained; frame reports are left to `_push`.

    Attributes:
        began, ended: start of the first training step, and end of the last one.
    """

    def __init__(self, to: Progress) -> None:
        self.to = to
        self.began = self.ended = 0.0

    def frame_started(self, number: int, stage: str) -> None:
        self.to.frame_started(number, stage)
        self.began = self.ended = clock()

    def step(self, fraction: float, loss: float, psnr: float) -> None:
        self.ended = clock()
        self.to.step(fraction, loss, psnr)

    def target_done(self, outcome: Outcome) -> None:
        self.to.target_done(outcome)

    @property
    def optimising(self) -> float:
        """Seconds spent on training steps."""
        return self.ended - self.began


def _push(encoder: Encoder, live: LiveFrame, pace: _Pace, timing: _Timing, dropped: int) -> LiveReport:
    """Encode one frame within its deadline."""
    index = len(encoder.frames)
    queue, started = max(0.0, time.time() - live.arrived), clock()
    report = encoder.push(
        live.frame.images,
        time=live.frame.time,
        number=live.frame.number,
        masks=live.frame.masks,
        seconds=partial(pace.training, index),
        captured=live.arrived,
    )
    # Also reserve time for steering that overran training.
    rest = report.seconds - min(timing.optimising, pace.training(index, report.kind))
    pace.observe(report.kind, rest, timing.optimising / max(report.steps, 1))
    done = LiveReport(
        **{field.name: getattr(report, field.name) for field in fields(FrameReport)},
        captured=live.arrived,
        queue=queue,
        training=timing.ended - started,
        coding=report.seconds - (timing.ended - started),
        deadline=pace.deadline(index),
        dropped=dropped,
    )
    timing.to.frame_done(done)
    return done


def _rehearse(source: LiveSource, settings: Settings, pace: _Pace) -> _Pace:
    """Encode a few frames of noise to memory, so that everything is compiled and coding time is known.

    A quarter of the pictures changes from frame to frame: if all did, each frame would be a cut.
    """
    rng = np.random.default_rng(0)
    few = Budget(steps=2)
    brief = replace(
        settings,
        key=replace(settings.key, budget=few),
        warm=replace(settings.warm, budget=few),
        delta=replace(settings.delta, budget=few),
        refresh=None,
        key_every=3,
        warmup=1,
    )
    timing = _Timing(Progress())
    encoder = _encoder(source, io.BytesIO(), brief, pace, timing)
    channels = 4 if source.transparent else 3
    images = [rng.integers(0, 256, (c.height, c.width, channels), np.uint8) for c in source.cameras]
    for index in range(6):
        images = [np.vstack([rng.permuted(image[: len(image) // 4]), image[len(image) // 4 :]]) for image in images]
        report = encoder.push(images, time=index / source.fps)
        if index >= 2:
            pace.observe(report.kind, report.seconds - timing.optimising, timing.optimising / report.steps)
    return pace
