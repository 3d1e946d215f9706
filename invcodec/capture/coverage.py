"""What pictures leave empty: what their alpha means, and borders that undistortion or padding left in one colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

OPAQUE = 250
"""Least alpha of an opaque pixel; resampling does not always leave it at 255."""
_WIDEST = 0.2
"""Largest share of a picture that is a border. What leaves more empty has been cut out."""
_STRAY = 0.1
"""Largest share of the empty pixels of a border that may lie elsewhere, or differ between frames."""
_FLAT = 24
"""How far a compressed border may be from black or white, of 255."""
_STEP = 48
"""By how much the picture differs from the border around it, of 255: night and overexposure begin gradually."""
_JUMP, _UNEVEN = 3, 0.1
"""From one pixel of the edge to the next, the width of a border changes by more than this in at most this share."""
_BLUR = 3
"""Pixels next to a border of one colour that resampling and compression have mixed with it."""
_SIDE = 1000
"""Of larger pictures, so many rows and columns are looked at, first and last ones included."""


@dataclass(frozen=True)
class Coverage:
    """What the pictures of a capture leave empty.

    Attributes:
        told_by: what says so, or None if nothing does.
        empty: what is empty; a border is the same at all times, and goes around the picture.
        share: of all pixels.
    """

    told_by: Literal["alpha", "masks"] | None = None
    empty: Literal["nothing", "border", "background"] = "nothing"
    share: float = 0.0


def coverage(told_by: Literal["alpha", "masks"], cameras: Iterable[Sequence[np.ndarray]]) -> Coverage:
    """Decide what pictures leave empty.

    Args:
        cameras: for each, which pixels `[H, W]` bool are covered at some times.
    """
    empty = total = 0
    border = True
    for covered in cameras:
        empty += sum(int(np.count_nonzero(~each)) for each in covered)
        total += sum(each.size for each in covered)
        border &= all(_is_border(~each) for each in covered) and _same(covered)
    return Coverage(told_by, "nothing" if not empty else "border" if border else "background", empty / total)


def _is_border(empty: np.ndarray) -> bool:
    if not empty.any():
        return True
    empty = empty[np.ix_(*map(_some, empty.shape))]
    around = _painted(_widths(empty), empty.shape)
    return bool(empty.mean() <= _WIDEST and np.count_nonzero(empty & ~around) <= _STRAY * np.count_nonzero(empty))


def _same(covered: Sequence[np.ndarray]) -> bool:
    first = covered[0]
    allowed = _STRAY * np.count_nonzero(~first)
    return all(np.count_nonzero(each ^ first) <= allowed for each in covered[1:])


def plain_border(image: np.ndarray) -> np.ndarray | None:
    """A black or white border of a picture `[H, W, 3]` uint8: its pixels `[H, W]` bool, or None if there is none.

    Borders of undistorted and padded pictures are as wide on opposite sides, about, have a clear and smooth edge, and
    are not wide. What is less certain is left as it is: a dark corner may be part of the scene.
    """
    rows, columns = map(_some, image.shape[:2])
    border = _border_of(image[np.ix_(rows, columns)])
    if border is None:
        return None
    at_all = [
        np.rint(np.linspace(0, len(some) - 1, size)).astype(int)
        for some, size in zip((rows, columns), image.shape[:2], strict=True)
    ]
    return border[np.ix_(*at_all)]


def _some(size: int) -> np.ndarray:
    """Indices of rows or columns of a picture with so many, evenly spread."""
    return np.rint(np.linspace(0, size - 1, min(size, _SIDE))).astype(int)


def _border_of(image: np.ndarray) -> np.ndarray | None:
    """As `plain_border`, looking at all pixels."""
    edge = np.concatenate([image[[0, -1]].reshape(-1, 3), image[:, [0, -1]].reshape(-1, 3)])
    for colour in (0, 255):
        # Most pictures have none, and are not looked at any further.
        if _flat(edge, colour).mean() < 0.02 or (flat := _flat(image, colour)).all():
            continue
        widths = _widths(flat)
        has = widths > 0
        opposite = np.roll(has, len(has) // 2)
        beside = np.roll(widths, 1)
        uneven = np.count_nonzero(has & (beside > 0) & (np.abs(widths - beside) > _JUMP))
        if 2 * np.count_nonzero(has & opposite) < np.count_nonzero(has) or uneven > _UNEVEN * np.count_nonzero(has):
            continue
        rows, columns = _outwards(*flat.shape)
        along = np.flatnonzero(has)
        inside = np.maximum(rows.shape[1] - widths[along] - _BLUR - 1, 0)
        brightness = image[rows[along, inside], columns[along, inside]].mean(-1)
        border = _painted(np.where(has, widths + _BLUR, 0), flat.shape)
        if np.median(np.abs(brightness - colour)) >= _STEP and border.mean() <= _WIDEST:
            return border
    return None


def _flat(pixels: np.ndarray, colour: int) -> np.ndarray:
    """Which pixels `[..., 3]` are black (0) or white (255), about."""
    red, green, blue = np.moveaxis(pixels if colour == 0 else 255 - pixels, -1, 0)
    return (red <= _FLAT) & (green <= _FLAT) & (blue <= _FLAT)


@lru_cache(2)
def _outwards(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns `[K, N]` of the pixels on the way from the middle to each pixel of the edge, clockwise.

    Together they pass through every pixel; edge pixel k + K/2 is opposite to k.
    """
    x, y = np.arange(width - 1), np.arange(height - 1)
    columns = np.concatenate([x, np.full(len(y), width - 1), width - 1 - x, np.zeros(len(y))])
    rows = np.concatenate([np.zeros(len(x)), y, np.full(len(x), height - 1), height - 1 - y])
    count = max(height, width) // 2 + 1
    t = np.linspace(0, 1, count)

    def along(ends: np.ndarray, size: int) -> np.ndarray:
        middle = (size - 1) / 2
        return np.rint(middle + (ends[:, None] - middle) * t).astype(np.int32)

    return along(rows, height), along(columns, width)


def _widths(empty: np.ndarray) -> np.ndarray:
    """How many steps `[K]` inwards from each pixel of the edge are empty, of `_outwards`."""
    inwards = empty[_outwards(*empty.shape)][:, ::-1]
    return np.logical_and.accumulate(inwards, 1).sum(1)


def _painted(widths: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels `[H, W]` bool that lie within these widths `[K]` of the edge."""
    rows, columns = _outwards(*shape)
    within = np.arange(rows.shape[1]) >= rows.shape[1] - widths[:, None]
    border = np.zeros(shape, bool)
    border[rows[within], columns[within]] = True
    return border
