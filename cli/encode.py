"""`invcodec encode`: a capture to one file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from .values import BitRate, ByteSize, Duration, FrameRange, bytes_text, seconds_text

PRESETS = ("draft", "fast", "medium", "slow", "paper")


def capture_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a capture is read; shared by `encode` and `inspect`."""
    for option in (
        click.option(
            "--source",
            type=click.Choice(["images", "videos"]),
            help="Which to read where both are there. Default: images.",
        ),
        click.option(
            "--layout",
            type=click.Choice(["transforms", "n3dv"]),
            help="Layout of the folder. Default: recognised.",
        ),
        click.option(
            "--holdout",
            multiple=True,
            metavar="CAMERA",
            help="Do not train on this camera, keep it for measuring; may be repeated. "
            "Default: what the capture marks as test.",
        ),
        click.option(
            "--downscale",
            type=click.IntRange(1),
            default=1,
            metavar="N",
            help="Shrink images N times (area filter).",
        ),
        click.option("--frames", type=FrameRange(), help="Frames to read, as 0:24 for frames 0 to 23. Default: all."),
    ):
        command = option(command)
    return command


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is asked of a file's size or quality; shared by `encode`, `inspect` and `transcode`."""
    for option in (
        click.option(
            "--max-frame-bytes",
            type=ByteSize(),
            metavar="SIZE",
            help="Largest record of a frame that is no keyframe, as 4k; goes with all of the above.",
        ),
        click.option(
            "--bitrate",
            type=BitRate(),
            metavar="RATE",
            help="Bits a second, as 300k or 1.5M, through a buffer of 2 seconds that is full at first.",
        ),
        click.option("--target-size", type=ByteSize(), metavar="SIZE", help="Of the whole file, as 500k, 1.5M or 2MB."),
        click.option(
            "--target-psnr",
            type=click.FloatRange(5, 60),
            metavar="DB",
            help="Mean quality in dB, on pixels of the training cameras that are not trained on; "
            "of a transcode, against its source.",
        ),
        click.option(
            "--quality",
            type=click.FloatRange(0, 100),
            help="Constant quality; 50 is the usual one, 10 more double what an error counts against a byte.",
        ),
    ):
        command = option(command)
    return command


def read_target(given: dict[str, Any]) -> Any:
    """Takes the library's target out of `target_options`; the quality stays. What excludes each other is refused."""
    from invcodec.rate import Target

    names = ("quality", "target_psnr", "target_size", "bitrate")
    chosen = [f"--{name.replace('_', '-')}" for name in names if given[name] is not None]
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(chosen)} exclude each other")
    return Target(
        given.pop("target_psnr"), given.pop("target_size"), given.pop("bitrate"), given.pop("max_frame_bytes")
    )


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What decides quality, size and time; shared by `encode` and `inspect`."""
    command = target_options(command)
    for option in (
        click.option(
            "--colour-correction/--no-colour-correction",
            default=True,
            help="Learn each camera's exposure and white balance.  [default: on]",
        ),
        click.option("--device", default="auto", help="auto, cpu or cuda.", show_default=True),
        click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads. Default: all cores."),
        click.option(
            "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of all random choices."
        ),
        click.option(
            "--warmup", type=click.IntRange(0, 2**31), help="Frames after the first in which everything is trained."
        ),
        click.option(
            "--key-every",
            type=click.IntRange(1, 2**31),
            metavar="N",
            help="A keyframe every N frames. Default: only the first.",
        ),
        click.option(
            "--steps", type=click.IntRange(1, 2**31), help="Training steps of every frame, in place of times."
        ),
        click.option("--key-seconds", type=Duration(), help="Training time of the first frame, as 90, 90s or 500ms."),
        click.option("--seconds-per-frame", type=Duration(), help="Training time of every later frame."),
        click.option("--profile", type=click.Choice(["grid", "nerf"]), help="Kind of network. Default: the preset's."),
        click.option(
            "--preset",
            type=click.Choice(PRESETS),
            default="medium",
            show_default=True,
            help="Time against quality.",
        ),
    ):
        command = option(command)
    return command


def resolve_settings(given: dict[str, Any]) -> Any:
    """The library's settings for `training_options`."""
    from invcodec.presets import resolve

    durations = {key: None if given[key] is None else float(given[key]) for key in ("key_seconds", "seconds_per_frame")}
    return resolve(target=read_target(given), **{**given, **durations})


@click.command(
    "encode",
    epilog="""\b
Examples:
  invcodec encode capture/ out.inv
  invcodec encode capture/ out.inv --preset fast --downscale 2 --holdout cam00 --frames 0:24
  invcodec encode capture/ out.inv --target-size 2MB
  invcodec encode capture/ out.inv --bitrate 300k --max-frame-bytes 4k
  invcodec encode capture/ out.inv --resume
  invcodec encode capture/ - | ssh viewer 'cat > live.inv'""",
)
@click.argument("capture", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path, allow_dash=True))
@training_options
@capture_options
@click.option("-f", "--force", is_flag=True, help="Replace the output if it exists.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted file; all options come from it.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "json", "none"]),
    default="auto",
    show_default=True,
    help="On standard error: a bar, a JSON object per line and frame, or nothing; auto is a bar on a terminal.",
)
@click.pass_context
def command(
    ctx: click.Context,
    capture: Path,
    output: Path,
    force: bool,
    resume: bool,
    progress: str,
    frames: tuple[int | None, int | None] | None,
    downscale: int,
    holdout: tuple[str, ...],
    layout: Any,
    source: Any,
    **training: Fraction | str | int | bool | None,
) -> None:
    """Encode the multi-view video in the folder CAPTURE into the file OUTPUT (- for standard output).

    CAPTURE holds transforms.json with images or videos, or camNN.mp4 with poses_bounds.npy ('invcodec inspect'
    shows how it is understood). Every frame is written when it is finished. Ctrl-C leaves a valid, shorter file
    that --resume continues.
    """
    from invcodec.capture import open_capture
    from invcodec.encoder import encode_capture
    from invcodec.encoder import resume as resume_encode
    from invcodec.output import check_output

    from .progress import BarProgress, choose

    shown = choose(progress)
    if resume:
        _refuse_options(ctx)
        reports = resume_encode(output, capture, progress=shown)
    else:
        to_pipe = str(output) == "-"
        if to_pipe and sys.stdout.isatty():
            raise click.UsageError("a file is not written to a terminal; redirect standard output", ctx)
        if not to_pipe:
            check_output(output, force)
        settings = resolve_settings(training)
        opened = open_capture(
            capture, layout=layout, source=source, frames=frames, downscale=downscale, holdout=holdout or None
        )
        target = sys.stdout.buffer if to_pipe else output
        reports = encode_capture(opened, target, settings, force=force, progress=shown)
        if to_pipe:
            return
    if isinstance(shown, BarProgress):
        seconds = sum(report.seconds for report in reports)
        size = output.stat().st_size
        click.echo(
            f"{output}: {len(reports)} frames in {seconds_text(seconds)}, "
            f"{bytes_text(size)} ({bytes_text(size / len(reports))} a frame)",
            err=True,
        )


def _refuse_options(ctx: click.Context) -> None:
    """A resumed encode takes its options from the file; others would be ignored in silence."""
    allowed = {"capture", "output", "resume", "progress"}
    for parameter in ctx.command.params:
        if parameter.name in allowed or parameter.name is None:
            continue
        if ctx.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--resume takes all options from the file; leave out {parameter.opts[-1]}", ctx)
