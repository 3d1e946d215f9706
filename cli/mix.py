"""`invcodec mix`: the structure of one frame or file with the colours of another."""

from __future__ import annotations

from pathlib import Path

import click

from .edit import opened_output, report
from .options import FORCE, OUTPUT
from .values import FrameRange


@click.command(
    "mix",
    short_help="Join the structure of one file with the colours of another.",
    epilog="""\b
Examples:
  invcodec mix out.inv out.inv --colour-frame 40 -o recoloured.inv
  invcodec mix out.inv out.inv --structure-frame 0 -o still.inv
  invcodec mix day.inv night.inv --frames 0:24 -o both.inv""",
)
@click.argument("structure", type=click.Path(path_type=Path))
@click.argument("colours", type=click.Path(path_type=Path))
@OUTPUT
@click.option("--frames", type=FrameRange(), default=(None, None), help="Frames to write. Default: all.")
@click.option("--structure-frame", type=int, metavar="N", help="Take the structure of all frames from this one.")
@click.option("--colour-frame", type=int, metavar="N", help="Take the colours of all frames from this one.")
@click.option(
    "--layers", type=int, metavar="S", help="How many first layers are structure. Default: as the file declares it."
)
@FORCE
def command(
    structure: Path,
    colours: Path,
    output: Path,
    frames: tuple[int | None, int | None],
    structure_frame: int | None,
    colour_frame: int | None,
    layers: int | None,
    force: bool,
) -> None:
    """Write a file with the structure layers of STRUCTURE and the colour layers of COLOURS, which may be the same file.

    Frames of the same number are joined, unless --structure-frame or --colour-frame names one for all; both together
    give one frame. The networks must come from one encode, such as two parts of it or what 'recolour' made of it.
    Nothing is trained. 'analyze' measures what lies in which layer.
    """
    from invcodec.editing.mix import mix

    with opened_output(output, force) as out:
        written = mix(
            structure,
            colours,
            out,
            frames=frames,
            structure_frame=structure_frame,
            colour_frame=colour_frame,
            layers=layers,
        )
    report(output, f"{len(written)} frames")
