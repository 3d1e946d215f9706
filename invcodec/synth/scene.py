"""The synthetic scene: a small room with moving objects, and their procedural textures.

Right-handed world, y up, lengths in metres. The room is closed, so every ray from inside it hits a surface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from invcodec.geometry.camera import Camera
from invcodec.names import Scene

ROOM = np.array([[-2.6, -0.8, -2.2], [2.6, 2.4, 5.0]])
"""Low and high corner of the room, unless cameras need a larger one."""
_CLEARANCE = 0.3
"""Between a camera and the walls."""
EPSILON = 1e-4

Paint = Callable[[np.ndarray], np.ndarray]
"""Colours `[N, 3]`, linear, of points `[N, 3]` in an object's own coordinates."""


@dataclass(frozen=True)
class Sphere:
    centre: np.ndarray
    radius: float
    paint: Paint
    turn: np.ndarray
    mirror: float = 0.0

    def hit(self, o: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Ray parameter `[N]` of the first hit along unit directions `d [N, 3]` from `o [N, 3]`, or infinity."""
        to = o - self.centre
        b = (to * d).sum(1)
        inside = b * b - (to * to).sum(1) + self.radius**2
        t = -b - np.sqrt(np.maximum(inside, 0))
        return np.where((inside > 0) & (t > EPSILON), t, np.inf)

    def normal(self, p: np.ndarray) -> np.ndarray:
        return (p - self.centre) / self.radius

    def colour(self, p: np.ndarray) -> np.ndarray:
        return self.paint((p - self.centre) @ self.turn / self.radius)


@dataclass(frozen=True)
class Box:
    """A box, or if `hollow` the room inside it."""

    centre: np.ndarray
    half: np.ndarray
    paint: Paint
    turn: np.ndarray
    mirror: float = 0.0
    hollow: bool = False

    def hit(self, o: np.ndarray, d: np.ndarray) -> np.ndarray:
        o, d = (o - self.centre) @ self.turn, d @ self.turn
        d = np.where(np.abs(d) < 1e-12, 1e-12, d)
        enter = (-np.sign(d) * self.half - o) / d
        leave = (np.sign(d) * self.half - o) / d
        near, far = enter.max(1), leave.min(1)
        if self.hollow:
            return far
        return np.where((near < far) & (near > EPSILON), near, np.inf)

    def normal(self, p: np.ndarray) -> np.ndarray:
        local = (p - self.centre) @ self.turn / self.half
        face = np.abs(local).argmax(1)
        normal = np.zeros_like(p)
        sign = np.sign(np.take_along_axis(local, face[:, None], 1))
        np.put_along_axis(normal, face[:, None], -sign if self.hollow else sign, 1)
        return normal @ self.turn.T

    def colour(self, p: np.ndarray) -> np.ndarray:
        return self.paint((p - self.centre) @ self.turn)


Object = Sphere | Box


def room_around(cameras: Sequence[Camera]) -> np.ndarray:
    """Corners `[2, 3]` of the room that holds the scene and all cameras; its floor stays where it is."""
    centres = np.stack([camera.pose[:, 3] for camera in cameras])
    low = np.minimum(ROOM[0], centres.min(0) - _CLEARANCE)
    high = np.maximum(ROOM[1], centres.max(0) + _CLEARANCE)
    return np.stack([low, high])


def objects_at(scene: Scene, time: float, duration: float, room: np.ndarray = ROOM) -> list[Object]:
    """All objects at a time in seconds, in a scene that lasts `duration` seconds.

    The room itself comes first; `room` `[2, 3]` holds its low and high corner.
    """
    moving = 0.0 if scene in ("still", "repainted") else time
    progress = time / duration if scene == "changing" else 0.0
    low, high = room
    # The ball bounces every 0.9 s.
    height = abs(np.sin(np.pi * (moving / 0.9 + 0.2)))
    drift = 0.35 * np.sin(1.7 * moving)
    objects: list[Object] = [
        Box((low + high) / 2, (high - low) / 2, _paint_room(room), np.eye(3), hollow=True),
        Box(np.array([0.0, -0.62, -0.35]), np.array([0.95, 0.18, 0.6]), _paint_table(progress), _turn(0.25)),
        Box(np.array([-0.5, -0.24, -0.35]), np.array([0.2, 0.2, 0.2]), _paint_cube, _turn(0.5 + 1.6 * moving)),
        Sphere(np.array([0.52, -0.14, -0.45]), 0.3, _paint_mirror, np.eye(3), mirror=0.55),
        Sphere(
            np.array([0.02 + drift, -0.27 + 0.5 * height, 0.0]),
            0.17,
            _paint_ball,
            _turn(2.2 * moving, axis=2) @ _turn(0.6, axis=0),
        ),
    ]
    if progress >= 0.5:
        objects.append(Sphere(np.array([-0.82, -0.53, 0.62]), 0.27, _paint_melon, _turn(0.4, axis=0)))
    if scene == "repainted":
        objects = [replace(each, paint=_repainted(each.paint, time / duration)) for each in objects]
    return objects


def _turn(angle: float, axis: int = 1) -> np.ndarray:
    """Rotation `[3, 3]` about a coordinate axis; columns are the turned object's axes."""
    c, s = np.cos(angle), np.sin(angle)
    a, b = [i for i in range(3) if i != axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = c
    matrix[a, b], matrix[b, a] = -s, s
    return matrix


def _mix(first: Any, second: Any, share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)[:, None]
    return np.asarray(first) * (1 - share) + np.asarray(second) * share


def _soft(wave: np.ndarray, sharpness: float) -> np.ndarray:
    """A square wave between 0 and 1 with edges soft enough for a camera to resolve."""
    return 0.5 + 0.5 * np.tanh(sharpness * wave)


def _repainted(paint: Paint, share: float) -> Paint:
    """From a paint to the same one with red, green and blue in each other's places."""

    def mixed(p: np.ndarray) -> np.ndarray:
        colour = np.asarray(paint(p))
        return _mix(colour, colour[:, [2, 0, 1]], np.full(len(p), share))

    return mixed


def _paint_room(room: np.ndarray) -> Paint:
    # Patterns stay where they are as the room grows: their origin is the middle of the usual one.
    offset = room.mean(0) - ROOM.mean(0)
    (_, bottom, back), (_, top, _) = room - ROOM.mean(0)

    def paint(p: np.ndarray) -> np.ndarray:
        x, y, z = (p + offset).T
        board = np.floor(x / 0.26)
        grain = 0.5 + 0.25 * np.sin(9 * z + 5 * np.sin(3 * board)) + 0.25 * np.sin(41 * x + 2.5 * np.sin(4 * z + board))
        seam = _soft(0.08 - np.abs(x / 0.26 - board - 0.5) * 2 + 0.86, 30)
        floor = _mix([0.16, 0.08, 0.04], _mix([0.52, 0.3, 0.15], [0.66, 0.42, 0.23], grain), seam)
        # Wallpaper with a dado, and two pictures: rings and waves.
        stripes = _soft(np.sin(7.5 * (x + z)), 4)
        paper = _mix([0.2, 0.42, 0.5], [0.3, 0.54, 0.58], stripes)
        wall = _mix([0.75, 0.7, 0.6], paper, _soft(y + 0.75, 40))
        hung = z < back + 1e-3
        for centre, kind in ((-0.95, "rings"), (0.95, "waves")):
            u, v = x - centre, y + 0.2
            frame = hung & (np.abs(u) < 0.62) & (np.abs(v) < 0.46)
            inner = hung & (np.abs(u) < 0.54) & (np.abs(v) < 0.38)
            if kind == "rings":
                art = _mix([0.93, 0.78, 0.35], [0.75, 0.16, 0.14], _soft(np.sin(26 * np.hypot(u, v)), 3))
            else:
                art = _mix([0.1, 0.13, 0.3], [0.85, 0.87, 0.9], _soft(np.sin(15 * v + 2.2 * np.sin(7 * u)), 3))
            wall = np.where(frame[:, None], [0.1, 0.07, 0.05], wall)
            wall = np.where(inner[:, None], art, wall)
        colour = np.where((y < bottom + 1e-3)[:, None], floor, wall)
        return np.where((y > top - 1e-3)[:, None], [0.9, 0.9, 0.88], colour)

    return paint


def _paint_table(progress: float) -> Paint:
    cloth = _mix([0.78, 0.74, 0.66], [0.2, 0.5, 0.28], np.array([progress]))[0]

    def paint(p: np.ndarray) -> np.ndarray:
        weave = _soft(np.sin(19 * p[:, 0]) * np.sin(19 * p[:, 2]), 3)
        top = _mix(cloth, 0.72 * cloth, weave)
        side = _mix(0.85 * cloth, 0.55 * cloth, _soft(np.sin(30 * (p[:, 0] + p[:, 2])), 3))
        return np.where((p[:, 1] > 0.18 - 1e-3)[:, None], top, side)

    return paint


def _paint_cube(p: np.ndarray) -> np.ndarray:
    face = np.abs(p).argmax(1)
    base = np.array([[0.85, 0.36, 0.1], [0.95, 0.8, 0.2], [0.15, 0.45, 0.75]])[face]
    others = np.sort(np.abs(p), 1)[:, :2]
    border = _soft(others[:, 1] - 0.165, 120)
    dot = _soft(0.07 - np.hypot(others[:, 0], others[:, 1]), 90)
    return _mix(_mix(base, [0.97, 0.95, 0.9], dot), [0.12, 0.1, 0.1], border)


def _paint_mirror(p: np.ndarray) -> np.ndarray:
    return np.broadcast_to([0.45, 0.47, 0.5], p.shape)


def _paint_ball(p: np.ndarray) -> np.ndarray:
    bands = _soft(np.sin(6 * np.arctan2(p[:, 2], p[:, 0])), 4)
    return _mix(
        _mix([0.92, 0.9, 0.85], [0.8, 0.1, 0.14], bands),
        [0.95, 0.75, 0.15],
        _soft(np.abs(p[:, 1]) - 0.82, 25),
    )


def _paint_melon(p: np.ndarray) -> np.ndarray:
    rind = _soft(np.sin(8 * np.arctan2(p[:, 2], p[:, 0]) + 1.5 * np.sin(9 * p[:, 1])), 2.5)
    return _mix([0.55, 0.72, 0.3], [0.1, 0.33, 0.14], rind)
