"""`invcodec analyze`: what lies in which layer of a file's networks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import DEVICE, FORCE, JSON, THREADS
from .terminal import say, say_json
from .values import table

if TYPE_CHECKING:
    from invcodec.decoding.analysis import Analysis, Likeness


class _Pair(click.ParamType):
    """Numbers of two frames, `0,40`."""

    name = "first,second"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(-?\d+),(-?\d+)", value)
        if not match:
            self.fail(f"'{value}' is not a pair of frames; use 0,40", param, ctx)
        return int(match[1]), int(match[2])


@click.command(
    "analyze",
    short_help="Measure what lies in which layer of the networks.",
    epilog="""\b
Examples:
  invcodec analyze out.inv --frames 0,40
  invcodec analyze out.inv --frames 0,40 --layers --plot layers.png
  invcodec analyze out.inv --frames 40,0 --camera cam03 --json""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--frames",
    type=_Pair(),
    required=True,
    help="The frame that first layers are taken from, and the one that the rest is taken from.",
)
@click.option("--layers", is_flag=True, help="Also show how far each layer moved in each frame between the two.")
@click.option(
    "--camera",
    "cameras",
    multiple=True,
    metavar="CAMERA",
    help="Compare this camera's pictures. Repeatable. Default: the held-out cameras.",
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG", help="Draw the figures to this file.")
@FORCE
@JSON
@DEVICE
@THREADS
def command(
    file: Path,
    frames: tuple[int, int],
    layers: bool,
    cameras: tuple[str, ...],
    plot: Path | None,
    force: bool,
    as_json: bool,
    device: str,
    threads: int | None,
) -> None:
    """Join the first layers of one frame of FILE with the rest of another, and compare the result with both.

    For each number of layers, PSNR and depth error are measured against both frames as the file shows them; the capture
    is not needed. The depth error is the mean difference of inverse depths, relative to the frame's mean inverse depth.
    A layer has moved by the norm of the change of its weights, relative to the norm of the weights.
    """
    from invcodec.decoding.analysis import analyze
    from invcodec.decoding.video import Video
    from invcodec.output import check_output

    from .plots import draw_analysis, require_plots
    from .progress import counted

    if plot is not None:
        require_plots()
        check_output(plot, force)
    with (
        Video(file, device=device, threads=threads) as video,
        counted("comparing", len(video.networks.layers) + 1) as done,
    ):
        result = analyze(video, *frames, cameras, path=layers, done=done)
    if plot is not None:
        draw_analysis(result, plot, force)
    if as_json:
        say_json(result)
    else:
        say(*_text(result))


def _text(result: Analysis) -> list[str]:
    first, second = result["frames"]
    heads = ["first layers", "up to", "group", "moved", f"PSNR to {first}", f"to {second}"]
    rows = [[*heads, f"depth error to {first}", f"to {second}"]]
    for each in result["hybrids"]:
        count = each["layers"]
        last = result["layers"][count - 1] if count else None
        named = [last["name"], last["group"], _percent(last["moved"])] if last else ["-", "-", "-"]
        decibels = [f"{each[side]['psnr']:.2f}" for side in ("first", "second")]
        rows.append([str(count), *named, *decibels, _depth(each["first"]), _depth(each["second"])])
    lines = [
        f"first layers of frame {first}, the rest of frame {second}, seen from {', '.join(result['cameras'])}",
        "",
        *table(rows, left=3),
    ]
    if "path" in result:
        moved = [["frame", *(layer["name"] for layer in result["layers"])]]
        moved += [[str(each["number"]), *map(_percent, each["moved"])] for each in result["path"]]
        lines += ["", "how far each layer moved since the frame before:", *table(moved)]
    return lines


def _depth(likeness: Likeness) -> str:
    return "-" if likeness["depth_error"] is None else _percent(likeness["depth_error"])


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
