"""`invcodec report`: what a file is like beside its capture, as one page for a browser."""

from __future__ import annotations

from pathlib import Path

import click

from .edit import opened_output, report
from .evaluate import report_damage
from .options import DEVICE, FORCE, OUTPUT, OUTSIDE, THREADS
from .values import Place, count_text


@click.command(
    "report",
    short_help="Write a page that shows quality and size.",
    epilog="""\b
Examples:
  invcodec report out.inv capture/ -o report.html
  invcodec report out.inv capture/ --camera cam00 -o report.html -f""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("capture", type=Place())
@OUTPUT
@FORCE
@click.option(
    "--camera",
    "cameras",
    multiple=True,
    metavar="CAMERA",
    help="Measure this camera. Repeatable. Default: all, which takes a while for a large rig.",
)
@OUTSIDE
@DEVICE
@THREADS
def command(
    file: Path,
    capture: Path,
    output: Path,
    force: bool,
    cameras: tuple[str, ...],
    outside: bool,
    device: str,
    threads: int | None,
) -> int:
    """Compare FILE with the capture that it was encoded from, and write one HTML page about it.

    The page shows captured and decoded pictures and their difference in the first, the worst and the last frame; PSNR
    (also of moving and static pixels), SSIM and bytes of every frame; each camera; the rig; and what 'info' says. Its
    numbers are those of 'eval'. It is one file that needs no network.
    """
    from invcodec.container.info import describe
    from invcodec.decoding.evaluation import evaluate, open_original
    from invcodec.decoding.video import Video
    from invcodec.geometry.rig import camera_named

    from .info import facts
    from .page import Set, page
    from .progress import counted

    with opened_output(output, force) as out, Video(file, device=device, threads=threads) as video:
        opened = open_original(video, capture, outside=outside)
        chosen = [camera_named(name, video.cameras, video.name) for name in dict.fromkeys(cameras)] or video.cameras
        groups = {
            kind: [camera.name for camera in chosen if camera.held_out == held_out]
            for kind, held_out in (("held-out", True), ("training", False))
        }
        groups = {kind: names for kind, names in groups.items() if names}
        with counted("comparing", len(video) * len(groups)) as done:
            sets = [Set(kind, evaluate(video, opened, names, done=done)) for kind, names in groups.items()]
            out.write(page(video, opened, sets, facts(describe(file))).encode())
    first = sets[0].result
    report(output, f"{count_text(len(first['frames']), 'frame')}, {count_text(len(chosen), 'camera')}")
    return report_damage(video, first["lost"])
