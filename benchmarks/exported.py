"""Reads exported files, and renders them: small renderers of 3D Gaussian splats and of triangles.

Splats are projected to Gaussians of the picture, sorted and composited front to back, as in "3D Gaussian Splatting"
(Kerbl et al. 2023; the projection is EWA's, Zwicker et al. 2001). Viewers such as SuperSplat draw the same. Lenses have
no distortion.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import plyfile
import trimesh
from numba import njit

from invcodec import srgb
from invcodec.geometry.camera import Camera
from invcodec.geometry.rotations import from_quaternion

_LOW_PASS = 0.3
"""Variance in square pixels that is added to every splat of the picture."""
_LEAST, _MOST = 1 / 255, 0.99
"""Opacities at a pixel below the first are left out, and those above the second cut off."""
_NEAR = 1e-3
"""Depth of the nearest thing that is shown, in world units."""
_FLIP = np.diag([1.0, -1.0, -1.0])


Picture = Callable[[Camera, np.ndarray], np.ndarray]
"""Renders from a camera, over a background."""


def read_splats(path: Path, turn: np.ndarray) -> tuple[int, Picture]:
    """The number of splats in a file, and what renders them.

    Args:
        turn: `[3, 3]`, from the world to axes with +y up.
    """
    rows = plyfile.PlyData.read(path)["vertex"]

    def columns(*names: str) -> np.ndarray:
        return np.stack([np.asarray(rows[name], np.float64) for name in names], 1)

    back = turn.T @ np.diag([-1.0, -1.0, 1.0])
    arrays = (
        columns("x", "y", "z") @ back.T,
        back @ from_quaternion(columns("rot_0", "rot_1", "rot_2", "rot_3")),
        np.exp(columns("scale_0", "scale_1", "scale_2")),
        1 / (1 + np.exp(-columns("opacity")[:, 0])),
        0.5 + 0.28209479177387814 * columns("f_dc_0", "f_dc_1", "f_dc_2"),
    )
    return len(rows), lambda camera, background: render_splats(camera, *arrays, background)


def read_mesh(path: Path, turn: np.ndarray) -> tuple[int, Picture]:
    """The number of triangles in a file, and what renders them; `turn` as for `read_splats`."""
    (mesh,) = trimesh.load_scene(path, process=False).geometry.values()
    linear = np.asarray(mesh.visual.vertex_attributes["color"], np.float64)[:, :3] / 65535
    colours = srgb.from_linear(linear)
    positions = mesh.vertices @ turn
    return len(mesh.faces), lambda camera, background: render_mesh(camera, positions, mesh.faces, colours, background)


def render_splats(
    camera: Camera,
    positions: np.ndarray,
    rotations: np.ndarray,
    scales: np.ndarray,
    opacities: np.ndarray,
    colours: np.ndarray,
    background: np.ndarray,
) -> np.ndarray:
    """The picture `[H, W, 3]` float64 of N splats.

    Args:
        positions: `[N, 3]`, world units.
        rotations: `[N, 3, 3]` from a splat's axes to the world's.
        scales: `[N, 3]` standard deviations along a splat's axes, in world units.
        opacities: `[N]` in [0, 1].
        colours: `[N, 3]`, composited as they are.
        background: `[3]`.
    """
    local = _local(camera, positions)
    order = np.argsort(local[:, 2], kind="stable")
    order = order[local[order, 2] > _NEAR]
    x, y, z = local[order].T
    means = np.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], 1)
    # Far off the picture the linear projection says nothing.
    limit_x, limit_y = 1.3 * camera.width / (2 * camera.fx), 1.3 * camera.height / (2 * camera.fy)
    along_x, along_y, zero = np.clip(x / z, -limit_x, limit_x), np.clip(y / z, -limit_y, limit_y), np.zeros_like(z)
    jacobian = np.array(
        [[camera.fx / z, zero, -camera.fx * along_x / z], [zero, camera.fy / z, -camera.fy * along_y / z]]
    )
    flat = np.moveaxis(jacobian, 2, 0) @ _FLIP @ camera.pose[:, :3].T @ rotations[order] * scales[order, None, :]
    covariances = flat @ flat.transpose(0, 2, 1) + _LOW_PASS * np.eye(2)
    picture, light = np.zeros((camera.height, camera.width, 3)), np.ones((camera.height, camera.width))
    shown = (np.asarray(array, np.float64)[order] for array in (opacities, colours))
    _composite(means, covariances, *shown, picture, light)
    return picture + light[..., None] * background


def render_mesh(
    camera: Camera, positions: np.ndarray, triangles: np.ndarray, colours: np.ndarray, background: np.ndarray
) -> np.ndarray:
    """The picture `[H, W, 3]` float64 of triangles `[T, 3]` between vertices `[V, 3]` with colours `[V, 3]`, unlit."""
    local = _local(camera, positions)
    triangles = triangles[(local[triangles, 2] > _NEAR).all(1)]
    x, y, z = local.T
    with np.errstate(divide="ignore", invalid="ignore"):
        image = np.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], 1)
    picture = np.tile(np.asarray(background, np.float64), (camera.height, camera.width, 1))
    _rasterise(image, z, triangles, np.asarray(colours, np.float64), picture, np.zeros(picture.shape[:2]))
    return picture


def _local(camera: Camera, positions: np.ndarray) -> np.ndarray:
    """World points `[N, 3]` in a camera's axes: right, down, forward."""
    assert not camera.fisheye
    assert not any(camera.distortion)
    return (positions - camera.pose[:, 3]) @ camera.pose[:, :3] @ _FLIP


@njit(cache=True)
def _composite(means, covariances, opacities, colours, picture, light):
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


@njit(cache=True)
def _rasterise(image, depth, triangles, colours, picture, nearest):
    """Draws triangles on `picture` `[H, W, 3]`; `nearest` `[H, W]` is the inverse depth of what is there."""
    height, width = nearest.shape
    for a, b, c in triangles:
        (ax, ay), (bx, by), (cx, cy) = image[a], image[b], image[c]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        for j in range(max(int(min(ay, by, cy) - 0.5), 0), min(int(max(ay, by, cy) + 0.5) + 1, height)):
            for i in range(max(int(min(ax, bx, cx) - 0.5), 0), min(int(max(ax, bx, cx) + 0.5) + 1, width)):
                x, y = i + 0.5, j + 0.5
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                w = 1 - u - v
                if min(u, v, w) < 0:
                    continue
                u, v, w = u / depth[a], v / depth[b], w / depth[c]
                if u + v + w > nearest[j, i]:
                    nearest[j, i] = u + v + w
                    for k in range(3):
                        picture[j, i, k] = (u * colours[a, k] + v * colours[b, k] + w * colours[c, k]) / nearest[j, i]
