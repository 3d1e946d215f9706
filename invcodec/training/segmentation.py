"""New parts: which cells of a scene move as a whole from one frame to the next, as motion segmentation.

A part begins where pictures are wrong most. It is all that hangs together there in the hull of change, if the motion of
that explains the pictures; what touches other things that changed, such as its own shadow, begins as a few cells, and
takes in those around it that are right if they move along. Motion and cells are found in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from invcodec.geometry.space import positions
from invcodec.training.change import spread
from invcodec.training.colour import ColourCorrection
from invcodec.training.motions import RIGID, SHIFT, MotionFitter, Sight, back, cell_of, rounded
from invcodec.training.pixels import FramePixels, Views

_PIXELS = 1000
"""Changed pixels, and others, around a seed that its motion is fitted to, at most; seeds are found with four times as
many changed ones."""
_LEAST_GAIN, _EXPLAINED = 0.6, 0.95
"""Shares of squared error that the motion of a new part must take away: of the pixels that are looked at around it, and
of those of them that it covers and changes. A part that is none, or not the whole of a thing, costs quality for as long
as it lasts."""
_TOUCHED = 0.02
"""A motion changes a channel of a pixel if by more than this."""
_LEAST_CELLS, _MOST_SHARE = 8, 1 / 250
"""Cells of a part at least, and the largest share of all cells: a larger piece is hardly one thing."""
_SEEDS, _SEED_REACH = 2, 2
"""Places that are tried in one frame, and cells around each that a part may begin as."""
_TURNS, _GROWTH = 8, 2
"""How often motion and cells are found in turn, and cells by which a part may grow each time."""
_RIGHT = 0.6
"""Share of the squared error of a cell's pixels that has to go if the cell moves along, for it to be of the part."""
_NEAR = 10
"""Cells around some whose pixels may tell of their motion."""


class Seen(NamedTuple):
    """What pixels show with some cells and motions.

    Attributes:
        residual: `[R, 3]`, how far colours are from those of the frame.
        position: `[R, 3]`, points of the cube that are seen; outside it where nothing is.
    """

    residual: np.ndarray
    position: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """Squared errors `[R]`, summed over channels."""
        return np.asarray((self.residual.astype(np.float64) ** 2).sum(1))


class Look:
    """Some pixels of a frame, and what they show with some cells and motions.

    Args:
        fitter: shows these.
        views: the training pixels.
        correction: of the training cameras' colours, or None.
        frame: with a hull of change.
        pixels: masks `[P]` bool, and how many of each to look at, at most.
    """

    def __init__(
        self,
        fitter: MotionFitter,
        views: Views,
        correction: ColourCorrection | None,
        frame: FramePixels,
        pixels: Sequence[tuple[np.ndarray, int]],
    ) -> None:
        assert frame.hull is not None
        self._fitter, self._space, self._hull = fitter, views.space, frame.hull
        numbers = np.concatenate([_evenly(*each) for each in pixels])
        target = frame.target(numbers, np.zeros((len(numbers), 3), np.float32))
        if correction is not None:
            target = correction.neutral(target, views.camera_of(numbers))
        self.sight = Sight(views.rays(numbers), target)

    def seen(self, cells: np.ndarray, motion: np.ndarray) -> Seen:
        """What the pixels show with cells `[M, M, M]` and motions `[P, 3, 4]`."""
        seen = self._fitter.render(self.sight, cells, motion)
        rays, s = self.sight.rays, np.asarray(seen.s)[:, None]
        position = positions(rays.origins, rays.directions, s, self._space.contracted)[:, 0]
        return Seen(np.asarray(seen.rgb - self.sight.target), np.where(s < 1, position, -1))

    def shifted(self, cells: np.ndarray, motion: np.ndarray, part: int, before: np.ndarray | None = None) -> np.ndarray:
        """The motion after the best of several shifts of a part; as it is, if that is as good.

        Args:
            before: motion `[3, 4]` of the part in the frame before: it is expected to move and to turn on.
        """
        return self._fitter.shifted(self.sight, cells, motion, part, self._hull, before)

    def refined(
        self, cells: np.ndarray, motion: np.ndarray, part: int, *, rounds: int = 5, turns: bool = True
    ) -> np.ndarray:
        """The motion with that of a part fitted: its place, and then, if it turns, all of it.

        Args:
            rounds: steps of each fit, at most.
        """
        for freedom in (SHIFT, RIGID) if turns else (SHIFT,):
            motion = self._fitter.refined(self.sight, cells, motion, part, freedom, rounds)
        return motion


def near(views: Views, cells: np.ndarray) -> np.ndarray:
    """Pixels `[P]` bool that look towards some cells `[M, M, M]` bool, not none, or those around them."""
    places = np.argwhere(cells)
    ends = (np.stack([places.min(0) - _NEAR, places.max(0) + _NEAR]) + 0.5) / len(cells)
    # The last plane may be at infinity.
    return views.towards(ends.clip(0.5 / len(cells), 1 - 0.5 / len(cells)))


def explained(own: np.ndarray, before: Seen, now: Seen, row: np.ndarray) -> float:
    """Share of the squared error of what a part covers and changes that its motion takes away.

    Args:
        own: cells `[M, M, M]` bool of the part.
        before, now: what pixels show without the motion `[3, 4]` of this frame, and with it.
    """
    covered = (_source(own, now, row) >= 0)[:, None] & (np.abs(now.residual - before.residual) > _TOUCHED)
    was, left = (float((each.residual[covered].astype(np.float64) ** 2).sum()) for each in (before, now))
    return 1 - left / was if was else 1.0


def found_part(
    fitter: MotionFitter,
    views: Views,
    correction: ColourCorrection | None,
    frame: FramePixels,
    cells: np.ndarray,
    motion: np.ndarray,
    part: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Cells and motions with a new part, if there is one; or as they are.

    Args:
        fitter: of the engine that holds the last frame.
        frame: this one, with its changes and their hull.
        cells: `[M, M, M]` uint8, and
        motion: `[P, 3, 4]` of the frame before, with the part's own at 0.
        part: which one it would be.
    """
    assert frame.changed_mask is not None
    assert frame.hull is not None
    free = frame.hull & (cells == 1)
    everywhere = Look(fitter, views, correction, frame, [(frame.changed_mask, 4 * _PIXELS)])
    for seed in _seeds(everywhere.seen(cells, motion), free):
        around = near(views, seed)
        changed, others = around & frame.changed_mask, around & frame.valid_mask & ~frame.changed_mask
        look = Look(fitter, views, correction, frame, [(changed, _PIXELS), (others, _PIXELS)])
        search = _Search(look, cells, motion, part)
        for own, moved in search.candidates(seed, free):
            moved = rounded(look.refined(search.with_part(own), moved, part))
            if search.is_part(own, moved):
                return search.with_part(own), moved
    return cells, motion


class _Search:
    """Looks for a part around one place; arguments as of `found_part`."""

    def __init__(self, look: Look, cells: np.ndarray, motion: np.ndarray, part: int) -> None:
        self._look, self._cells, self._motion, self._part = look, cells, motion, part
        self._still = look.seen(cells, motion)

    def with_part(self, own: np.ndarray) -> np.ndarray:
        """Cells of which some `[M, M, M]` bool are of the part."""
        return np.where(own, self._part + 2, self._cells).astype(np.uint8)

    def candidates(self, seed: np.ndarray, free: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Cells `[M, M, M]` bool that may be a part, and motions with theirs.

        Args:
            seed: of these cells, and
            free: those that may be of a part.
        """
        whole = _hanging(free, seed)
        if _fits(whole):
            yield whole, self._look.shifted(self.with_part(whole), self._motion, self._part)
        if (whole == seed).all():
            return
        moved = self._look.shifted(self.with_part(seed), self._motion, self._part)
        if moved is not self._motion:
            yield from self._grown(seed, moved, free)

    def _grown(self, own: np.ndarray, moved: np.ndarray, free: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What a part grows to, if to anything; none, if it is too small or too large."""
        for turn in range(_TURNS):
            tried = spread(own, _GROWTH) & free
            now = self._look.seen(self.with_part(tried), moved)
            last, own = own, _hanging(_right(tried, self._still, now, moved[self._part]), own)
            if not _fits(own):
                return
            if (own == last).all():
                break
            moved = self._look.refined(self.with_part(own), moved, self._part, rounds=2, turns=turn > 0)
        yield own, moved

    def is_part(self, own: np.ndarray, moved: np.ndarray) -> bool:
        """Whether cells `[M, M, M]` bool with the part's motion explain enough."""
        now = self._look.seen(self.with_part(own), moved)
        gains = bool(now.error.sum() < (1 - _LEAST_GAIN) * self._still.error.sum())
        return gains and explained(own, self._still, now, moved[self._part]) >= _EXPLAINED


def _fits(own: np.ndarray) -> bool:
    return bool(_LEAST_CELLS <= own.sum() <= _MOST_SHARE * own.size)


def _seeds(seen: Seen, free: np.ndarray) -> Iterator[np.ndarray]:
    """Cells `[M, M, M]` bool of `free` where pixels are wrong most, one place after the other."""
    side = len(free)
    wrong = np.where(free, _around(_sums(cell_of(seen.position, side), seen.error, side), _SEED_REACH), 0)
    for _ in range(_SEEDS):
        if not wrong.any():
            return
        place = np.zeros_like(free)
        place.reshape(-1)[wrong.argmax()] = True
        seed = _hanging(spread(place, _SEED_REACH) & free, place)
        wrong[spread(seed, _SEED_REACH)] = 0
        if seed.sum() >= _LEAST_CELLS:
            yield seed


def _right(tried: np.ndarray, still: Seen, now: Seen, row: np.ndarray) -> np.ndarray:
    """Which of some cells `[M, M, M]` bool are of a part: those whose pixels are less wrong if all of them move.

    A pixel tells of the cell of these that it sees now; or, if it sees none, of the one that it saw and that left.

    Args:
        still, now: what pixels show before and after the cells have moved by `row` `[3, 4]`.
    """
    side = len(tried)
    comes = _source(tried, now, row)
    leaves = np.where(comes < 0, _within(tried, cell_of(still.position, side)), -1)
    told = np.concatenate([comes, leaves])
    was, gain = np.tile(still.error, 2), np.tile(still.error - now.error, 2)
    # Of one cell, a few pixels tell: those around it are asked as well.
    return tried & (_around(_sums(told, gain - _RIGHT * was, side), 1) > 0)


def _source(own: np.ndarray, seen: Seen, row: np.ndarray) -> np.ndarray:
    """Numbers `[R]` of the cells, of those that a motion `[3, 4]` is of, that pixels see; -1: none of them."""
    return _within(own, cell_of(back(row, seen.position), len(own)))


def _within(own: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Numbers `[R]` of cells as they are where the cell is one of `own` `[M, M, M]`, and -1 elsewhere."""
    return np.where((numbers >= 0) & own.reshape(-1)[numbers], numbers, -1)


def _evenly(mask: np.ndarray, most: int) -> np.ndarray:
    """Numbers `[R]` of what a mask `[P]` holds, or of so many of these, evenly spread."""
    numbers = np.flatnonzero(mask)
    if len(numbers) > most:
        numbers = numbers[np.linspace(0, len(numbers) - 1, most).astype(np.int64)]
    return numbers


def _sums(numbers: np.ndarray, values: np.ndarray, side: int) -> np.ndarray:
    """Sums `[M, M, M]` of values `[R]` by the numbers `[R]` of their cells; those of number -1 are left out."""
    counted = numbers >= 0
    return np.bincount(numbers[counted], values[counted], side**3).reshape((side,) * 3)


def _around(values: np.ndarray, reach: int) -> np.ndarray:
    """Sums `[M, M, M]` over the cells around each."""
    for axis in range(3):
        padded = np.pad(np.moveaxis(values, axis, 0), [(reach, reach), (0, 0), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, 0)
        values = np.moveaxis(windows.sum(-1), 0, axis)
    return values


def _hanging(mask: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Cells `[M, M, M]` bool of a mask that hang together with some of `start`."""
    piece, size = start & mask, 0
    while (grown := int(piece.sum())) > size:
        size = grown
        piece = spread(piece, 1) & mask
    return piece
