"""Rigid motions of parts: how they are stored, and how they are fitted to pixels (FORMAT.md, "Parts")."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from invcodec.coding.state import State
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
"""Cells along each axis by which a part may have moved more than in the last frame, or than not at all; how much of it
a shift keeps in the hull of change, in shares of the most; shifts that are rendered; and of how many pixels one is
rendered for them."""
_PLACES = 1000
"""Cells of a part that this is counted for, at most."""
_LINEAR = 1e-4
"""Over which the space's map to the world is taken to be linear."""


class Sight(NamedTuple):
    """Pixels of one frame that motions are judged by: R rays, and their colours `[R, 3]` in the frame."""

    rays: Rays
    target: np.ndarray

    def some(self, which: slice) -> Sight:
        """Some of the pixels."""
        return Sight(Rays(*(each[which] for each in vars(self.rays).values())), self.target[which])


class MotionFitter:
    """Fits the motion of one part of a network to pixels; leaves the engine with the cells and motions tried last.

    Args:
        engine: whose shown network has parts.
        space: of the scene.
    """

    def __init__(self, engine: Trainer, space: Space) -> None:
        self._engine = engine
        self._space = space
        self._key: TensorKey = (engine.networks.shown.name, MOTION)

    @property
    def parts(self) -> int:
        """How many parts the network may have."""
        spec = self._engine.networks.tensors.get(self._key)
        return 0 if spec is None else spec.shape[0]

    def motion(self, state: State | None = None) -> np.ndarray:
        """Motions `[P, 3, 4]` of all parts: in a state, or as the engine holds them."""
        held = self._engine.weights()[self._key] if state is None else state.weight(self._key)
        return held.astype(np.float64).reshape(-1, 3, 4)

    def _move(self, motion: np.ndarray) -> None:
        self._engine.load({self._key: motion.reshape(-1, MOTION_TERMS).astype(np.float32)})

    def show(self, cells: np.ndarray, motion: np.ndarray) -> None:
        """Load cells `[M, M, M]` and motions `[P, 3, 4]`."""
        self._engine.set_occupancy(cells)
        self._move(motion)

    def render(self, sight: Sight, cells: np.ndarray, motion: np.ndarray) -> Pixels:
        """What pixels show with these cells and motions, over black."""
        self.show(cells, motion)
        return self._engine.render(sight.rays, np.zeros(3, np.float32))

    def _residual(self, sight: Sight, motion: np.ndarray) -> np.ndarray:
        """Errors `[R, 3]` of pixels with motions of the cells that the engine holds."""
        self._move(motion)
        seen = self._engine.render(sight.rays, np.zeros(3, np.float32))
        return np.asarray(seen.rgb - sight.target, np.float64)

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
        self._engine.set_occupancy(cells)
        thin = sight.some(slice(None, None, _THINNED))
        least, best, nearest = _square(self._residual(thin, motion)), motion, np.zeros(3)
        for shift in _shifts(where(own, motion[part]), hull, expected) / len(cells):
            one = self._moved(motion, part, centre, shift, turn)
            if (error := _square(self._residual(thin, one))) < least:
                least, best, nearest = error, one, shift
        if expected is None:
            return best
        # Some pixels may be matched best elsewhere, by stripes that look alike: all of them decide, after a few steps.
        unturned = self._moved(motion, part, centre, nearest, np.eye(3))
        starts = (best, unturned, self._moved(motion, part, centre, expected / len(cells), turn))
        fitted = [self.refined(sight, cells, start, part, SHIFT, rounds=2) for start in starts]
        return min(fitted, key=lambda each: _square(self._residual(sight, each)))

    def refined(
        self, sight: Sight, cells: np.ndarray, motion: np.ndarray, part: int, freedom: int, rounds: int = 5
    ) -> np.ndarray:
        """The motion with that of one part fitted by Levenberg and Marquardt's method, with differences for
        derivatives.

        Args:
            freedom: `SHIFT` or `RIGID`.
            rounds: steps of the method, at most.
        """
        centre, radius = extent(cells == part + 2)
        self._engine.set_occupancy(cells)
        step, damping = 1 / (8 * len(cells)), 1e-3

        def changed(by: np.ndarray) -> np.ndarray:
            turn = from_axis_angle(by[SHIFT:] / radius) if freedom > SHIFT else np.eye(3)
            return self._moved(motion, part, centre, by[:SHIFT], turn)

        def residual_of(motion: np.ndarray) -> np.ndarray:
            return self._residual(sight, motion).reshape(-1)

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
            shift: `[3]`, how its centre moves, in the cube; and
            turn: `[3, 3]`, how it turns back, in the world.
        """
        then = _place(motion[part], centre)
        now = then + shift
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
        around = place.clip(2 * _LINEAR, 1 - 2 * _LINEAR) + _LINEAR * np.concatenate([np.eye(3), -np.eye(3)])
        there = self._space.world(around)
        return (there[:3] - there[3:]).T / (2 * _LINEAR)


def _square(residual: np.ndarray) -> float:
    return float((residual**2).sum())


def _place(row: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Where a point `[3]` of the cube is now by a motion `[3, 4]`."""
    matrix, offset = _affine(row)
    return np.linalg.solve(matrix, point - 0.5 - offset) + 0.5


def back(row: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where points `[N, 3]` of the cube are looked up by a motion `[3, 4]`: y(p) of FORMAT.md, "Parts"."""
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
    places = places[:: -(-len(places) // _PLACES)]
    axis = np.arange(-_REACH, _REACH + 1)
    shifts = around = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    far = np.abs(shifts).sum(1)
    if expected is not None:
        goal = np.rint(expected).astype(np.int64)
        shifts = np.unique(np.concatenate([around, around + goal]), axis=0)
        far = np.minimum(np.abs(shifts).sum(1), np.abs(shifts - goal).sum(1))
    reach = int(np.abs(shifts).max())
    size = side + 2 * reach
    padded = np.pad(spread(hull, 1), reach).reshape(-1)
    numbers = np.asarray(np.ravel_multi_index(tuple((places + reach).T), (size,) * 3))
    steps = shifts @ np.array([size * size, size, 1])
    overlap = padded[numbers[:, None] + steps].mean(0)
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
