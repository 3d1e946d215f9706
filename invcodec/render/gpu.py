"""The GPU engine of the `grid` profile: Triton kernels on tensors; the host does not wait for a step.

Gradients are summed by atomic operations in no fixed order, so two runs differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from triton import cdiv, next_power_of_2

from invcodec.arrays import Array, on_host
from invcodec.field.grid import GridProfile
from invcodec.field.grid_layout import LEVEL_FEATURES, MOTION_TERMS, level_name
from invcodec.field.profile import MOTION, OCCUPANCY, TensorKey
from invcodec.geometry.space import Rays
from invcodec.render import gpu_kernels as kernels
from invcodec.render.engine import Batch, Pixels, Step, owners
from invcodec.render.grid_engine import GridEngine
from invcodec.render.networks import Networks

BLOCK_RAYS, WARPS = 16, 4
"""Rays per program of `train` and `render`, the fewest that a matrix product takes, and warps per program. With fewer
warps or more rays, `train` runs out of registers (on compute capability 9.0)."""
_FIELD_POINTS = 64
_OPTIMISER_BLOCK = 1024
_LEAST_LEVELS, _LEAST_WIDTH = 8, 16
"""Smallest tiles that can be multiplied."""
_MOST_LEVELS, _GREATEST_WIDTH = 16, 64
"""Beyond these, kernels take minutes to compile, or more shared memory than a multiprocessor has."""


class DeviceBatch(NamedTuple):
    """`Batch` as tensors on the device: `[R, 3]` each, weight and jitter `[R]`."""

    origins: torch.Tensor
    directions: torch.Tensor
    view: torch.Tensor
    target: torch.Tensor
    background: torch.Tensor
    weight: torch.Tensor
    jitter: torch.Tensor


class Seen(NamedTuple):
    """Result of a step, on the device: colours `[R, 3]` and their mean squared errors `[R]`."""

    rgb: torch.Tensor
    error: torch.Tensor


class GpuEngine(GridEngine):
    """Renders and trains one `grid` network on a GPU."""

    steps_on_device = True
    rays_at_once = 1 << 20

    def __init__(self, networks: Networks, *, device: str, threads: int = 1) -> None:
        super().__init__(networks)
        layout = self._layout
        self.device = torch.device(device)
        columns = zip(*((level.resolution, level.first, level.hashed) for level in layout.levels), strict=True)
        self._levels = self._tensor(np.array(list(columns)), torch.int32)
        entries, dense = layout.entries, layout.layer_size()
        # CUDA graphs of recorded steps hold the addresses of these tensors: they are never replaced.
        self._table, self._table_gradient, self._reference = (self._zeros(entries, LEVEL_FEATURES) for _ in range(3))
        self._half = self._zeros(entries, dtype=torch.int32)
        self._dense, self._dense_gradient, self._dense_mask = (self._zeros(dense) for _ in range(3))
        self._dense_reference, self._dense_steps = (self._zeros(dense) for _ in range(2))
        self._moments = [torch.zeros_like(each) for each in (self._table, self._table, self._dense, self._dense)]
        self.control = self._zeros(4)
        """Learning rate of the tables, of the dense layers, price, and step number, as kernels read them."""
        self._occupied = torch.ones(layout.occupancy**3, dtype=torch.uint8, device=self.device)
        self._cell_weights = self._zeros(layout.occupancy**3)
        # A pointer must lead somewhere, even if nothing is read there.
        self._motion = self._zeros(max(layout.parts, 1), MOTION_TERMS)
        # Whether tables and dense layers are trained.
        self.trains = True, False
        self._density_shape = {
            "ENCODED": layout.encoded,
            "HIDDEN": layout.hidden,
            "FEATURES": layout.features,
            "LEVELS": max(_LEAST_LEVELS, next_power_of_2(len(layout.levels))),
            "H": max(_LEAST_WIDTH, next_power_of_2(layout.hidden)),
            "OUT": max(_LEAST_WIDTH, next_power_of_2(1 + layout.features)),
        }
        self._shape = {
            **self._density_shape,
            "COLOUR": layout.colour_hidden,
            "C": max(_LEAST_WIDTH, next_power_of_2(layout.colour_hidden)),
            "CONTRACTED": self._contracted,
            "CELLS": layout.occupancy,
            "PARTS": layout.parts,
        }

    @classmethod
    def obstacle(cls, networks: Networks) -> str | None:
        profile = networks.shown.profile
        assert isinstance(profile, GridProfile)
        layout = profile.layout
        # A program holds all layers in registers.
        if max(layout.hidden, 1 + layout.features, layout.colour_hidden) > _GREATEST_WIDTH:
            return f"it computes layers at most {_GREATEST_WIDTH} wide"
        if len(layout.levels) > _MOST_LEVELS:
            return f"it computes grids of at most {_MOST_LEVELS} levels"
        return super().obstacle(networks)

    def probe(self) -> None:
        # Triton compiles kernels, and their launcher in C, at the first launch.
        self.density(np.full((1, 3), 0.5, np.float32))

    def _zeros(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def _tensor(self, array: Array, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        if isinstance(array, torch.Tensor):
            return array.to(self.device, dtype)
        return torch.tensor(array, dtype=dtype, device=self.device)

    def place(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, device=self.device)

    def _here(self) -> AbstractContextManager[Any]:
        """Make the engine's device the current one, on which kernels are launched."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor but the occupancy by name, as a view of what the kernels use."""
        motion = {MOTION: self._motion} if self._layout.parts else {}
        return self._layout.table_views(self._table) | motion | self._layout.layer_views(self._dense)

    def load(self, weights: Mapping[TensorKey, np.ndarray]) -> None:
        views = self._tensors()
        for (_, name), value in weights.items():
            if name == OCCUPANCY:
                self.set_occupancy(value)
            else:
                views[name].copy_(self._tensor(value).reshape(views[name].shape))
        self._half.copy_(self._table.half().view(torch.int32)[:, 0])

    def weights(self) -> dict[TensorKey, np.ndarray]:
        views = self._tensors()
        views[OCCUPANCY] = self._occupied.float()
        return {
            (self._name, name): views[name].reshape(shape).cpu().numpy().copy()
            for name, shape in self._layout.shapes.items()
        }

    def occupancy(self) -> np.ndarray:
        return self._cells(self._occupied)

    def set_occupancy(self, cells: np.ndarray) -> None:
        self._occupied.copy_(self._tensor(owners(cells, self._layout.parts).reshape(-1), torch.uint8))

    def take_cell_weights(self) -> np.ndarray:
        seen = self._cells(self._cell_weights)
        self._cell_weights.zero_()
        return seen

    def _cells(self, values: torch.Tensor) -> np.ndarray:
        return values.cpu().numpy().copy().reshape((self._layout.occupancy,) * 3)

    def density(self, points: np.ndarray) -> np.ndarray:
        count = len(points)
        density = self._zeros(count)
        with self._here():
            kernels.field_density[(cdiv(count, _FIELD_POINTS),)](
                self._tensor(points), density, count, self._levels, len(self._layout.levels), self._layout.table_mask,
                self._pairs, self._dense, **self._density_shape, BLOCK=_FIELD_POINTS,
            )  # fmt: skip
        return on_host(density)

    @property
    def _pairs(self) -> torch.Tensor:
        """The table `[entries]`, with both features of an entry in one integer."""
        return self._table.view(torch.int64)[:, 0]

    def render(self, rays: Rays, background: np.ndarray) -> Pixels:
        origins, directions, view = (self._tensor(a) for a in (rays.origins, rays.directions, rays.view))
        n, steps = len(rays), self._samples
        rgb, opacity, depth = self._zeros(n, 3), self._zeros(n), self._zeros(n)
        if n:
            opened = self._find_open(origins, directions, torch.full_like(opacity, 0.5), steps)
            with self._here():
                kernels.render[(cdiv(n, BLOCK_RAYS),)](
                    origins, directions, view, self._tensor(background), opened, opened.shape[1], n, steps,
                    self._levels, len(self._layout.levels), self._layout.table_mask, self._pairs, self._dense,
                    self._occupied, self._motion, rgb, opacity, depth, **self._shape, BLOCK=BLOCK_RAYS, num_warps=WARPS,
                )  # fmt: skip
        if isinstance(rays.origins, torch.Tensor):
            return Pixels(rgb, opacity, depth)
        return Pixels(on_host(rgb), on_host(opacity), on_host(depth))

    def _find_open(
        self, origins: torch.Tensor, directions: torch.Tensor, jitter: torch.Tensor, steps: int
    ) -> torch.Tensor:
        n, words = len(jitter), cdiv(steps, kernels.WORD.value)
        opened = torch.empty((n, words), dtype=torch.int32, device=self.device)
        with self._here():
            kernels.find_open[(cdiv(n, BLOCK_RAYS), words)](
                origins, directions, jitter, self._occupied, self._motion, opened, n, steps,
                CELLS=self._layout.occupancy, PARTS=self._layout.parts, CONTRACTED=self._contracted, BLOCK=BLOCK_RAYS,
            )  # fmt: skip
        return opened

    def begin(
        self, trainable: Collection[TensorKey], price: float, *, delta: bool = False, mixed: bool = False
    ) -> None:
        # Training always reads float16 tables and multiplies with 11 bits.
        names = {name for _, name in trainable}
        for moment in self._moments:
            moment.zero_()
        self._reference.copy_(self._table if delta else torch.zeros_like(self._table))
        self._dense_reference.copy_(self._dense)
        for name, part in self._layout.layer_views(self._dense_mask).items():
            part.fill_(float(name in names))
        for name, part in self._layout.layer_views(self._dense_steps).items():
            part.fill_(self._steps_per_unit[name] if delta else 0.0)
        tables = {level.name for level in self._layout.levels}
        self.trains = not names.isdisjoint(tables), not names.isdisjoint(self._layout.layer_shapes())
        self.control.zero_()
        self.set_price(price)

    def set_price(self, price: float) -> None:
        self.control[2].fill_(price)

    def set_rates(self, lead_rate: float, rate: float) -> None:
        """Set the learning rates of later steps, without waiting for those under way."""
        self.control[0].fill_(lead_rate)
        self.control[1].fill_(rate)

    def warm_up(self) -> None:
        held = self.weights()
        # Triton compiles a variant for integers that are multiples of 16, as numbers of rays are.
        some = np.full((16, 3), 0.5, np.float32)
        rays = Rays(some, some, some, some[:, 0], some[:, 0])
        for tensors in (self._tensors(), ()):
            self.begin([(self._name, name) for name in tensors], 0.0)
            self.step(Batch(rays, some, some, some[:, 0], some[:, 0]), 0.0, 0.0)
        self.density(np.full((1, 3), 0.5, np.float32))
        self.render(rays, some[0])
        self.take_cell_weights()
        self.load(held)

    def step(self, batch: Batch, lead_rate: float, rate: float, *, samples: int | None = None) -> Step:
        rays = batch.rays
        arrays = (rays.origins, rays.directions, rays.view, *batch[1:])
        on_device = DeviceBatch(*(self._tensor(a) for a in arrays))
        self.set_rates(lead_rate, rate)
        seen = self.step_on_device(on_device, samples or self._samples)
        return Step(float((on_device.weight * seen.error).sum()), seen.rgb.cpu().numpy())

    def step_on_device(self, batch: DeviceBatch, steps: int) -> Seen:
        """Like `step`, at the rates of `set_rates`, but asynchronous: the result is valid in stream order.

        Args:
            steps: along a ray.
        """
        n = len(batch.jitter)
        opened = self._find_open(batch.origins, batch.directions, batch.jitter, steps)
        rgb, error = torch.empty_like(batch.target), torch.empty_like(batch.jitter)
        table_moments, dense_moments = self._moments[:2], self._moments[2:]
        tables, dense = self.trains
        with self._here():
            kernels.train[(cdiv(n, BLOCK_RAYS),)](
                *batch, opened, opened.shape[1], n, steps, self._levels, len(self._layout.levels),
                self._layout.table_mask, self._half, self._dense, self._occupied, self._motion, self._table_gradient,
                self._dense_gradient, self._cell_weights, rgb, error, **self._shape, DENSE=dense,
                BLOCK=BLOCK_RAYS, num_warps=WARPS,
            )  # fmt: skip
            self.control[3].add_(1)
            if tables:
                self._adam(self._table, self._table_gradient, table_moments, self._reference, 0)
            else:
                self._table_gradient.zero_()
            if dense:
                self._dense_gradient.mul_(self._dense_mask)
                self._adam(self._dense, self._dense_gradient, dense_moments, self._dense_reference, 1)
        return Seen(rgb, error)

    def _adam(
        self,
        value: torch.Tensor,
        gradient: torch.Tensor,
        moments: list[torch.Tensor],
        reference: torch.Tensor,
        rate_at: int,
    ) -> None:
        recipe = self._recipe
        kernels.adam[(cdiv(value.numel(), _OPTIMISER_BLOCK),)](
            value, gradient, *moments, reference, self._dense_steps, self._half, self.control, rate_at, value.numel(),
            BETA1=recipe.betas[0], BETA2=recipe.betas[1], EPSILON=recipe.epsilon, TABLE=value is self._table,
            STEPS=self._steps_per_unit[level_name(0)], BLOCK=_OPTIMISER_BLOCK,
        )  # fmt: skip
