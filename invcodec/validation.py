"""The pixels that no training sees: how good a frame is, as its encoder can know it without a held-out camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from invcodec.capture.camera import Camera

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
