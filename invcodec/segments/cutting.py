"""Where to divide a capture into segments."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from invcodec.capture.capture import Capture
from invcodec.encoding.settings import Settings
from invcodec.geometry.fitting import choose_space
from invcodec.training.cuts import is_cut
from invcodec.training.pixels import FramePixels, Views, held


def every(numbers: range, frames: int) -> list[range]:
    """Segments of so many frames; the last one may be shorter."""
    return [numbers[at : at + frames] for at in range(0, len(numbers), frames)]


def at_cuts(capture: Capture, settings: Settings) -> list[range]:
    """A segment for each scene, found as the encoder finds cuts; reads all frames.

    Raises:
        CaptureError: a frame cannot be read.
    """
    training = capture.training
    rig = [capture.cameras[index] for index in training]
    space = choose_space(capture.cameras, points=capture.points, transparent=capture.transparent, kind=settings.space)
    views = Views(rig, space)
    starts = [capture.numbers.start]
    last: FramePixels | None = None
    with closing(capture.frames()) as frames:
        for frame in frames:
            before = None if last is None else views.split(last.colour)
            pictures = held([frame.images[i] for i in training], before, rig, 4 if capture.transparent else 3)
            masks = [
                np.zeros((camera.height, camera.width), bool) if frame.images[i] is None else frame.masks[i]
                for i, camera in zip(training, rig, strict=True)
            ]
            pixels = FramePixels.gather(pictures, masks, views.validation)
            if last is not None and is_cut(views, pixels, last):
                starts.append(frame.number)
            last = pixels
    stops = [*starts[1:], capture.numbers.stop]
    return [range(start, stop) for start, stop in zip(starts, stops, strict=True)]
