"""`invcodec recolour`: another look for all frames of a file."""

from __future__ import annotations

from pathlib import Path

import click

from .edit import opened_output, report
from .options import DEVICE, FORCE, OUTPUT, THREADS
from .terminal import say
from .values import Count, Real, psnr_text


@click.command(
    "recolour",
    short_help="Give all frames another look, training colour layers alone.",
    epilog="""\b
Examples:
  invcodec recolour out.inv --hue 120 -o green.inv
  invcodec recolour out.inv --from sunset.jpg -o evening.inv
  invcodec recolour out.inv --saturation 0.3 --brightness 0.6 -o night.inv""",
)
@click.argument("file", type=click.Path(path_type=Path))
@OUTPUT
@click.option("--from", "picture", type=click.Path(path_type=Path), metavar="PICTURE", help="Take its colours.")
@click.option("--hue", type=Real(-360, 360), default=0.0, metavar="DEGREES", help="Turn all hues.")
@click.option("--saturation", type=Real(0, 10), default=1.0, metavar="FACTOR", help="Stronger colours; 0: greys.")
@click.option("--brightness", type=Real(0, 10), default=1.0, metavar="FACTOR", help="Brighter colours.")
@click.option("--steps", type=Count(1, 1_000_000), help="Training steps of each keyframe.  [default: 300]")
@FORCE
@DEVICE
@THREADS
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    output: Path,
    picture: Path | None,
    hue: float,
    saturation: float,
    brightness: float,
    steps: int | None,
    force: bool,
    device: str,
    threads: int | None,
) -> None:
    """Write FILE with another look, which holds for all frames.

    What a keyframe shows is changed as asked, and its colour layers are trained to show that; all frames up to the next
    keyframe take them over. Shapes stay exactly as they are. --from gives all colours the mean and covariance of those
    of a picture; other changes come on top of it.
    """
    if picture is None and (hue, saturation, brightness) == (0, 1, 1):
        raise click.UsageError("nothing to do; give --from, --hue, --saturation or --brightness", ctx)
    from invcodec.capture.image import read_image
    from invcodec.container.reader import Reader
    from invcodec.editing.look import adjusted
    from invcodec.editing.recolour import STEPS, recolour
    from invcodec.metrics import over_white

    from .progress import counted

    wanted = None if picture is None else over_white(read_image(picture))
    with Reader(file) as reader:
        keyframes = sum(entry.is_key for entry in reader.frames)
    with counted("recolouring", keyframes * (steps or STEPS)) as done, opened_output(output, force) as out:
        result = recolour(
            file,
            out,
            adjusted(hue=hue, saturation=saturation, brightness=brightness),
            picture=wanted,
            steps=steps or STEPS,
            device=device,
            threads=threads,
            done=done,
        )
    report(output, f"{len(result.frames)} frames")
    for number, fidelity in result.trained.items():
        say(f"look learned from frame {number}: {psnr_text(fidelity)}", err=str(output) == "-")
