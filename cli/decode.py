"""`invcodec decode`: pictures, videos, depth and weights out of a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from invcodec.errors import DamagedError, UsageError

from .values import Duration, FrameRange, Input, Size

if TYPE_CHECKING:
    from invcodec.container.index import FrameEntry
    from invcodec.decoding.decoder import Decoder
    from invcodec.decoding.stream import Moment


@click.command(
    "decode",
    epilog="""\b
Examples:
  invcodec decode out.inv --frame 42 --pose               a view of frame 42, as out-000042.png
  invcodec decode out.inv --frame 42 --pose cam00 -o view.png
  invcodec decode out.inv --time 1.4s --pose view.json --size 1280x720
  invcodec decode out.inv --frames 0:24 -o clip.mp4       a video at the right speed
  invcodec decode out.inv --pose orbit -o out/%04d.png    one picture per frame
  invcodec decode out.inv --frame 42 --depth -o depth.npy
  invcodec decode out.inv --frame 42 --weights frame.safetensors
  invcodec decode http://host:8080/live.inv --frame latest""",
)
@click.argument("file", type=Input(), required=False)
@click.option("--frame", metavar="NUMBER", help="One frame: its number, first or latest.")
@click.option("--time", type=Duration(), help="The frame on screen then, as 1.4s.")
@click.option("--frames", type=FrameRange(), help="Several frames, as 0:24 for frames 0 to 23. Default: all.")
@click.option(
    "--pose",
    "poses",
    multiple=True,
    is_flag=False,
    flag_value="default",
    metavar="[POSE]",
    help="Where from: a camera's name, orbit, or a JSON file with a 4x4 camera-to-world matrix, a camera as in "
    "transforms.json, or a nerfstudio camera path. Without a value: the held-out camera, else the middle of the rig. "
    "May be repeated.",
)
@click.option("--size", type=Size(), help="Picture size. The vertical field of view stays.")
@click.option(
    "-o",
    "--output",
    help="A picture (.png, .jpg), a video (.mp4), pictures by number (out/%04d.png), a directory, or - for standard "
    "output. With several poses each one's name is added.",
)
@click.option(
    "--depth",
    is_flag=True,
    help="Z-depth in place of colour. .npy and .tiff hold float32 in world units, infinite where there is nothing. "
    ".png holds 16-bit multiples of a unit that is printed and stored in its text, 0 where there is nothing.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Write a frame's decoded networks to a .safetensors file.",
)
@click.option("-f", "--force", is_flag=True, help="Replace outputs that exist.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads. Default: all cores.")
@click.pass_context
def command(
    ctx: click.Context,
    file: Path | str | None,
    frame: str | None,
    time: Fraction | None,
    frames: tuple[int | None, int | None] | None,
    poses: tuple[str, ...],
    size: tuple[int, int] | None,
    output: str | None,
    depth: bool,
    weights: Path | None,
    force: bool,
    device: str,
    threads: int | None,
) -> int:
    """Render frames of FILE (an http address, or - for standard input, one frame of it) from any pose.

    One frame gives a picture, several give a video; transparent files give pictures with alpha, and videos on
    white. Names of what was written are printed.
    """
    if file is None:
        took = (
            f"; --pose took '{poses[-1]}' as its value, put the file first"
            if poses and poses[-1].endswith(".inv")
            else ""
        )
        raise click.UsageError(f"no file to decode{took}", ctx)
    if sum(choice is not None for choice in (frame, time, frames)) > 1:
        raise click.UsageError("--frame, --time and --frames exclude each other", ctx)
    from invcodec.decoding.decoder import Decoder

    if str(file) == "-":
        source: Path | str | Moment = _from_pipe(frame, time, ctx)
    else:
        source = file
    with Decoder(source, device=device, threads=threads) as decoder:
        try:
            entries = decoder.frames if str(file) == "-" else _select(decoder, frame, time, frames)
        except UsageError as error:
            if decoder.status in ("damaged", "truncated"):
                raise DamagedError(f"{error} (the file is {decoder.status}: {decoder.reader.problems[0]})") from None
            raise
        if weights is not None:
            _write_weights(decoder, entries, weights, force)
        lost: list[DamagedError] = []
        if weights is None or poses or output or depth or size:
            lost = _write_pictures(decoder, entries, poses or ("default",), size, output, depth=depth, force=force)
        for problem in [*decoder.reader.problems, *map(str, lost)]:
            print(f"invcodec: warning: {problem}", file=sys.stderr)
        return 3 if lost or decoder.status in ("damaged", "truncated") else 0


def _from_pipe(frame: str | None, time: Fraction | None, ctx: click.Context) -> Moment:
    """The frame that was asked for, out of standard input; nothing more than that is read or held."""
    from invcodec.decoding.stream import Moment, Wanted

    if frame is None and time is None:
        raise click.UsageError("a pipe gives one frame; choose it with --frame or --time", ctx)
    if time is not None:
        wanted = Wanted(time=time)
    elif frame in ("first", "latest"):
        wanted = Wanted(latest=frame == "latest")
    else:
        wanted = Wanted(number=_number(frame or ""))
    return Moment(sys.stdin.buffer, "stdin", wanted)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--frame {text}: not a frame; give a number, first or latest") from None


def _select(
    decoder: Decoder, frame: str | None, time: Fraction | None, frames: tuple[int | None, int | None] | None
) -> list[FrameEntry]:
    """The frames that were asked for; at least one."""
    path = decoder.reader.name
    if not decoder.frames:
        raise UsageError(f"{path}: holds no frames")
    if time is not None:
        return [decoder.at_time(time)]
    if frame is not None:
        if frame in ("first", "latest"):
            return [decoder.frames[0 if frame == "first" else -1]]
        return [decoder.entry(_number(frame))]
    first, stop = frames or (None, None)
    chosen = [
        entry
        for entry in decoder.frames
        if (first is None or first <= entry.number) and (stop is None or entry.number < stop)
    ]
    if not chosen:
        numbers = [entry.number for entry in decoder.frames]
        raise UsageError(
            f"{path}: has no frames {'' if first is None else first}:{'' if stop is None else stop}; "
            f"it has frames {numbers[0]} to {numbers[-1]}"
        )
    return chosen


def _write_weights(decoder: Decoder, entries: Sequence[FrameEntry], path: Path, force: bool) -> None:
    from safetensors.numpy import save

    from invcodec.output import check_output

    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: weights are written as .safetensors")
    if len(entries) > 1:
        raise UsageError(f"--weights takes one frame, the file has {len(entries)}; choose with --frame")
    check_output(path, force)
    entry = entries[0]
    metadata = {"format": "np", "frame": str(entry.number), "time": str(float(entry.time))}
    path.write_bytes(save(decoder.weights(entry.number), metadata))
    click.echo(path)


def _write_pictures(
    decoder: Decoder,
    entries: Sequence[FrameEntry],
    poses: Sequence[str],
    size: tuple[int, int] | None,
    output: str | None,
    *,
    depth: bool,
    force: bool,
) -> list[DamagedError]:
    """Render all poses; returns what could not be rendered because the file is damaged."""
    from invcodec.decoding.playback import film
    from invcodec.decoding.poses import resolve_pose

    from .pictures import Pictures, plan

    rig = decoder.cameras(entries[0].number)
    resolved = [resolve_pose(text, rig, size) for text in poses]
    films = [film(pose, entries, decoder.head.frame_rate, decoder.cameras) for pose in resolved]
    targets = plan(output, decoder, films, [pose.name for pose in resolved], depth=depth, force=force)
    pictures = Pictures(decoder, depth=depth)
    for each, target in zip(films, targets, strict=True):
        for line in pictures.write(each, target):
            click.echo(line)
    return pictures.lost
