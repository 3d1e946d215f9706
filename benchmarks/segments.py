"""What it costs to have an encode divided and scheduled: `python benchmarks/segments.py`.

--seams CAPTURE    bytes, and PSNR across seams, of the first frames in segments (--frames 24 --segment 8): beside one
                   pass with as many keyframes, and beside segments that know nothing of each other
--tasks N          tasks that do nothing, through the scheduler, here: time and the driver's memory per 1,000
--workers 1 2 4    a small encode of 12 segments by as many processes of one thread
--scale            the arithmetic for an hour of 20 cameras on many GPUs; its inputs are named, measured or assumed
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import ray
from common import ROOT, Results

sys.path.append(str(ROOT))

from invcodec.capture.capture import Capture, open_capture
from invcodec.cluster.ray import RayCluster, Resources, run
from invcodec.container.reader import Reader
from invcodec.decoding.evaluation import evaluate, mean_figures
from invcodec.decoding.video import Video
from invcodec.editing.edit import concat
from invcodec.encoding.encode import encode_capture
from invcodec.encoding.presets import resolve
from invcodec.encoding.settings import Settings
from invcodec.segments.cutting import every
from invcodec.segments.encode import encode_in_segments
from invcodec.synth.write import write_synthetic


def one_pass(capture: Capture, settings: Settings, segment: int, out: Path) -> None:
    """With a keyframe where a segment would begin."""
    encode_capture(capture, out, settings)


def in_segments(capture: Capture, settings: Settings, segment: int, out: Path) -> None:
    """From a common first frame."""
    encode_in_segments(capture, out, settings, every(capture.numbers, segment), f"{out}.segments")


def alone(capture: Capture, settings: Settings, segment: int, out: Path) -> None:
    """Each segment from nothing, but for space and capacity, which are those of its own cameras."""
    paths = []
    for numbers in every(capture.numbers, segment):
        paths.append(out.with_suffix(f".{numbers.start}.inv"))
        encode_capture(replace(capture, numbers=numbers), paths[-1], settings)
    with out.open("wb") as file:
        concat(paths, file)


WAYS: dict[str, Callable[[Capture, Settings, int, Path], None]] = {
    "one pass": one_pass,
    "segments": in_segments,
    "each segment alone": alone,
}


def seams(folder: Path, preset: str, frames: int, segment: int, results: Results) -> None:
    """Encode a capture in each of the ways; PSNR is that of cameras that are held out."""
    capture = open_capture(folder, frames=(0, frames))
    settings = resolve(preset, key_every=segment)
    with tempfile.TemporaryDirectory() as name:
        for way, encode in WAYS.items():
            out = Path(name) / f"{way}.inv"
            encode(capture, settings, segment, out)
            with Reader(out) as reader:
                lengths = {entry.number: (entry.is_key, entry.length) for entry in reader.frames}
            with Video(out) as video:
                measured = evaluate(video, capture)["frames"]
            means = [mean_figures(list(frame["cameras"].values())) for frame in measured]
            row = {
                "bytes": out.stat().st_size,
                "key_bytes": [size for key, size in lengths.values() if key],
                "later_bytes": mean(size for key, size in lengths.values() if not key),
                "psnr": [each["psnr"] for each in means],
                "psnr_moving": [each["psnr_moving"] for each in means],
            }
            results.keep("seams", f"{way}, {preset}, {frames} frames in segments of {segment}", row)
            print(seam_row(way, row, segment), flush=True)


def seam_row(way: str, row: dict[str, Any], segment: int) -> str:
    """A row of the table: bytes, then PSNR of frames before and after each seam, and how far others are apart."""
    psnr = row["psnr"]
    moving = [each for each in row["psnr_moving"] if each is not None]
    starts = range(segment, len(psnr), segment)
    across = ", ".join(f"{psnr[at - 1]:.2f}, **{psnr[at]:.2f}**, {psnr[at + 1]:.2f}" for at in starts)
    steps = [abs(b - a) for at, (a, b) in enumerate(pairwise(psnr), 1) if at not in starts]
    keys = ", ".join(f"{size / 1e3:.1f}" for size in row["key_bytes"])
    sizes = f"{row['bytes'] / 1e3:.1f} kB | {keys} kB | {row['later_bytes'] / 1e3:.2f} kB"
    quality = f"{mean(psnr):.2f} dB | {mean(moving):.1f} dB, {min(moving):.1f} dB"
    return f"| {way} | {sizes} | {quality} | {across} | {max(steps):.2f} dB |"


def nothing(index: int) -> int:
    return index


def start(cpus: int) -> None:
    """A cluster of this machine, with so many CPUs as far as Ray knows."""
    ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)


def tasks(count: int, results: Results) -> None:
    """Time and memory of a driver over tasks that do nothing."""
    start(2)
    needs = Resources(1, 0, 1 << 20)
    run(nothing, (), [0.0] * 20, needs, lambda *_: None)
    seen, rows = 0, []
    began, busy = time.monotonic(), time.process_time()

    def done(index: int, result: Any) -> None:
        nonlocal seen
        seen += 1
        if seen % 1000 == 0:
            row = {
                "tasks": seen,
                "milliseconds": (time.monotonic() - began) / seen * 1e3,
                "driver_milliseconds": (time.process_time() - busy) / seen * 1e3,
                "driver_mb": int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6,
            }
            rows.append(row)
            print(
                f"| {seen:,} | {row['milliseconds']:.2f} ms | {row['driver_milliseconds']:.2f} ms | "
                f"{row['driver_mb']:.0f} MB |",
                flush=True,
            )

    run(nothing, (), [0.0] * count, needs, done)
    ray.shutdown()
    for row in rows:
        results.keep("tasks", str(row["tasks"]), row)


def workers(counts: Sequence[int], results: Results) -> None:
    """Time of an encode by processes of one thread; compilation and imports come before."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic(folder / "capture", cameras=7, size=(64, 48), frames=12)
        capture = open_capture(folder / "capture")
        settings = resolve("draft", steps=40, threads=1)
        segments = every(capture.numbers, 1)
        first = None
        for count in counts:
            start(count)
            with RayCluster("local") as scheduler:
                for turn in ("warm", str(count)):
                    began = time.monotonic()
                    out, place = folder / f"{turn}-{count}.inv", str(folder / f"{turn}-{count}")
                    encode_in_segments(capture, out, settings, segments, place, scheduler=scheduler)
                    seconds = time.monotonic() - began
            ray.shutdown()
            first = first or seconds * count
            results.keep("workers", str(count), {"seconds": seconds, "efficiency": first / count / seconds})
            print(f"| {count} | {seconds:.1f} s | {first / count / seconds:.0%} |", flush=True)


@dataclass(frozen=True)
class Job:
    """An encode on many GPUs; times in seconds, sizes in bytes.

    Attributes:
        frames, cameras: of the capture.
        segment: frames of a segment.
        key, later: training a first keyframe, and a later frame.
        refresh: training the keyframe that a segment begins with.
        start: of a worker: imports, compiled kernels from their cache.
        picture: a compressed picture of one camera.
        key_bytes, later_bytes: records.
        store: bytes a second that the place of captures delivers to all together.
        overhead: of scheduling a segment.
    """

    frames: int = 3600 * 30
    cameras: int = 20
    segment: int = 60
    key: float = 15.0
    later: float = 1.0
    refresh: float = 10.0
    start: float = 20.0
    picture: int = 120_000
    key_bytes: int = 284_000
    later_bytes: int = 26_000
    store: float = 1.25e9
    overhead: float = 0.005

    def on(self, gpus: int) -> dict[str, float]:
        """Seconds of each part, and of all, on so many GPUs."""
        segments = math.ceil(self.frames / self.segment)
        rounds = math.ceil(segments / gpus)
        piece = self.refresh + (self.segment - 1) * self.later
        moved = self.frames * self.cameras * self.picture
        parts = {
            "plan": self.start + self.key,
            "training": self.start + rounds * piece,
            "reading": moved / self.store,
            "scheduling": segments * self.overhead,
            "joining": 2 * segments * (self.key_bytes + (self.segment - 1) * self.later_bytes) / self.store,
        }
        # Pictures are read, and tasks scheduled, while others are trained.
        together = max(parts["training"], parts["reading"], parts["scheduling"])
        total = parts["plan"] + together + parts["joining"]
        return parts | {"all": total, "efficiency": segments * piece / gpus / total}


def scale(job: Job) -> str:
    """The table of docs/segments.md."""
    rows = []
    for gpus in (8, 64, 512):
        found = job.on(gpus)
        times = " | ".join(f"{found[name]:,.0f} s" for name in ("plan", "training", "reading", "scheduling", "joining"))
        rows.append(f"| {gpus} | {times} | {found['all'] / 3600:.2f} h | {found['efficiency']:.0%} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seams", type=Path, metavar="CAPTURE")
    parser.add_argument("--preset", default="draft", help="of --seams")
    parser.add_argument("--frames", type=int, default=24, help="of --seams")
    parser.add_argument("--segment", type=int, default=8, help="frames of a segment of --seams")
    parser.add_argument("--tasks", type=int, metavar="N")
    parser.add_argument("--workers", type=int, nargs="+", metavar="N")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--save", type=Path, help="write the results there, as JSON")
    given = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would have its workers yield to all else on this machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    results = Results(given.save, {})
    if given.seams:
        seams(given.seams, given.preset, given.frames, given.segment, results)
    if given.tasks:
        tasks(given.tasks, results)
    if given.workers:
        workers(given.workers, results)
    if given.scale:
        print(scale(Job()))


if __name__ == "__main__":
    main()
