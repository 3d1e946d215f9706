"""Rotation matrices from the parameters that calibration files hold, and poses from other conventions."""

from __future__ import annotations

import numpy as np

_TO_OPENGL = (1.0, -1.0, -1.0)
"""Signs that turn a camera's axes from OpenCV's (right, down, forward) to OpenGL's (right, up, backward)."""


def from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Rotations `[..., 3, 3]` of quaternions `[..., 4]` (w, x, y, z) of any length but zero."""
    quaternion = np.asarray(quaternion, np.float64)
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True).clip(min=1e-12), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def from_axis_angle(vector: np.ndarray) -> np.ndarray:
    """The rotation `[3, 3]` about a vector `[3]` by its length in radians (Rodrigues' formula)."""
    vector = np.asarray(vector, np.float64)
    half = np.linalg.norm(vector) / 2
    # sin(half) / (2 half), which is 1/2 without rotation.
    return from_quaternion(np.append(np.cos(half), vector * np.sinc(half / np.pi) / 2))


def pose_from_opencv(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Poses `[..., 3, 4]`, camera-to-world with OpenGL axes.

    Args:
        rotation, translation: `[..., 3, 3]` and `[..., 3]`, world-to-camera with OpenCV's axes.
    """
    turned = np.swapaxes(np.asarray(rotation, np.float64), -1, -2)
    return from_opencv_axes(turned, (-turned @ np.asarray(translation, np.float64)[..., None])[..., 0])


def from_opencv_axes(rotation: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Poses `[..., 3, 4]`, camera-to-world with OpenGL axes.

    Args:
        rotation: `[..., 3, 3]`, camera-to-world with OpenCV's axes.
        centre: `[..., 3]`, the camera's position.
    """
    return np.concatenate([rotation * _TO_OPENGL, centre[..., None]], -1)


def to_quaternion(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternions `[N, 4]` (w, x, y, z) of rotations `[N, 3, 3]`; of the two that a rotation has, either one."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.moveaxis(rotation, 0, 2)
    # Four times the products of two components, w, x, y and z in this order.
    products = np.array(
        [
            [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz],
        ]
    )
    # The row of the largest component, which is never small.
    largest = np.einsum("iin->in", products).argmax(0)
    row = products[largest, :, np.arange(len(rotation))]
    return row / np.linalg.norm(row, axis=1, keepdims=True)
