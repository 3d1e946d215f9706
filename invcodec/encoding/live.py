"""Encoding while it is filmed: every frame within its deadline, from the newest images that there are."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from time import perf_counter as clock
from typing import BinaryIO

import numpy as np

from invcodec.capture.live.source import LiveFrame, LiveSource, Newest
from invcodec.encoding.encode import recorded
from invcodec.encoding.encoder import Encoder
from invcodec.encoding.keyframes import is_keyframe
from invcodec.encoding.presets import Settings
from invcodec.encoding.rate import Outcome
from invcodec.encoding.recording import Recording
from invcodec.encoding.report import FrameReport, LiveReport, Progress
from invcodec.errors import UsageError
from invcodec.interrupts import deferred, interruptible
from invcodec.training.schedule import Budget

KEY_EVERY = 30
"""Frames from one keyframe to the next unless it is said otherwise: who joins late waits for so many deltas at most."""
_MARGIN = 1.1
_SLACK = 0.01
"""Time held back for what is not training: so many times what it took before, and so many seconds more."""
_FORGET = 0.2
"""How fast longer times of before are forgotten."""
_OUTLIER = 2.0
"""A time so many times longer than before says more about the machine than about the next frame."""
_LEAST = 1e-3


@dataclass(frozen=True)
class Done:
    """What a live encode came to: frames in the file, frames that came and were dropped, and missed deadlines."""

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
    """Encode what is filmed until the source ends, the last frame is done, or Ctrl-C; each is a proper end.

    A frame is taken, trained, coded and written within its deadline. What comes meanwhile is dropped, and missing in
    the file's frame numbers; the next frame is the newest one then. The file appears under its name with its first
    keyframe.

    Args:
        path: of the file, or a file object to write to, such as a pipe.
        key_seconds: deadline of the first keyframe.
        seconds_per_frame: deadline of every other frame.
        frames: first frame number, and the one behind the last; None for either end.
        force: replace an existing file.

    Raises:
        UsageError: the file exists or cannot be written, or no frame came.
        CaptureError: the source broke; what was finished is in the file.
    """
    first, stop = frames or (None, None)
    if settings.key_every is None:
        settings = replace(settings, key_every=KEY_EVERY)
    timing = _Timing(progress or Progress())
    with deferred(), recorded(Recording(path, force=force), progress, None) as recording:
        pace = _rehearse(source, settings, _Pace(key_seconds, seconds_per_frame))
        dropped = late = 0
        with _encoder(source, recording, settings, pace, timing) as encoder:
            # Once there is a frame, Ctrl-C is a proper end.
            with _ended_by_interrupt(encoder), source.filming() as newest:
                received = 0
                while (live := _take(source, newest, bool(encoder.frames))) is not None:
                    if stop is not None and live.frame.number >= stop:
                        break
                    skipped, received = newest.received - received - 1, newest.received
                    if first is not None and live.frame.number < first:
                        continue
                    report = _push(encoder, live, pace, timing, max(skipped, 0) if encoder.frames else 0)
                    dropped += report.dropped
                    late += report.seconds > report.deadline
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
        pace=1 / Fraction(pace.seconds_per_frame).limit_denominator(1000),
        progress=progress,
    )


class _Pace:
    """Divides each frame's deadline between training and everything else, by what everything else took before."""

    def __init__(self, key_seconds: float, seconds_per_frame: float) -> None:
        self.key_seconds = key_seconds
        self.seconds_per_frame = seconds_per_frame
        self._rest: dict[str, float] = {}
        self._step = 0.0

    def deadline(self, index: int) -> float:
        return self.seconds_per_frame if index else self.key_seconds

    def training(self, index: int, kind: str) -> float:
        """Seconds to train the `index`-th frame, which becomes a record of this kind."""
        # A step that begins in time ends after it.
        rest = _MARGIN * self._rest[kind] + self._step + _SLACK
        if index == 0:
            # Nobody has seen a trained scene yet, whose integers take longer to code than those of a rehearsal.
            rest = 1.5 * rest + 0.02 * self.key_seconds
        return max(_LEAST, self.deadline(index) - rest)

    def observe(self, kind: str, rest: float, step: float) -> None:
        """Take note of how many seconds a frame took but for its training steps, and how many one of those took."""
        before = self._rest.get(kind, rest)
        rest = min(rest, _OUTLIER * before + _SLACK)
        self._rest[kind] = max(rest, before + _FORGET * (rest - before))
        self._step = step if not self._step else self._step + _FORGET * (min(step, _OUTLIER * self._step) - self._step)


class _Timing(Progress):
    """Passes an encoder's progress on, and remembers when it trained; reports are left to `_push`.

    Attributes:
        began, ended: when the first training step began, and when the last one ended.
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
        """Seconds of training steps."""
        return self.ended - self.began


def _push(encoder: Encoder, live: LiveFrame, pace: _Pace, timing: _Timing, dropped: int) -> LiveReport:
    """Encode one frame within its deadline."""
    index = len(encoder.frames)
    kind = "key" if is_keyframe(index, encoder.settings.key_every) else "delta"
    training = pace.training(index, kind)
    queue, started = max(0.0, time.time() - live.arrived), clock()
    report = encoder.push(
        live.frame.images,
        time=live.frame.time,
        number=live.frame.number,
        masks=live.frame.masks,
        seconds=training,
        captured=live.arrived,
    )
    # What steering towards a target took from behind the end of training is to be kept back, too.
    rest = report.seconds - min(timing.optimising, training)
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
    """Encode a few frames of noise to nowhere: everything is compiled then, and it is known how long coding takes."""
    rng = np.random.default_rng(0)
    few = Budget(steps=2)
    brief = replace(
        settings,
        key=replace(settings.key, budget=few),
        warm=replace(settings.warm, budget=few),
        delta=replace(settings.delta, budget=few),
        key_every=3,
        warmup=1,
    )
    timing = _Timing(Progress())
    encoder = _encoder(source, io.BytesIO(), brief, pace, timing)
    for index in range(6):
        images = [rng.integers(0, 256, (c.height, c.width, 3), np.uint8) for c in source.cameras]
        report = encoder.push(images, time=index / source.fps)
        if index >= 2:
            pace.observe(report.kind, report.seconds - timing.optimising, timing.optimising / report.steps)
    return pace
