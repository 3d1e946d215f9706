"""The contraction of all space into the unit cube, for numpy arrays and torch tensors alike.

FORMAT.md, "Coordinate mapping". Compiled twins: `invcodec.render.kernels` (numba) and `invcodec.render.gpu_kernels`
(Triton).
"""

from __future__ import annotations

import numpy as np

from invcodec.arrays import Array, namespace


def march_distance(s: Array) -> Array:
    """tau(s) of a contracted space: linear up to 1 at s = 1/2, then as the reciprocal of what is left.

    Here s is clamped to 1 - 1e-6 before the reciprocal, in twins for lanes and GPUs to 1 - 2^-24, in the scalar one not
    at all: they differ only at the very end of a ray.
    """
    s = s.clip(max=1 - 1e-6)
    return namespace(s).where(s < 0.5, 2 * s, 1 / (2 - 2 * s))


def contract(point: Array) -> Array:
    """All of space `[..., 3]` into the unit cube, the inner cube [-1, 1]^3 into its middle half."""
    xp = namespace(point)
    size = xp.abs(point)
    norm = (size.max(-1, keepdims=True) if xp is np else size.amax(-1, keepdim=True)).clip(min=1)
    folded = xp.where(size >= norm, xp.sign(point) * (2 - 1 / norm), point / norm)
    return folded / 4 + 0.5


def expand(point: np.ndarray) -> np.ndarray:
    """Inverse of the contraction: `[N, 3]` in (-2, 2) to `[N, 3]` in all of space."""
    norm = np.abs(point).max(-1, keepdims=True)
    outside = 1 / np.maximum(2 - norm, 1e-6)
    axis = np.abs(point) >= norm
    return np.where(norm <= 1, point, np.where(axis, np.sign(point) * outside, point * outside))
