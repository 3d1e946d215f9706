"""Long files and random access: `python benchmarks/scale.py --data studio --downscale 2`.

First a generated file of 10,000 frames of a tiny network: time and memory of `info`, and bytes read by a seek. Then a
real encode with several key intervals: the cost of random access in bytes.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from time import perf_counter as clock
from typing import Any

from common import PROGRAM, ROOT, save

sys.path.append(str(ROOT / "spec"))

from make_vectors import Maker, cameras, grid, header

from invcodec.coding.chain import StateReader

FRAMES, KEY_EVERY = 10_000, 100


class Counting(io.FileIO):
    """A file that counts the bytes read from it."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def long_file(path: Path, frames: int) -> None:
    made = Maker(header([grid("ndc")], cameras("ndc")), 1)
    for number in range(frames):
        (made.delta if number % KEY_EVERY else made.key)(number, 40 * number)
    path.write_bytes(made.finish())


def peak_memory(*arguments: object) -> tuple[float, float]:
    """Seconds and peak memory in MB of a command in a separate process."""
    # VmHWM starts afresh with the program; resource usage would include the forking process.
    script = PROGRAM[-1].replace("sys.exit(main())", "main(); print(open('/proc/self/status').read(), file=sys.stderr)")
    started = clock()
    done = subprocess.run([*PROGRAM[:-1], script, *map(str, arguments)], capture_output=True, text=True, check=True)
    seconds = clock() - started
    line = next(line for line in done.stderr.splitlines() if line.startswith("VmHWM"))
    return seconds, int(line.split()[1]) / 1000


def measure_length(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = {"frames": FRAMES, "key_every": KEY_EVERY}
    path, short = folder / "long.inv", folder / "short.inv"
    long_file(path, FRAMES)
    long_file(short, FRAMES // 10)
    result["file_bytes"] = path.stat().st_size
    result["info_seconds"] = median(peak_memory("info", path)[0] for _ in range(5))
    result["info_mb"] = peak_memory("info", path)[1]
    result["info_mb_tenth"] = peak_memory("info", short)[1]
    result["verify_mb"], result["verify_mb_tenth"] = (peak_memory("verify", each)[1] for each in (path, short))
    with StateReader(path) as reader:
        counting = Counting(path)
        reader._file = counting
        number = 7345
        chain = [e for e in reader.frames if number // KEY_EVERY * KEY_EVERY <= e.number <= number]
        started = clock()
        reader.state_at(number)
        result["seek"] = {
            "frame": number,
            "seconds": clock() - started,
            "bytes_read": counting.taken,
            "bytes_of_the_chain": sum(e.length for e in chain),
        }
    return result


def measure_access(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    rows = []
    for every in (1, 2, 4, 8, 24):
        path = folder / f"every{every}.inv"
        command = ["encode", arguments.data, path, "-f", "--steps", arguments.steps, "--key-every", every]
        command += ["--downscale", arguments.downscale]
        subprocess.run([*PROGRAM, *map(str, command)], check=True)
        with StateReader(path) as reader:
            numbers = [entry.number for entry in reader.frames] * 2
            random.Random(0).shuffle(numbers)
            reader.state_at(numbers[-1])
            times = []
            for number in numbers:
                reader._cached = None
                started = clock()
                reader.state_at(number)
                times.append(clock() - started)
            size = reader.size / len(reader.frames)
        rows.append(
            {"key_every": every, "bytes_per_frame": size, "mean_seconds": mean(times), "worst_seconds": max(times)}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of a capture")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--save", type=Path, help="write the results there, as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        length = measure_length(Path(folder))
        access = measure_access(arguments, Path(folder))
    seek = length["seek"]
    print(f"{FRAMES} frames, {length['file_bytes'] / 1e6:.1f} MB: info {length['info_seconds']:.2f} s, ", end="")
    print(f"{length['info_mb']:.0f} MB ({length['info_mb_tenth']:.0f} MB for a tenth of the frames); ", end="")
    print(f"verify {length['verify_mb']:.0f} MB ({length['verify_mb_tenth']:.0f} MB)")
    print(f"frame {seek['frame']}: {seek['bytes_read']} bytes read, its chain has {seek['bytes_of_the_chain']}")
    print("\n| keyframe every | file per frame | random access, mean (worst) |\n|---|---|---|")
    for row in access:
        times = f"{1000 * row['mean_seconds']:.0f} ms ({1000 * row['worst_seconds']:.0f} ms)"
        print(f"| {row['key_every']} | {row['bytes_per_frame'] / 1000:.1f} kB | {times} |")
    if arguments.save:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        save(arguments.save, {"peak_mb": peak, "length": length, "access": access})


if __name__ == "__main__":
    main()
