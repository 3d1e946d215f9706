"""Single videos (profile `image`) beside AV1: bytes and PSNR of the same frames at several qualities.

    python benchmarks/single.py clip.mp4 --frames 0:24
    python benchmarks/inv.py --data clip.mp4 --profile image --claims incremental --frames 0:9

The second command compares each frame from the last one with frames trained from scratch. Bytes of AV1 are those of its
frames, without a container; ours are those of the whole file.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import common
import simulcast

import invcodec


def ours(arguments: argparse.Namespace, quality: float, folder: Path) -> dict[str, Any]:
    """One encode, as `simulcast.measure` describes one of AV1."""
    capture = invcodec.open_capture(arguments.clip, frames=arguments.frames, downscale=arguments.downscale)
    settings = invcodec.resolve(arguments.preset, profile="image", quality=quality)
    path = folder / "out.inv"
    done = invcodec.encode_capture(capture, path, settings, force=True)
    with invcodec.open(path) as video:
        figures = invcodec.evaluate(video, capture)["mean"]
    return {
        "encoder": f"{arguments.preset}, quality {quality:g}",
        "key_bytes": done[0].bytes,
        "later_bytes_mean": mean(frame.bytes for frame in done[1:]),
        "file_bytes": path.stat().st_size,
        "frames": len(done),
        "training_psnr": figures["psnr"],
        "psnr_moving": figures["psnr_moving"],
        "seconds": sum(frame.seconds for frame in done),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="a video file")
    parser.add_argument("--frames", default="0:24", help="as 0:24, the default; at least two")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--quality", nargs="+", type=float, default=[30.0, 50.0, 70.0])
    parser.add_argument("--crf", nargs="*", type=int, default=[20, 30, 40, 50, 60])
    parser.add_argument("--save", type=Path, help="write the results there, as JSON")
    arguments = parser.parse_args()
    first, end = (int(each) for each in arguments.frames.split(":"))
    arguments.frames = first, end
    capture = invcodec.open_capture(arguments.clip, frames=arguments.frames, downscale=arguments.downscale)
    views = simulcast.read_views(capture)
    print("| | keyframe | later frames | all | PSNR |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        rows = [_shown(ours(arguments, quality, Path(folder))) for quality in arguments.quality]
    for crf in arguments.crf:
        row = simulcast.measure(views, capture.fps, simulcast.ENCODERS[0], crf)
        rows.append(_shown(row | {"encoder": f"AV1 ({row['encoder']}), CRF {crf}"}))
    if arguments.save:
        common.save(arguments.save, {"rows": rows})


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    sizes = (f"{row[key] / 1000:.2f} kB" for key in ("key_bytes", "later_bytes_mean", "file_bytes"))
    print(f"| {row['encoder']} | {' | '.join(sizes)} | {row['training_psnr']:.2f} dB |", flush=True)
    return row


if __name__ == "__main__":
    main()
