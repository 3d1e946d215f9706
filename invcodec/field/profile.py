"""The interface of network profiles.

A profile turns positions and directions into density and colour (FORMAT.md, part III). It owns its integer
configuration, the named tensors that configuration implies, and plain-torch mathematics for them. Compiled
twins of that mathematics are in `invcodec.field.kernels`.

Other packages add profiles through the entry-point group `invcodec.profiles`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from invcodec.errors import DamagedError, LimitError

if TYPE_CHECKING:
    import torch

Group = Literal["structure", "colour"]

TensorKey = tuple[str, str]
"""Name of a network, name of one of its tensors."""

OCCUPANCY = "occupancy"
"""Name of a tensor `[M, M, M]` that marks the occupied cells of the unit cube, in profiles that have one."""

MOTION = "motion"
"""Name of a tensor `[P, 12]` that says how each part moves, in profiles that have parts (FORMAT.md, "Parts")."""


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor of a network.

    Attributes:
        name: unique within the network.
        shape: 1 to 4 dimensions. The shape carries structure: a dense grid level is `[R, R, R, F]`.
        group: "structure" (where things are) or "colour" (INV, arXiv 2302.01532, section 3).
        step: lattice step at the default quality.
        exact: the tensor has this step whatever the quality and is not trained by gradients, such as occupancy.
        lead: whether it is still trained after the warm-up, unless an encoder's settings choose other tensors.
    """

    name: str
    shape: tuple[int, ...]
    group: Group
    step: float
    exact: bool = False
    lead: bool = False

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Setting:
    """An integer of a profile's configuration, or a list of them.

    Attributes:
        least: a smaller one is no configuration.
        most: a greater one exceeds a limit.
        required: whether a file has to have it.
        listed: whether it is a list.
    """

    least: int
    most: float = math.inf
    required: bool = True
    listed: bool = False

    def check(self, value: Any) -> None:
        """Refuse what is out of range.

        Raises:
            DamagedError, LimitError
        """
        if isinstance(value, (list, tuple)) is not self.listed:
            raise DamagedError("is not a list" if self.listed else "is not an integer")
        for each in value if self.listed else [value]:
            if type(each) is not int:
                raise DamagedError(f"{each!r} is not an integer")
            if each < self.least:
                raise DamagedError(f"{each} is less than {self.least}")
            if each > self.most:
                raise LimitError(f"{each} is more than {self.most}")


@dataclass(frozen=True)
class Recipe:
    """How the weights of a profile are trained; decoders do not need it.

    Attributes:
        betas: Adam's decay rates of the first and second moment.
        epsilon: Adam's denominator floor.
        sparse: whether weights without gradient keep their values and moments.
        clip: largest norm of a network's gradient.
        noise: standard deviation of the noise added to the raw density.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    sparse: bool = False
    clip: float = math.inf
    noise: float = 0.0


class Profile(ABC):
    """One kind of network, with its configuration.

    Attributes:
        id: number in the file (FORMAT.md, profile registry).
        name: what `--profile` and `info` call it.
        version: raised when the meaning of a configuration changes.
        settings: what a configuration consists of.
        config: plain integers and lists of integers, stored in the file.
        samples: ray samples (steps along the whole ray) that rendering takes.
        importance: further samples, placed where the guiding network found density.
        recipe: how its weights are trained.
        flat: whether it is of a picture, which one camera shows, and not of a scene.
    """

    id: ClassVar[int]
    name: ClassVar[str]
    version: ClassVar[int] = 1
    flat: ClassVar[bool] = False
    settings: ClassVar[Mapping[str, Setting]]
    config: Mapping[str, Any]
    samples: int
    importance: int = 0
    recipe: ClassVar[Recipe] = Recipe()

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        """Refuse a configuration with a setting out of range; those that are not there are not missed.

        Raises:
            DamagedError, LimitError
        """
        for key, value in config.items():
            try:
                cls.settings[key].check(value)
            except (DamagedError, LimitError) as error:
                raise type(error)(f"{cls.name} profile: {key}: {error}") from None

    @property
    @abstractmethod
    def tensors(self) -> tuple[TensorSpec, ...]:
        """The tensors, in the order in which the file codes them."""

    @property
    def lead(self) -> frozenset[str]:
        """Names of the tensors with `lead` set."""
        return frozenset(spec.name for spec in self.tensors if spec.lead)

    @property
    def shading(self) -> frozenset[str]:
        """Names of the tensors that colours depend on and densities do not."""
        return frozenset(spec.name for spec in self.tensors if spec.group == "colour")

    @property
    def layer_tensors(self) -> dict[str, tuple[str, ...]]:
        """Names of the tensors of each layer, by the layer's name, from input to output.

        Tensors whose names are alike up to their last dot are a layer. Occupancy and motion are part of the first
        one: they say where things are before anything is computed.
        """
        layers: dict[str, tuple[str, ...]] = {}
        for spec in self.tensors:
            if spec.name not in (OCCUPANCY, MOTION):
                layer = spec.name.rpartition(".")[0] or spec.name
                layers[layer] = (*layers.get(layer, ()), spec.name)
        first = next(iter(layers))
        names = {spec.name for spec in self.tensors}
        layers[first] += tuple(name for name in (OCCUPANCY, MOTION) if name in names)
        return layers

    @abstractmethod
    def initialise(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Fresh float32 weights, by tensor name."""

    def tint(self, colour: np.ndarray) -> dict[str, np.ndarray]:
        """Fresh weights to replace, by tensor name, so that training starts from a colour `[3]` in (0, 1).

        Without it, the first steps of dark or bright pictures would drive an output far into saturation, where it has
        no gradient.
        """
        return {}

    @abstractmethod
    def density(
        self, weights: Mapping[str, torch.Tensor], position: torch.Tensor, direction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The field at points of the unit cube.

        Args:
            weights: tensors by name.
            position: `[S, 3]`, in the unit cube.
            direction: `[S, 3]`, unit vectors in world axes.

        Returns:
            The raw density `[S]` (before its activation, `activate`), and features `[S, C]`.
        """

    @abstractmethod
    def activate(self, raw: torch.Tensor) -> torch.Tensor:
        """Density, per unit of length in the march space, from the raw output."""

    @abstractmethod
    def shade(
        self,
        weights: Mapping[str, torch.Tensor],
        features: torch.Tensor,
        opacity: torch.Tensor,
        direction: torch.Tensor,
    ) -> torch.Tensor:
        """Colour of rays, premultiplied by opacity.

        Args:
            weights: tensors by name.
            features: `[N, C]`, the features summed along each ray with the compositing weights.
            opacity: `[N]`, the sum of those weights.
            direction: `[N, 3]`, unit vectors in world axes.

        Returns:
            `[N, 3]`.
        """
