"""Comparison of rate-distortion curves: the Bjontegaard rate difference.

As in Bjontegaard's VCEG-M33 and VCEG-AI11, with piecewise cubic interpolation (PCHIP) in place of one cubic, which
needs no fixed number of points and does not overshoot.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

Curve = Sequence[tuple[float, float]]
"""Points of rate (bytes, any unit) and quality (dB), in any order."""


def front(curve: Curve) -> np.ndarray:
    """The Pareto-optimal points `[N, 2]`, by increasing rate and quality."""
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(curve, key=lambda point: (point[0], -point[1])):
        if not kept or quality > kept[-1][1]:
            kept.append((rate, quality))
    return np.array(kept, float).reshape(-1, 2)


def rate_at(curve: Curve, quality: float) -> float | None:
    """Rate at which a curve reaches a quality, interpolated in log rate; None outside the curve's range."""
    points = front(curve)
    if len(points) < 2 or not points[0, 1] <= quality <= points[-1, 1]:
        return None
    return float(np.exp(PchipInterpolator(points[:, 1], np.log(points[:, 0]))(quality)))


def bd_rate(before: Curve, after: Curve) -> float | None:
    """Mean relative difference in rate at equal quality, over the range of quality that both curves cover.

    Returns:
        -0.2 if `after` takes 20 % less, or None if the curves share no range of quality.
    """
    a, b = front(before), front(after)
    if min(len(a), len(b)) < 2:
        return None
    low, high = max(a[0, 1], b[0, 1]), min(a[-1, 1], b[-1, 1])
    if low >= high:
        return None
    areas = [PchipInterpolator(c[:, 1], np.log(c[:, 0])).integrate(low, high) for c in (a, b)]
    return float(np.expm1((areas[1] - areas[0]) / (high - low)))
