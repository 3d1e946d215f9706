"""`invcodec synth`: writes a small synthetic capture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from invcodec.names import RIG_KINDS, SCENES, SYNTH_LAYOUTS

from .options import Command, group
from .terminal import say
from .values import Count, Real, Size


@click.command(
    "synth",
    short_help="Write a small ray-traced capture.",
    cls=Command,
    epilog="""\b
Examples:
  invcodec synth scene/ && invcodec encode scene/ scene.inv --preset draft
  invcodec synth macro/ --rig ring --focal-length 3 --scale 0.02 --exposure -3
  invcodec synth stadium/ --rig dome --cameras 20 --scale 16 --no-bounds""",
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
    help="moving: a ball bounces and a cube spins, in colours that stay; repainted: nothing moves, and every surface "
    "changes colour; changing: as moving, and an object appears and another changes colour.",
)
@click.option(
    "--layout",
    type=click.Choice(SYNTH_LAYOUTS),
    default="transforms",
    show_default=True,
    help="transforms: PNG images and transforms.json; n3dv: mp4 videos and poses_bounds.npy.",
)
@click.option("--fps", type=Count(1, 1000), default=10, show_default=True, help="Frames per second.")
@group(
    "Rig",
    click.option(
        "--rig",
        type=click.Choice(RIG_KINDS),
        default="arc",
        show_default=True,
        help="arc: cameras in front of the scene; ring: on a circle around it; dome: all over the upper hemisphere.",
    ),
    click.option(
        "--focal-length",
        type=Real(0.5, 100),
        metavar="WIDTHS",
        help="Focal length in picture widths. Cameras with longer lenses stand farther away.  [default: 1.07, 50 "
        "degrees]",
    ),
    click.option(
        "--overlap",
        type=Real(0, 1),
        default=1.0,
        metavar="SHARE",
        help="Turn cameras away from each other, until those that look farthest apart share this part of the picture.  "
        "[default: 1, all look at one point]",
    ),
    click.option(
        "--outlier",
        type=Real(1, 100),
        default=1.0,
        metavar="TIMES",
        help="Place the last camera this many times farther away.",
    ),
    click.option(
        "--scale",
        type=Real(1e-3, 1e3),
        default=1.0,
        metavar="FACTOR",
        help="Factor on all lengths; at 1, cameras with the default lens are 3.1 units from the scene's middle.",
    ),
    click.option(
        "--exposure",
        type=Real(-8, 8),
        default=0.0,
        metavar="STOPS",
        help="Brighter, or darker if negative; each stop is a factor of 2 in light.",
    ),
    click.option("--bounds/--no-bounds", default=True, help="State depth bounds in the calibration.  [default: on]"),
)
def command(output: Path, **options: Any) -> None:
    """Write a small ray-traced capture to the new folder OUTPUT; the result is identical on every machine."""
    from invcodec.synth.rig import FOCAL_LENGTH
    from invcodec.synth.write import write_synthetic

    from .progress import counted

    options["focal_length"] = options["focal_length"] or FOCAL_LENGTH
    with counted("ray tracing", options["cameras"] * options["frames"]) as done:
        write_synthetic(output, **options, done=done)
    say(output)
