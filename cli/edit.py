"""`invcodec concat`, `cut` and `repair`: edit files without training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from .options import FORCE, OUTPUT
from .progress import measured
from .terminal import note, say
from .values import FrameRange, bytes_text, standard_output


@click.command(
    "concat",
    short_help="Join files that continue one another.",
    epilog="\b\nExample:\n  invcodec concat first.inv second.inv -o both.inv",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@OUTPUT
@FORCE
def concat(files: tuple[Path, ...], output: Path, force: bool) -> None:
    """Join FILES in the given order, such as segments that were encoded on different machines.

    The files must declare the same cameras and networks, and each must start after the previous one ends.
    """
    from invcodec.editing.edit import concat as join

    with opened_output(output, force) as out:
        frames = join(files, out)
    report(output, f"{len(frames)} frames")


@click.command(
    "cut",
    short_help="Extract a range of frames.",
    epilog="\b\nExample:\n  invcodec cut out.inv --frames 10:20 -o part.inv",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--frames", type=FrameRange(), required=True, help="Frames to keep, e.g. 10:20 for frames 10 to 19.")
@OUTPUT
@FORCE
def cut(file: Path, frames: tuple[int | None, int | None], output: Path, force: bool) -> None:
    """Extract a range of frames from FILE.

    If the first one is not a keyframe, it is re-encoded as one, losslessly; only its size changes.
    """
    from invcodec.editing.edit import cut as take

    with opened_output(output, force) as out:
        result = take(file, *frames, out)
    report(output, f"{len(result.frames)} frames")
    if result.recoded is not None:
        size = bytes_text(result.recoded.length)
        note(f"frame {result.recoded.number} was re-encoded as a keyframe, {size}")


@click.command(
    "repair",
    short_help="Recover the intact frames of a damaged file.",
    epilog="\b\nExample:\n  invcodec repair bad.inv -o good.inv",
)
@click.argument("file", type=click.Path(path_type=Path))
@OUTPUT
@FORCE
def repair(file: Path, output: Path, force: bool) -> int:
    """Copy all intact frames of FILE to another file.

    Lists the frames that are lost, and exits with code 3 if there are any.
    """
    from invcodec.editing.verify import repair as recover

    from .values import opened

    with opened(file) as (_, _, size), opened_output(output, force) as out, measured("repairing", size) as done:
        verdict = recover(file, out, done)
    report(output, f"{len(verdict.frames)} frames recovered, {len(verdict.lost)} lost")
    for problem in verdict.problems:
        note(problem)
    return 3 if verdict.lost else 0


@contextmanager
def opened_output(output: Path, force: bool) -> Iterator[BinaryIO]:
    """Open an output file, which appears only if the block succeeds, or standard output for `-`.

    Raises:
        UsageError: it cannot be written, or is a terminal.
    """
    from invcodec.output import written

    if str(output) == "-":
        yield standard_output()
        return
    with written(output, force) as target:
        yield target.file


def report(output: Path, what: str) -> None:
    """Say what was written and how large it is, unless it went to standard output."""
    if str(output) != "-":
        say(f"{output}: {what}, {bytes_text(output.stat().st_size)}")
