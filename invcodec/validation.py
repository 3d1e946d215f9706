"""The pixels that no training sees: how good a frame is, as its encoder can know it without a held-out camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from invcodec.capture.camera import Camera
from invcodec.metrics import over_white, to_8_bit

if TYPE_CHECKING:
    from invcodec.render.engine import Engine
    from invcodec.training.pixels import Views

_SHARE, _MOST = 0.02, 4096
"""Of all pixels of the training cameras."""


def validation_pixels(cameras: Sequence[Camera]) -> list[np.ndarray]:
    """For each training camera, the numbers `[V]` (row by row) of its validation pixels, in increasing order.

    They follow from the cameras' sizes alone, so that encoder and evaluation mean the same ones. Scattered by a
    multiplicative hash (Knuth, The Art of Computer Programming 6.4): no row, column or block is preferred.
    """
    total = sum(camera.width * camera.height for camera in cameras)
    share = min(_SHARE, _MOST / total)
    chosen, first = [], 0
    for camera in cameras:
        count = camera.width * camera.height
        numbers = np.arange(first, first + count, dtype=np.uint64)
        hashed = (numbers + np.uint64(1)) * np.uint64(2654435761) & np.uint64(0xFFFFFFFF)
        chosen.append(np.flatnonzero(hashed < np.uint64(share * 2**32)))
        first += count
    return chosen


def seen(
    engine: Engine,
    views: Views,
    pixels: np.ndarray,
    gain: np.ndarray | None,
    offset: np.ndarray | None,
    *,
    transparent: bool,
) -> np.ndarray:
    """Pixels as their cameras see them, `[N, 3]` uint8, over white where the scene is transparent.

    Args:
        pixels: `[N]` numbers of pixels of `views`.
        gain, offset: `[C, 3]`, colour correction of its cameras, or None.
    """
    found = engine.render(views.rays(pixels), np.zeros(3, np.float32))
    rgb = found.rgb / np.maximum(found.opacity, 1e-4)[:, None] if transparent else found.rgb
    if gain is not None and offset is not None:
        camera = views.camera_of(pixels)
        rgb = rgb * gain[camera] + offset[camera]
    picture = to_8_bit(rgb)
    if transparent:
        picture = np.concatenate([picture, to_8_bit(found.opacity[:, None])], 1)
    return over_white(picture)
