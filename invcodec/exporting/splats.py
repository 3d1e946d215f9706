"""A field as 3D Gaussian splats: one for each cell of a fine grid that hides something and that a camera sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from invcodec.exporting.scene import EDGE, Density, Sight, colours, grid
from invcodec.geometry.space import Space

_LEAST_OPACITY = 0.1
"""Cells that hide less are left out."""
_MOST_OPACITY = 0.99
_WIDTH = 0.4
"""Standard deviation of a splat, in cells: thinner ones let light through from close by, and thicker ones blur."""
_FIRST_CELLS, _MOST_CELLS = 128, 512
_GROWTH = 2.6
"""The number of splats grows with this power of the cells along an axis: cells are in surfaces that are a few cells
thick."""


@dataclass(frozen=True)
class Splats:
    """N Gaussians.

    Attributes:
        positions: `[N, 3]`.
        axes: `[N, 3, 3]` rotations; column k is the direction of axis k.
        scales: `[N, 3]`, standard deviations along the axes.
        opacities: `[N]` in (0, 1).
        colours: `[N, 3]` in [0, 1], display-referred.
    """

    positions: np.ndarray
    axes: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    colours: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def turned(self, rotation: np.ndarray) -> Splats:
        """The same in other axes, by a rotation `[3, 3]`."""
        return replace(self, positions=self.positions @ rotation.T, axes=rotation @ self.axes)


class Splatter:
    """Makes splats of frames, with as fine a grid as the number allows.

    Args:
        space: of the fields.
        most: splats of a frame.
    """

    def __init__(self, space: Space, most: int) -> None:
        self._space = space
        self._most = most
        self._cells = 0

    def splats(self, density: Density, seen: Sequence[Sight]) -> Splats:
        """The splats of a frame, in the world; it may have none.

        The first frame that has splats decides how fine the grid is; a later one that would have too many makes it
        coarser.

        Args:
            density: its field.
            seen: what its cameras see.
        """
        cells = self._cells or _FIRST_CELLS
        while (made := self._on_grid(cells, density, seen)) is None:
            cells = int((0.97 if self._cells else 0.5) * cells)
        if len(made) and not self._cells:
            finer = min(int(cells * (self._most / len(made)) ** (1 / _GROWTH)), _MOST_CELLS)
            while (made := self._on_grid(finer, density, seen)) is None:
                finer = int(0.97 * finer)
            cells = finer
        if len(made):
            self._cells = cells
        return made

    def _on_grid(self, cells: int, density: Density, seen: Sequence[Sight]) -> Splats | None:
        """The splats of a grid with so many cells along an axis, or None if there are too many."""
        made: list[Splats] = []
        for centres in grid(cells, 0.5 / cells):
            opacity = 1 - np.exp(-density(centres) / cells)
            chosen = opacity > _LEAST_OPACITY
            made.append(self._shown(centres[chosen], opacity[chosen], 0.5 / cells, seen))
            if sum(map(len, made)) > self._most:
                return None
        return Splats(
            *(
                np.concatenate([getattr(each, name) for each in made])
                for name in ("positions", "axes", "scales", "opacities", "colours")
            )
        )

    def _shown(self, centres: np.ndarray, opacities: np.ndarray, half: float, seen: Sequence[Sight]) -> Splats:
        """Splats of those cells around points of the unit cube `[N, 3]` that cameras see; `half` a cell is so long."""
        centres = centres.astype(np.float64).clip(EDGE, 1 - EDGE)
        positions = self._space.world(centres)
        steps = half * np.eye(3)
        # Edges of the cells in the world, in the columns.
        edges = np.stack([self._world(centres + step) - self._world(centres - step) for step in steps], 2)
        known, colour = colours(positions, seen)
        known &= np.isfinite(edges).all((1, 2))
        axes, scales, _ = np.linalg.svd(_WIDTH * edges[known])
        # Rotations, no reflections.
        axes[..., 0] *= np.linalg.det(axes)[:, None]
        return Splats(positions[known], axes, scales, opacities[known].clip(max=_MOST_OPACITY), colour[known])

    def _world(self, points: np.ndarray) -> np.ndarray:
        return self._space.world(points.clip(EDGE, 1 - EDGE))
