"""The synthetic rig: cameras on an arc around the scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import upright
from invcodec.synth.scene import objects_at
from invcodec.synth.trace import trace

_TARGET = np.array([0.0, -0.15, -0.2])
_UP = np.array([0.0, 1.0, 0.0])
_DISTANCE = 3.1
_FIELD_OF_VIEW = np.radians(50)


def synthetic_rig(count: int, size: tuple[int, int]) -> list[Camera]:
    """cam00 in the middle, held out, and the others on two ellipses around it, all looking at one point.

    Args:
        count: number of cameras.
        size: width and height in pixels.
    """
    width, height = size
    focal = width / 2 / np.tan(_FIELD_OF_VIEW / 2)
    rig = []
    for index in range(count):
        ring = 1.0 if index % 2 else 0.55
        angle = 2 * np.pi * (index - 1) / max(count - 1, 1) + 0.4
        sideways = ring * np.radians(20) * np.cos(angle) if index else 0.0
        upwards = np.radians(13) + (ring * np.radians(10) * np.sin(angle) if index else 0.0)
        back = np.array([np.sin(sideways) * np.cos(upwards), np.sin(upwards), np.cos(sideways) * np.cos(upwards)])
        pose = upright(_TARGET + _DISTANCE * back, back, _UP)
        camera = Camera(f"cam{index:02d}", width, height, focal, focal, width / 2, height / 2, pose)
        depth = trace(objects_at("still", 0.0, 1.0), *camera.rays())[1]
        # Leave room for objects that later move in front of everything in the first frame.
        near, far = round(0.75 * float(depth.min()), 3), round(1.02 * float(depth.max()), 3)
        rig.append(replace(camera, near=near, far=far, held_out=index == 0))
    return rig
