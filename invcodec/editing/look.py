"""Looks: affine maps of colours, such as a turn of the hue, or the colours of another picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from invcodec.metrics import to_8_bit

_LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Rec. ITU-R BT.709."""
_LEAST_VARIANCE = 1e-6
"""Added to variances, so that pictures of a single colour have a look, too."""


@dataclass(frozen=True)
class Look:
    """A map of sRGB colours in [0, 1]: `matrix @ colour + offset`.

    Attributes:
        matrix: `[3, 3]`.
        offset: `[3]`.
    """

    matrix: np.ndarray
    offset: np.ndarray

    def apply(self, colours: np.ndarray) -> np.ndarray:
        """Colours `[N, 3]` uint8 with this look; the same shape and type."""
        return to_8_bit(colours / 255 @ self.matrix.T + self.offset)

    def then(self, other: Look) -> Look:
        """This look, and then another one on top."""
        return Look(other.matrix @ self.matrix, other.matrix @ self.offset + other.offset)


def adjusted(*, hue: float = 0.0, saturation: float = 1.0, brightness: float = 1.0) -> Look:
    """Turn the hue, then scale the saturation, then the brightness.

    Args:
        hue: degrees; the turn is about the axis of greys, from red to green to blue at 120.
        saturation: factor on the distance from the grey of the same luma; 0 leaves greys.
        brightness: factor on all values.
    """
    angle = np.radians(hue)
    axis = np.full(3, 3**-0.5)
    x, y, z = axis
    # Rodrigues' formula.
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)
    grey = np.ones((3, 1)) * _LUMA
    return Look(brightness * (grey + saturation * (np.eye(3) - grey)) @ turn, np.zeros(3))


def matching(colours: np.ndarray, wanted: np.ndarray) -> Look:
    """The look that gives colours the mean and covariance of others, and moves them least.

    The linear Monge-Kantorovich map (Pitie and Kokaram 2007).

    Args:
        colours: `[N, 3]` uint8.
        wanted: `[M, 3]` uint8.
    """
    (mean, spread), (wanted_mean, wanted_spread) = (_statistics(each) for each in (colours, wanted))
    root, inverse = _power(spread, 0.5), _power(spread, -0.5)
    matrix = inverse @ _power(root @ wanted_spread @ root, 0.5) @ inverse
    return Look(matrix, wanted_mean - matrix @ mean)


def _statistics(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean `[3]` and covariance `[3, 3]`."""
    values = colours.reshape(-1, 3) / 255
    centred = values - values.mean(0)
    return values.mean(0), centred.T @ centred / len(values) + _LEAST_VARIANCE * np.eye(3)


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """Power of a symmetric positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T
