"""`invcodec encode`: a capture to one file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invcodec import names

from .values import Address, BitRate, ByteSize, Duration, FrameRange, bytes_text, seconds_text

if TYPE_CHECKING:
    from invcodec.capture.live.source import LiveSource


def capture_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a capture is read; shared by `encode` and `inspect`."""
    for option in (
        click.option(
            "--source",
            type=click.Choice(names.SOURCES),
            help="Which to read where both are there. Default: images.",
        ),
        click.option(
            "--layout",
            type=click.Choice(names.layouts()),
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
            type=click.FloatRange(*names.PSNR_RANGE),
            metavar="DB",
            help="Mean quality in dB, on pixels of the training cameras that are not trained on; "
            "of a transcode, against its source.",
        ),
        click.option(
            "--quality",
            type=click.FloatRange(*names.QUALITY_RANGE),
            help="Constant quality; 50 is the usual one, 10 more double what an error counts against a byte.",
        ),
    ):
        command = option(command)
    return command


def read_target(given: dict[str, Any]) -> Any:
    """Takes the library's target out of `target_options`; the quality stays. What excludes each other is refused."""
    from invcodec.encoding.rate import Target

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
        click.option("--profile", type=click.Choice(names.profiles()), help="Kind of network. Default: the preset's."),
        click.option(
            "--preset",
            type=click.Choice(list(names.PRESETS)),
            default=names.DEFAULT_PRESET,
            show_default=True,
            help="Time against quality.",
        ),
    ):
        command = option(command)
    return command


def resolve_settings(given: dict[str, Any]) -> Any:
    """The library's settings for `training_options`."""
    from invcodec.encoding.presets import resolve

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
  invcodec encode capture/ - | ssh viewer 'cat > live.inv'
  invcodec encode rig.json live.inv --live --seconds-per-frame 500ms --bitrate 1M --serve 8080
  invcodec encode capture/ live.inv --live --loop --serve 8080""",
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
@click.option(
    "--live",
    is_flag=True,
    help="Encode while it is filmed. CAPTURE is a rig's JSON file, or a folder that is played. --key-seconds (of the "
    "first frame) and --seconds-per-frame are hard deadlines; frames that come meanwhile are dropped.",
)
@click.option("--loop", is_flag=True, help="With --live: begin files again at their end.")
@click.option(
    "--stdin",
    is_flag=True,
    help="With --live: frames come on standard input, as raw RGB of all cameras in order.",
)
@click.option(
    "--serve",
    type=Address(),
    help="Let others follow the file over HTTP while it is written: 8080 for this machine, 0.0.0.0:8080 for all.",
)
@click.pass_context
def command(
    ctx: click.Context,
    capture: Path,
    output: Path,
    force: bool,
    resume: bool,
    progress: str,
    live: bool,
    loop: bool,
    stdin: bool,
    serve: tuple[str, int] | None,
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
    that --resume continues; with --live it ends the recording.
    """
    from invcodec.capture.capture import open_capture
    from invcodec.encoding.encode import encode_capture
    from invcodec.encoding.encode import resume as resume_encode
    from invcodec.output import check_output

    from .progress import BarProgress, choose

    shown = choose(progress)
    to_pipe = str(output) == "-"
    if not live and (loop or stdin):
        raise click.UsageError(f"{'--loop' if loop else '--stdin'} needs --live", ctx)
    if live and training["target_size"] is not None:
        raise click.UsageError(
            "--target-size needs to know how many frames there will be; with --live, give --bitrate", ctx
        )
    if serve and to_pipe:
        raise click.UsageError("--serve serves a file; name one in place of -", ctx)
    if resume:
        _refuse_options(ctx)
        with _served(output, serve, fresh=False):
            reports = resume_encode(output, capture, progress=shown)
    else:
        if to_pipe and sys.stdout.isatty():
            raise click.UsageError("a file is not written to a terminal; redirect standard output", ctx)
        if not to_pipe:
            check_output(output, force)
        target = sys.stdout.buffer if to_pipe else output
        if live:
            source = _source(capture, layout, source, downscale, holdout, loop=loop, stdin=stdin)
            with _served(output, serve):
                _encode_live(source, target, training, frames, force, shown)
            return
        settings = resolve_settings(training)
        opened = open_capture(
            capture, layout=layout, source=source, frames=frames, downscale=downscale, holdout=holdout or None
        )
        with _served(output, serve):
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
    allowed = {"capture", "output", "resume", "progress", "serve"}
    for parameter in ctx.command.params:
        if parameter.name in allowed or parameter.name is None:
            continue
        if ctx.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--resume takes all options from the file; leave out {parameter.opts[-1]}", ctx)


def _source(
    path: Path, layout: Any, source: Any, downscale: int, holdout: tuple[str, ...], *, loop: bool, stdin: bool
) -> LiveSource:
    """What films: a folder is played, a file describes a rig."""
    from invcodec.capture.capture import open_capture
    from invcodec.capture.live.pipe import RawPipe
    from invcodec.capture.live.played import PlayedCapture
    from invcodec.capture.live.rig import CameraRig
    from invcodec.errors import CaptureError

    chosen = holdout or None
    if path.is_dir() and not stdin:
        opened = open_capture(path, layout=layout, source=source, downscale=downscale, holdout=chosen)
        return PlayedCapture(opened, loop=loop)
    if path.is_dir():
        path = path / "transforms.json"
    if not path.exists():
        raise CaptureError(f"{path}: no such file; live encoding takes a rig's JSON file, or a folder to play")
    if stdin:
        if loop:
            raise CaptureError("--loop: standard input cannot begin again")
        return RawPipe(path, sys.stdin.buffer, downscale=downscale, holdout=chosen)
    return CameraRig(path, downscale=downscale, holdout=chosen, loop=loop)


def _encode_live(
    source: LiveSource,
    target: Any,
    training: dict[str, Any],
    frames: tuple[int | None, int | None] | None,
    force: bool,
    shown: Any,
) -> None:
    """Deadlines are the preset's training times unless they are given."""
    from invcodec.encoding.live import encode_live

    from .progress import BarProgress

    deadlines = {}
    preset = resolve_settings({**training, "key_seconds": None, "seconds_per_frame": None, "steps": None})
    for name, schedule in (("key_seconds", preset.key), ("seconds_per_frame", preset.delta)):
        seconds = training[name] if training[name] is not None else schedule.budget.seconds
        if seconds is None:
            raise click.UsageError(f"preset {preset.preset} has no times; give --key-seconds and --seconds-per-frame")
        deadlines[name] = float(seconds)
    settings = resolve_settings({**training, "key_seconds": None, "seconds_per_frame": None})
    done = encode_live(source, target, settings, **deadlines, frames=frames, force=force, progress=shown)
    if isinstance(shown, BarProgress):
        late = f", {done.late} late" if done.late else ""
        click.echo(f"{done.frames} frames, {done.dropped} dropped{late}", err=True)


@contextmanager
def _served(output: Path, address: tuple[str, int] | None, *, fresh: bool = True) -> Iterator[None]:
    """The output over HTTP, from a process of its own: nothing that clients do holds the encoder up."""
    if address is None:
        yield
        return
    from invcodec.streaming.server import Beside

    with Beside(output, *address, fresh=fresh) as server:
        click.echo(f"serving {server.url}", err=True)
        yield
