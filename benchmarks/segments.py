"""What it costs to have an encode scheduled: `python benchmarks/segments.py`.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from common import ROOT

sys.path.append(str(ROOT))

from invcodec.capture.capture import open_capture
from invcodec.cluster.ray import RayCluster, Resources, run
from invcodec.encoding.presets import resolve
from invcodec.segments.cutting import every
from invcodec.segments.encode import encode_in_segments
from invcodec.synth.write import write_synthetic


def nothing(index: int) -> int:
    return index


def start(cpus: int) -> None:
    """A cluster of this machine, with so many CPUs as far as Ray knows."""
    ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)


def tasks(count: int) -> None:
    """Time and memory of a driver over tasks that do nothing."""
    start(2)
    needs = Resources(1, 0, 1 << 20)
    run(nothing, (), [0.0] * 20, needs, lambda *_: None)
    seen = 0
    began, busy = time.monotonic(), time.process_time()

    def done(index: int, result: Any) -> None:
        nonlocal seen
        seen += 1
        if seen % 1000 == 0:
            memory = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
            each = (time.monotonic() - began) / seen * 1e3, (time.process_time() - busy) / seen * 1e3
            print(f"{seen:6} tasks: {each[0]:.2f} ms each, {each[1]:.2f} ms of the driver's CPU, {memory:.0f} MB")

    run(nothing, (), [0.0] * count, needs, done)
    ray.shutdown()


def workers(counts: list[int]) -> None:
    """Time of an encode by processes of one thread; compilation and imports come before."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic(folder / "capture", cameras=7, size=(64, 48), frames=12)
        capture = open_capture(folder / "capture")
        settings = resolve("draft", steps=40, threads=1)
        segments = every(capture.numbers, 1)
        alone = None
        for count in counts:
            ray.init(
                "local", num_cpus=count, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False
            )
            with RayCluster("local") as scheduler:
                for turn in ("warm", str(count)):
                    began = time.monotonic()
                    out, place = folder / f"{turn}-{count}.inv", str(folder / f"{turn}-{count}")
                    encode_in_segments(capture, out, settings, segments, place, scheduler=scheduler)
                    seconds = time.monotonic() - began
            ray.shutdown()
            alone = alone or seconds * count
            print(f"{count} workers: {seconds:.1f} s, efficiency {alone / count / seconds:.2f}")


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
    parser.add_argument("--tasks", type=int, metavar="N")
    parser.add_argument("--workers", type=int, nargs="+", metavar="N")
    parser.add_argument("--scale", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if given.tasks:
        tasks(given.tasks)
    if given.workers:
        workers(given.workers)
    if given.scale:
        print(scale(Job()))


if __name__ == "__main__":
    main()
