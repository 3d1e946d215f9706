"""Where pictures are taken from: the words and files that stand for a camera, or for a path of cameras.

A pose is the name of one of the rig's cameras, `default`, `orbit`, or a JSON file: a camera-to-world matrix, a
camera as transforms.json has it, or a nerfstudio camera path. Conventions are those of `invcodec.geometry.camera`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera, check_pose
from invcodec.geometry.rig import default_view
from invcodec.limits import MAX_IMAGE_SIDE

DEFAULT = "default"
ORBIT = "orbit"

_LENS = ("k1", "k2", "p1", "p2")


@dataclass(frozen=True)
class Pose:
    """One camera, or the cameras of a path in order.

    Attributes:
        name: for file names and messages.
        cameras: at least one. Only the rig's own cameras keep a name, since a name brings a colour correction.
        rate: pictures per second of a path that sets its own pace, or None.
        times: for each camera when it looks, as a fraction of the video (0: first frame, 1: last), or None.
        orbit: the path may be cut into any number of cameras; `cameras` holds its starting view.
    """

    name: str
    cameras: tuple[Camera, ...]
    rate: Fraction | None = None
    times: tuple[float, ...] | None = None
    orbit: bool = False


def resolve_pose(text: str, cameras: Sequence[Camera], size: tuple[int, int] | None = None) -> Pose:
    """What a pose on the command line stands for.

    Args:
        text: a camera's name, `default`, `orbit`, or the path of a JSON file.
        cameras: the rig.
        size: width and height in pixels that pictures shall have; their own if None.

    Raises:
        UsageError: no such camera or file, or a file that holds no pose.
    """
    named = {camera.name: camera for camera in cameras}
    if text in named:
        pose = Pose(text, (named[text],))
    elif text == DEFAULT:
        view = default_view(cameras)
        pose = Pose(view.name or DEFAULT, (view,))
    elif text == ORBIT:
        pose = Pose(ORBIT, (replace(default_view(cameras), name=""),), orbit=True)
    elif Path(text).is_file():
        pose = read_pose(Path(text), cameras)
    else:
        raise UsageError(
            f"pose '{text}': no such camera or file; cameras are {', '.join(named)}, "
            f"and '{ORBIT}' or a JSON file will do as well"
        )
    return pose if size is None else replace(pose, cameras=tuple(c.resized(*size) for c in pose.cameras))


def read_pose(path: Path, cameras: Sequence[Camera]) -> Pose:
    """A pose from a JSON file; what it leaves open (intrinsics, size) is that of the default view.

    Understood are a 4x4 or 3x4 camera-to-world matrix (nested or flat), an object with `transform_matrix` and any
    of transforms.json's intrinsics, and nerfstudio's camera path (`camera_path`, `fps`, `render_width`,
    `render_height`; `fov` is vertical, `render_time` a fraction of the video).

    Raises:
        UsageError: not readable, or none of these.
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as JSON ({error})") from None
    base = replace(default_view(cameras), name="", held_out=False)
    if isinstance(data, list):
        return Pose(path.stem, (replace(base, pose=_matrix(data, str(path))),))
    if isinstance(data, dict) and isinstance(data.get("camera_path"), list):
        return _camera_path(data, base, path)
    if isinstance(data, dict) and "transform_matrix" in data:
        return Pose(path.stem, (_camera(data, base, str(path)),))
    raise UsageError(
        f"{path}: holds no pose; expected a 4x4 matrix, an object with 'transform_matrix', or a nerfstudio camera path"
    )


def _matrix(value: Any, where: str) -> np.ndarray:
    """Pose `[3, 4]` from nested or flat rows."""
    if isinstance(value, list) and len(value) in (12, 16) and not any(isinstance(v, list) for v in value):
        value = [value[i : i + 4] for i in range(0, len(value), 4)]
    return check_pose(value, where)


def _number(row: Mapping[str, Any], key: str, where: str, *, positive: bool = False) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e30:
        raise UsageError(f"{where}: '{key}' is {repr(value)[:40]}, expected a number")
    if positive and value <= 0:
        raise UsageError(f"{where}: '{key}' is {value}, expected more than 0")
    return float(value)


def _side(row: Mapping[str, Any], key: str, where: str) -> int | None:
    value = _number(row, key, where, positive=True)
    if value is not None and not 1 <= value <= MAX_IMAGE_SIDE:
        raise UsageError(f"{where}: '{key}' is {value:g}, expected 1 to {MAX_IMAGE_SIDE} pixels")
    return None if value is None else round(value)


def _camera(row: Mapping[str, Any], base: Camera, where: str) -> Camera:
    """A camera in the manner of transforms.json over a base that provides what is missing."""
    base = replace(base, pose=_matrix(row["transform_matrix"], where))
    width, height = _side(row, "w", where) or base.width, _side(row, "h", where) or base.height
    fx, fy = (_number(row, key, where, positive=True) for key in ("fl_x", "fl_y"))
    angle = _number(row, "camera_angle_x", where, positive=True)
    cx, cy = (_number(row, key, where) for key in ("cx", "cy"))
    k1, k2, p1, p2 = (_number(row, key, where) for key in _LENS)
    lens = (k1 or 0.0, k2 or 0.0, p1 or 0.0, p2 or 0.0)
    if fx is None and fy is None and angle is None:
        base = base.resized(width, height)
        return replace(
            base,
            cx=base.cx if cx is None else cx,
            cy=base.cy if cy is None else cy,
            distortion=base.distortion if (k1, k2, p1, p2) == (None,) * 4 else lens,
        )
    if angle is not None and angle >= math.pi:
        raise UsageError(f"{where}: 'camera_angle_x' is {angle:g}, expected an angle in radians below pi")
    if fx is None and angle is not None:
        fx = width / 2 / math.tan(angle / 2)
    return replace(
        base,
        width=width,
        height=height,
        fx=fx or fy or base.fx,
        fy=fy or fx or base.fy,
        cx=width / 2 if cx is None else cx,
        cy=height / 2 if cy is None else cy,
        distortion=lens,
    )


def _camera_path(data: Mapping[str, Any], base: Camera, path: Path) -> Pose:
    if data.get("camera_type", "perspective") != "perspective":
        raise UsageError(f"{path}: camera type '{data['camera_type']}' is not supported; export a perspective path")
    width = _side(data, "render_width", str(path)) or base.width
    height = _side(data, "render_height", str(path)) or base.height
    cameras, times = [], []
    for index, row in enumerate(data["camera_path"]):
        where = f"{path}: entry {index} of 'camera_path'"
        if not isinstance(row, dict) or "camera_to_world" not in row:
            raise UsageError(f"{where}: has no 'camera_to_world'")
        fov = _number(row, "fov", where, positive=True)
        if fov is not None and fov >= 180:
            raise UsageError(f"{where}: 'fov' is {fov:g}, expected degrees below 180")
        camera = replace(base, pose=_matrix(row["camera_to_world"], where)).resized(width, height)
        if fov is not None:
            focal = height / 2 / math.tan(math.radians(fov) / 2)
            camera = replace(camera, fx=focal, fy=focal, cx=width / 2, cy=height / 2, distortion=(0.0, 0.0, 0.0, 0.0))
        cameras.append(camera)
        times.append(_number(row, "render_time", where))
    if not cameras:
        raise UsageError(f"{path}: its 'camera_path' is empty")
    known = [min(max(time, 0.0), 1.0) for time in times if time is not None]
    if known and len(known) < len(times):
        raise UsageError(f"{path}: some entries have a 'render_time' and some have none")
    rate = _number(data, "fps", str(path), positive=True) or 24.0
    if not 0.01 <= rate <= 1000:
        raise UsageError(f"{path}: 'fps' is {rate:g}, expected 0.01 to 1000")
    return Pose(path.stem, tuple(cameras), Fraction(rate).limit_denominator(1001), tuple(known) if known else None)
