"""`invcodec decode`: renders pictures, videos and depth from a file, and extracts weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from invcodec.errors import DamagedError, UsageError

from .frames import FRAMES, frame_number, select
from .options import DEVICE, FORCE, THREADS, Command, exclusive, group
from .terminal import note, say
from .values import Input, Size

if TYPE_CHECKING:
    from invcodec.decoding.stream import PipedFrame
    from invcodec.decoding.video import Frame, Video


@click.command(
    "decode",
    short_help="Render pictures, videos and depth.",
    cls=Command,
    epilog="""\b
Examples:
  invcodec decode out.inv --frame 42 --pose            writes out-000042.png
  invcodec decode out.inv --frame 42 --pose cam00 -o view.png
  invcodec decode out.inv --time 1.4s --pose view.json --size 1280x720
  invcodec decode out.inv --frames 0:24 -o clip.mp4    a video
  invcodec decode out.inv --pose orbit -o %04d.png     an image sequence
  invcodec decode out.inv --frame 42 --depth -o depth.npy
  invcodec decode out.inv --frame 42 --weights frame.safetensors
  invcodec decode http://host:8080/live.inv --frame latest""",
)
@click.argument("file", type=Input(), required=False)
@FRAMES
@group(
    "View",
    click.option(
        "--pose",
        "poses",
        multiple=True,
        is_flag=False,
        flag_value="default",
        metavar="[POSE]",
        help="Viewpoint: a camera's name, 'orbit', or a JSON file with a 4x4 camera-to-world matrix, a camera with "
        "the keys of transforms.json, or a nerfstudio camera path. Repeatable. Default: the first held-out camera, "
        "else the middle of a rig that faces one way, else the first camera.",
    ),
    click.option("--size", type=Size(), help="Picture size; the vertical field of view is kept."),
)
@group(
    "Output",
    click.option(
        "-o",
        "--output",
        metavar="PATH",
        help="A picture (.png, .jpg), a video (.mp4), an image sequence (out/%04d.png), a directory, or - for "
        "standard output. With several poses, each pose's name is appended.",
    ),
    click.option(
        "--depth",
        is_flag=True,
        help="Output z-depth instead of colour. .npy and .tiff contain float32 in world units, infinite where opacity "
        "is below one half. .png contains 16-bit multiples of a unit that is printed and stored in the file, 0 where "
        "depth is infinite.",
    ),
    click.option(
        "--weights",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Save a frame's decoded network weights as .safetensors.",
    ),
    FORCE,
)
@DEVICE
@THREADS
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
    """Render frames of FILE from any viewpoint and print the names of the files written.

    FILE may also be an HTTP URL, or - to read a single frame from standard input. One frame gives a picture, several
    give a video. If the file has a transparent background, pictures have alpha and videos a white background.
    """
    if file is None:
        swallowed = poses and poses[-1].endswith(".inv")
        hint = f"; --pose took '{poses[-1]}' as its value, put the file first" if swallowed else ""
        raise click.UsageError(f"no file to decode{hint}", ctx)
    exclusive(ctx, "frame", "time", "frames")
    from invcodec.decoding.video import Video

    if str(file) == "-":
        source: Path | str | PipedFrame = _from_pipe(frame, time, ctx)
    else:
        source = file
    with Video(source, device=device, threads=threads) as video:
        try:
            chosen = list(video) if str(file) == "-" else select(video, frame, time, frames)
        except UsageError as error:
            if video.status in ("damaged", "truncated"):
                raise DamagedError(f"{error} (the file is {video.status}: {video.problems[0]})") from None
            raise
        if weights is not None:
            _write_weights(chosen, weights, force)
        lost: list[DamagedError] = []
        if weights is None or poses or output or depth or size:
            lost = _write_pictures(video, chosen, poses or ("default",), size, output, depth=depth, force=force)
        for problem in [*video.problems, *map(str, lost)]:
            note(f"warning: {problem}")
        return 3 if lost or video.status in ("damaged", "truncated") else 0


def _from_pipe(frame: str | None, time: Fraction | None, ctx: click.Context) -> PipedFrame:
    """The requested frame from standard input, read no further than necessary."""
    from invcodec.decoding.stream import FrameSelector, PipedFrame

    if frame is None and time is None:
        raise click.UsageError("a pipe yields a single frame; select it with --frame or --time", ctx)
    if time is not None:
        selector = FrameSelector(time=time)
    elif frame in ("first", "latest"):
        selector = FrameSelector(latest=frame == "latest")
    else:
        selector = FrameSelector(number=frame_number(frame or ""))
    return PipedFrame(sys.stdin.buffer, "stdin", selector)


def _write_weights(frames: Sequence[Frame], path: Path, force: bool) -> None:
    from safetensors.numpy import save

    from invcodec.output import check_output, written

    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: unsupported format for weights; use .safetensors")
    if len(frames) > 1:
        raise UsageError(f"--weights needs a single frame, but {len(frames)} are selected; choose one with --frame")
    check_output(path, force)
    frame = frames[0]
    metadata = {"format": "np", "frame": str(frame.number), "time": str(float(frame.time))}
    data = save(frame.weights(), metadata)
    with written(path, force) as out:
        out.file.write(data)
    say(path)


def _write_pictures(
    video: Video,
    frames: Sequence[Frame],
    poses: Sequence[str],
    size: tuple[int, int] | None,
    output: str | None,
    *,
    depth: bool,
    force: bool,
) -> list[DamagedError]:
    """Render all poses; returns an error for each picture lost to damage in the file."""
    from invcodec.decoding.playback import film
    from invcodec.decoding.poses import resolve_pose

    from .pictures import Pictures, plan

    rig = frames[0].cameras
    resolved = [resolve_pose(text, rig, size) for text in poses]
    films = [film(pose, frames, video.frame_rate) for pose in resolved]
    patterns = plan(output, video, films, [pose.name for pose in resolved], depth=depth, force=force)
    pictures = Pictures(video, depth=depth, force=force)
    for each, pattern in zip(films, patterns, strict=True):
        for line in pictures.write(each, pattern):
            say(line)
    return pictures.lost
