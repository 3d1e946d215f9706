"""The interfaces of engines, which compute networks on a device: rays in, pixels or a training step out.

Players need a `Renderer`; encoders need a `Trainer`, which also changes the weights. All engines agree on the results
for the same weights, and are listed in `invcodec.render.ENGINES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from invcodec.arrays import Array
from invcodec.field.profile import TensorKey
from invcodec.geometry.space import Rays
from invcodec.render.networks import Networks

MIN_TRANSMITTANCE = 1e-3
"""A ray ends when no more than this share of its light is left (FORMAT.md, "Compositing")."""


class Pixels(NamedTuple):
    """N rendered rays.

    Attributes:
        rgb: `[N, 3]` float32, composited over the background.
        opacity: `[N]` float32.
        s: `[N]` float32, ray parameter of the first sample behind which less than half of the light is left (the median
            depth), or 1 where there is none.
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
        jitter: `[R]` float32 in [0, 1), the fraction of each step at which its ray is sampled.
    """

    rays: Rays
    target: np.ndarray
    background: np.ndarray
    weight: np.ndarray
    jitter: np.ndarray


class Step(NamedTuple):
    """Result of a training step: weighted mean squared error per channel, and the rendered colours `[R, 3]`."""

    loss: float
    rgb: np.ndarray


def owners(cells: np.ndarray, parts: int) -> np.ndarray:
    """What `Trainer.occupancy` gives for weights `[M, M, M]` of the occupancy, of a network with so many parts."""
    cells = np.asarray(cells)
    of_parts = (cells > 1) & (cells <= parts + 1) & (cells == np.floor(cells))
    return np.where(of_parts, cells, cells != 0).astype(np.uint8)


def device_type(device: str) -> str:
    """Type of a device as torch names it: "cuda" of "cuda:1"."""
    return device.partition(":")[0]


class Renderer(ABC):
    """Holds one frame's weights and renders them.

    Args:
        networks: to hold; their weights are zero until they are loaded.
        device: "cpu", or a device as torch names it ("cuda", "cuda:1").
        threads: to use on the CPU.

    Attributes:
        networks: as given.
        rays_at_once: how many rays of a picture to render in one call.
    """

    networks: Networks
    rays_at_once: ClassVar[int] = 1 << 17

    @abstractmethod
    def __init__(self, networks: Networks, *, device: str, threads: int) -> None: ...

    @classmethod
    def obstacle(cls, networks: Networks) -> str | None:
        """The reason why this engine cannot compute these networks, or None if it can."""
        return None

    def probe(self) -> None:  # noqa: B027
        """Check that the engine works on this machine.

        Raises:
            RuntimeError, OSError, CalledProcessError: it does not.
        """

    def place(self, array: np.ndarray) -> Array:
        """Move an array to where rendering reads rays without copying them."""
        return array

    @abstractmethod
    def load(self, weights: Mapping[TensorKey, np.ndarray]) -> None:
        """Replace weights; tensors that are not named keep their values."""

    @abstractmethod
    def render(self, rays: Rays, background: np.ndarray) -> Pixels:
        """Render deterministically over a background colour `[3]`; arrays are of the same kind as those of the rays."""


class Trainer(Renderer):
    """A renderer that also trains the weights it holds.

    Attributes:
        steps_on_device: whether batches are drawn on the device, without the host.
    """

    steps_on_device: ClassVar[bool] = False

    @abstractmethod
    def weights(self) -> dict[TensorKey, np.ndarray]:
        """Copies of all weights, float32, in their declared shapes."""

    @abstractmethod
    def warm_up(self) -> None:
        """Compile everything that training needs, so that compilation is not counted as training."""

    @abstractmethod
    def begin(
        self, trainable: Collection[TensorKey], price: float, *, delta: bool = False, mixed: bool = False
    ) -> None:
        """Start a frame, and reset the optimiser's state.

        Args:
            trainable: tensors that may change. An engine may train all levels of a grid if one of them is named.
            price: in loss per lattice step (`TensorSpec.step`).
            delta: whether the frame becomes a change to the weights that it starts from. Then the change of every
                tensor has the price; otherwise the lead tensors have it, counted from 0.
            mixed: whether training may multiply matrices in bfloat16. Weights and rendering stay float32.
        """

    @abstractmethod
    def set_price(self, price: float) -> None:
        """Change the price given to `begin` for the steps that follow."""

    @abstractmethod
    def step(self, batch: Batch, lead_rate: float, rate: float, *, samples: int | None = None) -> Step:
        """One optimiser step, with one learning rate for lead tensors and one for the others.

        Args:
            samples: equal steps along a ray, if fewer than the profile's own are enough.
        """

    @abstractmethod
    def occupancy(self) -> np.ndarray | None:
        """Cells `[M, M, M]` uint8, or None if the profile has no occupancy.

        0 is an empty cell, 1 an occupied one, p + 1 a cell of part p (FORMAT.md, "Parts").
        """

    @abstractmethod
    def set_occupancy(self, cells: np.ndarray) -> None:
        """Replace the occupancy `[M, M, M]`, as `occupancy` gives it; or of bool, if there are no parts."""

    @abstractmethod
    def take_cell_weights(self) -> np.ndarray:
        """Largest compositing weight that training saw in each cell since the last call, `[M, M, M]` float32.

        Samples of a part are seen where the field is evaluated for them.
        """

    @abstractmethod
    def density(self, points: np.ndarray) -> np.ndarray:
        """Density `[N]` float32 at points `[N, 3]` float32 of the unit cube, occupied or not."""
