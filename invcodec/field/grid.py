"""Profile `grid`: a small MLP whose first structure layer is a trainable multi-resolution grid.

Coarse levels are dense, fine ones hashed (Mueller et al. 2022). Features are summed along the ray before
they are decoded to colour, so the colour network runs once per ray and not once per sample
(deferred shading, as in SNeRG). FORMAT.md, "Profile 2: grid", is the specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from invcodec.errors import DamagedError, LimitError
from invcodec.field.grid_layout import (
    HARMONICS,
    HASH_PRIMES,
    LEVEL_FEATURES,
    MAX_RAW_DENSITY,
    PROFILE_ID,
    PROFILE_VERSION,
    GridLayout,
)
from invcodec.field.profile import MOTION, OCCUPANCY, Profile, Recipe, Setting, TensorSpec
from invcodec.limits import MAX_SAMPLES_PER_RAY, MAX_WEIGHTS

if TYPE_CHECKING:
    import torch

MAX_PARTS = 16
MOTION_STEP = 2.0**-14
"""Of maps of the unit cube: a sixteenth of a cell of a level with 1024 cells."""


class GridProfile(Profile):
    """Profile `grid`. Widths are multiples of 4, so compiled kernels need no remainder loops.

    Args:
        resolutions: cells along each axis, one per level.
        log2_table: a level with more than 2^log2_table vertices is hashed into that many entries.
        hidden: width of the density network's hidden layer.
        features: number of features passed to the colour network; `features + 1` is a multiple of 4.
        colour_hidden: width of the colour network's two hidden layers.
        occupancy: cells of the occupancy grid along each axis.
        samples: steps along a ray.
        parts: number of parts that may move as a whole.
    """

    id: ClassVar[int] = PROFILE_ID
    name: ClassVar[str] = "grid"
    version: ClassVar[int] = PROFILE_VERSION
    # In one step, most entries receive no gradient. Second moments over more than some twenty gradients cost bytes
    # and quality: what an entry has to hold changes much while a frame is learned.
    recipe: ClassVar[Recipe] = Recipe(betas=(0.9, 0.95), epsilon=1e-15, sparse=True)
    settings: ClassVar[Mapping[str, Setting]] = {
        "resolutions": Setting(1, 4096, listed=True),
        "log2_table": Setting(0, 24),
        "hidden": Setting(1),
        "features": Setting(1),
        "colour_hidden": Setting(1),
        "occupancy": Setting(1, 256),
        "samples": Setting(1, MAX_SAMPLES_PER_RAY),
        "parts": Setting(0, MAX_PARTS, required=False),
    }

    def __init__(
        self,
        resolutions: Sequence[int] = (12, 18, 27, 40, 61, 91, 137, 205),
        log2_table: int = 15,
        hidden: int = 32,
        features: int = 15,
        colour_hidden: int = 32,
        occupancy: int = 64,
        samples: int = 96,
        parts: int = 0,
    ) -> None:
        self.samples = samples
        self.config = {
            "resolutions": list(resolutions),
            "log2_table": log2_table,
            "hidden": hidden,
            "features": features,
            "colour_hidden": colour_hidden,
            "occupancy": occupancy,
            "samples": samples,
        }
        if parts:
            self.config["parts"] = parts
        for width in (hidden, features + 1, colour_hidden, LEVEL_FEATURES * len(resolutions)):
            if width % 4 or not 4 <= width <= 256:
                raise DamagedError(f"grid profile: a layer of width {width}; widths are multiples of 4 from 4 to 256")
        self.layout = GridLayout(tuple(resolutions), log2_table, hidden, features, colour_hidden, occupancy, parts)
        if sum(spec.size for spec in self.tensors) > MAX_WEIGHTS:
            raise LimitError(f"grid profile: more than {MAX_WEIGHTS} weights")

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        tables = {level.name for level in self.layout.levels}
        specs = []
        for name, shape in self.layout.shapes.items():
            if name in tables:
                specs.append(TensorSpec(name, shape, "structure", 0.07, lead=True))
            elif name == OCCUPANCY:
                specs.append(TensorSpec(name, shape, "structure", 1.0, exact=True, lead=True))
            elif name == MOTION:
                specs.append(TensorSpec(name, shape, "structure", MOTION_STEP, exact=True, lead=True))
            elif name.startswith("density"):
                specs.append(TensorSpec(name, shape, "structure", 0.01))
            else:
                # Measured on a trained scene: rounding the colour layers to 0.04 costs nothing visible.
                specs.append(TensorSpec(name, shape, "colour", 0.03))
        return tuple(specs)

    def initialise(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        # He initialisation, except that output layers start small: the first images are grey fog.
        gain = {"density.1": 0.5, "colour.2": 0.1}
        weights: dict[str, np.ndarray] = {}
        for spec in self.tensors:
            if spec.name == OCCUPANCY:
                weights[spec.name] = np.ones(spec.shape, np.float32)
            elif spec.name.startswith("grid."):
                weights[spec.name] = rng.uniform(-0.01, 0.01, spec.shape).astype(np.float32)
            elif spec.name.endswith(".weight"):
                scale = gain.get(spec.name.removesuffix(".weight"), 1.0) * (6 / spec.shape[1]) ** 0.5
                weights[spec.name] = rng.uniform(-scale, scale, spec.shape).astype(np.float32)
            else:
                weights[spec.name] = np.zeros(spec.shape, np.float32)
        return weights

    def tint(self, colour: np.ndarray) -> dict[str, np.ndarray]:
        return {"colour.2.bias": np.log(colour / (1 - colour)).astype(np.float32)}

    def encode(self, weights: Mapping[str, torch.Tensor], position: torch.Tensor) -> torch.Tensor:
        """Trilinear lookup in every level: `[S, 3]` to `[S, 2 * levels]`."""
        import torch

        out = []
        corners = torch.tensor(
            [[c >> 2, (c >> 1) & 1, c & 1] for c in range(8)], device=position.device, dtype=torch.int64
        )
        for level in self.layout.levels:
            r = level.resolution
            table = weights[level.name].reshape(-1, LEVEL_FEATURES)
            scaled = position * r
            base = scaled.detach().long().clamp(0, r - 1)
            fraction = (scaled - base)[:, None]
            vertex = base[:, None] + corners
            if level.hashed:
                x, y, z = ((vertex[..., axis] * prime) & 0xFFFFFFFF for axis, prime in enumerate(HASH_PRIMES))
                index = (x ^ y ^ z) & self.layout.table_mask
            else:
                index = (vertex[..., 0] * (r + 1) + vertex[..., 1]) * (r + 1) + vertex[..., 2]
            weight = torch.where(corners.bool(), fraction, 1 - fraction).prod(-1)
            # The backward pass of table[index] is several times slower.
            entries = table.index_select(0, index.reshape(-1)).reshape(*index.shape, LEVEL_FEATURES)
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
        # The first three features go straight to the output: a diffuse colour that needs no network.
        return opacity[:, None] * (features[:, :3] + _dense(weights, "colour.2", hidden)).sigmoid()


def _dense(weights: Mapping[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def spherical_harmonics(direction: torch.Tensor) -> torch.Tensor:
    """Real spherical harmonics of degree 0 to 2 (Condon-Shortley signs): `[N, 3]` unit vectors to `[N, 9]`."""
    import torch

    h0, h1, h2, h3, h4, h5 = HARMONICS
    x, y, z = direction.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, h0),
            -h1 * y,
            h1 * z,
            -h1 * x,
            h2 * x * y,
            -h2 * y * z,
            h3 * z * z - h4,
            -h2 * x * z,
            h5 * (x * x - y * y),
        ],
        -1,
    )
