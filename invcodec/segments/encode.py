"""A capture to a file in segments, one after another in this process unless something else schedules them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from invcodec.capture.capture import Capture
from invcodec.encoding.report import FrameReport, Progress
from invcodec.encoding.settings import Settings
from invcodec.errors import Interrupted
from invcodec.output import written
from invcodec.segments.join import join, outcomes
from invcodec.segments.piece import encode_piece, measure
from invcodec.segments.plan import Plan, make_plan


class WithinProgress(Progress):
    """Hands on what an encode says of its frames, as a part of a larger one.

    Args:
        progress: of all.

    Attributes:
        frames: how many were encoded so far.
        seconds: what these took.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._all = progress or Progress()
        self._reported: set[int] = set()
        self.frames = 0
        self.seconds = 0.0

    def frame_started(self, number: int, stage: str) -> None:
        self._all.frame_started(number, stage)

    def step(self, fraction: float, loss: float, psnr: float) -> None:
        self._all.step(fraction, loss, psnr)

    def frame_done(self, report: FrameReport) -> None:
        self._reported.add(report.number)
        self.frames += 1
        self.seconds += report.seconds
        self._all.frame_done(report)

    def segment_done(self, numbers: range, reports: Sequence[FrameReport] = ()) -> None:
        """A segment is done; these are the reports of its frames, unless `frame_done` was called for each."""
        for report in reports:
            self.frame_done(report)
        self._all.frames_there(len(numbers) - len(self._reported.intersection(numbers)))
        self._reported.difference_update(numbers)


class Scheduler(Protocol):
    """Has the parts of an encode done somewhere."""

    def plan(
        self,
        place: str,
        capture: Capture,
        settings: Settings,
        segments: Sequence[range],
        *,
        progress: Progress,
    ) -> Plan:
        """As `invcodec.segments.plan.make_plan`."""

    def encode(self, plan: Plan, capture: Capture, progress: WithinProgress) -> None:
        """Encode all pieces that are not done.

        Raises:
            InvError: segments that cannot be encoded; the others are.
            Interrupted: stopped by Ctrl-C; what was finished stays.
        """


class Sequentially:
    """In this process, one segment after another."""

    plan = staticmethod(make_plan)

    def encode(self, plan: Plan, capture: Capture, progress: WithinProgress) -> None:
        """As of `Scheduler`; stops at a segment that cannot be encoded."""
        finished = 0
        try:
            if plan.shares_size:
                for index in range(len(plan.segments)):
                    measure(plan, capture, index)
            for index, numbers in enumerate(plan.segments):
                encode_piece(plan, capture, index, progress=progress)
                progress.segment_done(numbers)
                finished += 1
        except (KeyboardInterrupt, Interrupted):
            raise interrupted(finished, plan) from None


def encode_in_segments(
    capture: Capture,
    path: str | os.PathLike[str],
    settings: Settings,
    segments: Sequence[range],
    place: str,
    *,
    scheduler: Scheduler | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> WithinProgress:
    """Encode a capture in segments and join them; what an earlier call has finished is not done again.

    Args:
        path: of the file.
        segments: frame numbers of each, which make up the capture's.
        place: folder or URL of the plan and its pieces, which stay there.
        force: replace an existing file.

    Returns:
        How many frames were encoded now, and in what time.

    Raises:
        UsageError: the file exists, or cannot be written; or `place` holds another plan.
        InvError: segments that cannot be encoded.
        Interrupted: stopped by Ctrl-C; what was finished stays.
    """
    scheduler, shown = scheduler or Sequentially(), progress or Progress()
    within = WithinProgress(shown)
    shown.start(len(capture.numbers))
    try:
        # Where a target decides quality, the base is not a frame of the file.
        first = Progress() if settings.target.decides_quality else within
        try:
            plan = scheduler.plan(place, capture, settings, segments, progress=first)
        except (KeyboardInterrupt, Interrupted):
            raise Interrupted("interrupted before the first frame was finished; nothing was written") from None
        scheduler.encode(plan, capture, within)
        with written(Path(path), force) as out:
            join(plan, out.file)
        for outcome in outcomes(plan, os.fspath(path)):
            shown.target_done(outcome)
        return within
    finally:
        shown.finish()


def interrupted(finished: int, plan: Plan) -> Interrupted:
    """The error that reports an interrupt to the user."""
    return Interrupted(
        f"interrupted; {finished} of {len(plan.segments)} segments are done, and the same command continues"
    )
