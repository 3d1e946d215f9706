"""Kills a live encode at random moments while others follow it: `python benchmarks/kill.py --times 50`.

After each kill the file must hold every frame that had been reported as finished, and every one that a follower
received, and verify as open or truncated, without anything lost in between. Takes some seconds a time.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from common import PROGRAM, ROOT

sys.path.append(str(ROOT))

from invcodec.editing.verify import verify
from invcodec.streaming.follow import follow_file
from invcodec.synth.write import write_synthetic

LIVE = ["--live", "--loop", "--preset", "draft", "--steps", "5", "--key-seconds", "20", "--seconds-per-frame", "1"]


def killed_after(folder: Path, path: Path, seconds: float) -> tuple[set[int], set[int]]:
    """Numbers of the frames that the encoder reported as finished, and that a follower received, until the kill."""
    command = [*PROGRAM, "encode", str(folder), str(path), *LIVE, "--threads", "1", "--progress", "json"]
    finished: set[int] = set()
    received: set[int] = set()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as encoder:
        assert encoder.stderr is not None
        over = threading.Event()

        def follow() -> None:
            for _, found in follow_file(path, over.is_set):
                if found.entry is not None:
                    received.add(found.entry.number)

        followers = [threading.Thread(target=follow) for _ in range(3)]
        for follower in followers:
            follower.start()
        try:
            deadline: float | None = None
            for line in encoder.stderr:
                if "frame" in (event := _event(line)):
                    finished.add(event["frame"])
                    deadline = deadline or time.monotonic() + seconds
                if deadline is not None and time.monotonic() >= deadline:
                    break
            time.sleep(random.uniform(0, 0.3))
        finally:
            encoder.kill()
            over.set()
        # What had been reported before the kill; the last line may be cut.
        for line in encoder.stderr:
            if line.endswith("\n") and "frame" in (event := _event(line)):
                finished.add(event["frame"])
        for follower in followers:
            follower.join()
    return finished, received


def _event(line: str) -> dict[str, Any]:
    """A line of `--progress json`; other lines are notes for people, which are shown."""
    if line.startswith("{"):
        return json.loads(line)
    print(line.rstrip(), file=sys.stderr)
    return {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    bad = frames = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "capture"
        write_synthetic(folder, cameras=4, size=(20, 16), frames=20)
        for index in range(arguments.times):
            path = Path(name) / f"{index}.inv"
            finished, received = killed_after(folder, path, random.uniform(0, 2))
            found = verify(path)
            there = {entry.number for entry in found.frames}
            sound = found.status in ("open", "truncated") and (finished | received) <= there
            bad += not sound
            frames += len(there)
            print(
                f"{index}: {found.status}, {len(finished)} finished, {len(received)} received, {len(there)} there",
                flush=True,
            )
    print(f"{arguments.times} kills, {frames} frames, {bad} with a frame lost")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
