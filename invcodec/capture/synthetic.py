"""A capture out of nothing: a small ray-traced room, the same for everyone who asks for it.

Right-handed world, y up, lengths in metres. The room is closed, so every ray ends on a surface.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from invcodec.capture.camera import Camera
from invcodec.capture.video import write_video
from invcodec.errors import UsageError

Scene = Literal["still", "moving", "changing"]
LayoutName = Literal["transforms", "n3dv"]

_SUBSAMPLES = 3
"""Rays along each side of a pixel; each looks at another point of the lamp, which softens shadows."""
_ROOM = np.array([[-2.6, -0.8, -2.2], [2.6, 2.4, 5.0]])
_LAMP = np.array([1.3, 2.2, 1.6])
_LAMP_SIZE = 0.35
_TARGET = np.array([0.0, -0.15, -0.2])
_DISTANCE = 3.1
_AMBIENT = 0.34
_EPSILON = 1e-4
_RAYS_AT_ONCE = 1 << 13
"""On each core: what belongs to them stays in its cache."""
_FIELD_OF_VIEW = np.radians(50)

Paint = Callable[[np.ndarray], np.ndarray]
"""Colours `[N, 3]` of points `[N, 3]` in an object's own axes."""


@dataclass(frozen=True)
class _Sphere:
    centre: np.ndarray
    radius: float
    paint: Paint
    turn: np.ndarray
    mirror: float = 0.0

    def hit(self, o: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Ray parameter `[N]` of the first hit of unit directions d, or infinity."""
        to = o - self.centre
        b = (to * d).sum(1)
        inside = b * b - (to * to).sum(1) + self.radius**2
        t = -b - np.sqrt(np.maximum(inside, 0))
        return np.where((inside > 0) & (t > _EPSILON), t, np.inf)

    def normal(self, p: np.ndarray) -> np.ndarray:
        return (p - self.centre) / self.radius

    def colour(self, p: np.ndarray) -> np.ndarray:
        return self.paint((p - self.centre) @ self.turn / self.radius)


@dataclass(frozen=True)
class _Box:
    """A box, or with `hollow` the room inside one."""

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
        return np.where((near < far) & (near > _EPSILON), near, np.inf)

    def normal(self, p: np.ndarray) -> np.ndarray:
        local = (p - self.centre) @ self.turn / self.half
        face = np.abs(local).argmax(1)
        normal = np.zeros_like(p)
        sign = np.sign(np.take_along_axis(local, face[:, None], 1))
        np.put_along_axis(normal, face[:, None], -sign if self.hollow else sign, 1)
        return normal @ self.turn.T

    def colour(self, p: np.ndarray) -> np.ndarray:
        return self.paint((p - self.centre) @ self.turn)


_Object = _Sphere | _Box


def write_synthetic(
    folder: str | Path,
    *,
    cameras: int = 9,
    size: tuple[int, int] = (96, 72),
    frames: int = 8,
    scene: Scene = "moving",
    layout: LayoutName = "transforms",
    fps: int = 10,
    done: Callable[[], None] = lambda: None,
) -> None:
    """Write a scene as a capture.

    Args:
        folder: must not exist, or be empty.
        cameras: on an arc around cam00, which sits in the middle and is marked as test (where the layout can).
        size: width and height in pixels.
        scene: "still"; "moving": a ball bounces and a cube spins; "changing": besides, the table changes its
            colour, and a sphere appears half-way.
        layout: "transforms" writes PNG images and transforms.json, "n3dv" mp4 videos and poses_bounds.npy.
        done: called after every image.

    Raises:
        UsageError: the folder holds something.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: already exists; give a new or empty folder")
    target.mkdir(parents=True, exist_ok=True)
    rig = _rig(cameras, size)

    def images(camera: Camera) -> Iterator[np.ndarray]:
        for number in range(frames):
            yield render(camera, scene, number / fps, frames / fps)
            done()

    if layout == "n3dv":
        np.save(target / "poses_bounds.npy", np.stack([_llff_row(camera) for camera in rig]))
        for camera in rig:
            write_video(target / f"{camera.name}.mp4", images(camera), Fraction(fps), crf=6)
        return
    rows = []
    for camera in rig:
        inside = target / "frames" / camera.name
        inside.mkdir(parents=True)
        for number, image in enumerate(images(camera)):
            path = inside / f"{number:04d}.png"
            Image.fromarray(image).save(path)
            rows.append(
                {
                    "file_path": path.relative_to(target).as_posix(),
                    "camera": camera.name,
                    "frame_index": number,
                    "timestamp": number / fps,
                }
            )
    listed = [_transforms_row(camera) for camera in rig]
    data = {"camera_model": "OPENCV", "fps": fps, "cameras": listed, "frames": rows}
    # The last file written is the one that makes the folder a capture.
    (target / "transforms.json").write_text(json.dumps(data, indent=1) + "\n")


def _transforms_row(camera: Camera) -> dict[str, Any]:
    return {
        "name": camera.name,
        "w": camera.width,
        "h": camera.height,
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        "cx": camera.cx,
        "cy": camera.cy,
        "near": camera.near,
        "far": camera.far,
        "split": "test" if camera.held_out else "train",
        "transform_matrix": [*camera.pose.tolist(), [0.0, 0.0, 0.0, 1.0]],
    }


def _llff_row(camera: Camera) -> np.ndarray:
    right, up, back, position = camera.pose.T
    last = np.array([camera.height, camera.width, camera.fx])
    matrix = np.stack([-up, right, back, position, last], 1)
    return np.append(matrix, [camera.near, camera.far])


def _rig(count: int, size: tuple[int, int]) -> list[Camera]:
    """cam00 in the middle, the others on two ellipses around it, all looking at one point."""
    width, height = size
    focal = width / 2 / np.tan(_FIELD_OF_VIEW / 2)
    rig = []
    for index in range(count):
        ring = 1.0 if index % 2 else 0.55
        angle = 2 * np.pi * (index - 1) / max(count - 1, 1) + 0.4
        sideways = ring * np.radians(20) * np.cos(angle) if index else 0.0
        upwards = np.radians(13) + (ring * np.radians(10) * np.sin(angle) if index else 0.0)
        back = np.array([np.sin(sideways) * np.cos(upwards), np.sin(upwards), np.cos(sideways) * np.cos(upwards)])
        right = np.cross([0.0, 1.0, 0.0], back)
        right /= np.linalg.norm(right)
        pose = np.stack([right, np.cross(back, right), back, _TARGET + _DISTANCE * back], 1)
        camera = Camera(f"cam{index:02d}", width, height, focal, focal, width / 2, height / 2, pose)
        depth = trace(_objects("still", 0.0, 1.0), *camera.rays())[1]
        # Room for what moves in front of everything that the first frame shows.
        near, far = round(0.75 * float(depth.min()), 3), round(1.02 * float(depth.max()), 3)
        rig.append(replace(camera, near=near, far=far, held_out=index == 0))
    return rig


def render(camera: Camera, scene: Scene, time: float, duration: float) -> np.ndarray:
    """The picture `[H, W, 3]` uint8, sRGB, of a scene that lasts `duration` seconds at a time in seconds."""
    objects = _objects(scene, time, duration)
    total = np.zeros((camera.height * camera.width, 3))
    y, x = np.mgrid[: camera.height, : camera.width]
    for sub in range(_SUBSAMPLES**2):
        row, column = divmod(sub, _SUBSAMPLES)
        offset = (np.array([column, row]) + 0.5) / _SUBSAMPLES
        # A Latin square: each ray of a pixel takes another cell of the lamp.
        lamp = np.array([(column + row) % _SUBSAMPLES, (column + 2 * row) % _SUBSAMPLES]) + 0.5
        shift = _LAMP_SIZE * (lamp / _SUBSAMPLES - 0.5)
        rays = camera.rays(np.stack([x, y], -1).reshape(-1, 2) + offset)
        light = _LAMP + np.array([shift[0], 0, shift[1]])
        total += trace(objects, *rays, light=light)[0]
    linear = np.clip(total / _SUBSAMPLES**2, 0, 1)
    # The sRGB transfer function.
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8).reshape(camera.height, camera.width, 3)


def trace(
    objects: list[_Object],
    origins: np.ndarray,
    directions: np.ndarray,
    light: np.ndarray = _LAMP,
    bounces: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Linear colours `[N, 3]`, and the ray parameter `[N]` of what was hit, of rays `[N, 3]`."""

    def part(first: int) -> tuple[np.ndarray, np.ndarray]:
        some = slice(first, first + _RAYS_AT_ONCE)
        return _trace(objects, origins[some], directions[some], light, bounces)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        colours, distances = zip(*pool.map(part, range(0, len(directions), _RAYS_AT_ONCE)), strict=True)
    return np.concatenate(colours), np.concatenate(distances)


def _trace(
    objects: list[_Object], origins: np.ndarray, directions: np.ndarray, light: np.ndarray, bounces: int
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
        start = p + _EPSILON * 10 * normal
        to_light = light - start
        reach = np.linalg.norm(to_light, axis=1)
        to_light /= reach[:, None]
        lit = np.ones(len(p), bool)
        for other in objects[1:]:
            lit &= other.hit(start, to_light) > reach
        facing = np.maximum((normal * to_light).sum(1), 0)
        falloff = 9 / (3 + reach**2)
        # Light from above is a little stronger than from below, as in any room.
        ambient = _AMBIENT * (0.8 + 0.2 * normal[:, 1])
        shade = ambient + lit * facing * falloff
        colour[mine] = each.colour(p) * shade[:, None]
        if each.mirror and bounces:
            along = (unit[mine] * normal).sum(1, keepdims=True)
            reflected = _trace(objects, start, unit[mine] - 2 * along * normal, light, bounces - 1)[0]
            colour[mine] = (1 - each.mirror) * colour[mine] + each.mirror * reflected
    return colour, distance / length


def _turn(angle: float, axis: int = 1) -> np.ndarray:
    """Rotation `[3, 3]` about a coordinate axis; columns are the turned object's axes."""
    c, s = np.cos(angle), np.sin(angle)
    a, b = [i for i in range(3) if i != axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = c
    matrix[a, b], matrix[b, a] = -s, s
    return matrix


def _objects(scene: Scene, time: float, duration: float) -> list[_Object]:
    """Everything in the room at a time; the room itself comes first."""
    moving = 0.0 if scene == "still" else time
    progress = time / duration if scene == "changing" else 0.0
    low, high = _ROOM
    # One bounce takes 0.9 s.
    height = abs(np.sin(np.pi * (moving / 0.9 + 0.2)))
    drift = 0.35 * np.sin(1.7 * moving)
    objects: list[_Object] = [
        _Box((low + high) / 2, (high - low) / 2, _paint_room, np.eye(3), hollow=True),
        _Box(np.array([0.0, -0.62, -0.35]), np.array([0.95, 0.18, 0.6]), _paint_table(progress), _turn(0.25)),
        _Box(np.array([-0.5, -0.24, -0.35]), np.array([0.2, 0.2, 0.2]), _paint_cube, _turn(0.5 + 1.6 * moving)),
        _Sphere(np.array([0.52, -0.14, -0.45]), 0.3, _paint_mirror, np.eye(3), mirror=0.55),
        _Sphere(
            np.array([0.02 + drift, -0.27 + 0.5 * height, 0.0]),
            0.17,
            _paint_ball,
            _turn(2.2 * moving, axis=2) @ _turn(0.6, axis=0),
        ),
    ]
    if progress >= 0.5:
        objects.append(_Sphere(np.array([-0.82, -0.53, 0.62]), 0.27, _paint_melon, _turn(0.4, axis=0)))
    return objects


def _mix(first: Any, second: Any, share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)[:, None]
    return np.asarray(first) * (1 - share) + np.asarray(second) * share


def _soft(wave: np.ndarray, sharpness: float) -> np.ndarray:
    """A square wave between 0 and 1 with soft edges: what a camera can resolve."""
    return 0.5 + 0.5 * np.tanh(sharpness * wave)


def _paint_room(p: np.ndarray) -> np.ndarray:
    low, high = (_ROOM[0] - _ROOM[1]) / 2, (_ROOM[1] - _ROOM[0]) / 2
    x, y, z = p.T
    board = np.floor(x / 0.26)
    grain = 0.5 + 0.25 * np.sin(9 * z + 5 * np.sin(3 * board)) + 0.25 * np.sin(41 * x + 2.5 * np.sin(4 * z + board))
    seam = _soft(0.08 - np.abs(x / 0.26 - board - 0.5) * 2 + 0.86, 30)
    floor = _mix([0.16, 0.08, 0.04], _mix([0.52, 0.3, 0.15], [0.66, 0.42, 0.23], grain), seam)
    # Wallpaper with a dado, a picture of rings and one of waves.
    stripes = _soft(np.sin(7.5 * (x + z)), 4)
    paper = _mix([0.2, 0.42, 0.5], [0.3, 0.54, 0.58], stripes)
    wall = _mix([0.75, 0.7, 0.6], paper, _soft(y + 0.75, 40))
    back = z < low[2] + 1e-3
    for centre, kind in ((-0.95, "rings"), (0.95, "waves")):
        u, v = x - centre, y + 0.2
        frame = back & (np.abs(u) < 0.62) & (np.abs(v) < 0.46)
        inner = back & (np.abs(u) < 0.54) & (np.abs(v) < 0.38)
        if kind == "rings":
            art = _mix([0.93, 0.78, 0.35], [0.75, 0.16, 0.14], _soft(np.sin(26 * np.hypot(u, v)), 3))
        else:
            art = _mix([0.1, 0.13, 0.3], [0.85, 0.87, 0.9], _soft(np.sin(15 * v + 2.2 * np.sin(7 * u)), 3))
        wall = np.where(frame[:, None], [0.1, 0.07, 0.05], wall)
        wall = np.where(inner[:, None], art, wall)
    colour = np.where((y < low[1] + 1e-3)[:, None], floor, wall)
    return np.where((y > high[1] - 1e-3)[:, None], [0.9, 0.9, 0.88], colour)


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
