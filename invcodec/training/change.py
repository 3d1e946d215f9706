"""Change detection between consecutive frames, in pixels and in space."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from invcodec.training.pixels import FramePixels, Views

_PERCEPTIBLE = 8
"""Smallest difference of 8-bit values that counts as a change."""
_NOISE_FACTOR = 5.0
_NOISE_PIXELS = 1 << 18
"""Enough pixels to estimate the noise from."""
_MOST_CELLS = 64
"""Cells of a hull along each axis, at most: every camera remembers where it sees each of them."""


class ChangeFinder:
    """Finds the pixels that changed from one frame to the next, and the cells of space that may hold the change.

    A cell may hold it if most cameras that see the cell see a change there: the visual hull of the change.

    Args:
        views: the training pixels.
        cells: occupancy cells along each axis, or None if the network has no occupancy.
        nearest: `[C]`, the z-depth before which there is nothing in front of each camera; 0 if None.

    Attributes:
        empty: `[M, M, M]` bool, cells nearer than that to a camera that looks at them. Matter there would explain the
            pictures of that camera best, and no other one would contradict it.
    """

    _AGREEMENT = 0.7

    def __init__(self, views: Views, cells: int | None, nearest: np.ndarray | None = None) -> None:
        self.views = views
        self._projection: list[tuple[np.ndarray, np.ndarray, int]] = []
        self._cells = min(cells or 0, _MOST_CELLS)
        self.empty = np.zeros((0, 0, 0), bool)
        self._seen_by = np.zeros(0, np.int16)
        if cells is None:
            return
        # The hull's cell around the middle of each occupancy cell, along one axis.
        self._within = (2 * np.arange(cells) + 1) * self._cells // (2 * cells)
        cells = self._cells
        axis = (np.arange(cells) + 0.5) / cells
        centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        world = views.space.world(centres)
        seen_by = np.zeros(cells**3, np.int16)
        empty = np.zeros(cells**3, bool)
        for index, camera in enumerate(views.cameras):
            pixels, depth = camera.project(world)
            with np.errstate(invalid="ignore"):
                inside = (depth > 0) & (pixels >= 0).all(1) & (pixels < (camera.width, camera.height)).all(1)
            seen_by += inside
            if nearest is not None:
                empty |= inside & (depth < nearest[index])
            seen = np.flatnonzero(inside)
            column, row = pixels[seen].astype(np.int32).T
            self._projection.append(
                (seen.astype(np.int32), row * camera.width + column, _cell_reach(pixels, inside, cells))
            )
        self._seen_by = seen_by
        self.empty = self._refined(empty)

    def _refined(self, cells: np.ndarray) -> np.ndarray:
        """Occupancy cells `[M, M, M]` from those of a hull, in any shape."""
        return cells.reshape((self._cells,) * 3)[np.ix_(*[self._within] * 3)]

    def find(self, now: FramePixels, before: FramePixels) -> FramePixels:
        """`now`, with its changes since `before` filled in."""
        moved = differing(now.colour, before.colour)
        around = np.empty_like(moved)
        votes, seen_by = np.zeros(self._cells**3, np.int16), self._seen_by.copy()
        for index, camera in enumerate(self.views.cameras):
            part = slice(self.views.offsets[index], self.views.offsets[index + 1])
            picture = moved[part].reshape(camera.height, camera.width)
            around[part] = spread(picture, 1).reshape(-1)
            if self._cells:
                seen, pixel, reach = self._projection[index]
                if now.valid_mask[part].any():
                    votes[seen] += spread(picture, 1 + reach).reshape(-1)[pixel]
                else:
                    seen_by[seen] -= 1
        hull = None
        if self._cells:
            # Of the cameras that see a cell, most must see a change there.
            needed = np.maximum(np.ceil(self._AGREEMENT * seen_by), 1)
            hull = self._refined(votes >= needed) & ~self.empty
        changed = {"changed_mask": around & now.valid_mask, "changed_validation": around[now.validation]}
        return replace(now, **changed, hull=hull)


def differing(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Which pixels `[P]` bool differ by more than noise and perceptibly, of two frames `[P, C]` uint8."""
    difference = np.maximum(now, before) - np.minimum(now, before)
    # Channel by channel, since numpy is slow along short axes.
    largest = reduce(np.maximum, difference.T)
    noise = float(np.median(largest[:: 1 + len(largest) // _NOISE_PIXELS]))
    return largest >= max(_PERCEPTIBLE, _NOISE_FACTOR * noise)


def _cell_reach(pixels: np.ndarray, inside: np.ndarray, cells: int) -> int:
    """Half the typical distance in pixels between neighbouring cells: how far a change may lie off a cell's centre."""
    grid = pixels.reshape(cells, cells, cells, 2)
    inside = inside.reshape(cells, cells, cells)
    gaps = [0.0]
    for axis in range(3):
        both = np.logical_and(inside, np.roll(inside, -1, axis)).take(range(cells - 1), axis)
        if both.any():
            gaps.append(float(np.median(np.abs(np.diff(grid, axis=axis)).max(-1)[both])))
    return min(int(np.ceil(max(gaps) / 2)), 64)


def spread(mask: np.ndarray, reach: int) -> np.ndarray:
    """Dilate a boolean array of any dimension by a box of `2 * reach + 1`."""
    out = mask
    for axis in range(mask.ndim):
        # Windows that begin at each element, doubled in length every time.
        windows = np.pad(np.moveaxis(out, axis, 0), [(reach, reach)] + [(0, 0)] * (mask.ndim - 1))
        length, full = 1, 2 * reach + 1
        while length < full:
            more = min(length, full - length)
            windows = windows[:-more] | windows[more:]
            length += more
        out = np.moveaxis(windows, 0, axis)
    return np.ascontiguousarray(out)
