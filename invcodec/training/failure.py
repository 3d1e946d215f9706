"""Whether the training of a keyframe has failed, so that it should be tried another way."""

from __future__ import annotations

import numpy as np

from invcodec.metrics import over_white
from invcodec.render.engine import Trainer
from invcodec.training.colour import ColourCorrection
from invcodec.training.frames import Trained
from invcodec.training.pixels import FramePixels, Views
from invcodec.training.validation import rendered

NOT_FINITE = "its weights are not finite"

_LEAST_STEPS = 200
"""Training of fewer steps is merely short."""
_LEAST_EXPLAINED = 0.1
"""Share of the variance of validation pixels, within each camera, that any picture of the scene explains."""
_TOLERANCE = (6 / 255) ** 2
"""Mean squared error that is no failure even in pictures of a single colour."""


def failure(
    engine: Trainer, views: Views, frame: FramePixels, correction: ColourCorrection | None, trained: Trained
) -> str | None:
    """What is wrong with the trained keyframe that the engine holds, for a message; None if nothing is.

    It has failed if weights are not finite, or if the picture at the validation pixels is hardly better than a constant
    colour for each camera. A space whose cells are all closed renders as such a picture.
    """
    if not all(np.isfinite(weight).all() for weight in engine.weights().values()):
        return NOT_FINITE
    if trained.steps < _LEAST_STEPS or not len(frame.validation):
        return None
    captured = over_white(frame.colour[frame.validation]) / 255
    found = rendered(engine, views, frame, correction) / 255
    camera = views.camera_of(frame.validation)
    count = np.maximum(np.bincount(camera), 1)
    means = np.stack([np.bincount(camera, channel) / count for channel in captured.T], 1)
    constant = np.mean((captured - means[camera]) ** 2)
    if np.mean((captured - found) ** 2) > (1 - _LEAST_EXPLAINED) * constant + _TOLERANCE:
        return "its pictures are hardly better than one colour per camera"
    return None
