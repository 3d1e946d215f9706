"""`invcodec eval`: quality and size of a file, compared with its capture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import DEVICE, JSON, OUTSIDE, THREADS
from .terminal import note, say, say_json
from .values import Place, bytes_text, seconds_text, table

if TYPE_CHECKING:
    from invcodec.decoding.evaluation import Evaluation, Figures
    from invcodec.decoding.video import Video


@click.command(
    "eval",
    short_help="Measure quality and size against the capture.",
    epilog="""\b
Examples:
  invcodec eval out.inv capture/
  invcodec eval out.inv capture/ --camera cam03 --save pictures/
  invcodec eval out.inv capture/ --json""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("capture", type=Place())
@click.option(
    "--camera",
    "cameras",
    multiple=True,
    metavar="CAMERA",
    help="Compare this camera. Repeatable. Default: the held-out cameras.",
)
@JSON
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Save comparison pictures here, captured on the left and decoded on the right.",
)
@click.option(
    "--validation",
    is_flag=True,
    help="Also measure PSNR on the encoder's validation pixels, next to the stored values. Reads all cameras.",
)
@OUTSIDE
@DEVICE
@THREADS
def command(
    file: Path,
    capture: Path,
    cameras: tuple[str, ...],
    as_json: bool,
    save: Path | None,
    validation: bool,
    outside: bool,
    device: str,
    threads: int | None,
) -> int:
    """Compare FILE with the capture that it was encoded from.

    PSNR is measured on 8-bit sRGB per image and averaged over images. SSIM uses an 11x11 Gaussian window (sigma 1.5,
    K1 0.01, K2 0.03). Both are also given for moving and static pixels, according to the capture's motion masks or
    else to differences between frames. All sizes are bytes in the file.
    """
    from invcodec.decoding.evaluation import evaluate, open_original, validate
    from invcodec.decoding.video import Video

    from .progress import counted

    with Video(file, device=device, threads=threads) as video:
        opened = open_original(video, capture, outside=outside)
        with counted("comparing", len(video) * (1 + validation)) as done:
            result = evaluate(video, opened, cameras, save=save, done=done)
            if validation:
                result["validation"] = validate(video, opened, done=done)
        if as_json:
            say_json(result)
        else:
            say(*_text(result))
        return report_damage(video, result["lost"])


def report_damage(video: Video, lost: Sequence[int]) -> int:
    """Say what is wrong with a file of which some frames were lost, and return the exit code."""
    for problem in video.problems:
        note(f"warning: {problem}")
    for number in lost:
        note(f"warning: frame {number} is lost")
    return 3 if lost or video.status in ("damaged", "truncated") else 0


def _text(result: Evaluation) -> list[str]:
    from invcodec.decoding.evaluation import mean_figures

    rows = [["frame", "kind", "bytes", "PSNR dB", "moving", "static", "SSIM"]]
    for frame in result["frames"]:
        means = mean_figures(list(frame["cameras"].values()))
        rows.append([str(frame["number"]), frame["kind"], str(frame["bytes"]), *cells(means)])
    size_mean = sum(frame["bytes"] for frame in result["frames"]) / len(result["frames"])
    rows.append(["mean", "", f"{size_mean:.0f}", *cells(result["mean"])])
    count = len(result["cameras"])
    shown = ", ".join(result["cameras"]) if count <= 8 else f"{count} cameras"
    note = " (none is held out, so these were used for training)" if result["set"] == "training" else ""
    size = result["bytes"]
    lines = [
        f"{result['set']} {'camera' if count == 1 else 'cameras'}: {shown}{note}",
        f"moving pixels from {result['motion']}; PSNR and SSIM are means over {result['mean']['images']} images",
        "",
        *table(rows, left=2),
        "",
        f"file {bytes_text(size['file'])}, {bytes_text(size['per_frame'])} per frame, "
        f"{size['bit_rate'] / 1e3:.4g} kbit/s over {seconds_text(size['duration'])}",
    ]
    if "validation" in result:
        measured = [["frame", "validation PSNR dB", "as stored", "moving", "as stored"]]
        for each in result["validation"]:
            decibels = (each["psnr"], each["stored"], each["psnr_moving"], each["stored_moving"])
            measured.append([str(each["number"]), *("-" if value is None else f"{value:.2f}" for value in decibels)])
        lines += ["", *table(measured)]
    if result["missing"]:
        lines.append(f"{len(result['missing'])} frames of the file are not in the capture and were skipped")
    return lines


def cells(figures: Figures) -> list[str]:
    """PSNR of all, moving and static pixels, and SSIM, as text."""
    decibels = (figures["psnr"], figures["psnr_moving"], figures["psnr_static"])
    return [
        *("-" if value is None else f"{value:.2f}" for value in decibels),
        "-" if figures["ssim"] is None else f"{figures['ssim']:.4f}",
    ]
