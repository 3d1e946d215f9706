"""`invcodec concat`, `cut` and `repair`: files out of files, without training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from .progress import measured
from .values import FrameRange, bytes_text

TO = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="The file to write, or - for standard output.",
)
FORCE = click.option("-f", "--force", is_flag=True, help="Replace the output if it exists.")


@click.command("concat", epilog="\b\nExample:\n  invcodec concat first.inv second.inv -o both.inv")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@TO
@FORCE
def concat(files: tuple[Path, ...], output: Path, force: bool) -> None:
    """Join FILES in the order given, such as segments encoded on different machines.

    They must declare the same cameras and networks, and each must go on after the one before it.
    """
    from invcodec.editing.edit import concat as join

    with opened_output(output, force) as out:
        frames = join(files, out)
    _report(output, f"{len(frames)} frames")


@click.command("cut", epilog="\b\nExample:\n  invcodec cut out.inv --frames 10:20 -o part.inv")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--frames", type=FrameRange(), required=True, help="What to keep, as 10:20 for frames 10 to 19.")
@TO
@FORCE
def cut(file: Path, frames: tuple[int | None, int | None], output: Path, force: bool) -> None:
    """Keep some frames of FILE.

    If the first of them is not a keyframe, it is coded anew as one: from its integers, so nothing changes but its size.
    """
    from invcodec.editing.edit import cut as take

    with opened_output(output, force) as out:
        result = take(file, *frames, out)
    _report(output, f"{len(result.frames)} frames")
    if result.recoded is not None:
        size = bytes_text(result.recoded.length)
        print(f"invcodec: frame {result.recoded.number} was coded anew as a keyframe, {size}", file=sys.stderr)


@click.command("repair", epilog="\b\nExample:\n  invcodec repair bad.inv -o good.inv")
@click.argument("file", type=click.Path(path_type=Path))
@TO
@FORCE
def repair(file: Path, output: Path, force: bool) -> int:
    """Write what is sound of FILE to another file.

    Exits 3 if frames are lost, and names them.
    """
    from invcodec.editing.verify import repair as recover

    from .values import opened

    with opened(file) as (_, _, size), opened_output(output, force) as out, measured("repairing", size) as done:
        verdict = recover(file, out, done)
    _report(output, f"{len(verdict.frames)} frames recovered, {len(verdict.lost)} lost")
    for problem in verdict.problems:
        print(f"invcodec: {problem}", file=sys.stderr)
    return 3 if verdict.lost else 0


@contextmanager
def opened_output(output: Path, force: bool) -> Iterator[BinaryIO]:
    """The output, which appears only if all goes well, or standard output for `-`."""
    from invcodec.output import written

    if str(output) == "-":
        yield sys.stdout.buffer
        return
    with written(output, force) as target:
        yield target.file


def _report(output: Path, what: str) -> None:
    if str(output) != "-":
        click.echo(f"{output}: {what}, {bytes_text(output.stat().st_size)}")
