"""`invcodec transcode`: re-encodes a file to a smaller one, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .edit import opened_output
from .options import DEVICE, FORCE, JSON, OUTPUT, THREADS, Command, read_target, target_options
from .progress import counted, report_missed, target_text
from .terminal import say, say_json
from .values import bytes_text, psnr_text


@click.command(
    "transcode",
    short_help="Make a file smaller without training.",
    cls=Command,
    epilog="""\b
Examples:
  invcodec transcode out.inv -o small.inv --target-size 1MB
  invcodec transcode out.inv -o small.inv --quality 30 --max-frame-bytes 4k""",
)
@click.argument("file", type=click.Path(path_type=Path))
@OUTPUT
@target_options
@FORCE
@JSON
@DEVICE
@THREADS
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    output: Path,
    force: bool,
    as_json: bool,
    device: str,
    threads: int | None,
    **asked: Any,
) -> None:
    """Write a smaller version of FILE by re-quantising its weights and dropping small changes.

    Needs no capture and does no training. Target and reported PSNR compare the output with FILE, on 2 % of the pixels
    of its training cameras (at most 4096). The quality cannot exceed that of FILE.
    """
    target = read_target(ctx, asked)
    from invcodec.container.reader import Reader
    from invcodec.editing.transcode import PASSES, transcode

    with Reader(file) as reader:
        count = len(reader.frames)
    with counted("transcoding", PASSES * count) as advance, opened_output(output, force) as out:
        result = transcode(
            file,
            out,
            quality=asked["quality"],
            target=target,
            device=device,
            threads=threads,
            done=advance,
        )
    text = [
        f"{output}: {count} frames, {bytes_text(result.size)}, was {bytes_text(result.source_size)}, "
        f"quality {result.quality:.4g}",
        f"PSNR against {file}: {psnr_text(result.fidelity)}, "
        f"worst frame {min(each.psnr for each in result.fidelities):.2f} dB",
        *(f"target met: {target_text(outcome)}" for outcome in result.outcomes if outcome.met),
    ]
    to_pipe = str(output) == "-"
    if as_json:
        say_json(result.describe(str(output), str(file)), err=to_pipe)
    else:
        say(*text, err=to_pipe)
    for outcome in result.outcomes:
        report_missed(outcome)
