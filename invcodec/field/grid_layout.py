"""Layout of profile `grid`: the tensors that a configuration implies, and where each lies in a flat array.

FORMAT.md, "Profile 2: grid". Engines, kernels and the entropy coder's hints share these numbers; importing them loads
neither torch nor numba.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from invcodec.arrays import Array
from invcodec.field.profile import MOTION, OCCUPANCY

PROFILE_ID, PROFILE_VERSION = 2, 1
LEVEL_FEATURES = 2
MOTION_TERMS = 12
"""An affine map: 3 rows of 4."""
HASH_PRIMES = (1, 2654435761, 805459861)
MAX_RAW_DENSITY = 12.0
DIRECTION_TERMS = 9
"""Real spherical harmonics of degree 0 to 2 (Condon-Shortley signs)."""
HARMONICS = (0.28209479, 0.48860251, 1.09254843, 0.94617470, 0.31539157, 0.54627422)
"""Their coefficients: h0; h1 of x, y and z; h2 of xy, yz and xz; h3 z^2 - h4; h5 (x^2 - y^2)."""


def level_name(level: int) -> str:
    """Name of a level's tensor."""
    return f"grid.{level}"


def dense_shape(resolution: int) -> tuple[int, ...]:
    """Shape of a level that has an entry for every vertex."""
    return (*(resolution + 1,) * 3, LEVEL_FEATURES)


class Level(NamedTuple):
    """One level of the grid.

    Attributes:
        name: of its tensor.
        resolution: cells along each axis.
        hashed: whether vertices share entries by hash.
        shape: of its tensor.
        first, last: its entries are `first` to `last - 1` of the table of all levels.
    """

    name: str
    resolution: int
    hashed: bool
    shape: tuple[int, ...]
    first: int
    last: int


@dataclass(frozen=True)
class GridLayout:
    """Sizes of one `grid` network; see `invcodec.field.grid.GridProfile` for the attributes."""

    resolutions: tuple[int, ...]
    log2_table: int
    hidden: int
    features: int
    colour_hidden: int
    occupancy: int
    parts: int = 0

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        levels: list[Level] = []
        first = 0
        for number, resolution in enumerate(self.resolutions):
            hashed = (resolution + 1) ** 3 > 1 << self.log2_table
            entries = 1 << self.log2_table if hashed else (resolution + 1) ** 3
            shape = (entries, LEVEL_FEATURES) if hashed else dense_shape(resolution)
            levels.append(Level(level_name(number), resolution, hashed, shape, first, first + entries))
            first += entries
        return tuple(levels)

    @property
    def entries(self) -> int:
        """Entries of all levels."""
        return self.levels[-1].last

    @property
    def table_mask(self) -> int:
        """Entries of a hashed level, minus one."""
        return (1 << self.log2_table) - 1

    @property
    def encoded(self) -> int:
        """Width of the encoding of a point."""
        return LEVEL_FEATURES * len(self.resolutions)

    @cached_property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of each dense layer, in order."""
        return {
            "density.0": (self.hidden, self.encoded),
            "density.1": (1 + self.features, self.hidden),
            "colour.0": (self.colour_hidden, self.features + DIRECTION_TERMS),
            "colour.1": (self.colour_hidden, self.colour_hidden),
            "colour.2": (3, self.colour_hidden),
        }

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, in the order in which the file declares them."""
        tables = {level.name: level.shape for level in self.levels}
        motion = {MOTION: (self.parts, MOTION_TERMS)} if self.parts else {}
        return tables | {OCCUPANCY: (self.occupancy,) * 3} | motion | self.layer_shapes()

    def layer_shapes(self, multiple: int = 1) -> dict[str, tuple[int, ...]]:
        """Shapes of weights `[out, in]` and biases `[out]`, with `out` rounded up to a multiple."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, (rows, columns) in self.layers.items():
            padded = rows + -rows % multiple
            shapes |= {f"{name}.weight": (padded, columns), f"{name}.bias": (padded,)}
        return shapes

    def layer_size(self, multiple: int = 1) -> int:
        """Elements of a flat array of all dense layers."""
        return sum(int(np.prod(shape)) for shape in self.layer_shapes(multiple).values())

    def table_views(self, table: Array) -> dict[str, Array]:
        """Each level `[entries, 2]` as a view of the table `[entries, 2]` of all, by tensor name."""
        return {level.name: table[level.first : level.last] for level in self.levels}

    def layer_views(self, flat: Array, multiple: int = 1) -> dict[str, Array]:
        """Weights and biases as views `[..., *shape]` of a flat array `[..., layer_size]`, by tensor name."""
        views: dict[str, Array] = {}
        start = 0
        for name, shape in self.layer_shapes(multiple).items():
            end = start + int(np.prod(shape))
            views[name] = flat[..., start:end].reshape(*flat.shape[:-1], *shape)
            start = end
        return views
