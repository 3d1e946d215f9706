"""Profile `nerf`: the multi-layer perceptron of INV (arXiv 2302.01532), without a skip connection.

FORMAT.md, "Profile 1: nerf", is the specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from invcodec.errors import DamagedError, LimitError
from invcodec.field.profile import OCCUPANCY, Profile, Recipe, Setting, TensorSpec
from invcodec.limits import MAX_SAMPLES_PER_RAY

if TYPE_CHECKING:
    import torch


class NerfProfile(Profile):
    """Profile `nerf`. The default configuration is the paper's, for each of its two networks.

    Args:
        depth: hidden layers before the heads.
        width: of each hidden layer; the direction layer has half of it.
        structure_layers: how many hidden layers hold structure; later ones and the heads hold colour.
        position_octaves: octaves of the positional encoding.
        direction_octaves: octaves of the encoding of the view direction.
        samples: steps along a ray.
        importance: further samples, placed where density was found: by the network of role "coarse" for one of
            role "fine", by the network itself for one of role "scene".
        occupancy: cells of the occupancy grid along each axis; 0 if there is none.
    """

    id: ClassVar[int] = 1
    name: ClassVar[str] = "nerf"
    recipe: ClassVar[Recipe] = Recipe(clip=2.0, noise=1.0)
    settings: ClassVar[Mapping[str, Setting]] = {
        "depth": Setting(1, 32),
        "width": Setting(2, 1024),
        "structure_layers": Setting(0),
        "position_octaves": Setting(0, 16),
        "direction_octaves": Setting(0, 16),
        "samples": Setting(1),
        "importance": Setting(0),
        "occupancy": Setting(0, 256, required=False),
    }

    def __init__(
        self,
        depth: int = 8,
        width: int = 256,
        structure_layers: int = 3,
        position_octaves: int = 10,
        direction_octaves: int = 4,
        samples: int = 64,
        importance: int = 64,
        occupancy: int = 0,
    ) -> None:
        self.depth = depth
        self.width = width
        self.structure_layers = structure_layers
        self.position_octaves = position_octaves
        self.direction_octaves = direction_octaves
        self.samples = samples
        self.importance = importance
        self.occupancy = occupancy
        self.config = {
            "depth": depth,
            "width": width,
            "structure_layers": structure_layers,
            "position_octaves": position_octaves,
            "direction_octaves": direction_octaves,
            "samples": samples,
            "importance": importance,
        }
        if occupancy:
            self.config["occupancy"] = occupancy
        if width % 2:
            raise DamagedError(f"nerf profile: width: {width} is odd")
        if structure_layers > depth:
            raise DamagedError(f"nerf profile: {structure_layers} structure layers of {depth}")
        if samples + importance > MAX_SAMPLES_PER_RAY:
            raise LimitError(f"nerf profile: {samples} + {importance} samples, at most {MAX_SAMPLES_PER_RAY}")

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of each dense layer, in order."""
        position = 3 + 6 * self.position_octaves
        direction = 3 + 6 * self.direction_octaves
        hidden = {f"layers.{i}": (self.width, self.width if i else position) for i in range(self.depth)}
        return hidden | {
            "density": (1, self.width),
            "feature": (self.width, self.width),
            "direction": (self.width // 2, self.width + direction),
            "rgb": (3, self.width // 2),
        }

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        specs = []
        if self.occupancy:
            specs.append(TensorSpec(OCCUPANCY, (self.occupancy,) * 3, "structure", 1.0, exact=True, lead=True))
        for i, (name, (width, inputs)) in enumerate(self.layers.items()):
            lead = i < self.structure_layers
            group = "structure" if lead else "colour"
            for suffix, shape in (("weight", (width, inputs)), ("bias", (width,))):
                specs.append(TensorSpec(f"{name}.{suffix}", shape, group, 2**-8, lead=lead))  # type: ignore[arg-type]
        return tuple(specs)

    @property
    def shading(self) -> frozenset[str]:
        # Of the colour layers, hidden ones and the density head also decide where things are.
        heads = ("feature.", "direction.", "rgb.")
        return frozenset(spec.name for spec in self.tensors if spec.name.startswith(heads))

    def initialise(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        # Glorot and Bengio 2010, as in the original NeRF.
        weights: dict[str, np.ndarray] = {}
        if self.occupancy:
            weights[OCCUPANCY] = np.ones((self.occupancy,) * 3, np.float32)
        for name, (width, inputs) in self.layers.items():
            bound = (6 / (width + inputs)) ** 0.5
            weights[f"{name}.weight"] = rng.uniform(-bound, bound, (width, inputs)).astype(np.float32)
            weights[f"{name}.bias"] = np.zeros(width, np.float32)
        if self.occupancy:
            # Fog everywhere, which training clears: where there is no density at first, there is no gradient.
            weights["density.bias"] += 1
        return weights

    def density(
        self, weights: Mapping[str, torch.Tensor], position: torch.Tensor, direction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from invcodec.field.perceptron import Perceptron

        encoded = positional_encoding(2 * position - 1, self.position_octaves)
        view = positional_encoding(direction, self.direction_octaves)
        return Perceptron.apply(encoded, view, *(weights[f"{n}.{p}"] for n in self.layers for p in ("weight", "bias")))

    def activate(self, raw: torch.Tensor) -> torch.Tensor:
        return raw.relu()

    def shade(
        self,
        weights: Mapping[str, torch.Tensor],
        features: torch.Tensor,
        opacity: torch.Tensor,
        direction: torch.Tensor,
    ) -> torch.Tensor:
        # Features are colours: summed along a ray, they are its premultiplied colour.
        return features


def positional_encoding(x: torch.Tensor, octaves: int) -> torch.Tensor:
    """`[S, D]` to `[S, D + 2 D octaves]`: x, then sin(2^k x) and cos(2^k x) for k = 0, 1, ..."""
    import torch

    scaled = x[:, None] * 2.0 ** torch.arange(octaves, device=x.device, dtype=x.dtype)[:, None]
    waves = torch.stack([scaled.sin(), scaled.cos()], 2)
    return torch.cat([x, waves.reshape(len(x), 2 * x.shape[1] * octaves)], 1)
