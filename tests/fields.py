"""A small field for tests of engines, dense enough that some rays end early; rays and batches for it."""

from __future__ import annotations

import numpy as np

from invcodec.field.grid import GridProfile
from invcodec.field.profile import TensorKey
from invcodec.geometry.space import Rays, Space
from invcodec.render.engine import Batch
from invcodec.render.networks import Network, Networks

SPACES = {
    "box": Space("box", np.eye(3, 4), -np.ones(3), np.ones(3)),
    "contract": Space("contract", np.eye(3, 4), -np.ones(3), np.ones(3)),
    "ndc": Space("ndc", np.eye(3, 4), np.array([-0.8, -0.8, 1.0]), np.array([0.8, 0.8, np.inf])),
}
# The second level is dense, the last two are hashed.
PROFILE = GridProfile(
    resolutions=(4, 9, 16, 40), log2_table=10, hidden=8, features=7, colour_hidden=12, occupancy=5, samples=40
)
PARTS = GridProfile(**PROFILE.config, parts=3)
"""The same with parts, see `with_parts`."""
EVERYTHING = {("scene", spec.name) for spec in PROFILE.tensors}


def networks(space: Space, profile: GridProfile = PROFILE) -> Networks:
    return Networks([Network("scene", "scene", profile, space)])


def weights(seed: int) -> dict[TensorKey, np.ndarray]:
    """With a few empty cells."""
    rng = np.random.default_rng(seed)
    out = {("scene", name): value for name, value in PROFILE.initialise(rng).items()}
    for level in range(len(PROFILE.layout.levels)):
        out["scene", f"grid.{level}"] *= 100
    out["scene", "density.1.weight"] *= 3
    out["scene", "density.1.bias"] += rng.normal(size=8).astype(np.float32)
    out["scene", "occupancy"] = (rng.random((5, 5, 5)) < 0.8).astype(np.float32)
    return out


def with_parts(held: dict[TensorKey, np.ndarray], seed: int) -> dict[TensorKey, np.ndarray]:
    """Weights for PARTS: two parts that overlap, also each other, and one without cells."""
    rng = np.random.default_rng(seed)
    cells = held["scene", "occupancy"] * rng.integers(1, 4, (5, 5, 5))
    motion = np.round(rng.normal(0, 0.15, (3, 12)) * 2**14) / 2**14
    return held | {("scene", "occupancy"): cells.astype(np.float32), ("scene", "motion"): motion.astype(np.float32)}


def rays(space: Space, rng: np.random.Generator, n: int) -> Rays:
    origins = rng.uniform(-0.3, 0.3, (n, 3)) + [0, 0, 2.5 if space.kind == "box" else 0.2]
    directions = np.concatenate([rng.uniform(-0.4, 0.4, (n, 2)), np.full((n, 1), -1.0)], 1)
    return space.march(origins, directions)


def batch(space: Space, rng: np.random.Generator, n: int) -> Batch:
    colours = rng.random((2, n, 3)).astype(np.float32)
    return Batch(rays(space, rng, n), *colours, np.full(n, 1 / n, np.float32), rng.random(n, np.float32))
