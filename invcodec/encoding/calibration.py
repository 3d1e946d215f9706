"""How fast this machine trains: measured by every encode and remembered for the next one.

What is remembered are small files in the user's cache folder, one for each machine and kind of work. They serve
estimates alone: nothing that an encode writes depends on them, and if they cannot be read or written, nothing fails.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter as clock
from typing import Literal, get_args

import numpy as np

from invcodec.encoding.settings import Settings
from invcodec.errors import InvError
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import training_cameras
from invcodec.geometry.space import Rays, Space
from invcodec.output import user_cache, written
from invcodec.render import chosen_device, make_trainer
from invcodec.render.engine import Batch, device_type
from invcodec.render.networks import networks_from_settings
from invcodec.training.schedule import Budget, Schedule

Kind = Literal["key", "delta"]
"""The first keyframe, or a later frame."""
KINDS: tuple[Kind, ...] = get_args(Kind)

_CALIBRATION_SECONDS = 0.5
_PART = 16
"""A calibration takes steps for this long. If even this part of one takes half as long, the part has to do."""
_OPEN_CELLS = 0.12
"""Share of open cells in a calibration, as in a trained scene."""
_CLUSTER = 8
"""Open cells of a calibration lie in cubes of this many cells along each axis, since surfaces are connected."""
_ENOUGH_STEPS = 16
"""Speeds measured over fewer steps are not remembered."""


@dataclass(frozen=True)
class Speed:
    """Seconds that a training step takes, and seconds that a frame takes beside its steps."""

    step: float
    rest: float = 0.0

    def frame(self, budget: Budget) -> float:
        """Seconds of a frame with this budget."""
        steps = math.inf if budget.steps is None else budget.steps * self.step
        return min(steps, budget.seconds or math.inf) + self.rest


class Stopwatch:
    """Measures an encode and remembers how fast it was."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sums: dict[Kind, list[float]] = {}

    def add(self, kind: Kind, steps: int, training: float, rest: float) -> None:
        """One frame: its steps, their seconds, and the seconds of all else."""
        sums = self._sums.setdefault(kind, [0.0] * 4)
        for index, value in enumerate((1, steps, training, rest)):
            sums[index] += value
        frames, total, training, rest = sums
        if total >= _ENOUGH_STEPS:
            remember(self._settings, kind, Speed(training / total, rest / frames))


def remember(settings: Settings, kind: Kind, speed: Speed) -> None:
    """Keep a speed for later runs, if there is a place for it."""
    with suppress(OSError, RuntimeError, InvError):
        path = _path(settings, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path, force=True) as out:
            out.file.write(json.dumps(asdict(speed)).encode())


def remembered(settings: Settings, kind: Kind) -> Speed | None:
    """The speed that the last encode with this much work a step had on this machine, or None."""
    try:
        speed = Speed(**json.loads(_path(settings, kind).read_bytes()))
        return speed if speed.step > 0 and speed.rest >= 0 and math.isfinite(speed.step + speed.rest) else None
    except (OSError, RuntimeError, ValueError, TypeError):
        return None


def calibrated(settings: Settings, cameras: Sequence[Camera], space: Space) -> dict[Kind, Speed]:
    """Speeds of an encode with settings that were fitted to a rig: remembered, or else measured and remembered."""
    found = {kind: remembered(settings, kind) for kind in KINDS}
    if None in found.values():
        measured = measure(settings, cameras, space)
        for kind in KINDS:
            if found[kind] is None:
                remember(settings, kind, measured)
                found[kind] = measured
    return {kind: speed for kind, speed in found.items() if speed is not None}


def measure(settings: Settings, cameras: Sequence[Camera], space: Space) -> Speed:
    """Take a few training steps with fresh weights, on random pixels of a rig's cameras."""
    networks = networks_from_settings(settings.networks, space)
    engine = make_trainer(networks, device=settings.device, threads=settings.threads)
    engine.warm_up()
    rng = np.random.default_rng(0)
    engine.load(networks.initialise(rng))
    if (cells := engine.occupancy()) is not None:
        coarse = rng.random((-(-len(cells) // _CLUSTER),) * 3) < _OPEN_CELLS
        engine.set_occupancy(np.kron(coarse, np.ones((_CLUSTER,) * 3, bool))[tuple(map(slice, cells.shape))])
    schedule = settings.delta
    engine.begin(networks.tensors.keys(), schedule.price, mixed=schedule.mixed)
    rig = [cameras[index] for index in training_cameras(cameras)]

    def seconds(rays: int) -> float:
        batch = _batch(rig, space, rays, rng)
        started = clock()
        engine.step(batch, schedule.lead_rate, schedule.rate)
        return clock() - started

    part = seconds(schedule.rays // _PART)
    if part > _CALIBRATION_SECONDS / 2:
        return Speed(_PART * part)
    times = [seconds(schedule.rays)]
    while sum(times) < _CALIBRATION_SECONDS:
        times.append(seconds(schedule.rays))
    return Speed(sum(times) / len(times))


def _batch(rig: Sequence[Camera], space: Space, count: int, rng: np.random.Generator) -> Batch:
    """`count` random pixels of all cameras."""
    each = -(-count // len(rig))
    rays = [space.march(*camera.rays(rng.random((each, 2)) * (camera.width, camera.height))) for camera in rig]
    joined = Rays(*(np.concatenate([getattr(part, name) for part in rays])[:count] for name in Rays.__annotations__))
    share = np.full(count, 1 / count, np.float32)
    colours = rng.random((2, count, 3), np.float32)
    return Batch(joined, colours[0], colours[1], share, rng.random(count, np.float32))


def _path(settings: Settings, kind: Kind) -> Path:
    """Where the speed of this machine at this work is kept.

    Raises:
        RuntimeError: the user has no home folder.
    """
    schedule: Schedule = settings.key if kind == "key" else settings.delta
    networks = [[each["profile"], each["config"]] for each in settings.networks]
    work = [kind, networks, schedule.rays, schedule.samples, schedule.mixed]
    name = hashlib.sha256(json.dumps([_machine(settings), work], sort_keys=True).encode()).hexdigest()[:16]
    return user_cache() / "speed" / f"{name}.json"


def _machine(settings: Settings) -> list[str | int]:
    """What the speed depends on beside the work: the processor, what kernels are compiled for, threads, and the GPU."""
    from llvmlite import binding

    device = chosen_device(settings.device)
    about: list[str | int] = [
        platform.machine(),
        processor(),
        binding.get_host_cpu_name(),
        binding.get_host_cpu_features().flatten(),
        *(os.environ.get(name, "") for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")),
        settings.threads,
        device_type(device),
    ]
    if device_type(device) == "cuda":
        import torch

        about.append(torch.cuda.get_device_name(device))
    return about


def processor() -> str:
    """The processor's model, where the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
