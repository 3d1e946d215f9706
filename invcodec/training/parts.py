"""Parts of the scene that move as a whole: which cells they are, and how they have moved (FORMAT.md, "Parts").

What moves rigidly need not be learned again where it is now. Where a part is in each frame is found by Levenberg and
Marquardt's method on rendered pixels, beginning near where it was, and near where it would be if it moved on as before.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from invcodec.coding.state import State
from invcodec.render.engine import Trainer
from invcodec.training.change import spread
from invcodec.training.colour import ColourCorrection
from invcodec.training.motions import MotionFitter, rounded, where
from invcodec.training.pixels import FramePixels, Views
from invcodec.training.segmentation import Look, explained, found_part, near

_PIXELS = 1000
"""Changed pixels that the motion of a part is fitted to, at most."""
_LEAST_GAIN, _EXPLAINED = 0.01, 0.6
"""Shares of squared error that the motion of a part must take away: of changed pixels around it, to be worth its bytes;
and of those that it covers and changes. What explains less does not move as a whole, such as one side of a thing that
turns."""


class PartTracker:
    """Follows the parts of one network from frame to frame, with the weights of the last frame.

    Args:
        engine: whose shown network may have parts; their cells and motion are changed in it.
        views: the training pixels.
        correction: of the training cameras' colours, or None.
    """

    def __init__(self, engine: Trainer, views: Views, correction: ColourCorrection | None) -> None:
        self._engine = engine
        self._views = views
        self._correction = correction
        self._fitter = MotionFitter(engine, views.space)

    def follow(self, frame: FramePixels, before: State | None = None) -> FramePixels:
        """Find where the parts are in this frame, and new ones; what does not move as a whole is a part no more.

        Cells of the scene within a part are closed: where the part is, the scene is not.

        Args:
            frame: with what changed since the last frame, whose weights the engine holds.
            before: the state before that, if both frames follow without a gap: parts are expected to move on.

        Returns:
            The frame with a hull of change that leaves out what is explained: cells of parts, and those around where
            the parts are now, and were in the last frame. If these opened, each frame would mend one use of the entries
            they share at the expense of the other, and the part would leave specks on its way. Where what was a part
            is now, the scene is learned anew.
        """
        parts = self._fitter.parts
        if not parts or frame.hull is None or frame.changed_mask is None or not frame.changed_mask.any():
            return frame
        motion, cells = self._fitter.motion(), self._engine.occupancy()
        assert cells is not None
        last = None if before is None else self._fitter.motion(before)
        claimed, anew = _claimed(cells, motion), np.zeros(cells.shape, bool)
        for part in range(parts):
            own = cells == part + 2
            if not own.any():
                continue
            followed = self._followed(frame, cells, motion, part, None if last is None else last[part])
            if followed is None:
                now = where(own, motion[part]) & (own | (cells <= 1))
                anew |= now
                cells, motion = np.where(now, 1, np.where(own, 0, cells)).astype(np.uint8), motion.copy()
                motion[part] = 0
            else:
                motion = followed
        free = [part for part in range(parts) if not (cells == part + 2).any()]
        # What is learned anew is wrong most, and would be taken for a part.
        if free and not anew.any():
            motion = motion.copy()
            motion[free[0]] = 0
            cells, motion = found_part(self._fitter, self._views, self._correction, frame, cells, motion, free[0])
        self._fitter.show(np.where((cells == 1) & _inside(cells, motion), 0, cells), motion)
        return replace(frame, hull=((frame.hull & ~claimed) | anew) & ~_claimed(cells, motion))

    def _followed(
        self, frame: FramePixels, cells: np.ndarray, motion: np.ndarray, part: int, last: np.ndarray | None
    ) -> np.ndarray | None:
        """The motions with that of a part in this frame, or as they are if none gains much; None: it is no part.

        Args:
            last: motion `[3, 4]` of the part in the frame before the last one.
        """
        assert frame.changed_mask is not None
        assert frame.hull is not None
        own = cells == part + 2
        here = where(own, motion[part])
        if not here.any():
            # It has left the cube.
            return None
        pixels = frame.changed_mask & near(self._views, here)
        look = Look(self._fitter, self._views, self._correction, frame, [(pixels, _PIXELS)])
        if not len(look.sight.target):
            return motion
        moved = rounded(look.refined(cells, look.shifted(cells, motion, part, last), part))
        before, now = (look.seen(cells, each) for each in (motion, moved))
        if now.error.sum() >= (1 - _LEAST_GAIN) * before.error.sum():
            return motion
        return moved if explained(own, before, now, moved[part]) >= _EXPLAINED else None


def _inside(cells: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Cells `[M, M, M]` bool that are within a part now, with all cells around them."""
    inside = np.zeros(cells.shape, bool)
    for part, row in enumerate(motion):
        own = cells == part + 2
        if own.any():
            inside |= ~spread(~where(own, row), 1)
    return inside


def _claimed(cells: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Cells `[M, M, M]` bool of parts, and those around where the parts are now."""
    claimed = cells > 1
    for part, row in enumerate(motion):
        own = cells == part + 2
        if own.any():
            claimed |= where(spread(own, 1), row)
    return claimed
