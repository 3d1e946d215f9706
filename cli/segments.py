"""`invcodec segments`: one encode as many tasks, for any scheduler."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invcodec import names

from .edit import opened_output, report
from .options import (
    FORCE,
    OUTPUT,
    PROGRESS,
    SEGMENTS,
    Command,
    capture_options,
    read_reading,
    resolve_settings,
    training_options,
)
from .progress import choose, report_missed
from .terminal import say
from .values import Count, Place

if TYPE_CHECKING:
    from invcodec.capture.capture import Capture
    from invcodec.encoding.settings import Settings


@click.group(
    "segments",
    short_help="Encode a capture in segments, with any scheduler.",
    epilog="""\b
Example, on one machine:
  invcodec segments plan capture/ -o plan/ --segments 60
  seq 0 11 | parallel invcodec segments run plan/ --index {}
  invcodec segments join plan/ -o out.inv""",
)
def command() -> None:
    """Encode a capture in segments, each by a process of its own, on any machines that see the same folder or store.

    Every step may be repeated, and run twice at the same time: what is done is found done, and files appear as a whole.
    """


PLAN = click.argument("plan", metavar="PLAN")
INDEX = click.option("--index", type=Count(0, 2**31), help="The segment, counted from 0. Default: all, in order.")
MOVED = click.option("--capture", type=Place(), help="Where the capture is on this machine. Default: as planned.")


@command.command("plan", cls=Command, short_help="Decide what all segments share, and train what they start from.")
@click.argument("capture", type=Place())
@click.option("-o", "--output", metavar="PLAN", required=True, help="The plan's folder, or a URL such as s3://...")
@SEGMENTS
@capture_options
@training_options
@PROGRESS
@click.pass_context
def plan(
    ctx: click.Context,
    capture: Path,
    output: str,
    segments: int | str | None,
    progress: str,
    **options: Any,
) -> None:
    """Write the plan of encoding CAPTURE in segments.

    It holds the settings, the segments, and the first frame, which every segment starts from.
    """
    from invcodec.capture.capture import open_capture
    from invcodec.places import is_file
    from invcodec.segments.plan import make_plan

    reading = read_reading(options)
    settings = resolve_settings(ctx, options, flat=is_file(capture))
    opened = open_capture(capture, **reading)
    ranges = divide(opened, settings, segments or names.DEFAULT_KEY_EVERY)
    made = make_plan(output, opened, settings, ranges, progress=choose(progress))
    say(f"{output}: {len(made.segments)} segments, {len(opened.numbers)} frames")
    if made.shares_size:
        say("a target size is shared out by how hard segments are: run 'invcodec segments measure' for each first")


@command.command("measure", short_help="Find how hard a segment is, for a target size.")
@PLAN
@INDEX
@MOVED
def measure(plan: str, index: int | None, capture: Path | None) -> None:
    """Find how many bytes a segment of PLAN takes at the same quality as others, with a few steps of a few frames."""
    from invcodec.segments.piece import measure as measured
    from invcodec.segments.plan import Plan

    opened = Plan.load(plan)
    source = opened.open_capture(None if capture is None else str(capture))
    for each in range(len(opened.segments)) if index is None else [index]:
        say(f"segment {each}: {round(measured(opened, source, each))} bytes")


@command.command("run", short_help="Encode a segment.")
@PLAN
@INDEX
@MOVED
@PROGRESS
def run(plan: str, index: int | None, capture: Path | None, progress: str) -> None:
    """Encode a segment of PLAN, unless it is done: then its piece is only verified."""
    from invcodec.segments.piece import encode_piece
    from invcodec.segments.plan import Plan

    opened, shown = Plan.load(plan), choose(progress)
    indices = range(len(opened.segments)) if index is None else [index]
    for each in indices:
        opened.numbers(each)
    source = opened.open_capture(None if capture is None else str(capture))
    for each in indices:
        reports = encode_piece(opened, source, each, progress=shown)
        say(f"segment {each}: {f'{len(reports)} frames' if reports else 'was done'}")


@command.command("join", short_help="Join all segments into one file.")
@PLAN
@OUTPUT
@FORCE
def join(plan: str, output: Path, force: bool) -> None:
    """Join the pieces of PLAN into one file; none may be missing."""
    from invcodec.segments.join import join as joined
    from invcodec.segments.join import outcomes
    from invcodec.segments.plan import Plan

    opened = Plan.load(plan)
    with opened_output(output, force) as out:
        frames = joined(opened, out)
    report(output, f"{len(frames)} frames")
    if str(output) != "-":
        for outcome in outcomes(opened, os.fspath(output)):
            report_missed(outcome)


def divide(capture: Capture, settings: Settings, segments: int | str) -> list[range]:
    """The segments of a capture, by the value of --segments."""
    from invcodec.segments.cutting import at_cuts, every

    return every(capture.numbers, segments) if isinstance(segments, int) else at_cuts(capture, settings)
