"""Shared by the benchmarks: running the program as a user does, and reproducible results."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import cache
from pathlib import Path
from statistics import mean
from time import monotonic
from typing import Any

import numpy as np
from llvmlite.binding import get_host_cpu_features

from invcodec.capture.capture import Frame
from invcodec.encoding.calibration import processor

ROOT = Path(__file__).resolve().parent.parent
# -P: do not import from the current folder, which may be another checkout.
_MAIN = ["-P", "-c", "import sys; from invcodec_cli import main; sys.exit(main())"]
PROGRAM = [sys.executable, *_MAIN]
"""Command that runs `invcodec` of this checkout; arguments follow."""


def program_of(checkout: Path) -> list[str]:
    """Command that runs `invcodec` of a checkout; one other than this needs its own virtual environment in `.venv`."""
    if checkout == ROOT:
        return PROGRAM
    python = checkout.absolute() / ".venv" / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{checkout}: has no .venv; run `make test` there first")
    return [str(python), *_MAIN]


def sources(checkout: Path) -> str:
    """A digest of the package's code in a checkout."""
    total = hashlib.sha256()
    for path in sorted([*(checkout / "invcodec").rglob("*.py"), *(checkout / "cli").rglob("*.py")]):
        total.update(path.relative_to(checkout).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:16]


def encode(
    program: Sequence[str],
    capture: Path,
    out: Path,
    options: Sequence[str],
    label: str,
    environment: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Encode in a separate process.

    Args:
        environment: additional environment variables.

    Returns:
        The encoder's report of each frame, with `at`, seconds from process start to the flushed record, and `peak_mb`,
        peak memory in MB up to then (None if the system does not report it).
    """
    command = [*program, "encode", str(capture), str(out), "-f", "--progress", "json", *options]
    started = monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    assert process.stderr is not None
    done = []
    for line in process.stderr:
        if not line.startswith("{"):
            print(f"  {label}: {line.rstrip()}", file=sys.stderr)
            continue
        report = json.loads(line)
        done.append({**report, "at": monotonic() - started, "peak_mb": _peak_mb(process.pid)})
        print(f"  {label}: frame {report['frame']} at {done[-1]['at']:.0f} s", file=sys.stderr)
    if process.wait():
        raise SystemExit(f"{label}: encode failed with exit code {process.returncode}")
    return done


def _peak_mb(process: int) -> float | None:
    """Peak resident memory. VmHWM starts afresh with the program; resource usage would include the forking process."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith("VmHWM")), None)


def evaluate(program: Sequence[str], file: Path, capture: Path, cameras: Sequence[str] = ()) -> dict[str, Any]:
    """The output of `invcodec eval`, for the held-out cameras if none are named."""
    command = [*program, "eval", str(file), str(capture), "--json"]
    for name in cameras:
        command += ["--camera", name]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def complete(frame: Frame) -> list[np.ndarray]:
    """The images of all cameras, of a capture without gaps."""
    images = [image for image in frame.images if image is not None]
    if len(images) < len(frame.images):
        raise SystemExit(f"frame {frame.number}: a camera has no image of it")
    return images


def mean_known(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known, or None."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def machine() -> str:
    return f"{os.cpu_count()} cores of {processor()}, {platform.system()}, Python {platform.python_version()}"


def instruction_set() -> str:
    """The vector instructions that kernels are compiled for, which NUMBA_CPU_NAME may restrict."""
    from numba import config

    if config.CPU_NAME:
        return str(config.CPU_NAME)
    features = {name for name, there in get_host_cpu_features().items() if there}
    return next((name for name in ("avx512f", "avx2", "neon") if name in features), "none")


@cache
def samples_per_second(levels: int = 8, finest: int = 844, log2_table: int = 17) -> float:
    """How many samples in order along short rays all cores look up, in a grid of 16 to `finest` cells an axis."""
    from invcodec.field.grid_layout import GridLayout
    from invcodec.field.kernels.grid import BLOCK, Levels, encode
    from invcodec.field.kernels.options import kernel

    @kernel
    def look_up(tables, position, out):
        for first in range(0, position.shape[1], BLOCK):
            encode(tables, position, first, BLOCK, out, 0)

    resolutions = tuple(np.geomspace(16, finest, levels).round().astype(int).tolist())
    layout = GridLayout(resolutions, log2_table, 32, 15, 32, 64)
    rng = np.random.default_rng(0)
    tables = Levels(
        rng.random((layout.entries, 2), np.float32),
        np.array([0, *(level.last for level in layout.levels)], np.int64),
        np.array(resolutions, np.int64),
        np.array([level.hashed for level in layout.levels]),
        np.uint32(layout.table_mask),
    )
    rays, steps = 256 * BLOCK, 16
    starts, directions = rng.random((2, rays, 1, 3), np.float32)
    along = np.arange(steps, dtype=np.float32)[None, :, None] / 384
    position = np.clip(starts + along * (directions - np.float32(0.5)), 0, 0.999).reshape(-1, 3).T.copy()

    def work(_: int) -> None:
        look_up(tables, position, np.empty((2 * levels, BLOCK), np.float32))

    work(0)
    cores = os.cpu_count() or 1
    times = []
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(5):
            started = monotonic()
            list(pool.map(work, range(cores)))
            times.append(monotonic() - started)
    return cores * rays * steps / min(times)


def commit(checkout: Path = ROOT) -> str:
    done = subprocess.run(["git", "-C", checkout, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    dirty = subprocess.run(["git", "-C", checkout, "status", "--porcelain"], capture_output=True, text=True).stdout
    return done.stdout.strip() + ("+changes" if dirty.strip() else "") if done.returncode == 0 else "unknown"


def shown(argument: str) -> str:
    """An argument of a command, with absolute paths reduced to their last part."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def save(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, with machine, commit, date and command."""
    command = ["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(shown, sys.argv[1:])]
    about = {
        "machine": machine(),
        "instructions": instruction_set(),
        "million_samples_per_second": round(samples_per_second() / 1e6, 1),
        "commit": commit(),
        "date": date.today().isoformat(),
        "command": " ".join(command),
    }
    path.write_text(json.dumps({**about, **result}, indent=1) + "\n")


class Results:
    """Results of a benchmark of several parts, by part and row, saved after every row.

    A long run can be interrupted or split: a row replaces its namesake, and others are kept. Each row records its
    commit, its date, and the load average over one minute.

    Args:
        path: the JSON file; None to save nothing.
        about: properties that all rows must have in common, such as the capture and its size.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self._path = path
        self._about = dict(about)
        self.parts: dict[str, dict[str, dict[str, Any]]] = {}
        if path is not None and path.exists():
            kept = json.loads(path.read_text())
            common = {"machine": machine(), **self._about}
            if differing := [name for name, value in common.items() if kept.get(name) != value]:
                raise SystemExit(f"{path}: holds results with another {' and '.join(differing)}; name another file")
            self.parts = kept["parts"]

    def keep(self, part: str, row: str, values: Mapping[str, Any]) -> None:
        measured = {"commit": commit(), "date": date.today().isoformat(), "load": os.getloadavg()[0]}
        self.parts.setdefault(part, {})[row] = {**values, "measured": measured}
        if self._path is not None:
            save(self._path, {**self._about, "parts": self.parts})
