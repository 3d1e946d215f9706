"""Synthetic rigs: cameras in front of the scene, around it or above it.

Lengths are in the scene's own units (`invcodec.synth.scene`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import look_at, upright
from invcodec.names import RIG_KINDS, RigKind
from invcodec.synth.scene import objects_at, room_around
from invcodec.synth.trace import trace

_TARGET = np.array([0.0, -0.15, -0.2])
_UP = np.array([0.0, 1.0, 0.0])
FOCAL_LENGTH = float(0.5 / np.tan(np.radians(25)))
"""In picture widths: the field of view is 50 degrees wide."""
_DISTANCE = 3.1
"""From the target, with that focal length."""
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def synthetic_rig(
    count: int,
    size: tuple[int, int],
    kind: RigKind = "arc",
    *,
    focal_length: float = FOCAL_LENGTH,
    overlap: float = 1.0,
    outlier: float = 1.0,
) -> list[Camera]:
    """Cameras with depth bounds that look at one point; cam00 is among the others and held out.

    Args:
        count: number of cameras.
        size: width and height in pixels.
        kind: "arc": on two ellipses in front of the scene; "ring": on a circle around it; "dome": all over the upper
            hemisphere.
        focal_length: in picture widths. Cameras with longer lenses stand farther away, so that the scene fills the
            same part of the picture.
        overlap: below 1, all but cam00 turn away from the point, each in a direction of its own; two that turn in
            opposite directions have this share of the picture in common at the point's distance.
        outlier: how many times farther away the last camera stands.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in RIG_KINDS:
        raise UsageError(f"unknown rig '{kind}'; choose from {', '.join(RIG_KINDS)}")
    width, height = size
    focal = width * focal_length
    distance = _DISTANCE * focal_length / FOCAL_LENGTH
    rig = []
    for index, (sideways, upwards, turn) in enumerate(zip(*_DIRECTIONS[kind](count), strict=True)):
        back = np.array([np.sin(sideways) * np.cos(upwards), np.sin(upwards), np.cos(sideways) * np.cos(upwards)])
        away = distance * outlier if index == count - 1 else distance
        pose = upright(_TARGET + away * back, back, _UP)
        if index and overlap < 1:
            reach = (1 - overlap) / 2 * away / focal
            aim = _TARGET + reach * (width * np.cos(turn) * pose[:, 0] + height * np.sin(turn) * pose[:, 1])
            pose = look_at(pose[:, 3], aim, _UP)
        rig.append(
            Camera(f"cam{index:02d}", width, height, focal, focal, width / 2, height / 2, pose, held_out=index == 0)
        )
    still = objects_at("still", 0.0, 1.0, room_around(rig))
    # Leave room for objects that later move in front of everything in the first frame.
    room = min(0.25 * FOCAL_LENGTH / focal_length, 0.6)
    bounded = []
    for camera in rig:
        depth = trace(still, *camera.rays())[1]
        near, far = round((1 - room) * float(depth.min()), 3), round(1.02 * float(depth.max()), 3)
        bounded.append(replace(camera, near=near, far=far))
    return bounded


def scaled(camera: Camera, scale: float) -> Camera:
    """The camera in a world whose lengths are `scale` times as large: its picture stays the same."""
    assert camera.near is not None
    assert camera.far is not None
    pose = np.concatenate([camera.pose[:, :3], scale * camera.pose[:, 3:]], 1)
    return replace(camera, pose=pose, near=scale * camera.near, far=scale * camera.far)


Directions = tuple[np.ndarray, np.ndarray, np.ndarray]
"""For each camera `[N]`, in radians: azimuth (from the front) and elevation seen from the target, and the direction in
its picture in which it turns away from the target."""


def _arc(count: int) -> Directions:
    index = np.arange(count)
    angle = 2 * np.pi * (index - 1) / max(count - 1, 1) + 0.4
    ellipse = np.where(index == 0, 0.0, np.where(index % 2, 1.0, 0.55))
    sideways = ellipse * np.radians(20) * np.cos(angle)
    upwards = np.radians(13) + ellipse * np.radians(10) * np.sin(angle)
    return sideways, upwards, angle


def _ring(count: int) -> Directions:
    """Evenly, with cam00 half-way between two others."""
    index = np.arange(count)
    sideways = 2 * np.pi * np.where(index == 0, 0.5, index) / max(count - 1, 1)
    return sideways, np.full(count, np.radians(20)), np.pi * index


def _dome(count: int) -> Directions:
    """On a spiral of equal areas from the rim upwards, with cam00 at middle height."""
    index = np.arange(count)
    share = np.where(index == 0, 0.5, (index - 0.5) / max(count - 1, 1))
    low, high = np.sin(np.radians([8, 80]))
    return _GOLDEN_ANGLE * index, np.arcsin(low + (high - low) * share), _GOLDEN_ANGLE * index


_DIRECTIONS = {"arc": _arc, "ring": _ring, "dome": _dome}
