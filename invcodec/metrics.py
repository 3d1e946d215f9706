"""8-bit pictures and their quality: PSNR and SSIM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from invcodec.arrays import Array, namespace

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def to_8_bit(rgb: Array) -> Array:
    """Values in [0, 1] as uint8. Values outside are clipped, infinite ones included; NaN becomes 0."""
    xp = namespace(rgb)
    levels = xp.round(xp.clip(xp.nan_to_num(rgb), 0, 1) * 255)
    return levels.astype(np.uint8) if xp is np else levels.byte()


def over_white(colour: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """Composite over white; the result is `[..., 3]` uint8.

    Args:
        colour: uint8, `[..., 3]`, or `[..., 4]` with straight alpha.
        alpha: `[...]` float32 in [0, 1], where `colour` has none; opaque if None.
    """
    if alpha is None:
        if colour.shape[-1] == 3:
            return colour
        colour, alpha = colour[..., :3], colour[..., 3].astype(np.float32) / 255
    alpha = alpha[..., None]
    return np.rint(colour * alpha + 255 * (1 - alpha)).astype(np.uint8)


BEST_PSNR = 100.0
"""Stands for the infinite PSNR of identical pictures, so that means stay finite."""


def psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """PSNR in dB of two pictures `[..., 3]` uint8, over all pixels and channels, or those where `mask` `[...]`.

    Raises:
        ValueError: the mask is empty.
    """
    if mask is not None and not mask.any():
        raise ValueError("a mask without pixels has no PSNR")
    error = (a.astype(np.float64) - b) ** 2
    mean = float(error.mean() if mask is None else error[mask].mean())
    return BEST_PSNR if mean == 0 else min(BEST_PSNR, 10 * math.log10(255**2 / mean))


_FEWEST_MOVING = 32
"""Fewest moving pixels whose PSNR is given: of fewer, it depends more on which they are than on the frame."""
MOVING_WEIGHT = 0.25
"""Least weight of all moving pixels together in `Fidelity.weighted`. However good the others are, these are at most
10 log10(4) = 6 dB worse than the result."""


@dataclass(frozen=True)
class Fidelity:
    """PSNR in dB of some pixels of a frame.

    Attributes:
        psnr: over all of them.
        psnr_moving: over those that moved; None if that is not known, or if they are too few to say.
        moving_share: share of them that moved, or None if that is not known.
    """

    psnr: float
    psnr_moving: float | None = None
    moving_share: float | None = None

    @classmethod
    def measure(cls, captured: np.ndarray, decoded: np.ndarray, moving: np.ndarray | None = None) -> Fidelity:
        """Of pixels `[N, 3]` uint8, of which those in `moving` `[N]` bool moved; BEST_PSNR if there are none."""
        if not len(captured):
            return cls(BEST_PSNR)
        whole = psnr(captured, decoded)
        if moving is None:
            return cls(whole)
        count = int(np.count_nonzero(moving))
        apart = psnr(captured, decoded, moving) if count >= _FEWEST_MOVING else None
        return cls(whole, apart, count / len(moving))

    @classmethod
    def mean(cls, frames: Sequence[Fidelity]) -> Fidelity:
        """Means over frames, of those where each is known."""

        def over(values: list[float | None]) -> float | None:
            known = [value for value in values if value is not None]
            return sum(known) / len(known) if known else None

        return cls(
            sum(each.psnr for each in frames) / len(frames),
            over([each.psnr_moving for each in frames]),
            over([each.moving_share for each in frames]),
        )

    @property
    def weighted(self) -> float:
        """PSNR of a mean squared error in which moving pixels have `MOVING_WEIGHT` of the weight, where their own share
        is smaller and they are worse than others; else `psnr`.
        """
        share = self.moving_share
        if self.psnr_moving is None or share is None or share >= MOVING_WEIGHT:
            return self.psnr
        whole, moving = (10 ** (-decibels / 10) for decibels in (self.psnr, self.psnr_moving))
        # Of whole = share * moving + (1 - share) * still, the part of the still ones is known.
        error = ((1 - MOVING_WEIGHT) * whole + (MOVING_WEIGHT - share) * moving) / (1 - share)
        return min(self.psnr, -10 * math.log10(error))


def ssim_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM (Wang et al. 2004) `[H, W]` of two pictures `[H, W, 3]` uint8, mean over channels.

    The Gaussian window is 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03 and L = 255. Borders are mirrored, so every pixel
    has a value.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    cov = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * cov + _C2) / (var_x + var_y + _C2)
    return (luminance * structure).mean(-1)


def _blur(image: np.ndarray) -> np.ndarray:
    """`[H, W, C]` under the Gaussian window."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    window /= window.sum()
    reach = _WINDOW // 2
    for axis in (0, 1):
        size = image.shape[axis]
        pad = [(reach, reach) if i == axis else (0, 0) for i in range(image.ndim)]
        padded = np.pad(image, pad, "symmetric" if size < reach + 1 else "reflect")
        image = sum(w * padded.take(range(k, k + size), axis) for k, w in enumerate(window))
    return image
