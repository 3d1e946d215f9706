"""The pixels that no training sees: how good a frame is, as its encoder can know it without a held-out camera."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from invcodec.metrics import over_white, to_8_bit

if TYPE_CHECKING:
    from invcodec.render.engine import Engine
    from invcodec.training.pixels import Views


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
