"""A textured scene that cameras with any lens can see."""

from __future__ import annotations

import numpy as np
from PIL import Image

from invcodec.geometry.camera import Camera


def wall(camera: Camera) -> np.ndarray:
    """What a camera sees of two textured walls that meet: noise, smooth at the size of a few pixels."""
    texture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    big = np.asarray(Image.fromarray(texture).resize((2048, 2048), Image.Resampling.BICUBIC))
    origins, directions = camera.rays()
    # z = -3 - |x|
    hits = []
    for side in (1, -1):
        normal = np.array([side, 0, -1.0])
        distance = (3 - origins @ normal) / (directions @ normal)
        hits.append(np.where(distance > 0, distance, np.inf))
    points = origins + np.minimum(*hits)[:, None] * directions
    u, v = (np.clip((points[:, axis] + 4) / 8, 0, 1) * 2047 for axis in (0, 1))
    return big[v.astype(int), u.astype(int)].reshape(camera.height, camera.width, 3)
