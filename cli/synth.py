"""`invcodec synth`: a small capture out of nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from invcodec.names import SCENES, SYNTH_LAYOUTS

from .values import Size


@click.command(
    "synth", epilog="\b\nExample:\n  invcodec synth scene/ && invcodec encode scene/ scene.inv --preset draft"
)
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--cameras", type=click.IntRange(3, 1000), default=9, show_default=True, help="How many; cam00 is held out."
)
@click.option("--size", type=Size(), default=(96, 72), help="Picture size.  [default: 96x72]")
@click.option("--frames", type=click.IntRange(1, 100_000), default=8, show_default=True)
@click.option(
    "--scene",
    type=click.Choice(SCENES),
    default="moving",
    show_default=True,
    help="In a changing scene an object appears and one changes its colour.",
)
@click.option(
    "--layout",
    type=click.Choice(SYNTH_LAYOUTS),
    default="transforms",
    show_default=True,
    help="PNG pictures with transforms.json, or mp4 videos with poses_bounds.npy.",
)
@click.option("--fps", type=click.IntRange(1, 1000), default=10, show_default=True)
def command(output: Path, **options: Any) -> None:
    """Write a small ray-traced scene, the same on every machine, as a capture to the new folder OUTPUT."""
    from invcodec.synth.write import write_synthetic

    from .progress import counted

    with counted("ray tracing", options["cameras"] * options["frames"]) as bar:
        write_synthetic(output, **options, done=lambda: bar.advance(bar.task_ids[0]) if bar else None)
    click.echo(output)
