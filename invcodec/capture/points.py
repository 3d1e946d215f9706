"""Reconstructed points of a scene: COLMAP's sparse model beside the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from invcodec.capture import colmap
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera

_SAME_PLACE = 0.01
"""How far apart the same camera may be in the model and in the capture, as a fraction of the rig's radius; and how much
the elements of its rotation may differ."""


def files(folder: Path) -> list[Path]:
    """The files of a folder that hold points; none if it has none."""
    return colmap.find(folder, "images", "points3D")


def read_points(folder: Path, cameras: Sequence[Camera]) -> np.ndarray | None:
    """The points `[N, 3]` float64 of a model of COLMAP, in the world of a capture's cameras.

    None if there is no model, or if it does not have all these cameras where the capture has them: then its world
    is another one, as some tools turn and scale it.

    Raises:
        CaptureError: a file of the model is damaged or too large; names it.
    """
    paths = files(folder)
    if not paths:
        return None
    try:
        views, points = colmap.read_views(paths[0]), colmap.read_positions(paths[1])
    except CaptureError as error:
        raise CaptureError(f"{error}; remove it, points are optional") from None
    found = np.array([view.pose for view in views]).reshape(-1, 3, 4)
    return points if _same_world(found, cameras) else None


def _same_world(found: np.ndarray, cameras: Sequence[Camera]) -> bool:
    """Whether all cameras are among poses `[N, 3, 4]`."""
    own = np.stack([camera.pose for camera in cameras])
    radius = np.linalg.norm(own[:, :, 3] - own[:, :, 3].mean(0), axis=1).max()
    tolerance = _SAME_PLACE * np.array([1, 1, 1, radius])
    return all((np.abs(found - pose) <= tolerance).all((1, 2)).any() for pose in own)
