"""`invcodec sync`: when each video of a capture began."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

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
    if as_json:
        say_json(_json(found))
    else:
        say(*_text(found))
    for video, drift in zip(found.videos, found.drift.tolist(), strict=True):
        if drift:
            note(
                f"{video}: its clock is {abs(drift):.3%} {'slower' if drift > 0 else 'faster'} than that of "
                f"{found.videos[0].name}; correct its times (ffmpeg -itsscale {1 + drift:.6f} -i {video.name} -c copy "
                "...), and run sync again"
            )
    if not found.sure and not unsure:
        why = "clocks differ" if found.drift.any() else "not certain"
        note(f"{why}, so nothing was written; film a clap or a jump, calibrate the cameras, or use --unsure")
        return 1
    path = found.write(force)
    if not as_json:
        say(path)
    return 0


def _json(found: Found) -> dict[str, Any]:
    synchrony = found.synchrony
    return {
        "told_by": found.told_by,
        "sure": found.sure,
        "frame_rate": [found.rate.numerator, found.rate.denominator],
        "videos": [
            {
                "video": os.path.relpath(video, found.folder),
                "offset": offset,
                # Where nothing tells, it may be any.
                "within": within if np.isfinite(within) else None,
                "confidence": confidence,
                "drift": drift,
            }
            for video, offset, within, confidence, drift in zip(
                found.videos,
                synchrony.offsets.tolist(),
                synchrony.within.tolist(),
                synchrony.confidence.tolist(),
                found.drift.tolist(),
                strict=True,
            )
        ],
    }


def _text(found: Found) -> list[str]:
    rows = [["video", "offset s", "frames", "within", "confidence"]]
    for row in _json(found)["videos"]:
        frames, within = (None if row[key] is None else row[key] * float(found.rate) for key in ("offset", "within"))
        rows.append(
            [
                row["video"],
                f"{row['offset']:.4f}",
                f"{frames:.2f}",
                "-" if within is None else f"{within:.1f}",
                f"{row['confidence']:.3f}",
            ]
        )
    rate = frame_rate_text([found.rate.numerator, found.rate.denominator])
    return [f"{found.folder}: offsets told by {found.told_by}; frames are of {rate}", "", *table(rows)]
