"""A small renderer of 3D Gaussian splats, to measure what exported files look like elsewhere.

Splats are projected to Gaussians of the picture, sorted and composited front to back, as "3D Gaussian Splatting" does it
(Kerbl et al. 2023; the projection is EWA's, Zwicker et al. 2001). Viewers such as SuperSplat draw the same.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from invcodec.geometry.camera import Camera

_LOW_PASS = 0.3
"""Variance in square pixels that is added to every splat of the picture."""
_LEAST, _MOST = 1 / 255, 0.99
"""Opacities at a pixel below the first are left out, and those above the second cut off."""
_NEAR = 1e-3


def render_splats(
    camera: Camera,
    positions: np.ndarray,
    rotations: np.ndarray,
    scales: np.ndarray,
    opacities: np.ndarray,
    colours: np.ndarray,
    background: np.ndarray,
) -> np.ndarray:
    """The picture `[H, W, 3]` float64 of N splats in world coordinates, as a lens without distortion shows them.

    Args:
        positions: `[N, 3]`, world units.
        rotations: `[N, 4]` unit quaternions, real part first, from a splat's axes to the world's.
        scales: `[N, 3]` standard deviations along a splat's axes, in world units.
        opacities: `[N]` in [0, 1].
        colours: `[N, 3]`, composited as they are.
        background: `[3]`.
    """
    assert not camera.fisheye
    assert not any(camera.distortion)
    flip = np.diag([1.0, -1.0, -1.0])
    to_camera = flip @ camera.pose[:, :3].T
    local = (positions - camera.pose[:, 3]) @ to_camera.T
    order = np.argsort(local[:, 2], kind="stable")
    order = order[local[order, 2] > _NEAR]
    x, y, z = local[order].T
    means = np.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], 1)
    axes = to_camera @ _matrices(rotations[order]) * scales[order, None, :]
    # Far off the picture the linear projection says nothing.
    limit_x, limit_y = 1.3 * camera.width / (2 * camera.fx), 1.3 * camera.height / (2 * camera.fy)
    along_x, along_y = np.clip(x / z, -limit_x, limit_x), np.clip(y / z, -limit_y, limit_y)
    zero = np.zeros_like(z)
    jacobian = np.stack(
        [
            np.stack([camera.fx / z, zero, -camera.fx * along_x / z], 1),
            np.stack([zero, camera.fy / z, -camera.fy * along_y / z], 1),
        ],
        1,
    )
    flat = jacobian @ axes
    covariances = flat @ flat.transpose(0, 2, 1) + _LOW_PASS * np.eye(2)
    picture, light = np.zeros((camera.height, camera.width, 3)), np.ones((camera.height, camera.width))
    _composite(means, covariances, opacities[order].astype(np.float64), colours[order].astype(np.float64), picture, light)
    return picture + light[..., None] * background


def _matrices(quaternions: np.ndarray) -> np.ndarray:
    """Rotations `[N, 3, 3]` of unit quaternions `[N, 4]`, real part first."""
    w, x, y, z = quaternions.T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], 1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], 1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1),
        ],
        1,
    )


@njit(cache=True)
def _composite(means, covariances, opacities, colours, picture, light):  # type: ignore[no-untyped-def]
    """Adds splats, nearest first, to `picture` `[H, W, 3]`, and takes from `light` `[H, W]` what they hide."""
    height, width = light.shape
    for n in range(len(means)):
        xx, xy, yy = covariances[n, 0, 0], covariances[n, 0, 1], covariances[n, 1, 1]
        determinant = xx * yy - xy * xy
        if not determinant > 0:
            continue
        reach_x, reach_y = 3.4 * np.sqrt(xx), 3.4 * np.sqrt(yy)
        mx, my = means[n, 0], means[n, 1]
        if not (mx + reach_x > 0 and mx - reach_x < width and my + reach_y > 0 and my - reach_y < height):
            continue
        for j in range(max(int(my - reach_y), 0), min(int(my + reach_y) + 1, height)):
            dy = j + 0.5 - my
            for i in range(max(int(mx - reach_x), 0), min(int(mx + reach_x) + 1, width)):
                if light[j, i] < 1e-4:
                    continue
                dx = i + 0.5 - mx
                distance = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / determinant
                alpha = min(opacities[n] * np.exp(-0.5 * distance), _MOST)
                if alpha < _LEAST:
                    continue
                for k in range(3):
                    picture[j, i, k] += light[j, i] * alpha * colours[n, k]
                light[j, i] *= 1 - alpha
