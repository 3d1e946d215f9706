"""What changed from one frame to the next, in pixels and in space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from invcodec.training.pixels import FramePixels, Views

_PERCEPTIBLE = 8
"""Smallest change of an 8-bit value that counts as one."""
_NOISE_FACTOR = 5.0


class ChangeFinder:
    """Finds the pixels that changed from one frame to the next, and the cells of space that may hold the change.

    A cell may hold it if most cameras that see the cell see a change there: the visual hull of the change.

    Args:
        views: the training pixels.
        cells: occupancy cells along each axis, or None if the network has no occupancy.
    """

    _AGREEMENT = 0.7

    def __init__(self, views: Views, cells: int | None) -> None:
        self.views = views
        self.cells = cells
        self._projection: list[tuple[np.ndarray, np.ndarray, int]] = []
        if cells is None:
            return
        axis = (np.arange(cells) + 0.5) / cells
        centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        world = views.space.world(centres)
        for camera in views.cameras:
            pixels, depth = camera.project(world)
            with np.errstate(invalid="ignore"):
                inside = (depth > 0) & (pixels >= 0).all(1) & (pixels < (camera.width, camera.height)).all(1)
            seen = np.flatnonzero(inside)
            column, row = pixels[seen].astype(np.int32).T
            self._projection.append(
                (seen.astype(np.int32), row * camera.width + column, _cell_reach(pixels, inside, cells))
            )

    def find(self, now: FramePixels, before: FramePixels) -> FramePixels:
        """`now`, with what changed since `before` filled in."""
        difference = np.abs(now.colour.astype(np.int16) - before.colour).max(1)
        noise = float(np.median(difference))
        moved = difference >= max(_PERCEPTIBLE, _NOISE_FACTOR * noise)
        changed = np.zeros(len(moved), bool)
        votes = np.zeros(self.cells**3 if self.cells else 0, np.int16)
        seen_by = np.zeros_like(votes)
        for index, camera in enumerate(self.views.cameras):
            part = slice(self.views.offsets[index], self.views.offsets[index + 1])
            picture = moved[part].reshape(camera.height, camera.width)
            changed[part] = spread(picture, 1).reshape(-1)
            if self.cells:
                seen, pixel, reach = self._projection[index]
                votes[seen] += spread(picture, 1 + reach).reshape(-1)[pixel]
                seen_by[seen] += 1
        hull = None
        if self.cells:
            enough = np.maximum(np.ceil(self._AGREEMENT * seen_by), 1)
            hull = (votes >= enough).reshape((self.cells,) * 3)
        valid = np.zeros(len(moved), bool)
        valid[now.valid] = True
        return replace(now, changed=np.flatnonzero(changed & valid), hull=hull)


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
    out = mask.astype(np.int32)
    for axis in range(mask.ndim):
        size = mask.shape[axis]
        total = np.cumsum(np.insert(out, 0, 0, axis), axis)
        index = np.arange(size)
        upper = np.take(total, np.minimum(index + reach + 1, size), axis)
        out = (upper - np.take(total, np.maximum(index - reach, 0), axis) > 0).astype(np.int32)
    return out.astype(bool)
