"""Geometry of a whole rig: its average view, and paths around its point of interest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera

_FORWARD_COSINE = 0.5
"""A rig faces forward if every camera looks within 60 degrees of the average direction."""
_ORBIT_REACH = 0.8
"""Radius of the orbit in standard deviations of the camera positions: within the region that they cover."""


MIN_TRAINING_CAMERAS = 2
"""Depth cannot be learned from fewer."""


def training_cameras(cameras: Sequence[Camera]) -> list[int]:
    """Indices of the cameras that are not held out."""
    return [index for index, camera in enumerate(cameras) if not camera.held_out]


def camera_named(name: str, cameras: Sequence[Camera], where: str) -> Camera:
    """The camera with this name.

    Args:
        where: what has these cameras, for the error message.

    Raises:
        UsageError: there is none; the message lists the cameras.
    """
    for camera in cameras:
        if camera.name == name:
            return camera
    raise UsageError(f"{where}: no camera '{name}'; cameras are {', '.join(camera.name for camera in cameras)}")


def average_pose(cameras: Sequence[Camera]) -> np.ndarray:
    """Pose `[3, 4]` of the mean camera: mean position and viewing axis, and up as close to the mean up as possible."""
    poses = np.stack([camera.pose for camera in cameras])
    back = poses[:, :, 2].mean(0)
    back /= np.linalg.norm(back)
    return upright(poses[:, :, 3].mean(0), back, poses[:, :, 1].mean(0))


def default_view(cameras: Sequence[Camera]) -> Camera:
    """The default view.

    That is the first held-out camera; else the mean camera, where the rig faces one way; else its first camera.
    """
    for camera in cameras:
        if camera.held_out:
            return camera
    if not _faces_forward(cameras):
        return cameras[0]
    pose = average_pose(cameras)
    nearest = min(cameras, key=lambda camera: float(np.linalg.norm(camera.pose[:, 3] - pose[:, 3])))
    return replace(nearest, name="", pose=pose, distortion=(), fisheye=False)


def _faces_forward(cameras: Sequence[Camera]) -> bool:
    back = np.stack([camera.pose[:, 2] for camera in cameras])
    mean = back.mean(0)
    return bool((back @ mean).min() > _FORWARD_COSINE * np.linalg.norm(mean))


def orbit(cameras: Sequence[Camera], count: int, start: Camera | None = None) -> tuple[Camera, ...]:
    """Cameras on one turn around the default view, all looking at its point of interest.

    Cameras that face one way are circled on a small ellipse among them; otherwise a full circle around their
    point of interest.

    Args:
        cameras: the rig.
        count: how many cameras.
        start: the view to circle, if not the default one.
    """
    start = start or default_view(cameras)
    centres = np.stack([camera.pose[:, 3] for camera in cameras])
    focus = focus_point(cameras, start)
    angles = 2 * np.pi * np.arange(count) / count
    if _faces_forward(cameras):
        spread = ((centres - centres.mean(0)) @ start.pose[:, :2]).std(0) * _ORBIT_REACH
        moves = np.stack([np.sin(angles), np.cos(angles) - 1], 1) * spread
        positions = start.pose[:, 3] + moves @ start.pose[:, :2].T
        up = start.pose[:, 1]
    else:
        up = np.mean([camera.pose[:, 1] for camera in cameras], 0)
        up = up / np.linalg.norm(up)
        arm = start.pose[:, 3] - focus
        # Rodrigues' rotation of the arm about the rig's up axis.
        along = up * (up @ arm)
        sideways = np.cross(up, arm)
        positions = focus + along + np.cos(angles)[:, None] * (arm - along) + np.sin(angles)[:, None] * sideways
    return tuple(replace(start, name="", pose=look_at(p, focus, up)) for p in positions)


def look_at(position: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Pose `[3, 4]` of a camera at `position` looking at `target`, upright with respect to `up`; each `[3]`."""
    back = (position - target) / np.linalg.norm(position - target)
    return upright(position, back, up)


def upright(position: np.ndarray, back: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Pose `[3, 4]` of a camera that looks away from unit vector `back`, upright with respect to `up`; all `[3]`."""
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back, position], 1)


def focus_point(cameras: Sequence[Camera], view: Camera) -> np.ndarray:
    """The point of interest `[3]` on a view's axis, which a path around it keeps in sight.

    Its depth is that of the point nearest to all cameras' axes. Where they are parallel or meet outside of the scene's
    depth bounds, it is the harmonic mean of the bounds.
    """
    axes = np.stack([camera.pose[:, 2] for camera in cameras])
    centres = np.stack([camera.pose[:, 3] for camera in cameras])
    spread = float(np.linalg.norm(centres - centres.mean(0), axis=1).max()) or 1.0
    off_axis = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    # The minimum-norm solution: along an axis shared by all cameras it is zero, hence out of bounds.
    offset = np.linalg.lstsq(off_axis.sum(0), (off_axis @ (centres - view.pose[:, 3])[:, :, None]).sum(0)[:, 0])[0]
    depth = float(-offset @ view.pose[:, 2])
    if not (view.near or 0.5 * spread) < depth < (view.far or 100 * spread):
        depth = 2 / (1 / view.near + 1 / view.far) if view.near and view.far else 3 * spread
    return view.pose[:, 3] - depth * view.pose[:, 2]


def quarter_turn_upright(cameras: Sequence[Camera]) -> np.ndarray:
    """The rotation `[3, 3]` by quarter turns from the world to axes with +y up.

    Up is the axis of the world that is nearest to the cameras' mean up.
    """
    up = np.mean([camera.pose[:, 1] for camera in cameras], 0)
    axis = int(np.abs(up).argmax())
    if axis == 1:
        return np.eye(3) if up[1] > 0 else np.diag([1.0, -1.0, -1.0])
    about = np.cross(np.eye(3)[axis] * np.sign(up[axis]), (0, 1, 0))
    # A quarter turn about that axis (Rodrigues' formula).
    return np.outer(about, about) + np.cross(about, np.eye(3)).T
