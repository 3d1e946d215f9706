"""Ray tracing of the synthetic scene."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from invcodec import srgb
from invcodec.geometry.camera import Camera
from invcodec.names import Scene
from invcodec.synth.scene import EPSILON, ROOM, Object, objects_at

_SUBSAMPLES = 3
"""Rays per pixel side; each samples a different point of the lamp, for soft shadows."""
_LAMP = np.array([1.3, 2.2, 1.6])
_LAMP_SIZE = 0.35
_AMBIENT = 0.34
_RAYS_AT_ONCE = 1 << 13
"""Rays per task: few enough for their arrays to stay in a core's cache."""


def render(
    camera: Camera, scene: Scene, time: float, duration: float, *, room: np.ndarray = ROOM, exposure: float = 0.0
) -> np.ndarray:
    """A camera's image `[H, W, 3]` uint8, sRGB.

    Args:
        time: in seconds, of a scene that lasts `duration` seconds.
        room: `[2, 3]`, its corners, see `invcodec.synth.scene.room_around`.
        exposure: in stops; each doubles the light.
    """
    objects = objects_at(scene, time, duration, room)
    total = np.zeros((camera.height * camera.width, 3))
    y, x = np.mgrid[: camera.height, : camera.width]
    for sub in range(_SUBSAMPLES**2):
        row, column = divmod(sub, _SUBSAMPLES)
        offset = (np.array([column, row]) + 0.5) / _SUBSAMPLES
        # A Latin square: each of a pixel's rays samples a different cell of the lamp.
        lamp = np.array([(column + row) % _SUBSAMPLES, (column + 2 * row) % _SUBSAMPLES]) + 0.5
        shift = _LAMP_SIZE * (lamp / _SUBSAMPLES - 0.5)
        rays = camera.rays(np.stack([x, y], -1).reshape(-1, 2) + offset)
        light = _LAMP + np.array([shift[0], 0, shift[1]])
        total += trace(objects, *rays, light=light)[0]
    linear = np.clip(2.0**exposure * total / _SUBSAMPLES**2, 0, 1)
    return np.rint(255 * srgb.from_linear(linear)).astype(np.uint8).reshape(camera.height, camera.width, 3)


def trace(
    objects: list[Object],
    origins: np.ndarray,
    directions: np.ndarray,
    light: np.ndarray = _LAMP,
    bounces: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Linear colours `[N, 3]` and hit ray parameters `[N]` of rays with origins and directions `[N, 3]`."""

    def part(first: int) -> tuple[np.ndarray, np.ndarray]:
        some = slice(first, first + _RAYS_AT_ONCE)
        return _trace(objects, origins[some], directions[some], light, bounces)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        colours, distances = zip(*pool.map(part, range(0, len(directions), _RAYS_AT_ONCE)), strict=True)
    return np.concatenate(colours), np.concatenate(distances)


def _trace(
    objects: list[Object], origins: np.ndarray, directions: np.ndarray, light: np.ndarray, bounces: int
) -> tuple[np.ndarray, np.ndarray]:
    length = np.linalg.norm(directions, axis=1)
    unit = directions / length[:, None]
    distances = np.stack([each.hit(origins, unit) for each in objects])
    first = distances.argmin(0)
    distance = distances.min(0)
    points = origins + distance[:, None] * unit
    colour = np.zeros_like(points)
    for index, each in enumerate(objects):
        mine = np.flatnonzero(first == index)
        if not len(mine):
            continue
        p = points[mine]
        normal = each.normal(p)
        start = p + EPSILON * 10 * normal
        to_light = light - start
        reach = np.linalg.norm(to_light, axis=1)
        to_light /= reach[:, None]
        lit = np.ones(len(p), bool)
        for other in objects[1:]:
            lit &= other.hit(start, to_light) > reach
        facing = np.maximum((normal * to_light).sum(1), 0)
        falloff = 9 / (3 + reach**2)
        # Ambient light is slightly stronger from above.
        ambient = _AMBIENT * (0.8 + 0.2 * normal[:, 1])
        shade = ambient + lit * facing * falloff
        colour[mine] = each.colour(p) * shade[:, None]
        if each.mirror and bounces:
            along = (unit[mine] * normal).sum(1, keepdims=True)
            reflected = _trace(objects, start, unit[mine] - 2 * along * normal, light, bounces - 1)[0]
            colour[mine] = (1 - each.mirror) * colour[mine] + each.mirror * reflected
    return colour, distance / length
