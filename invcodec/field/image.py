"""Profile `image`: a picture, from position to colour, by an MLP or by a small one over a grid of features.

The video of a single camera has no geometry to be learned from it, so the field is opaque and its third coordinate has
no meaning. FORMAT.md, "Profile 4: image", is the specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from invcodec.errors import DamagedError, LimitError
from invcodec.field.nerf import positional_encoding
from invcodec.field.profile import Group, Profile, Recipe, Setting, TensorSpec
from invcodec.limits import MAX_WEIGHTS

if TYPE_CHECKING:
    import torch

_FEATURES = 2
"""Features of a vertex of the grid."""
_MAX_LEVELS = 16
_OPAQUE = 100.0
"""Density everywhere; behind one sample, no light is left."""


class ImageProfile(Profile):
    """Profile `image`. The default configuration is INV's network (arXiv 2302.01532) in two dimensions.

    Args:
        resolutions: cells of the grid along each axis, one per level; empty if there is no grid.
        octaves: of the positional encoding.
        depth: hidden layers.
        width: of each hidden layer.
        structure_layers: how many hidden layers hold structure, as the grid does; later ones hold colour.
    """

    id: ClassVar[int] = 4
    name: ClassVar[str] = "image"
    flat: ClassVar[bool] = True
    # As of profile `grid`: in one step, most vertices receive no gradient.
    recipe: ClassVar[Recipe] = Recipe(betas=(0.9, 0.95), epsilon=1e-15, sparse=True)
    samples: int = 1
    settings: ClassVar[Mapping[str, Setting]] = {
        "resolutions": Setting(1, 4096, listed=True),
        "octaves": Setting(0, 16),
        "depth": Setting(1, 32),
        "width": Setting(1, 1024),
        "structure_layers": Setting(0),
    }

    def __init__(
        self,
        resolutions: Sequence[int] = (),
        octaves: int = 10,
        depth: int = 8,
        width: int = 256,
        structure_layers: int = 3,
    ) -> None:
        self.resolutions = tuple(resolutions)
        self.octaves = octaves
        self.depth = depth
        self.width = width
        self.structure_layers = structure_layers
        self.config: Mapping[str, Any] = {
            "resolutions": list(resolutions),
            "octaves": octaves,
            "depth": depth,
            "width": width,
            "structure_layers": structure_layers,
        }
        if len(resolutions) > _MAX_LEVELS:
            raise LimitError(f"image profile: {len(resolutions)} levels, at most {_MAX_LEVELS}")
        if structure_layers > depth:
            raise DamagedError(f"image profile: {structure_layers} structure layers of {depth}")
        if sum(spec.size for spec in self.tensors) > MAX_WEIGHTS:
            raise LimitError(f"image profile: more than {MAX_WEIGHTS} weights")

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of each dense layer, in order."""
        inputs = 2 + 4 * self.octaves + _FEATURES * len(self.resolutions)
        hidden = {f"layers.{i}": (self.width, self.width if i else inputs) for i in range(self.depth)}
        return hidden | {"rgb": (3, self.width)}

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        specs = [
            TensorSpec(f"grid.{i}", (r + 1, r + 1, _FEATURES), "structure", 0.07, lead=True)
            for i, r in enumerate(self.resolutions)
        ]
        # Over a grid, layers are as those that shade in profile `grid`; alone, as those of `nerf`.
        step = 0.03 if self.resolutions else 2**-8
        for i, (name, (width, inputs)) in enumerate(self.layers.items()):
            lead = i < self.structure_layers
            group: Group = "structure" if lead else "colour"
            specs.append(TensorSpec(f"{name}.weight", (width, inputs), group, step, lead=lead))
            specs.append(TensorSpec(f"{name}.bias", (width,), group, step, lead=lead))
        return tuple(specs)

    def initialise(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        weights: dict[str, np.ndarray] = {}
        for spec in self.tensors:
            if spec.name.startswith("grid."):
                weights[spec.name] = rng.uniform(-0.01, 0.01, spec.shape).astype(np.float32)
            elif spec.name.endswith(".weight"):
                # He et al. 2015, except that the output layer starts small: the first picture is of one colour.
                bound = (0.1 if spec.name == "rgb.weight" else 1.0) * (6 / spec.shape[1]) ** 0.5
                weights[spec.name] = rng.uniform(-bound, bound, spec.shape).astype(np.float32)
            else:
                weights[spec.name] = np.zeros(spec.shape, np.float32)
        return weights

    def tint(self, colour: np.ndarray) -> dict[str, np.ndarray]:
        return {"rgb.bias": np.log(colour / (1 - colour)).astype(np.float32)}

    def density(
        self, weights: Mapping[str, torch.Tensor], position: torch.Tensor, direction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        import torch
        from torch.nn.functional import grid_sample, linear

        plane = 2 * position[:, :2] - 1
        encoded = [positional_encoding(plane, self.octaves)]
        # The last coordinate is the one along the table's last axis.
        where = plane.flip(1)[None, None]
        for i in range(len(self.resolutions)):
            table = weights[f"grid.{i}"].permute(2, 0, 1)[None]
            encoded.append(grid_sample(table, where, padding_mode="border", align_corners=True)[0, :, 0].T)
        x = torch.cat(encoded, 1)
        for i in range(self.depth):
            x = linear(x, weights[f"layers.{i}.weight"], weights[f"layers.{i}.bias"]).relu()
        colour = linear(x, weights["rgb.weight"], weights["rgb.bias"]).sigmoid()
        return torch.full_like(position[:, 0], _OPAQUE), colour

    def activate(self, raw: torch.Tensor) -> torch.Tensor:
        return raw

    def shade(
        self,
        weights: Mapping[str, torch.Tensor],
        features: torch.Tensor,
        opacity: torch.Tensor,
        direction: torch.Tensor,
    ) -> torch.Tensor:
        # The one sample's colour.
        return features
