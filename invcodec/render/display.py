"""Rendered colours as pictures show them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from invcodec.arrays import Array
from invcodec.metrics import to_8_bit
from invcodec.render.camera_colour import CameraColour
from invcodec.render.engine import Pixels

_MIN_OPACITY = 1e-4
"""Colours that are less opaque are divided by this instead, so that they stay finite."""


def displayed(
    pixels: Pixels,
    *,
    transparent: bool,
    colour: CameraColour | None = None,
    camera: int | np.ndarray | None = None,
    place: Callable[[np.ndarray], Array] = np.asarray,
) -> Array:
    """Display-referred sRGB, `[N, 3]` uint8, on the device of the pixels.

    Args:
        pixels: rendered over black if `transparent`, else over the background.
        transparent: give straight (not premultiplied) colours.
        colour: cameras' exposure and white balance, or None for the scene's own colours.
        camera: index in `colour` of the camera, or of each pixel's camera `[N]`; None if it is none of them.
        place: moves an array to the device of the pixels.
    """
    rgb = pixels.rgb
    if transparent:
        rgb = rgb / pixels.opacity.clip(min=_MIN_OPACITY)[:, None]
    if colour is not None and camera is not None:
        rgb = colour.apply(rgb, camera, place)
    return to_8_bit(rgb)
