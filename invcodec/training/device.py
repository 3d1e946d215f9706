"""Training steps that stay on the GPU: batches are drawn there, and a step is captured as a CUDA graph and replayed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from triton import cdiv, next_power_of_2

from invcodec.render.gpu import DeviceBatch, GpuEngine
from invcodec.training import device_kernels as kernels
from invcodec.training.attention import worst_pixels
from invcodec.training.colour import ColourCorrection
from invcodec.training.pixels import FramePixels, Views
from invcodec.training.schedule import Schedule
from invcodec.training.steps import Steps

_AHEAD = 4
"""Steps that the host may queue ahead of the device: enough to keep it busy, few enough to end on time."""
_CHUNK = 1 << 20
"""Pixels whose rays are computed in one call."""
_BLOCK = 128
_STATISTICS = 5


class _Kind(NamedTuple):
    """The properties that steps replayed from one graph share."""

    rays: int
    samples: int
    picked: int
    attended_weight: float
    jitter: float
    trains: tuple[bool, bool]
    observes: bool


class DeviceSteps(Steps):
    """Draws batches on the device, for its engine; see `invcodec.training.make_steps`.

    It holds some 50 bytes on the device for each pixel.

    Args:
        record: replay steps as CUDA graphs; otherwise the host launches every operation.
    """

    def __init__(
        self,
        engine: GpuEngine,
        views: Views,
        correction: ColourCorrection | None,
        *,
        random_background: bool = True,
        record: bool = True,
    ) -> None:
        self._records = record
        self._views = views
        self._engine = engine
        self._correction = correction
        self._random_background = random_background
        self._device = device = engine.device
        n, cameras = len(views), len(views.cameras)
        self._rays = torch.empty((n, 9), device=device)
        for a in range(0, n, _CHUNK):
            rays = views.rays(np.arange(a, min(a + _CHUNK, n)))
            part = np.concatenate([rays.origins, rays.directions, rays.view], 1)
            self._rays[a : a + len(part)] = torch.from_numpy(part).to(device)
        self._ends = torch.tensor(views.offsets[1:], device=device)
        # Captured graphs refer to all of these by address.
        self._colour: torch.Tensor | None = None
        self._valid, self._attended = (torch.zeros(n, dtype=torch.int32, device=device) for _ in range(2))
        self._counts = torch.zeros(2, dtype=torch.int64, device=device)
        self._visits = torch.zeros(2, dtype=torch.int64, device=device)
        self._is_attended = torch.zeros(n, dtype=torch.uint8, device=device)
        self._pixel_errors = torch.zeros(n, device=device)
        self._gain = torch.ones((cameras, 3), device=device)
        self._offset = torch.zeros((cameras, 3), device=device)
        self._seen = torch.zeros((cameras, _STATISTICS, 3), dtype=torch.float64, device=device)
        self._error = torch.zeros((), device=device)
        self._backgrounds = torch.zeros((2, 3), device=device)
        self._seed = torch.zeros(1, dtype=torch.int64, device=device)
        self._recordings: dict[_Kind, _Recording | None] = {}
        self._errors: deque[_Reading] = deque()

    def start(self, frame: FramePixels, schedule: Schedule, rng: np.random.Generator, *, observe: bool) -> None:
        self._schedule = schedule
        self._observes = observe
        self._seed.fill_(int(rng.integers(2**62)))
        if self._colour is None:
            self._colour = torch.empty(frame.colour.shape, dtype=torch.uint8, device=self._device)
        self._colour.copy_(torch.from_numpy(frame.colour))
        self._valid_mask = frame.valid_mask
        self._list(0, self._valid, torch.from_numpy(frame.valid_mask).to(self._device))
        self._attend(np.zeros_like(frame.valid_mask) if frame.changed_mask is None else frame.changed_mask)
        self._visits.zero_()
        self._pixel_errors.fill_(torch.nan)
        self._backgrounds.copy_(torch.from_numpy(np.stack(frame.backgrounds())))
        self._take_over_colour()
        self._errors.clear()

    def step(self, rays: int, samples: int, lead_rate: float, rate: float) -> float | None:
        schedule = self._schedule
        kind = _Kind(
            rays,
            samples,
            schedule.picked(rays) if self._attends else 0,
            schedule.attended_weight,
            schedule.jitter,
            self._engine.trains,
            self._observes,
        )
        self._engine.set_rates(lead_rate, rate)
        if self._device.type != "cuda":
            self._take(kind)
            return float(self._error)
        with torch.cuda.device(self._device):
            self._play(kind)
            self._errors.append(_Reading(self._error))
        return float(self._errors.popleft()) if len(self._errors) > _AHEAD else None

    def finish(self) -> float | None:
        last = float(self._errors[-1]) if self._errors else None
        self._errors.clear()
        return last

    def _play(self, kind: _Kind) -> None:
        """Run the first step of a kind eagerly, which compiles its kernels; then capture and replay it."""
        if kind not in self._recordings or not self._records:
            self._recordings[kind] = None
            self._take(kind)
            return
        recording = self._recordings[kind]
        if recording is None:
            recording = self._recordings[kind] = _Recording(lambda: self._take(kind))
        recording.play()

    def fit_colour(self) -> None:
        if self._correction is None:
            return
        self._correction.add(np.moveaxis(self._seen.cpu().numpy(), 1, 0))
        self._seen.zero_()
        self._correction.fit()
        self._take_over_colour()

    def attend_to_errors(self) -> None:
        self._attend(worst_pixels(self._views, self._pixel_errors.cpu().numpy(), self._valid_mask))

    def _attend(self, mask: np.ndarray) -> None:
        """Attend to pixels `[P]` bool."""
        self._is_attended.copy_(torch.from_numpy(mask))
        self._attends = self._list(1, self._attended, self._is_attended) > 0

    def _list(self, index: int, numbers: torch.Tensor, mask: torch.Tensor) -> int:
        """List the pixels of a mask `[P]` in `numbers`; returns their count, which entry `index` of the counts gets."""
        found = mask.nonzero()[:, 0]
        numbers[: len(found)] = found
        self._counts[index] = len(found)
        return len(found)

    def _take_over_colour(self) -> None:
        if self._correction is not None:
            self._gain.copy_(torch.from_numpy(self._correction.gain))
            self._offset.copy_(torch.from_numpy(self._correction.offset))

    def _take(self, kind: _Kind) -> None:
        """One step, of device operations only."""
        batch, pixel, camera, seen = self.draw(kind)
        result = self._engine.step_on_device(batch, kind.samples)
        plain = slice(kind.picked, None)
        self._error.copy_(result.error[plain].mean())
        if kind.observes:
            self._pixel_errors.index_copy_(0, pixel, result.error)
        if kind.observes and self._correction is not None:
            rgb, seen = result.rgb[plain].double(), seen[plain].double()
            values = torch.stack([torch.ones_like(rgb), rgb, seen, rgb * rgb, rgb * seen], 1)
            self._seen.index_add_(0, camera[plain], values)

    def draw(self, kind: _Kind) -> tuple[DeviceBatch, torch.Tensor, torch.Tensor, torch.Tensor]:
        """A batch, its pixel numbers `[R]`, their cameras `[R]`, and the cameras' colours `[R, 3]`."""
        assert self._colour is not None
        n, cameras = kind.rays, len(self._ends)
        origins, directions, view, target, background, seen = torch.empty((6, n, 3), device=self._device)
        weight, jitter = torch.empty((2, n), device=self._device)
        pixel, camera = torch.empty((2, n), dtype=torch.int64, device=self._device)
        batch = DeviceBatch(origins, directions, view, target, background, weight, jitter)
        kernels.draw[(cdiv(n, _BLOCK),)](
            self._valid, self._attended, self._counts, self._visits, self._is_attended, self._rays, self._colour,
            self._ends, self._gain, self._offset, self._backgrounds, self._seed, self._engine.control, *batch, seen,
            pixel, camera, n, kind.picked, cameras, float(kind.attended_weight), float(kind.jitter),
            CHANNELS=self._colour.shape[1], CORRECTED=self._correction is not None,
            RANDOM_BACKGROUND=self._random_background, CAMERAS=next_power_of_2(cameras), BLOCK=_BLOCK,
        )  # fmt: skip
        self._visits[0].add_(n - kind.picked)
        self._visits[1].add_(kind.picked)
        return batch, pixel, camera, seen


class _Recording:
    """Operations on a CUDA device, captured as a graph without running."""

    def __init__(self, operations: Callable[[], None]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # A stream of this device; the default one belongs to the device that captured first.
        with torch.cuda.graph(self._graph, stream=torch.cuda.Stream()):
            operations()

    def play(self) -> None:
        self._graph.replay()


class _Reading:
    """A scalar on its way from the device, copied asynchronously."""

    def __init__(self, value: torch.Tensor) -> None:
        self._held = torch.empty((), pin_memory=True)
        self._held.copy_(value, non_blocking=True)
        self._arrived = torch.cuda.Event(blocking=True)
        self._arrived.record()

    def __float__(self) -> float:
        self._arrived.synchronize()
        return float(self._held)
