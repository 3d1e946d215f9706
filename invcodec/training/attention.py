"""Which parts of a keyframe's pictures still look wrong, so that training attends to them."""

from __future__ import annotations

import numpy as np

from invcodec.training.pixels import Views

_TILES = 100_000
"""Tiles to judge the pictures by, at about most: between two looks, enough rays for each."""
_ATTENDED = 0.25
"""Share of the tiles to attend to. An eighth or a sixteenth of them gained less, and at the cost of all others."""


def worst_pixels(views: Views, errors: np.ndarray, valid_mask: np.ndarray) -> np.ndarray:
    """The pixels `[P]` bool of those square tiles of the pictures that are rendered worst.

    Args:
        errors: `[P]` float32, squared error of each pixel when it was drawn last; NaN for pixels that never were.
        valid_mask: `[P]` bool, pixels to choose from.
    """
    side = int(np.ceil(np.sqrt(len(views) / _TILES)))
    drawn = ~np.isnan(errors)
    means = []
    for index, camera in enumerate(views.cameras):
        part = slice(views.offsets[index], views.offsets[index + 1])
        size = (camera.height, camera.width)
        total = _tile_sums(np.where(drawn[part], errors[part], 0).reshape(size), side)
        means.append(total / np.maximum(_tile_sums(drawn[part].reshape(size).astype(np.float32), side), 1))
    threshold = np.quantile(np.concatenate([mean.reshape(-1) for mean in means]), 1 - _ATTENDED)
    attended = np.empty_like(valid_mask)
    for index, camera in enumerate(views.cameras):
        worst = (means[index] > threshold).repeat(side, 0).repeat(side, 1)[: camera.height, : camera.width]
        attended[views.offsets[index] : views.offsets[index + 1]] = worst.reshape(-1)
    return attended & valid_mask


def _tile_sums(picture: np.ndarray, side: int) -> np.ndarray:
    """Sums over the tiles of a picture `[H, W]`; those at its right and lower border may be smaller."""
    height, width = picture.shape
    rows = np.add.reduceat(picture, np.arange(0, height, side), 0)
    return np.add.reduceat(rows, np.arange(0, width, side), 1)
