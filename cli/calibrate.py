"""`invcodec calibrate`: where the cameras of bare videos stand, and what lenses they have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invcodec import names

from .options import FORCE, JSON, OUTSIDE, PLOT, Command
from .plots import draw_rig, require_plots
from .terminal import note, say, say_json
from .values import Count, Real, table

if TYPE_CHECKING:
    from invcodec.capture.calibrate import Calibration


@click.command(
    "calibrate",
    short_help="Find the cameras of bare videos.",
    cls=Command,
    epilog="""\b
Examples:
  invcodec calibrate videos/
  invcodec calibrate videos/ --plot rig.png
  invcodec calibrate videos/ --at 0 --at 500 --focal-length 0.7 --fisheye""",
)
@click.argument("videos", type=click.Path(path_type=Path))
@click.option(
    "--at",
    "frames",
    type=Count(0, 2**31),
    multiple=True,
    metavar="FRAME",
    help="Look at this frame. Repeatable: what moves shows more texture in several. Default: three, spread over the "
    "capture.",
)
@click.option(
    "--share-intrinsics/--own-intrinsics",
    "share_intrinsics",
    default=None,
    help="Whether cameras with pictures of one size have one lens. Default: what fits.",
)
@click.option(
    "--focal-length",
    type=Real(0.1, 100),
    metavar="WIDTHS",
    help="Focal length in picture widths, if it is known roughly.",
)
@click.option("--fisheye", is_flag=True, help="The lenses are fisheyes.")
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="A folder with an image NAME.png for each camera, black where not to look. Encoding does not use them.",
)
@click.option(
    "--source",
    type=click.Choice(names.SOURCES),
    help="Which to use if both exist. Default: videos.",
)
@OUTSIDE
@click.option("--seed", type=Count(0, 2**31 - 1), default=0, show_default=True, help="Random seed.")
@PLOT
@FORCE
@JSON
def command(
    videos: Path, plot: Path | None, as_json: bool, frames: tuple[int, ...], force: bool, **options: Any
) -> None:
    """Find where the cameras of folder VIDEOS stand and what lenses they have, from what their pictures have in common.

    The folder has a video for each camera, or a folder of images. Writes transforms.json beside them, which makes it a
    capture that 'encode' reads. Reports how far points of the scene are from where each camera saw them, in pixels
    (below one is good), and which cameras could not be placed.
    """
    from invcodec.output import check_output

    if plot is not None:
        require_plots()
        check_output(plot, force)
    found = run(videos, frames=frames or None, force=force, **options)
    if plot is not None:
        draw_rig([each.camera for each in found.placed], found.points, plot, force)
    if as_json:
        say_json(_described(found))
    else:
        say(*_text(found))


def run(folder: Path, **options: Any) -> Calibration:
    """Calibrate a folder, with bars on a terminal; cameras that could not be placed are reported.

    Args:
        options: of `invcodec.capture.calibrate.calibrate`.
    """
    from invcodec.capture.calibrate import calibrate

    from .progress import counted

    found = calibrate(folder, counted=counted, **options)
    for each in found.unplaced:
        note(f"camera {each.name} could not be placed: it {each.reason}; {each.advice}")
    return found


def _described(found: Calibration) -> dict[str, Any]:
    return {
        "file": str(found.path),
        "frames": list(found.frames),
        "shared_intrinsics": found.shared,
        "points": len(found.points),
        "error": found.error,
        "cameras": [{**each.camera.to_dict(), "points": each.points, "error": each.error} for each in found.placed],
        "unplaced": [{"name": each.name, "reason": each.reason, "advice": each.advice} for each in found.unplaced],
    }


def _text(found: Calibration) -> list[str]:
    rows = [["camera", "size", "focal length", "k1", "k2", "near", "far", "points", "error"]]
    for each in found.placed:
        camera = each.camera
        rows.append(
            [
                camera.name,
                f"{camera.width}x{camera.height}",
                f"{camera.fx / camera.width:.3f} widths",
                *(f"{value:.3f}" for value in camera.distortion[:2]),
                *("-" if value is None else f"{value:.3g}" for value in (camera.near, camera.far)),
                str(each.points),
                f"{each.error:.2f} px",
            ]
        )
    count = len(found.placed) + len(found.unplaced)
    frames = f"frame{'s' * (len(found.frames) > 1)} {', '.join(map(str, found.frames))}"
    lenses = "one lens for all pictures of one size" if found.shared else "a lens for each camera"
    return [
        f"{found.path}: {len(found.placed)} of {count} cameras placed, from {frames}",
        f"error     {found.error:.2f} px, of {len(found.points)} points",
        f"lenses    {lenses}",
        "world     y up, as the cameras are level; the farthest camera is 1 unit from the middle of all",
        "",
        *table(rows),
    ]
