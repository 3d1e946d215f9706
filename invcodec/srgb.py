"""The transfer function of sRGB (IEC 61966-2-1), between linear light and what displays are given, both in [0, 1]."""

from __future__ import annotations

import numpy as np


def from_linear(light: np.ndarray) -> np.ndarray:
    """The value of sRGB of linear light."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def to_linear(value: np.ndarray) -> np.ndarray:
    """The linear light of a value of sRGB."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
