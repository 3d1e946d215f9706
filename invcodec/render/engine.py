"""The seam between training or viewing and the machine that computes: rays in, pixels or a trained step out.

Three engines implement it: compiled kernels for the `grid` profile on the CPU (`invcodec.render.compiled`) and on a
GPU (`invcodec.render.gpu`), and plain torch for every profile on every device (`invcodec.render.reference`). They agree
on the same weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from invcodec.arrays import Array
from invcodec.field.profile import Profile, TensorKey
from invcodec.geometry.space import Rays, Space

MIN_TRANSMITTANCE = 1e-3
"""A ray ends where no more light than this is left (FORMAT.md, "Compositing")."""


@dataclass(frozen=True)
class Network:
    """One network of a frame: what it is called, what it is for, what it computes and where.

    Attributes:
        role: "scene" is rendered on its own; "coarse" guides the samples of "fine", which is shown.
    """

    name: str
    role: str
    profile: Profile
    space: Space


class Pixels(NamedTuple):
    """What rendering N rays gives.

    Attributes:
        rgb: `[N, 3]` float32, composited over the background.
        opacity: `[N]` float32.
        s: `[N]` float32, ray parameter of the first sample behind which less than half of the light is
            left (the median depth), or 1 where there is none.
    """

    rgb: Array
    opacity: Array
    s: Array


class Batch(NamedTuple):
    """Training rays.

    Attributes:
        rays: R of them.
        target: `[R, 3]` float32, the colour to reach over the background.
        background: `[R, 3]` float32.
        weight: `[R]` float32, each ray's share of the loss; they sum to about 1.
        jitter: `[R]` float32 in [0, 1), where in its step each ray is sampled.
    """

    rays: Rays
    target: np.ndarray
    background: np.ndarray
    weight: np.ndarray
    jitter: np.ndarray


class Step(NamedTuple):
    """Result of a training step: weighted mean squared error per channel, and the colours seen `[R, 3]`."""

    loss: float
    rgb: np.ndarray


class Engine(ABC):
    """Holds one frame's weights, renders them, and trains them.

    Attributes:
        networks: by name.
        steps_on_device: whether its steps are taken on batches that are drawn where it computes.
        rays_at_once: how many rays of a picture to render in one call.
    """

    networks: tuple[Network, ...]
    steps_on_device: ClassVar[bool] = False
    rays_at_once: ClassVar[int] = 1 << 17

    def place(self, array: np.ndarray) -> Array:
        """The array where rendering takes rays from without copying them."""
        return array

    @abstractmethod
    def load(self, weights: Mapping[TensorKey, np.ndarray]) -> None:
        """Take over weights; tensors that are not named keep their values."""

    @abstractmethod
    def weights(self) -> dict[TensorKey, np.ndarray]:
        """Copies of all weights, float32, in their declared shapes."""

    @abstractmethod
    def warm_up(self) -> None:
        """Have everything ready that training needs, so that compiling is not counted as training."""

    @abstractmethod
    def render(self, rays: Rays, background: np.ndarray) -> Pixels:
        """Render deterministically over one background colour `[3]`; gives arrays of the kind that the rays have."""

    @abstractmethod
    def begin(self, trainable: Collection[TensorKey], price: float, *, mixed: bool = False) -> None:
        """Start a frame: remember the weights as the reference of the delta, and forget the optimiser's state.

        Args:
            trainable: tensors that may change.
            price: of a change, in loss per unit of absolute weight difference from the reference; for lead tensors.
            mixed: whether training may multiply matrices in bfloat16. Weights and rendering stay float32.
        """

    @abstractmethod
    def set_price(self, price: float) -> None:
        """Change the price that `begin` was given, for the steps to come."""

    @abstractmethod
    def step(self, batch: Batch, lead_rate: float, rate: float, *, samples: int | None = None) -> Step:
        """One optimiser step, with one learning rate for `lead` tensors and one for the others.

        Args:
            samples: steps along a ray, where fewer than the profile's own are enough.
        """

    @abstractmethod
    def occupancy(self) -> np.ndarray | None:
        """Cells that hold anything, `[M, M, M]` bool, or None where the profile has no occupancy."""

    @abstractmethod
    def set_occupancy(self, cells: np.ndarray) -> None:
        """Replace the occupancy; `cells` is `[M, M, M]`."""

    @abstractmethod
    def take_cell_weights(self) -> np.ndarray:
        """Largest compositing weight that training saw in each cell since the last call, `[M, M, M]` float32."""

    @abstractmethod
    def cell_density(self, rng: np.random.Generator) -> np.ndarray:
        """Density at one random point of each occupancy cell, `[M, M, M]` float32."""
