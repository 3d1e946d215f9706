"""One segment of a plan: its piece, or how hard it is. Anyone may do any of them, twice and at the same time too."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace

from invcodec.capture.capture import Capture
from invcodec.container.reader import Reader
from invcodec.editing.verify import verify
from invcodec.encoding.capacity import STEPS
from invcodec.encoding.encode import encode_segment
from invcodec.encoding.keyframes import keyframes_among
from invcodec.encoding.rate import NO_TARGET
from invcodec.encoding.report import FrameReport, Progress
from invcodec.encoding.segment import Segment
from invcodec.encoding.settings import Settings
from invcodec.errors import InvError, UsageError
from invcodec.segments.plan import Plan
from invcodec.training.schedule import Schedule

_QUICK = "draft"
"""The preset whose steps tell how hard a segment is."""
_PAIRS = 3
"""Pairs of neighbouring frames that tell it, spread over the segment."""


def piece_name(index: int) -> str:
    """The file of a segment, within its plan."""
    return f"pieces/{index:06d}.inv"


def _measured_name(index: int) -> str:
    return f"measured/{index:06d}.json"


def is_done(plan: Plan, index: int) -> bool:
    """Whether a segment's piece is there, is that of this plan, and decodes to its digests."""
    name = piece_name(index)
    if not plan.store.has(name):
        return False
    with plan.store.opened(name) as path:
        try:
            check_piece(plan, index, path)
            return verify(path).status == "complete"
        except InvError:
            return False


def check_piece(plan: Plan, index: int, path: object) -> None:
    """Check that a file is the piece of a segment, and complete, without decoding it.

    Raises:
        UsageError: it is not.
        DamagedError: it is no file of frames.
    """
    numbers = plan.numbers(index)
    with Reader(str(path)) as reader:
        note = reader.head.encoder.get("segment")
        expected = {"plan": plan.digest, "frames": [numbers.start, numbers.stop]}
        if not isinstance(note, dict) or {key: note.get(key) for key in expected} != expected:
            raise UsageError(f"{reader.name}: is not of this plan; remove it")
        if reader.status != "complete" or [entry.number for entry in reader.frames] != list(numbers):
            raise UsageError(f"{reader.name}: is {reader.status}, and not all of frames {numbers.start}:{numbers.stop}")


def encode_piece(plan: Plan, capture: Capture, index: int, *, progress: Progress | None = None) -> list[FrameReport]:
    """Encode a segment's piece, unless it is done.

    Args:
        capture: as of `Plan.open_capture`.

    Raises:
        UsageError: no such segment, or segments have to be measured first.
        CaptureError: a frame cannot be read.
        InvError: the piece cannot be written.
        Interrupted: stopped by Ctrl-C; the piece is not there.
    """
    if is_done(plan, index):
        return []
    with plan.opened_base() as base:
        segment = plan.segment(index, base.head, hardnesses(plan) if plan.shares_size else ())
        # A target decides what the first frame costs, and the base knows of none.
        keep = index == 0 and not plan.settings.target.decides_quality
        with plan.store.writing(piece_name(index)) as file:
            return encode_segment(capture, file, plan.settings, segment, base, keep=keep, progress=progress)


def measure(plan: Plan, capture: Capture, index: int) -> float:
    """Find how hard a segment is, unless that is known: the bytes that it takes, of a few steps at the usual quality.

    Raises:
        as `encode_piece`.
    """
    name = _measured_name(index)
    if plan.store.has(name):
        return _hardness(plan, index)
    numbers, settings = plan.numbers(index), plan.settings
    runs = _pairs(numbers)
    with plan.opened_base() as base:
        segment = Segment(plan.digest, numbers)
        reports = encode_segment(capture, io.BytesIO(), _quick(settings), segment, base, runs=runs)
    taken = {report.number: report.bytes for report in reports}
    key = taken[numbers.start]
    # What the first frame of a later pair takes tells how far it is from the one before.
    later = [taken[number] for run in runs for number in run[1:]]
    keys = keyframes_among(len(numbers), settings.key_every)
    hardness = keys * key + (len(numbers) - keys) * (sum(later) / len(later) if later else 0.0)
    with plan.store.writing(name) as file:
        file.write(json.dumps({"plan": plan.digest.hex(), "bytes": hardness}).encode())
    return hardness


def _pairs(numbers: range) -> list[range]:
    """Pairs of neighbouring frames; or all frames, if they are few."""
    if len(numbers) <= 2 * _PAIRS:
        return [numbers]
    places = (round(at * (len(numbers) - 2) / (_PAIRS - 1)) for at in range(_PAIRS))
    return [numbers[place : place + 2] for place in places]


def hardnesses(plan: Plan) -> Sequence[float]:
    """How hard all segments are.

    Raises:
        UsageError: one has not been measured.
    """
    return [_hardness(plan, index) for index in range(len(plan.segments))]


def _hardness(plan: Plan, index: int) -> float:
    name = _measured_name(index)
    if not plan.store.has(name):
        raise UsageError(
            f"{plan.store.place}: segment {index} is not measured, which a target size needs; "
            "'invcodec segments measure' does that"
        )
    with plan.store.opened(name) as path:
        try:
            found = json.loads(path.read_bytes())
            if bytes.fromhex(found["plan"]) == plan.digest and float(found["bytes"]) > 0:
                return float(found["bytes"])
        except (KeyError, TypeError, ValueError, OSError):
            pass
    raise UsageError(f"{plan.store.name(name)}: is not of this plan; remove it")


def _quick(settings: Settings) -> Settings:
    """Settings of fewer steps, without a target."""
    key, later = STEPS[_QUICK]

    def short(schedule: Schedule, steps: int) -> Schedule:
        given = schedule.budget.steps
        return replace(schedule, budget=replace(schedule.budget, steps=steps if given is None else min(steps, given)))

    return replace(
        settings,
        key=short(settings.key, key),
        warm=short(settings.warm, later),
        delta=short(settings.delta, later),
        refresh=settings.refresh and short(settings.refresh, key),
        target=NO_TARGET,
    )
