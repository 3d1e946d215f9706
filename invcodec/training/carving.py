"""Which cells of space stay open while a keyframe is trained: those that hold matter and that cameras see."""

from __future__ import annotations

import numpy as np

from invcodec.render.engine import Trainer
from invcodec.training.change import spread

_MIN_DENSITY = 6.0
"""Density per unit of march length below which a cell counts as empty, once the scene has taken shape; before that, the
threshold rises from 1, which is the density of a network that is not trained yet."""
_LIGHT_CELL = 0.02
"""Cells stay open where they or a neighbour had more than this compositing weight for some ray."""
_LEAST_OPEN = 1e-3
"""Smallest share of open cells that is plausible for any scene."""
SHAPED = 0.15
"""Fraction of the budget from which on a cell also has to be seen to stay open."""
_REVIEWED = 1 << 17
"""Cells whose density one review looks at, at most."""
_FADING = 0.8
"""Decay of a cell's density from one look to the next; a look at a single point may miss what the cell holds."""
_CROSSINGS = 64
"""Rays that cross a cell, on average, before it counts as not seen."""


class Carving:
    """Closes cells that turn out to be empty, and opens them again where matter grows.

    Args:
        engine: trains a network with occupancy; all its cells but `empty` are opened.
        rng: source of all randomness.
        empty: `[M, M, M]` bool, cells that stay closed.
    """

    def __init__(self, engine: Trainer, rng: np.random.Generator, empty: np.ndarray) -> None:
        cells = engine.occupancy()
        assert cells is not None
        self._engine = engine
        self._rng = rng
        self._shape = cells.shape
        self._possible = ~empty
        self._density = np.full(cells.size, np.nan, np.float32)
        # Of the current window of rays and of the one before it. A ray crosses M of M^3 cells.
        self._light = np.zeros((2, *cells.shape), np.float32)
        self._window = _CROSSINGS * cells.shape[0] ** 2
        self._window_end = self._window
        self._reviews = 0
        engine.set_occupancy(self._possible)
        engine.take_cell_weights()

    def review(self, rays: int, fraction: float) -> None:
        """Look at a part of the cells, and open or close them.

        Args:
            rays: taken so far.
            fraction: of the budget used so far.
        """
        self._light[0] = np.maximum(self._light[0], self._engine.take_cell_weights())
        candidates = self._possible
        if fraction > SHAPED:
            candidates = candidates & spread(self._light.max(0) > _LIGHT_CELL, 1)
        self._look(np.flatnonzero(candidates))
        with np.errstate(invalid="ignore"):
            closed = (self._density <= _MIN_DENSITY ** min(fraction / SHAPED, 1)).reshape(self._shape)
        open_cells = candidates & ~closed
        # A scene that is still fog would be closed altogether and could never be learned.
        if open_cells.mean() > _LEAST_OPEN:
            self._engine.set_occupancy(open_cells)
        if rays >= self._window_end:
            self._light[1], self._light[0] = self._light[0], 0
            self._window_end = rays + self._window

    def _look(self, cells: np.ndarray) -> None:
        """Sample the density of every n-th of some cells `[C]`, so that n reviews look at all of them."""
        apart = -(-len(cells) // _REVIEWED)
        if not apart:
            return
        cells = cells[self._reviews % apart :: apart]
        self._reviews += 1
        corners = np.stack(np.unravel_index(cells, self._shape), 1).astype(np.float32)
        points = (corners + self._rng.random(corners.shape, np.float32)) / np.float32(self._shape[0])
        self._density[cells] = np.fmax(_FADING * self._density[cells], self._engine.density(points))
