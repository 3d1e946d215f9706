"""Profile `grid` in plain torch against a slow twin that follows FORMAT.md word for word."""

import itertools
import math

import numpy as np
import torch

from invcodec.field.grid import GridProfile, spherical_harmonics


def slow_encode(profile: GridProfile, weights: dict[str, np.ndarray], point: np.ndarray) -> list[float]:
    out = []
    for level, r in enumerate(profile.resolutions):
        table = weights[f"grid.{level}"]
        base = [min(math.floor(u * r), r - 1) for u in point]
        total = np.zeros(2)
        for corner in itertools.product((0, 1), repeat=3):
            vertex = [b + c for b, c in zip(base, corner, strict=True)]
            weight = math.prod(u * r - b if c else 1 - (u * r - b) for u, b, c in zip(point, base, corner, strict=True))
            if (r + 1) ** 3 > 2**profile.log2_table:
                x, y, z = vertex[0], vertex[1] * 2654435761 % 2**32, vertex[2] * 805459861 % 2**32
                entry = table[(x ^ y ^ z) % 2**profile.log2_table]
            else:
                entry = table[tuple(vertex)]
            total += weight * entry.astype(np.float64)
        out += list(total)
    return out


def test_encoding_against_slow_twin():
    profile = GridProfile(resolutions=(3, 8, 21, 300), log2_table=10, occupancy=4)
    assert [profile.is_hashed(level) for level in range(4)] == [False, False, True, True]
    rng = np.random.default_rng(1)
    weights = profile.initialise(rng)
    # Faces and corners of the cube, and of cells, are where an index goes out of range.
    special = [[0, 0, 0], [1, 1, 1], [1, 0.5, 0], [1 / 3, 2 / 3, 1 / 8], [np.nextafter(np.float32(1), 0)] * 3]
    points = np.concatenate([rng.random((40, 3)), special]).astype(np.float32)
    fast = profile.encode({k: torch.tensor(v) for k, v in weights.items()}, torch.tensor(points))
    slow = [slow_encode(profile, weights, point.astype(np.float64)) for point in points]
    np.testing.assert_allclose(fast, slow, atol=2e-5)


def test_harmonics_are_orthonormal():
    n = 40_000
    k = np.arange(n) + 0.5
    z, phi = 1 - 2 * k / n, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z * z)
    terms = spherical_harmonics(torch.tensor(np.stack([r * np.cos(phi), r * np.sin(phi), z], 1))).numpy()
    np.testing.assert_allclose(terms.T @ terms * (4 * np.pi / n), np.eye(9), atol=1e-3)
