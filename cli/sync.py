"""`invcodec sync`: when each video of a capture began."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invcodec import names

from .options import FORCE, JSON, OUTSIDE
from .terminal import note, say, say_json
from .values import frame_rate_text, table

if TYPE_CHECKING:
    from invcodec.capture.sync import Found


@click.command(
    "sync",
    short_help="Find when each camera's video began.",
    epilog="""\b
Examples:
  invcodec sync videos/
  invcodec sync videos/ --by motion -f
  invcodec sync videos/ --json""",
)
@click.argument("videos", type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=click.Choice(names.EVIDENCE),
    help="What tells. Default: sound if all videos have it and it is clear, else motion as well.",
)
@click.option(
    "--layout",
    type=click.Choice(names.layouts()),
    metavar="LAYOUT",
    help="Layout of the capture, if it has a calibration. Default: detected.",
)
@click.option("--unsure", is_flag=True, help="Write offsets even if they are not certain.")
@FORCE
@OUTSIDE
@JSON
def command(
    videos: Path,
    by: names.Evidence | None,
    layout: str | None,
    unsure: bool,
    force: bool,
    outside: bool,
    as_json: bool,
) -> int:
    """Find the offsets between the VIDEOS of a folder from what is heard and seen in them, and write them to sync.json
    beside them.

    Whatever reads the capture then takes frames of the same time from all cameras. The folder need not have a
    calibration; with one, motion tells more. If an offset is not certain, nothing is written, and the exit code is 1.
    """
    from invcodec.capture.capture import videos_of
    from invcodec.capture.offsets import FILE
    from invcodec.capture.sync import synchronise
    from invcodec.output import check_output

    from .progress import counted

    if videos.is_dir():
        check_output(videos / FILE, force)
    files, cameras = videos_of(videos, layout=layout, outside=outside)
    with counted("comparing", len(files) * (1 if by else 2)) as done:
        found = synchronise(videos, files, cameras, by=by, done=done)
    sure = found.synchrony.sure
    if as_json:
        say_json(_json(found))
    else:
        say(*_text(found))
    if not sure and not unsure:
        note("not certain, so nothing was written; film a clap or a jump, calibrate the cameras, or use --unsure")
        return 1
    path = found.write(force)
    if not as_json:
        say(path)
    return 0


def _json(found: Found) -> dict[str, Any]:
    synchrony = found.synchrony
    return {
        "told_by": found.told_by,
        "sure": synchrony.sure,
        "frame_rate": [found.rate.numerator, found.rate.denominator],
        "videos": [
            {"video": os.path.relpath(video, found.folder), "offset": offset, "confidence": confidence}
            for video, offset, confidence in zip(
                found.videos, synchrony.offsets.tolist(), synchrony.confidence.tolist(), strict=True
            )
        ],
    }


def _text(found: Found) -> list[str]:
    rows = [["video", "offset s", "frames", "confidence"]]
    for row in _json(found)["videos"]:
        frames = row["offset"] * float(found.rate)
        rows.append([row["video"], f"{row['offset']:.4f}", f"{frames:.2f}", f"{row['confidence']:.3f}"])
    rate = frame_rate_text([found.rate.numerator, found.rate.denominator])
    return [f"{found.folder}: offsets told by {found.told_by}; frames are of {rate}", "", *table(rows)]
