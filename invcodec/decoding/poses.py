"""Poses to render from: resolves a name or a JSON file to a camera or a camera path.

A pose is the name of one of the rig's cameras, `default`, `orbit`, or a JSON file: a camera-to-world matrix, a
camera with the keys of transforms.json, or a nerfstudio camera path. Conventions are those of
`invcodec.geometry.camera`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera, check_pose
from invcodec.geometry.camera_json import Fields, load_json
from invcodec.geometry.rig import default_view
from invcodec.limits import MAX_IMAGE_SIDE

DEFAULT = "default"
ORBIT = "orbit"

_PATH_RATE = Fraction(24)
"""Pictures per second of a camera path that gives none."""


@dataclass(frozen=True)
class Pose:
    """One camera, or the cameras of a path in order.

    Attributes:
        name: for file names and messages.
        cameras: at least one. Only the rig's own cameras keep their names, because a name selects a colour correction.
        rate: pictures per second of a path with its own pace, or None.
        times: for each camera the time it shows, as a fraction of the video (0: first frame, 1: last), or None.
        orbit: the path can be sampled at any number of cameras; `cameras` holds its starting view.
    """

    name: str
    cameras: tuple[Camera, ...]
    rate: Fraction | None = None
    times: tuple[float, ...] | None = None
    orbit: bool = False


def resolve_pose(text: str, cameras: Sequence[Camera], size: tuple[int, int] | None = None) -> Pose:
    """The camera or camera path that a pose stands for.

    Args:
        text: a camera's name, `default`, `orbit`, or the path of a JSON file.
        cameras: the rig.
        size: width and height of the pictures in pixels; the cameras' own if None.

    Raises:
        UsageError: no such camera or file, or the file holds no valid pose.
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
            f"'{ORBIT}' and a JSON file are also accepted"
        )
    return pose if size is None else replace(pose, cameras=tuple(c.resized(*size) for c in pose.cameras))


def read_pose(path: Path, cameras: Sequence[Camera]) -> Pose:
    """A pose from a JSON file; missing intrinsics and sizes are those of the default view.

    The file holds a 4x4 or 3x4 camera-to-world matrix (nested or flat), an object with `transform_matrix` and any of
    transforms.json's intrinsics, or a nerfstudio camera path (`camera_path`, `fps`, `render_width`, `render_height`;
    `fov` is vertical, `render_time` a fraction of the video).

    Raises:
        UsageError: not readable, or none of these.
    """
    data = load_json(path, UsageError)
    base = replace(default_view(cameras), name="", held_out=False)
    if isinstance(data, list):
        return Pose(path.stem, (replace(base, pose=_matrix(data, str(path))),))
    if isinstance(data, dict) and isinstance(data.get("camera_path"), list):
        return _camera_path(data, base, path)
    if isinstance(data, dict) and "transform_matrix" in data:
        return Pose(path.stem, (_camera(Fields(data, str(path)), base),))
    raise UsageError(
        f"{path}: holds no pose; expected a 4x4 matrix, an object with 'transform_matrix', or a nerfstudio camera path"
    )


def _matrix(value: Any, where: str) -> np.ndarray:
    """Pose `[3, 4]` from nested or flat rows."""
    if isinstance(value, list) and len(value) in (12, 16) and not any(isinstance(v, list) for v in value):
        value = [value[i : i + 4] for i in range(0, len(value), 4)]
    return check_pose(value, where)


def _camera(fields: Fields, base: Camera) -> Camera:
    """The camera of an object with transforms.json's keys; `base` provides what is missing."""
    base = replace(base, pose=_matrix(fields.row["transform_matrix"], fields.where))
    width, height = fields.side("w", MAX_IMAGE_SIDE) or base.width, fields.side("h", MAX_IMAGE_SIDE) or base.height
    lens = fields.lens(width)
    if lens.fx is None or lens.fy is None:
        base = base.resized(width, height)
        return replace(
            base,
            cx=base.cx if lens.cx is None else lens.cx,
            cy=base.cy if lens.cy is None else lens.cy,
            distortion=base.distortion if lens.distortion is None else lens.distortion,
            fisheye=base.fisheye if lens.distortion is None else lens.fisheye,
        )
    return replace(
        base,
        width=width,
        height=height,
        fx=lens.fx,
        fy=lens.fy,
        cx=width / 2 if lens.cx is None else lens.cx,
        cy=height / 2 if lens.cy is None else lens.cy,
        distortion=lens.distortion or (),
        fisheye=lens.fisheye,
    )


def _camera_path(data: dict[str, Any], base: Camera, path: Path) -> Pose:
    top = Fields(data, str(path))
    if data.get("camera_type", "perspective") != "perspective":
        raise UsageError(f"{path}: camera type '{data['camera_type']}' is not supported; export a perspective path")
    width = top.side("render_width", MAX_IMAGE_SIDE) or base.width
    height = top.side("render_height", MAX_IMAGE_SIDE) or base.height
    cameras, times = [], []
    for index, row in enumerate(data["camera_path"]):
        where = f"{path}: entry {index} of 'camera_path'"
        if not isinstance(row, dict) or "camera_to_world" not in row:
            raise UsageError(f"{where}: has no 'camera_to_world'")
        fields = Fields(row, where)
        fov = fields.number("fov", positive=True)
        if fov is not None and fov >= 180:
            raise fields.unexpected("fov", f"{fov:g}", "less than 180 degrees")
        camera = replace(base, pose=_matrix(row["camera_to_world"], where)).resized(width, height)
        if fov is not None:
            focal = height / 2 / math.tan(math.radians(fov) / 2)
            camera = replace(camera, fx=focal, fy=focal, cx=width / 2, cy=height / 2, distortion=(), fisheye=False)
        cameras.append(camera)
        times.append(fields.number("render_time"))
    if not cameras:
        raise UsageError(f"{path}: its 'camera_path' is empty")
    known = [min(max(time, 0.0), 1.0) for time in times if time is not None]
    if known and len(known) < len(times):
        raise UsageError(f"{path}: some entries have a 'render_time' and others do not")
    return Pose(path.stem, tuple(cameras), top.rate("fps") or _PATH_RATE, tuple(known) if known else None)
