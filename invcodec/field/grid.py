"""Profile `grid`: a small MLP whose first structure layer is a trainable multi-resolution grid.

Coarse levels are dense, fine ones hashed (Mueller et al. 2022). Features are summed along the ray before
they are decoded to colour, so the colour network runs once per ray and not once per sample
(deferred shading, as in SNeRG). FORMAT.md, "Profile 2: grid", is the specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from invcodec.errors import LimitError
from invcodec.field.profile import Profile, Recipe, TensorSpec
from invcodec.limits import MAX_SAMPLES_PER_RAY, MAX_WEIGHTS

if TYPE_CHECKING:
    import torch

HASH_PRIMES = (1, 2654435761, 805459861)
MAX_RAW_DENSITY = 12.0
DIRECTION_TERMS = 9
"""Real spherical harmonics of degree 0 to 2."""

_MLP = ("density.0", "density.1", "colour.0", "colour.1", "colour.2")


class GridProfile(Profile):
    """See the module. Widths must be multiples of 4, so that compiled kernels need no remainder loops.

    Args:
        resolutions: cells along each axis, one per level.
        log2_table: a level with more than 2^log2_table vertices is hashed into that many entries.
        hidden: width of the density network's hidden layer.
        features: what it passes on to colour; `features + 1` is a multiple of 4.
        colour_hidden: width of the colour network's two hidden layers.
        occupancy: cells of the occupancy grid along each axis.
        samples: steps along the whole ray.
    """

    id: ClassVar[int] = 2
    name: ClassVar[str] = "grid"
    level_features: ClassVar[int] = 2
    # Most entries of a table see no ray in a step.
    recipe: ClassVar[Recipe] = Recipe(betas=(0.9, 0.99), epsilon=1e-15, sparse=True)

    def __init__(
        self,
        resolutions: Sequence[int] = (12, 18, 27, 40, 61, 91, 137, 205),
        log2_table: int = 15,
        hidden: int = 32,
        features: int = 15,
        colour_hidden: int = 32,
        occupancy: int = 64,
        samples: int = 96,
    ) -> None:
        widths = (hidden, features + 1, colour_hidden, self.level_features * len(resolutions))
        if any(w % 4 or not 4 <= w <= 256 for w in widths):
            raise LimitError("grid profile: layer widths must be multiples of 4 from 4 to 256")
        if not (1 <= log2_table <= 24 and all(1 <= r <= 4096 for r in resolutions)):
            raise LimitError("grid profile: at most 2^24 entries and 4096 cells per axis and level")
        if not (1 <= occupancy <= 256 and 1 <= samples <= MAX_SAMPLES_PER_RAY):
            raise LimitError(f"grid profile: at most 256 occupancy cells and {MAX_SAMPLES_PER_RAY} samples")
        self.resolutions = tuple(int(r) for r in resolutions)
        self.log2_table = log2_table
        self.hidden = hidden
        self.features = features
        self.colour_hidden = colour_hidden
        self.occupancy = occupancy
        self.samples = samples
        self.config = {
            "resolutions": list(self.resolutions),
            "log2_table": log2_table,
            "hidden": hidden,
            "features": features,
            "colour_hidden": colour_hidden,
            "occupancy": occupancy,
            "samples": samples,
        }
        if sum(spec.size for spec in self.tensors) > MAX_WEIGHTS:
            raise LimitError(f"grid profile: more than {MAX_WEIGHTS} weights")

    def is_hashed(self, level: int) -> bool:
        return (self.resolutions[level] + 1) ** 3 > 1 << self.log2_table

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        f = self.level_features
        specs = []
        for level, r in enumerate(self.resolutions):
            shape = (1 << self.log2_table, f) if self.is_hashed(level) else (r + 1, r + 1, r + 1, f)
            specs.append(TensorSpec(f"grid.{level}", shape, "structure", 0.07, lead=True))
        specs.append(TensorSpec("occupancy", (self.occupancy,) * 3, "structure", 1.0, exact=True, lead=True))
        for name, (width, inputs) in self.layers.items():
            # Measured on a trained scene: rounding the colour layers to 0.04 costs nothing that could be seen.
            group, step = ("structure", 0.01) if name.startswith("density") else ("colour", 0.03)
            specs.append(TensorSpec(f"{name}.weight", (width, inputs), group, step))  # type: ignore[arg-type]
            specs.append(TensorSpec(f"{name}.bias", (width,), group, step))  # type: ignore[arg-type]
        return tuple(specs)

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of each dense layer, in order."""
        encoded = self.level_features * len(self.resolutions)
        return {
            "density.0": (self.hidden, encoded),
            "density.1": (1 + self.features, self.hidden),
            "colour.0": (self.colour_hidden, self.features + DIRECTION_TERMS),
            "colour.1": (self.colour_hidden, self.colour_hidden),
            "colour.2": (3, self.colour_hidden),
        }

    def initialise(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        # He initialisation, except that what leaves a network starts small: the first images are grey fog.
        gain = {"density.1": 0.5, "colour.2": 0.1}
        weights: dict[str, np.ndarray] = {}
        for spec in self.tensors:
            if spec.name == "occupancy":
                weights[spec.name] = np.ones(spec.shape, np.float32)
            elif spec.name.startswith("grid."):
                weights[spec.name] = rng.uniform(-0.01, 0.01, spec.shape).astype(np.float32)
            elif spec.name.endswith(".weight"):
                scale = gain.get(spec.name.removesuffix(".weight"), 1.0) * (6 / spec.shape[1]) ** 0.5
                weights[spec.name] = rng.uniform(-scale, scale, spec.shape).astype(np.float32)
            else:
                weights[spec.name] = np.zeros(spec.shape, np.float32)
        return weights

    def encode(self, weights: Mapping[str, torch.Tensor], position: torch.Tensor) -> torch.Tensor:
        """Trilinear look-up in every level: `[S, 3]` to `[S, 2 * levels]`."""
        import torch

        out = []
        corners = torch.tensor(
            [[c >> 2, (c >> 1) & 1, c & 1] for c in range(8)], device=position.device, dtype=torch.int64
        )
        for level, r in enumerate(self.resolutions):
            table = weights[f"grid.{level}"].reshape(-1, self.level_features)
            scaled = position * r
            base = scaled.detach().long().clamp(0, r - 1)
            fraction = (scaled - base)[:, None]
            vertex = base[:, None] + corners
            if self.is_hashed(level):
                x, y, z = ((vertex[..., axis] * prime) & 0xFFFFFFFF for axis, prime in enumerate(HASH_PRIMES))
                index = (x ^ y ^ z) & ((1 << self.log2_table) - 1)
            else:
                index = (vertex[..., 0] * (r + 1) + vertex[..., 1]) * (r + 1) + vertex[..., 2]
            weight = torch.where(corners.bool(), fraction, 1 - fraction).prod(-1)
            # Not table[index]: the backward of that is several times slower.
            entries = table.index_select(0, index.reshape(-1)).reshape(*index.shape, self.level_features)
            out.append((weight[..., None] * entries).sum(1))
        return torch.cat(out, 1)

    def density(
        self, weights: Mapping[str, torch.Tensor], position: torch.Tensor, direction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = _dense(weights, "density.0", self.encode(weights, position)).relu()
        out = _dense(weights, "density.1", hidden)
        return out[:, 0], out[:, 1:]

    def activate(self, raw: torch.Tensor) -> torch.Tensor:
        return raw.clamp(max=MAX_RAW_DENSITY).exp()

    def shade(
        self,
        weights: Mapping[str, torch.Tensor],
        features: torch.Tensor,
        opacity: torch.Tensor,
        direction: torch.Tensor,
    ) -> torch.Tensor:
        import torch

        hidden = torch.cat([features, spherical_harmonics(direction)], 1)
        hidden = _dense(weights, "colour.0", hidden).relu()
        hidden = _dense(weights, "colour.1", hidden).relu()
        # The first three features reach the output directly: a diffuse colour that needs no network.
        return opacity[:, None] * (features[:, :3] + _dense(weights, "colour.2", hidden)).sigmoid()


def _dense(weights: Mapping[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def spherical_harmonics(direction: torch.Tensor) -> torch.Tensor:
    """Real spherical harmonics of degree 0 to 2 (Condon-Shortley signs): `[N, 3]` unit vectors to `[N, 9]`."""
    import torch

    x, y, z = direction.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, 0.28209479),
            -0.48860251 * y,
            0.48860251 * z,
            -0.48860251 * x,
            1.09254843 * x * y,
            -1.09254843 * y * z,
            0.94617470 * z * z - 0.31539157,
            -1.09254843 * x * z,
            0.54627422 * (x * x - y * y),
        ],
        -1,
    )
