"""Parts of the scene that move as a whole: which cells they are, and how they have moved (FORMAT.md, "Parts").

What moves rigidly need not be learned again where it is now. A part begins as the occupied cells of a hull of change
that hang together; where it is in each frame is found by Levenberg and Marquardt's method on rendered pixels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from invcodec.field.grid import MOTION_STEP
from invcodec.field.grid_layout import MOTION_TERMS
from invcodec.field.profile import MOTION
from invcodec.geometry.rotations import from_axis_angle
from invcodec.geometry.space import Rays
from invcodec.render.engine import Trainer
from invcodec.training.change import spread
from invcodec.training.colour import ColourCorrection
from invcodec.training.pixels import FramePixels, Views

_PIXELS = 1000
"""Changed pixels that a motion is fitted to, at most."""
_LEAST_GAIN, _LEAST_GAIN_OF_NEW = 0.01, 0.1
"""Share of the squared error of the changed pixels that a motion must take away to be worth its bytes, and that of a
new part."""
_TOUCHED, _EXPLAINED = 0.02, 0.95
"""A motion touches a channel of a pixel that it changes by this. Of the squared error of what it touches, the motion of
a new part must take away this share: that of a ball that flies takes 97 %, and that of a knot that turns before a wall,
taken together with some of the wall, 85 %. A part that is none costs quality for as long as it lasts."""
_LEAST_CELLS, _MOST_SHARE = 8, 1 / 250
"""Cells of a part at least, and the largest share of all cells: a larger piece is hardly one thing."""
_PIECES = 32
"""Pieces of a hull that are looked at."""
_CANDIDATES = 2
"""Pieces of a hull, from the largest down, that are tried as a part in one frame."""
_REACH, _SHIFTS, _THINNED = 6, 150, 4
"""Cells that a part may have moved along each axis; shifts that are rendered; and of how many pixels one is rendered
for them."""
_SHIFT, _RIGID = 3, 6
"""Degrees of freedom of a shift and of a rigid motion. A free affine map is fitted no worse to one frame, but shears
and shrinks over some tens of them, until the part is lost."""
_NEAR = 1e-4
"""Over which the space's map to the world is taken to be linear."""


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
        self._key = (engine.networks.shown.name, MOTION)
        spec = engine.networks.tensors.get(self._key)
        self._parts = 0 if spec is None else spec.shape[0]

    def follow(self, frame: FramePixels) -> FramePixels:
        """Find where the parts are in this frame, and new ones.

        Cells of the scene within a part are closed: where the part is, the scene is not.

        Returns:
            The frame with a hull of change that leaves out what is explained: cells of parts, and those around where
            the parts are now, and were in the last frame. If these opened, each frame would mend one use of the entries
            they share at the expense of the other, and the part would leave specks on its way.
        """
        if not self._parts or frame.hull is None or frame.changed_mask is None or not frame.changed_mask.any():
            return frame
        self._pick(frame, frame.changed_mask)
        motion = self._engine.weights()[self._key].astype(np.float64).reshape(-1, 3, 4)
        cells = self._engine.occupancy()
        assert cells is not None
        before = _claimed(cells, motion)
        for part in range(self._parts):
            if (cells == part + 2).any():
                motion = self._followed(cells, motion, part, frame.hull)
        free = [part for part in range(self._parts) if not (cells == part + 2).any()]
        if free:
            motion[free[0]] = 0
            for piece in _pieces(frame.hull & (cells == 1)):
                taken = np.where(piece, free[0] + 2, cells).astype(np.uint8)
                found = self._followed(taken, motion, free[0], frame.hull, is_new=True)
                if found is not motion:
                    cells, motion = taken, found
                    break
        self._show(np.where((cells == 1) & _inside(cells, motion), 0, cells), motion)
        return replace(frame, hull=frame.hull & ~before & ~_claimed(cells, motion))

    def _pick(self, frame: FramePixels, changed: np.ndarray) -> None:
        """Choose the pixels that motion is fitted to."""
        pixels = np.flatnonzero(changed)
        if len(pixels) > _PIXELS:
            pixels = pixels[np.linspace(0, len(pixels) - 1, _PIXELS).astype(np.int64)]
        target = frame.target(pixels, np.zeros((len(pixels), 3), np.float32))
        if self._correction is not None:
            target = self._correction.neutral(target, self._views.camera_of(pixels))
        self._rays, self._target = self._views.rays(pixels), target

    def _followed(
        self, cells: np.ndarray, motion: np.ndarray, part: int, hull: np.ndarray, *, is_new: bool = False
    ) -> np.ndarray:
        """The motion with that of a part in this frame, or as it is if that explains too little.

        The best of several shifts that keep the part in the hull is refined. If no shift of a new part gains much,
        nothing is: most pieces of a hull are no part, and refining takes most of the time.
        """
        least_gain = _LEAST_GAIN_OF_NEW if is_new else _LEAST_GAIN
        self._show(cells, motion)
        own = cells == part + 2
        before = self._residual(motion)
        whole = self._rays, self._target
        thin = slice(None, None, _THINNED)
        centre, radius = _extent(own)
        self._rays, self._target = Rays(*(each[thin] for each in vars(self._rays).values())), self._target[thin]
        least, best = (1 - least_gain / 2) * self._error(motion), motion
        for shift in _shifts(_where(own, motion[part]), hull):
            one = self._moved(motion, part, centre, radius, -shift / len(cells))
            if (error := self._error(one)) < least:
                least, best = error, one
        self._rays, self._target = whole
        if is_new and best is motion:
            return motion
        shifted = self._refine(best, part, centre, radius, _SHIFT)
        moved = _rounded(self._refine(shifted, part, centre, radius, _RIGID))
        after = self._residual(moved)
        if (after**2).sum() >= (1 - least_gain) * (before**2).sum():
            return motion
        touched = np.abs(after - before) > _TOUCHED
        explains = (after[touched] ** 2).sum() <= (1 - _EXPLAINED) * (before[touched] ** 2).sum()
        return moved if explains or not is_new else motion

    def _show(self, cells: np.ndarray, motion: np.ndarray) -> None:
        self._engine.set_occupancy(cells)
        self._engine.load({self._key: motion.reshape(-1, MOTION_TERMS).astype(np.float32)})

    def _residual(self, motion: np.ndarray) -> np.ndarray:
        """Errors `[R * 3]` of the chosen pixels."""
        self._engine.load({self._key: motion.reshape(-1, MOTION_TERMS).astype(np.float32)})
        seen = self._engine.render(self._rays, np.zeros(3, np.float32)).rgb
        return np.asarray(seen - self._target, np.float64).reshape(-1)

    def _error(self, motion: np.ndarray) -> float:
        return float((self._residual(motion) ** 2).mean())

    def _moved(self, motion: np.ndarray, part: int, centre: np.ndarray, radius: float, by: np.ndarray) -> np.ndarray:
        """The motion when, besides, one part has moved as a rigid body of the world.

        Args:
            centre, radius: of the part's cells.
            by: how the part goes back: the shift `[3]` of its centre, and if it turns, too, a rotation vector `[3]` in
                the world's axes, by the radius.
        """
        matrix, offset = _affine(motion[part])
        now = np.linalg.solve(matrix, centre - 0.5 - offset) + 0.5
        back = now + by[:3]
        turn = from_axis_angle(by[3:] / radius) if len(by) > _SHIFT else np.eye(3)
        linear = np.linalg.solve(self._slope(back), turn @ self._slope(now))
        out = motion.copy()
        out[part] = _chain(motion[part], _motion(linear, back - 0.5 - linear @ (now - 0.5)))
        return out

    def _slope(self, place: np.ndarray) -> np.ndarray:
        """Derivatives `[3, 3]` of the world's coordinates by those of the cube, at a place `[3]`."""
        around = place.clip(2 * _NEAR, 1 - 2 * _NEAR) + _NEAR * np.concatenate([np.eye(3), -np.eye(3)])
        there = self._views.space.world(around)
        return (there[:3] - there[3:]).T / (2 * _NEAR)

    def _refine(self, motion: np.ndarray, part: int, centre: np.ndarray, radius: float, freedom: int) -> np.ndarray:
        """Fit the motion of one part by Levenberg and Marquardt's method, with differences for derivatives."""
        cells = self._engine.occupancy()
        assert cells is not None
        step, damping = 1 / (8 * len(cells)), 1e-3

        def changed(by: np.ndarray) -> np.ndarray:
            return self._moved(motion, part, centre, radius, by)

        residual = self._residual(motion)
        for _ in range(5):
            ways = step * np.eye(freedom)
            slopes = [(self._residual(changed(way)) - self._residual(changed(-way))) / (2 * step) for way in ways]
            slope = np.stack(slopes, 1)
            square, gradient = slope.T @ slope, slope.T @ residual
            scale = np.diag(square) + 1e-9 * np.trace(square)
            if not scale.all():
                break
            for _ in range(4):
                one = changed(-np.linalg.solve(square + damping * np.diag(scale), gradient))
                then = self._residual(one)
                if (then**2).sum() < (residual**2).sum():
                    break
                damping *= 10
            else:
                break
            gain = 1 - (then**2).sum() / (residual**2).sum()
            motion, residual, damping = one, then, max(damping / 10, 1e-6)
            if gain < 0.01:
                break
        return motion


def _affine(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset of the map about the middle of the cube that a motion `[3, 4]` is."""
    return np.eye(3) + row[:, :3], row[:, 3]


def _motion(matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    return np.concatenate([matrix - np.eye(3), offset[:, None]], 1)


def _chain(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The motion `[3, 4]` that is `inner`, then `outer`."""
    (a, b), (c, d) = _affine(outer), _affine(inner)
    return _motion(a @ c, a @ d + b)


def _rounded(motion: np.ndarray) -> np.ndarray:
    return np.rint(motion / MOTION_STEP) * MOTION_STEP


def _extent(piece: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre `[3]` and radius of cells `[M, M, M]` bool."""
    places = (np.argwhere(piece) + 0.5) / len(piece)
    return places.mean(0), max(float(places.std(0).max()), 1 / len(piece))


def _pieces(mask: np.ndarray) -> list[np.ndarray]:
    """What hangs together in a mask `[M, M, M]`, from the largest down, as far as it may be a part."""
    left = mask.copy()
    found: list[tuple[int, int, np.ndarray]] = []
    for _ in range(_PIECES):
        if not left.any():
            break
        piece = np.zeros_like(left)
        piece.reshape(-1)[left.argmax()] = True
        size = 0
        while (grown := int(piece.sum())) > size:
            size = grown
            piece = spread(piece, 1) & left
        left &= ~piece
        if _LEAST_CELLS <= size <= _MOST_SHARE * left.size:
            found.append((-size, len(found), piece))
    return [piece for _, _, piece in sorted(found)[:_CANDIDATES]]


def _shifts(piece: np.ndarray, hull: np.ndarray) -> np.ndarray:
    """Shifts `[N, 3]` in cells, those first that keep most of a piece `[M, M, M]` in the hull."""
    places, side = np.argwhere(piece), len(piece)
    axis = np.arange(-_REACH, _REACH + 1)
    shifts = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    around = np.pad(spread(hull, 1), _REACH)
    size = side + 2 * _REACH
    numbers = np.asarray(np.ravel_multi_index(tuple((places + _REACH).T), (size,) * 3))
    steps = shifts @ np.array([size * size, size, 1])
    overlap = around.reshape(-1)[numbers[:, None] + steps].sum(0)
    order = np.lexsort((np.abs(shifts).sum(1), -overlap))
    return shifts[order[:_SHIFTS]]


def _where(own: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Cells `[M, M, M]` bool whose centres a motion `[3, 4]` takes to the cells `own`: where these are now."""
    side = len(own)
    axis = (np.arange(side) + 0.5) / side - 0.5
    centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    matrix, offset = _affine(row)
    places = np.floor((centres @ matrix.T + offset + 0.5) * side)
    inside = ((places >= 0) & (places < side)).all(-1)
    now = np.zeros(own.shape, bool)
    now[inside] = own[tuple(places[inside].astype(np.int64).T)]
    return now


def _inside(cells: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Cells `[M, M, M]` bool that are within a part now, with all cells around them."""
    inside = np.zeros(cells.shape, bool)
    for part, row in enumerate(motion):
        own = cells == part + 2
        if own.any():
            inside |= ~spread(~_where(own, row), 1)
    return inside


def _claimed(cells: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Cells `[M, M, M]` bool of parts, and those around where the parts are now."""
    claimed = cells > 1
    for part, row in enumerate(motion):
        own = cells == part + 2
        if own.any():
            claimed |= _where(spread(own, 1), row)
    return claimed
