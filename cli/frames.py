"""Options that select frames of a file, for `decode` and `export`."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import click

from invcodec.errors import UsageError

from .options import group
from .values import Duration, FrameRange

if TYPE_CHECKING:
    from invcodec.decoding.video import Frame, Video

FRAMES = group(
    "Frames",
    click.option("--frame", metavar="NUMBER", help="One frame, by number, or 'first' or 'latest'."),
    click.option("--time", type=Duration(), help="The frame shown at this time, e.g. 1.4s."),
    click.option("--frames", type=FrameRange(), help="A range, e.g. 0:24 for frames 0 to 23. Default: all frames."),
)
"""`frame`, `time` and `frames`, which exclude each other."""


def frame_number(text: str) -> int:
    """The frame number that the value of --frame is.

    Raises:
        UsageError: it is not a number.
    """
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--frame {text}: not a frame; use a number, first or latest") from None


def select(
    video: Video, frame: str | None, time: Fraction | None, frames: tuple[int | None, int | None] | None
) -> list[Frame]:
    """The selected frames; at least one.

    Raises:
        UsageError: no such frame.
    """
    path = video.name
    if not video.frames:
        raise UsageError(f"{path}: holds no frames")
    if time is not None:
        return [video.at(time)]
    if frame is not None:
        if frame in ("first", "latest"):
            return [video.frames[0 if frame == "first" else -1]]
        return [video[frame_number(frame)]]
    first, stop = frames or (None, None)
    chosen = video[first:stop]
    if not chosen:
        raise UsageError(
            f"{path}: has no frames {'' if first is None else first}:{'' if stop is None else stop}; "
            f"it has frames {video.frames[0].number} to {video.frames[-1].number}"
        )
    return chosen
