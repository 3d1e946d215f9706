"""Fidelity on pixels that are never trained on: what an encoder knows of a frame without a held-out camera."""

from __future__ import annotations

import numpy as np

from invcodec.metrics import Fidelity, over_white, to_8_bit
from invcodec.render.camera_colour import CameraColour
from invcodec.render.display import displayed
from invcodec.render.engine import Renderer
from invcodec.training.colour import ColourCorrection
from invcodec.training.pixels import FramePixels, Views


def measure(engine: Renderer, views: Views, frame: FramePixels, correction: ColourCorrection | None) -> Fidelity:
    """Rendered against captured validation pixels of a frame; those that changed since the last frame are moving."""
    captured = over_white(frame.colour[frame.validation])
    decoded = rendered(engine, views, frame, correction) if len(captured) else captured
    return Fidelity.measure(captured, decoded, frame.changed_validation)


def rendered(engine: Renderer, views: Views, frame: FramePixels, correction: ColourCorrection | None) -> np.ndarray:
    """The validation pixels `[V, 3]` uint8 of a frame as the engine renders them; see `seen`."""
    names = tuple(camera.name for camera in views.cameras)
    colour = CameraColour(names, correction.gain, correction.offset) if correction else None
    return seen(engine, views, frame.validation, colour, transparent=frame.colour.shape[1] == 4)


def seen(
    engine: Renderer, views: Views, pixels: np.ndarray, colour: CameraColour | None, *, transparent: bool
) -> np.ndarray:
    """Render pixels as their cameras see them: `[N, 3]` uint8, over white if the scene is transparent.

    Args:
        pixels: `[N]` numbers of pixels of `views`.
        colour: of the cameras of `views`, or None.
    """
    found = engine.render(views.rays(pixels), np.zeros(3, np.float32))
    picture = displayed(found, transparent=transparent, colour=colour, camera=views.camera_of(pixels))
    if transparent:
        picture = np.concatenate([picture, to_8_bit(found.opacity[:, None])], 1)
    return over_white(picture)
