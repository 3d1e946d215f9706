"""Rigid motions of parts: how they are stored, and how they are fitted to pixels (FORMAT.md, "Parts")."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from invcodec.field.grid import MOTION_STEP
from invcodec.field.grid_layout import MOTION_TERMS
from invcodec.field.profile import MOTION, TensorKey
from invcodec.geometry.rotations import from_axis_angle
from invcodec.geometry.space import Rays, Space
from invcodec.render.engine import Pixels, Trainer
from invcodec.training.change import spread

SHIFT, RIGID = 3, 6
"""Degrees of freedom of a shift and of a rigid motion. A free affine map is fitted no worse to one frame, but shears
and shrinks over some tens of them, until the part is lost."""
_REACH, _KEPT, _SHIFTS, _THINNED = 6, 0.75, 200, 4
"""Cells that a part may have moved along each axis; how much of it a shift keeps in the hull of change, in shares of
the most; shifts that are rendered; and of how many pixels one is rendered for them."""
_NEAR = 1e-4
"""Over which the space's map to the world is taken to be linear."""


class Sight(NamedTuple):
    """Pixels of one frame that motions are judged by: rays, and their colours `[R, 3]` in the frame."""

    rays: Rays
    target: np.ndarray

    def some(self, which: slice | np.ndarray) -> Sight:
        return Sight(Rays(*(each[which] for each in vars(self.rays).values())), self.target[which])


class MotionFitter:
    """Fits the motion of one part of a network to pixels; changes the engine's cells and motion, which are to be shown
    anew afterwards.

    Args:
        engine: whose shown network has parts.
        space: of the scene.
    """

    def __init__(self, engine: Trainer, space: Space) -> None:
        self._engine = engine
        self._space = space
        self._key: TensorKey = (engine.networks.shown.name, MOTION)

    @property
    def motion(self) -> np.ndarray:
        """Motions `[P, 3, 4]` of all parts."""
        return self._engine.weights()[self._key].astype(np.float64).reshape(-1, 3, 4)

    def show(self, cells: np.ndarray, motion: np.ndarray) -> None:
        """Load cells `[M, M, M]` and motions `[P, 3, 4]`."""
        self._engine.set_occupancy(cells)
        self._move(motion)

    def _move(self, motion: np.ndarray) -> None:
        self._engine.load({self._key: motion.reshape(-1, MOTION_TERMS).astype(np.float32)})

    def render(self, sight: Sight, motion: np.ndarray) -> Pixels:
        self._move(motion)
        return self._engine.render(sight.rays, np.zeros(3, np.float32))

    def residual(self, sight: Sight, motion: np.ndarray) -> np.ndarray:
        """Errors `[R, 3]` of pixels with a motion of the cells that were shown last."""
        return np.asarray(self.render(sight, motion).rgb - sight.target, np.float64)

    def shifted(
        self,
        sight: Sight,
        cells: np.ndarray,
        motion: np.ndarray,
        part: int,
        hull: np.ndarray,
        before: np.ndarray | None = None,
    ) -> np.ndarray:
        """The motion after the best of several shifts of a part that keep it in a hull of change; as it is, if that
        is as good.

        Args:
            before: motion `[3, 4]` of the part in the frame before: it is expected to move and to turn on.
        """
        own = cells == part + 2
        centre, _ = extent(own)
        expected, turn = None, np.eye(3)
        if before is not None:
            now, then = (_place(row, centre) for row in (motion[part], before))
            expected = len(cells) * (now - then)
            turn = self._turn(now, then, np.linalg.solve(_affine(before)[0], _affine(motion[part])[0]))
        self.show(cells, motion)
        thin = sight.some(slice(None, None, _THINNED))
        least, best = _square(self.residual(thin, motion)), motion
        for shift in _shifts(where(own, motion[part]), hull, expected):
            one = self._moved(motion, part, centre, -shift / len(cells), turn)
            if (error := _square(self.residual(thin, one))) < least:
                least, best = error, one
        return best

    def refined(
        self, sight: Sight, cells: np.ndarray, motion: np.ndarray, part: int, freedom: int, rounds: int = 5
    ) -> np.ndarray:
        """The motion with that of one part fitted by Levenberg and Marquardt's method, with differences for
        derivatives."""
        centre, radius = extent(cells == part + 2)
        self.show(cells, motion)
        step, damping = 1 / (8 * len(cells)), 1e-3

        def changed(by: np.ndarray) -> np.ndarray:
            turn = from_axis_angle(by[SHIFT:] / radius) if freedom > SHIFT else np.eye(3)
            return self._moved(motion, part, centre, by[:SHIFT], turn)

        def residual_of(motion: np.ndarray) -> np.ndarray:
            return self.residual(sight, motion).reshape(-1)

        residual = residual_of(motion)
        for _ in range(rounds):
            ways = step * np.eye(freedom)
            slopes = [(residual_of(changed(way)) - residual_of(changed(-way))) / (2 * step) for way in ways]
            slope = np.stack(slopes, 1)
            square, gradient = slope.T @ slope, slope.T @ residual
            scale = np.diag(square) + 1e-9 * np.trace(square)
            if not scale.all():
                break
            for _ in range(4):
                one = changed(-np.linalg.solve(square + damping * np.diag(scale), gradient))
                then = residual_of(one)
                if _square(then) < _square(residual):
                    break
                damping *= 10
            else:
                break
            gain = 1 - _square(then) / _square(residual)
            motion, residual, damping = one, then, max(damping / 10, 1e-6)
            if gain < 0.01:
                break
        return motion

    def _moved(
        self, motion: np.ndarray, part: int, centre: np.ndarray, shift: np.ndarray, turn: np.ndarray
    ) -> np.ndarray:
        """The motion when, besides, one part has moved as a rigid body of the world.

        Args:
            centre: `[3]`, of the part's cells.
            shift: `[3]`, how its centre goes back, in the cube; and
            turn: `[3, 3]`, how it turns back, in the world.
        """
        now = _place(motion[part], centre)
        then = now + shift
        linear = np.linalg.solve(self._slope(then), turn @ self._slope(now))
        out = motion.copy()
        out[part] = _chain(motion[part], _motion(linear, then - 0.5 - linear @ (now - 0.5)))
        return out

    def _turn(self, now: np.ndarray, then: np.ndarray, linear: np.ndarray) -> np.ndarray:
        """The rotation `[3, 3]` in the world next to a map of the cube `[3, 3]` that takes a place back to an earlier
        one: what `_moved` makes a map of."""
        left, _, right = np.linalg.svd(self._slope(then) @ linear @ np.linalg.inv(self._slope(now)))
        return np.asarray(left @ right)

    def _slope(self, place: np.ndarray) -> np.ndarray:
        """Derivatives `[3, 3]` of the world's coordinates by those of the cube, at a place `[3]`."""
        around = place.clip(2 * _NEAR, 1 - 2 * _NEAR) + _NEAR * np.concatenate([np.eye(3), -np.eye(3)])
        there = self._space.world(around)
        return (there[:3] - there[3:]).T / (2 * _NEAR)


def _square(residual: np.ndarray) -> float:
    return float((residual**2).sum())


def _place(row: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Where a point `[3]` of the cube is now by a motion `[3, 4]`."""
    matrix, offset = _affine(row)
    return np.linalg.solve(matrix, point - 0.5 - offset) + 0.5


def back(row: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where points `[N, 3]` of the cube are looked up by a motion `[3, 4]`."""
    matrix, offset = _affine(row)
    return (points - 0.5) @ matrix.T + offset + 0.5


def _affine(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset of the map about the middle of the cube that a motion `[3, 4]` is."""
    return np.eye(3) + row[:, :3], row[:, 3]


def _motion(matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    return np.concatenate([matrix - np.eye(3), offset[:, None]], 1)


def _chain(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The motion `[3, 4]` that is `inner`, then `outer`."""
    (a, b), (c, d) = _affine(outer), _affine(inner)
    return _motion(a @ c, a @ d + b)


def rounded(motion: np.ndarray) -> np.ndarray:
    """As a file stores it."""
    return np.rint(motion / MOTION_STEP) * MOTION_STEP


def extent(piece: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre `[3]` and radius of cells `[M, M, M]` bool."""
    places = (np.argwhere(piece) + 0.5) / len(piece)
    return places.mean(0), max(float(places.std(0).max()), 1 / len(piece))


def _shifts(piece: np.ndarray, hull: np.ndarray, expected: np.ndarray | None) -> np.ndarray:
    """Shifts `[N, 3]` in cells that keep most of a piece `[M, M, M]` in the hull: the shortest ones, and those that are
    most like the one that is expected."""
    places, side = np.argwhere(piece), len(piece)
    axis = np.arange(-_REACH, _REACH + 1)
    shifts = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    around = np.pad(spread(hull, 1), _REACH)
    size = side + 2 * _REACH
    numbers = np.asarray(np.ravel_multi_index(tuple((places + _REACH).T), (size,) * 3))
    steps = shifts @ np.array([size * size, size, 1])
    overlap = around.reshape(-1)[numbers[:, None] + steps].mean(0)
    far = np.abs(shifts).sum(1)
    if expected is not None:
        far = np.minimum(far, np.abs(shifts - np.rint(expected)).sum(1))
    order = np.lexsort((far, overlap < _KEPT * overlap.max()))
    return shifts[order[:_SHIFTS]]


def where(own: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Cells `[M, M, M]` bool whose centres a motion `[3, 4]` takes to the cells `own`: where these are now."""
    side = len(own)
    axis = (np.arange(side) + 0.5) / side
    centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    found = cell_of(back(row, centres), side)
    return np.where(found < 0, False, own.reshape(-1)[found]).reshape(own.shape)


def cell_of(points: np.ndarray, side: int) -> np.ndarray:
    """Numbers `[N]` of the cells, of so many along each axis, that points `[N, 3]` of the cube are in; -1 outside."""
    places = np.floor(points * side)
    inside = ((places >= 0) & (places < side)).all(-1)
    numbers = places.clip(0, side - 1).astype(np.int64) @ np.array([side * side, side, 1])
    return np.where(inside, numbers, -1)
