"""A field as a mesh of triangles, by marching cubes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from invcodec.exporting.scene import EDGE, Density, Sight, colours, grid
from invcodec.extras import require
from invcodec.geometry.space import Space

_POINTS = 257
"""Of the grid along an axis."""
_MOST_CELLS = 1 << 21
"""Cells with a surface in them; a grid that has more is made coarser, which bounds memory."""
_LEVEL = 0.3
"""The surface is where one step of rendering hides this share of what is behind it."""


@dataclass(frozen=True)
class Mesh:
    """A mesh.

    Attributes:
        positions: `[V, 3]`.
        triangles: `[T, 3]` indices of vertices, counterclockwise seen from outside.
        colours: `[V, 3]` in [0, 1], display-referred.
    """

    positions: np.ndarray
    triangles: np.ndarray
    colours: np.ndarray

    def turned(self, rotation: np.ndarray) -> Mesh:
        """The same in other axes, by a rotation `[3, 3]`."""
        return replace(self, positions=self.positions @ rotation.T)


def require_marching_cubes() -> Any:
    """The function of scikit-image.

    Raises:
        UsageError: it is not installed.
    """
    return require("skimage.measure", "export", "meshes need scikit-image").marching_cubes


def surface(space: Space, samples: int, density: Density, seen: Sequence[Sight]) -> Mesh:
    """The surfaces that cameras see, in the world; there may be none.

    Args:
        space: of the field.
        samples: steps of a ray that is as long as the unit cube's side.
        density: of the field.
        seen: what cameras see.

    Raises:
        UsageError: scikit-image is not installed.
    """
    marching_cubes = require_marching_cubes()

    hidden = np.concatenate([1 - np.exp(-density(points) / samples) for points in grid(_POINTS, EDGE)])
    hidden = hidden.reshape((_POINTS,) * 3)
    while _crossed(hidden) > _MOST_CELLS:
        hidden = hidden[::2, ::2, ::2]
    if not hidden.min() < _LEVEL < hidden.max():
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros((0, 3)))
    found, triangles, _, _ = marching_cubes(hidden, _LEVEL, gradient_direction="ascent")
    positions = space.world(EDGE + found.astype(np.float64) / (len(hidden) - 1) * (1 - 2 * EDGE))
    known, colour = colours(positions, seen)
    known &= np.isfinite(positions).all(1)
    triangles = triangles[known[triangles].all(1)]
    if _mirrored(space):
        triangles = triangles[:, ::-1]
    used, triangles = np.unique(triangles, return_inverse=True)
    return Mesh(positions[used], triangles.reshape(-1, 3), colour[used])


def _crossed(hidden: np.ndarray) -> int:
    """Cells of a grid `[N, N, N]` that have points on both sides of the level."""
    inside = hidden > _LEVEL
    some, every = inside, inside
    for axis in range(3):
        first, last = (slice(None),) * axis + (slice(-1),), (slice(None),) * axis + (slice(1, None),)
        some, every = some[first] | some[last], every[first] & every[last]
    return int((some & ~every).sum())


def _mirrored(space: Space) -> bool:
    """Whether the way to the world turns a left hand into a right one."""
    at = space.world(0.5 + 0.01 * np.concatenate([np.zeros((1, 3)), np.eye(3)]))
    return bool(np.linalg.det(at[1:] - at[0]) < 0)
