"""`invcodec encode`: a capture or live cameras to one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invcodec import names

from .options import (
    FORCE,
    HOST,
    PROGRESS,
    SEGMENTS,
    Command,
    capture_options,
    group,
    read_reading,
    resolve_settings,
    training_options,
)
from .terminal import say
from .values import Address, Place, Real, bytes_text, seconds_text, standard_output

if TYPE_CHECKING:
    from invcodec.capture.live.source import LiveSource
    from invcodec.cluster.ray import RayCluster
    from invcodec.encoding.report import Progress

_PIECES = ".segments"
"""Ends the name of the folder that holds an output's pieces."""


@click.command(
    "encode",
    short_help="Encode a capture, or live cameras, to a file.",
    cls=Command,
    epilog="""\b
Examples:
  invcodec encode capture/ out.inv
  invcodec encode capture/ out.inv --preset fast --downscale 2 --frames 0:24
  invcodec encode capture/ out.inv --holdout cam00 --target-size 2MB
  invcodec encode capture/ out.inv --bitrate 300k --max-frame-bytes 4k
  invcodec encode capture/ out.inv --resume
  invcodec encode capture/ out.inv --segments 60
  invcodec encode videos/ out.inv --calibrate
  invcodec encode clip.mp4 out.inv
  invcodec encode capture/ - | ssh viewer 'cat > live.inv'
  invcodec encode rig.json live.inv --live --bitrate 1M --serve 8080
  invcodec encode capture/ live.inv --live --loop --serve 8080""",
)
@click.argument("capture", metavar="CAPTURE", type=Place(), required=False)
@click.argument("output", metavar="OUTPUT", type=click.Path(path_type=Path, allow_dash=True), required=False)
@capture_options
@training_options
@group(
    "Live",
    click.option(
        "--live",
        is_flag=True,
        help="Encode live from cameras: CAPTURE is a rig's JSON file, or a folder to play back in real time. "
        f"--key-seconds (for the first frame, default {names.LIVE_KEY_SECONDS:g} s) and --seconds-per-frame (default "
        f"{names.LIVE_FRAME_SECONDS:g} s) are hard deadlines in place of the preset's steps; frames that arrive in the "
        "meantime are dropped.",
    ),
    click.option("--loop", is_flag=True, help="With --live: restart files at their end."),
    click.option(
        "--stdin",
        is_flag=True,
        help="With --live: read frames from standard input, as raw RGB images of all cameras in order.",
    ),
    click.option(
        "--serve",
        type=Address(),
        help="Serve the file over HTTP while it is being written: 8080 listens on localhost only, 0.0.0.0:8080 on all "
        "interfaces.",
    ),
    HOST,
)
@group(
    "Segments",
    SEGMENTS,
    click.option(
        "--pieces",
        metavar="PLACE",
        help="With --segments: folder, or URL such as s3://bucket/folder, for the pieces, which stay there. Default: "
        "OUTPUT.segments, until they are joined.",
    ),
    click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Encode segments, or the captures of --batch, on a cluster of Ray: local starts one on this machine, an "
        "address such as ray://host:10001 joins one. Of CPUs, each takes its --threads.",
    ),
    click.option(
        "--gpus",
        type=Real(0),
        metavar="N",
        help="With --cluster: GPUs of a segment, also a fraction, such as 0.5. Default: 1 if there are any.",
    ),
    click.option(
        "--batch",
        type=click.Path(path_type=Path),
        metavar="LIST",
        help='Encode many captures, in place of CAPTURE and OUTPUT: each line of LIST is a JSON object with "capture", '
        '"output", and any other options by their names. One that fails does not stop the others.',
    ),
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Find the cameras first, if CAPTURE is a folder of bare videos or images; see 'invcodec calibrate'.",
)
@FORCE
@click.option("--resume", is_flag=True, help="Continue an interrupted encode; all options come from the file.")
@PROGRESS
@click.pass_context
def command(
    ctx: click.Context,
    capture: Path | None,
    output: Path | None,
    force: bool,
    resume: bool,
    calibrate: bool,
    progress: str,
    segments: int | str | None,
    pieces: str | None,
    cluster: str | None,
    gpus: float | None,
    batch: Path | None,
    live: bool,
    loop: bool,
    stdin: bool,
    serve: tuple[str, int] | None,
    hosts: tuple[str, ...],
    **options: Any,
) -> int | None:
    """Encode the multi-view video in folder CAPTURE, or a single video file, to the file OUTPUT, or to standard output
    if it is -.

    A folder contains images or videos and their camera calibration, in one of the layouts that --layout lists;
    'invcodec inspect' shows how it is interpreted. Each frame is written as soon as it is finished. Ctrl-C leaves a
    valid, shorter file that --resume continues; with --live it ends the recording.
    """
    from invcodec.capture.capture import open_capture
    from invcodec.capture.layouts.registry import is_capture
    from invcodec.encoding.encode import encode_capture
    from invcodec.encoding.encode import resume as resume_encode
    from invcodec.output import check_output
    from invcodec.places import is_file, is_remote
    from invcodec.segments.encode import encode_in_segments
    from invcodec.segments.plan import check_place
    from invcodec.segments.store import Store

    from .calibrate import run as run_calibration
    from .progress import BarProgress, choose
    from .segments import divide

    if batch is not None:
        return _encode_batch(ctx, batch, cluster, gpus, as_json=progress == "json")
    for name in ("capture", "output"):
        if ctx.params[name] is None:
            raise click.MissingParameter(ctx=ctx, param=next(p for p in ctx.command.params if p.name == name))
    assert capture is not None
    assert output is not None
    shown, reading = choose(progress), read_reading(options)
    to_pipe = str(output) == "-"
    if not live and (loop or stdin):
        raise click.UsageError(f"{'--loop' if loop else '--stdin'} requires --live", ctx)
    if loop and stdin:
        raise click.UsageError("--loop needs files, but --stdin reads standard input", ctx)
    if live and calibrate:
        raise click.UsageError("--calibrate needs a capture on disk; run 'invcodec calibrate' before --live", ctx)
    if calibrate and is_remote(capture):
        raise click.UsageError("--calibrate writes into the capture's folder; give one on this machine", ctx)
    if live and options["target_size"] is not None:
        raise click.UsageError("--target-size needs a known number of frames; with --live, use --bitrate", ctx)
    if serve and to_pipe:
        raise click.UsageError("--serve needs an output file, not -", ctx)
    if pieces and segments is None:
        raise click.UsageError("--pieces requires --segments", ctx)
    if (cluster or gpus) and segments is None:
        raise click.UsageError(f"{'--cluster' if cluster else '--gpus'} requires --segments", ctx)
    if segments is not None and (live or to_pipe or serve):
        other = "--live" if live else "--serve" if serve else "standard output"
        raise click.UsageError(f"--segments joins the file at the end, which {other} cannot wait for", ctx)
    if hosts and not serve:
        raise click.UsageError("--host requires --serve", ctx)
    if resume:
        _refuse_options(ctx)
        with _served(output, serve, hosts, fresh=False):
            reports = resume_encode(output, capture, outside=reading["outside"], progress=shown)
    else:
        if not to_pipe:
            check_output(output, force)
        target = standard_output() if to_pipe else output
        if live:
            cameras = _live_source(ctx, capture, reading, loop=loop, stdin=stdin)
            with _served(output, serve, hosts):
                _encode_live(ctx, cameras, target, options, reading["frames"], force, shown)
            return None
        settings = resolve_settings(ctx, options, flat=is_file(capture))
        if calibrate and not is_capture(capture):
            found = run_calibration(capture, source=reading["source"], outside=reading["outside"])
            if isinstance(shown, BarProgress):
                say(f"{found.path}: {len(found.placed)} cameras, error {found.error:.2f} px", err=True)
        opened = open_capture(capture, **reading)
        if segments is not None:
            place = pieces or f"{output}{_PIECES}"
            if pieces is None:
                check_place(Path(place))
            ranges = divide(opened, settings, segments)
            with nullcontext() if cluster is None else _joined(cluster, gpus) as scheduler:
                now = encode_in_segments(
                    opened,
                    output,
                    settings,
                    ranges,
                    place,
                    scheduler=scheduler,
                    force=force,
                    progress=shown,
                )
            if pieces is None:
                Store(place).remove()
            if isinstance(shown, BarProgress):
                say(_summary(output, now.frames, now.seconds), err=True)
            return None
        with _served(output, serve, hosts):
            reports = encode_capture(opened, target, settings, force=force, progress=shown)
        if to_pipe:
            return None
    if isinstance(shown, BarProgress):
        say(_summary(output, len(reports), sum(report.seconds for report in reports)), err=True)
    return None


def _encode_batch(ctx: click.Context, path: Path, cluster: str | None, gpus: float | None, *, as_json: bool) -> int:
    """Encode a list of captures, on a cluster if there is one; returns the exit code."""
    from . import batch

    allowed = {"batch", "cluster", "gpus", "threads", "progress"}
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
        if given and parameter.name not in allowed:
            raise click.UsageError(f"--batch takes all from its list; remove {parameter.opts[-1]}", ctx)
    threads = ctx.params["threads"] or os.cpu_count() or 1
    listed = batch.read_list(ctx.command, path, threads)
    if cluster is None:
        return batch.run(listed, batch.one_after_another, as_json=as_json)
    with _joined(cluster, gpus) as machines:
        return batch.run(listed, partial(machines.each, threads=threads), as_json=as_json)


def _joined(cluster: str, gpus: float | None) -> RayCluster:
    from invcodec.extras import require

    require("ray", "cluster", "--cluster needs Ray")
    from invcodec.cluster.ray import RayCluster

    return RayCluster(cluster, gpus=gpus)


def _summary(output: Path, frames: int, seconds: float) -> str:
    """One line: frames encoded now, and size of the whole file, which may hold earlier frames too."""
    from invcodec.container.reader import Reader

    with Reader(output) as reader:
        total = len(reader.frames)
    now = f"{total} frames" if frames == total else f"{frames} of {total} frames"
    size = output.stat().st_size
    return f"{output}: {now} in {seconds_text(seconds)}, {bytes_text(size)} ({bytes_text(size / total)} per frame)"


def _refuse_options(ctx: click.Context) -> None:
    """Refuse options that a resumed encode would ignore, since it takes them from the file."""
    allowed = {"capture", "output", "resume", "progress", "serve", "hosts", "outside"}
    for parameter in ctx.command.params:
        if parameter.name in allowed or parameter.name is None:
            continue
        if ctx.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--resume takes all options from the file; remove {parameter.opts[-1]}", ctx)


def _live_source(ctx: click.Context, path: Path, reading: dict[str, Any], *, loop: bool, stdin: bool) -> LiveSource:
    """The live source: a folder is played back, a file describes a rig."""
    from invcodec.capture.capture import open_capture
    from invcodec.capture.live.pipe import RawPipe
    from invcodec.capture.live.played import PlayedCapture
    from invcodec.capture.live.rig import CameraRig
    from invcodec.errors import CaptureError

    if path.is_dir() and not stdin:
        # All is played; which frames of it are encoded is decided as they come.
        return PlayedCapture(open_capture(path, **reading | {"frames": None}), loop=loop)
    if reading["alpha"] is not None:
        raise click.UsageError("--alpha requires a capture's folder; what cameras film has none", ctx)
    if path.is_dir():
        path = path / "transforms.json"
    if not path.exists():
        raise CaptureError(f"{path}: no such file; --live takes a rig's JSON file, or a folder to play back")
    rig = {name: reading[name] for name in ("downscale", "holdout")}
    return RawPipe(path, sys.stdin.buffer, **rig) if stdin else CameraRig(path, **rig, loop=loop)


def _encode_live(
    ctx: click.Context,
    source: LiveSource,
    target: Any,
    training: dict[str, Any],
    frames: tuple[int | None, int | None] | None,
    force: bool,
    shown: Progress,
) -> None:
    """Encode live, with deadlines in place of limits on training."""
    from invcodec.encoding.live import encode_live

    from .progress import BarProgress

    defaults = {"key_seconds": names.LIVE_KEY_SECONDS, "seconds_per_frame": names.LIVE_FRAME_SECONDS}
    deadlines = {
        name: default if training[name] is None else float(training[name]) for name, default in defaults.items()
    }
    settings = resolve_settings(ctx, {**training, "key_seconds": None, "seconds_per_frame": None})
    done = encode_live(source, target, settings, **deadlines, frames=frames, force=force, progress=shown)
    if isinstance(shown, BarProgress):
        late = f", {done.late} late" if done.late else ""
        say(f"{done.frames} frames, {done.dropped} dropped{late}", err=True)


@contextmanager
def _served(
    output: Path, address: tuple[str, int] | None, hosts: tuple[str, ...], *, fresh: bool = True
) -> Iterator[None]:
    """Serve the output over HTTP from a separate process, so that clients cannot slow down the encoder."""
    if address is None:
        yield
        return
    from invcodec.streaming.server import BackgroundServer

    with BackgroundServer(output, *address, fresh=fresh, hosts=hosts) as server:
        say(f"serving {server.url}; {server.reach}", err=True)
        yield
