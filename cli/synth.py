"""`invcodec synth`: writes a small synthetic capture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from invcodec.names import SCENES, SYNTH_LAYOUTS

from .values import Count, Size


@click.command(
    "synth",
    short_help="Write a small ray-traced capture.",
    epilog="\b\nExample:\n  invcodec synth scene/ && invcodec encode scene/ scene.inv --preset draft",
)
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--cameras",
    type=Count(3, 1000),
    default=9,
    show_default=True,
    metavar="N",
    help="Number of cameras; cam00 is held out.",
)
@click.option("--size", type=Size(), default=(96, 72), help="Image size.  [default: 96x72]")
@click.option("--frames", type=Count(1, 100_000), default=8, show_default=True, help="Number of frames.")
@click.option(
    "--scene",
    type=click.Choice(SCENES),
    default="moving",
    show_default=True,
    help="In a changing scene, an object appears and another changes colour.",
)
@click.option(
    "--layout",
    type=click.Choice(SYNTH_LAYOUTS),
    default="transforms",
    show_default=True,
    help="transforms: PNG images and transforms.json; n3dv: mp4 videos and poses_bounds.npy.",
)
@click.option("--fps", type=Count(1, 1000), default=10, show_default=True, help="Frames per second.")
def command(output: Path, **options: Any) -> None:
    """Write a small ray-traced capture to the new folder OUTPUT; the result is identical on every machine."""
    from invcodec.synth.write import write_synthetic

    from .progress import counted

    with counted("ray tracing", options["cameras"] * options["frames"]) as done:
        write_synthetic(output, **options, done=done)
    click.echo(output)
