"""Quantisation: floats to and from the integer lattice (FORMAT.md, "Lattice").

A weight is an int32 multiple of a step. The step follows from a small integer, the quantisation parameter qp, and is
exact in float32, so that every machine reconstructs the same weights.
"""

from __future__ import annotations

import math

import numpy as np

from invcodec.limits import MAX_QP, MIN_QP

STEP_BITS = 3
"""Steps per octave are 2^STEP_BITS."""

MAX_LEVEL = (1 << 24) - 1
"""Largest absolute lattice value: a float32 holds it exactly."""


def step(qp: int) -> float:
    """`(k + (qp mod k)) * 2^(floor(qp / k) - log2 k)` with `k = 2^STEP_BITS`; exact in float32.

    Raises:
        ValueError: qp outside MIN_QP..MAX_QP.
    """
    if not MIN_QP <= qp <= MAX_QP:
        raise ValueError(f"quantisation parameter {qp} is outside {MIN_QP}..{MAX_QP}")
    k = 1 << STEP_BITS
    return math.ldexp(k + (qp & (k - 1)), (qp >> STEP_BITS) - STEP_BITS)


def nearest_qp(size: float) -> int:
    """The qp whose step is nearest to a positive size, on a logarithmic scale."""
    return min(range(MIN_QP, MAX_QP + 1), key=lambda qp: abs(math.log(step(qp) / size)))


def to_lattice(values: np.ndarray, qp: int) -> np.ndarray:
    """Nearest lattice integers, int32, of finite floats."""
    return np.clip(np.rint(np.asarray(values, np.float64) / step(qp)), -MAX_LEVEL, MAX_LEVEL).astype(np.int32)


def from_lattice(levels: np.ndarray, qp: int) -> np.ndarray:
    """Float32 weights of lattice integers. One multiplication, correctly rounded: the same on every machine."""
    return np.asarray(levels, np.float32) * np.float32(step(qp))
