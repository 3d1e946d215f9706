"""A capture looped, forwards and backwards, for thousands of frames: whether quality, bytes, time and memory stay.

    python benchmarks/looped.py --data tiny --frames 2000 --steps 60

Each row stands for the hundred frames up to its own. Quality is that of pixels of the training cameras that are kept
from training; time is that of all cores, per step, since frames in which less changes take fewer steps.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import cycle, islice
from pathlib import Path
from statistics import mean
from time import process_time
from typing import Any

import common

import invcodec
from invcodec.encoding.report import FrameReport

_ROW = 100
"""Frames of a row."""


def resident() -> float:
    """Memory of this process now, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def summary(reports: list[FrameReport], seconds: float) -> dict[str, Any]:
    """Means over the frames of one row, which took `seconds`."""
    deltas = [report.bytes for report in reports if report.kind == "delta"]
    return {
        "frame": reports[-1].number + 1,
        "psnr": mean(report.fidelity.psnr for report in reports),
        "psnr_moving": common.mean_known(report.fidelity.psnr_moving for report in reports),
        "worst": min(report.fidelity.psnr for report in reports),
        "delta_bytes": mean(deltas),
        "key_bytes": [report.bytes for report in reports if report.kind == "key"],
        "steps": mean(report.steps for report in reports),
        "seconds_per_step": seconds / sum(report.steps for report in reports),
        "resident_mb": resident(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a capture")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--steps", type=int, help="of every frame, in place of the preset's")
    parser.add_argument("--save", type=Path, help="write the results there, as JSON")
    arguments = parser.parse_args()
    capture = invcodec.open_capture(arguments.data, downscale=arguments.downscale)
    frames = list(capture.frames(capture.available.start))
    there_and_back = [*frames, *frames[-2:0:-1]]
    settings = invcodec.resolve(arguments.preset, steps=arguments.steps)
    print(
        "| frames | PSNR (worst) | moving | later frames | keyframes | steps | a step | memory |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    rows, reports, started = [], [], process_time()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.inv"
        encoder = invcodec.Encoder(
            out, capture.cameras, settings, fps=capture.fps, source_size=capture.source_size,
            downscale=capture.downscale,
        )  # fmt: skip
        with encoder:
            for number, frame in enumerate(islice(cycle(there_and_back), arguments.frames)):
                reports.append(encoder.push(frame.images, time=number / capture.fps, number=number))
                if len(reports) == _ROW:
                    rows.append(summary(reports, process_time() - started))
                    print(line(rows[-1]), flush=True)
                    reports, started = [], process_time()
        size = out.stat().st_size
    print(f"{size} bytes, {size / arguments.frames:.0f} a frame")
    if arguments.save:
        common.save(arguments.save, {"rows": rows, "file_bytes": size})


def line(row: dict[str, Any]) -> str:
    moving = "-" if row["psnr_moving"] is None else f"{row['psnr_moving']:.1f} dB"
    keys = ", ".join(f"{size / 1000:.1f}" for size in row["key_bytes"]) or "-"
    return (
        f"| {row['frame']} | {row['psnr']:.2f} dB ({row['worst']:.2f} dB) | {moving} | {row['delta_bytes']:.0f} B | "
        f"{keys} kB | {row['steps']:.0f} | {1000 * row['seconds_per_step']:.1f} ms | {row['resident_mb']:.0f} MB |"
    )


if __name__ == "__main__":
    main()
