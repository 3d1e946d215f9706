"""Cameras: intrinsics, lens distortion, pose; from pixels to rays and from points to pixels.

Conventions, stated once for the whole project: a pose is camera-to-world with OpenGL axes (+x right, +y up,
+z backward, so a camera looks along -z). Pixel (i, j) covers [i, i+1) x [j, j+1); its centre is (i + 0.5, j + 0.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from invcodec.arrays import Array, namespace
from invcodec.errors import CaptureError

DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6", "s1", "s2", "s3", "s4")
"""Names of the coefficients of distortion, in OpenCV's order."""
MAX_ANGLE = 1.5
"""Largest angle in radians between a ray of a fisheye lens and the camera's axis; z-depth does not reach 90 degrees."""
_UNDISTORT_STEPS = 10
_NO_ANGLE = 1e-9
_BLIND = 0.5
"""A pixel whose ray projects back to a point this many pixels away is one that no ray of the lens reaches."""


@dataclass(frozen=True)
class Camera:
    """A calibrated camera.

    Attributes:
        width, height: image size in pixels.
        fx, fy, cx, cy: focal lengths and principal point in pixels.
        pose: `[3, 4]` float64, camera-to-world.
        distortion: the first coefficients of `DISTORTION`, the others are zero. Of a perspective lens as in OpenCV's
            rational model with thin prism; of a fisheye lens k1 to k4 are those of OpenCV's equidistant model, and
            those of tangential and prism distortion apply after it, as in COLMAP's.
        near, far: z-depth bounds of the scene in world units, where known.
        held_out: not trained on; kept for measuring quality.
        fisheye: whether the angle from the axis, not its tangent, is what the lens maps to a distance in the image.
    """

    name: str
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    pose: np.ndarray
    distortion: tuple[float, ...] = ()
    near: float | None = None
    far: float | None = None
    held_out: bool = False
    fisheye: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Camera) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.name, self.width, self.height))

    def rays(self, pixels: Array | None = None) -> tuple[Array, Array]:
        """World rays through image points.

        Args:
            pixels: `[N, 2]` float64 image coordinates (x, y); by default all pixel centres, row by row. The rays
                are on the same device.

        Returns:
            Origins and directions, `[N, 3]` float64. A direction is one unit of z-depth long, so the ray parameter
            is z-depth.
        """
        if pixels is None:
            pixels = self.centres(range(self.height))
        xp = namespace(pixels)
        if xp is np:
            pixels = np.asarray(pixels, np.float64)
        x, y = (pixels[:, 0] - self.cx) / self.fx, (pixels[:, 1] - self.cy) / self.fy
        if any(self.distortion):
            x, y = self._undistort(x, y)
        if self.fisheye:
            angle = xp.sqrt(x * x + y * y)
            # On the axis the factor is 1.
            angle = xp.where(angle > _NO_ANGLE, angle, _NO_ANGLE)
            factor = xp.tan(xp.where(angle < MAX_ANGLE, angle, MAX_ANGLE)) / angle
            x, y = x * factor, y * factor
        # Each coordinate contiguous in memory, as callers process them one by one.
        directions = xp.stack([right * x - up * y - back for right, up, back in self.pose[:, :3].tolist()])
        origins = xp.stack([xp.full_like(x, centre) for centre in self.pose[:, 3].tolist()])
        return origins.T, directions.T

    def centres(self, rows: range, place: Callable[[np.ndarray], Array] = np.asarray) -> Array:
        """Image coordinates `[N, 2]` float64 of the centres of all pixels of some rows, row by row.

        Args:
            place: brings an array to the device where the result is to be.
        """
        x, y = (place(np.asarray(each, np.float64) + 0.5) for each in (range(self.width), rows))
        xp = namespace(x)
        y, x = xp.meshgrid(y, x, indexing="ij")
        return xp.stack([x.reshape(-1), y.reshape(-1)]).T

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Image coordinates `[N, 2]` and z-depth `[N]` of world points `[N, 3]`; meaningless behind the camera."""
        local = (points - self.pose[:, 3]) @ self.pose[:, :3]
        depth = -local[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            plane = local[:, :2] * (1, -1) / depth[:, None]
        if self.fisheye:
            tangent = np.maximum(np.linalg.norm(plane, axis=1, keepdims=True), _NO_ANGLE)
            plane = plane * np.arctan(tangent) / tangent
        if any(self.distortion):
            plane = np.stack(self._distort(*plane.T), 1)
        return plane * (self.fx, self.fy) + (self.cx, self.cy), depth

    def sees(self, pixels: np.ndarray) -> np.ndarray:
        """Which image points `[N, 2]` a ray reaches, `[N]` bool.

        The corners of a picture may be beyond what the coefficients were fitted to, or beyond a fisheye's circle.
        """
        if not (self.fisheye or any(self.distortion)):
            return np.ones(len(pixels), bool)
        with np.errstate(all="ignore"):
            origins, directions = self.rays(pixels)
            back = self.project(origins + directions)[0]
            return np.abs(back - pixels).max(1) < _BLIND

    def _coefficients(self) -> tuple[float, ...]:
        return (*self.distortion, *(0.0,) * (len(DISTORTION) - len(self.distortion)))

    def _distort(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Distortion of coordinates `[N]`, which are of the image plane, or of a fisheye lens as long as the angle."""
        _, _, p1, p2, *_, s1, s2, s3, s4 = self._coefficients()
        r2 = x * x + y * y
        radial, _ = self._radial(r2)
        return (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4),
        )

    def _radial(self, r2: Array) -> tuple[Array, Array]:
        """The radial factor at squared distances `[N]`, and its derivative."""
        k1, k2, _, _, k3, k4, k5, k6, *_ = self._coefficients()
        if self.fisheye:
            return (
                1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4))),
                k1 + r2 * (2 * k2 + r2 * (3 * k3 + r2 * 4 * k4)),
            )
        above, below = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        slope = k1 + r2 * (2 * k2 + r2 * 3 * k3) - above / below * (k4 + r2 * (2 * k5 + r2 * 3 * k6))
        return above / below, slope / below

    def _undistort(self, to_x: Array, to_y: Array) -> tuple[Array, Array]:
        """Inverse of `_distort` by Newton's method."""
        _, _, p1, p2, *_, s1, s2, s3, s4 = self._coefficients()
        x, y = to_x, to_y
        for _ in range(_UNDISTORT_STEPS):
            r2 = x * x + y * y
            radial, slope = self._radial(r2)
            prism_x, prism_y = 2 * (s1 + 2 * s2 * r2), 2 * (s3 + 2 * s4 * r2)
            # The Jacobian of `_distort`.
            mixed = 2 * (x * y * slope + p1 * x + p2 * y)
            xx = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x + x * prism_x
            xy = mixed + y * prism_x
            yx = mixed + x * prism_y
            yy = radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x + y * prism_y
            at_x, at_y = self._distort(x, y)
            rest_x, rest_y = to_x - at_x, to_y - at_y
            scale = 1 / (xx * yy - xy * yx)
            x, y = x + (yy * rest_x - xy * rest_y) * scale, y + (xx * rest_y - yx * rest_x) * scale
        return x, y

    def scaled(self, width: int, height: int) -> Camera:
        """The same camera with another image size."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            cx=self.cx * sx,
            fy=self.fy * sy,
            cy=self.cy * sy,
        )

    def resized(self, width: int, height: int) -> Camera:
        """A camera that fills another image size.

        The vertical field of view stays; where the aspect ratio differs, the sides are cropped or extended, never
        stretched.
        """
        scale = height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * scale,
            fy=self.fy * scale,
            cx=width / 2 + (self.cx - self.width / 2) * scale,
            cy=self.cy * scale,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, with the names that transforms.json uses."""
        return {
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "fl_x": float(self.fx),
            "fl_y": float(self.fy),
            "cx": float(self.cx),
            "cy": float(self.cy),
            **dict(zip(DISTORTION, map(float, self._coefficients()), strict=True)),
            "fisheye": self.fisheye,
            "near": None if self.near is None else float(self.near),
            "far": None if self.far is None else float(self.far),
            "held_out": self.held_out,
            "pose": [float(v) for v in self.pose.ravel()],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Camera:
        """Inverse of `to_dict`."""
        return cls(
            data["name"],
            data["width"],
            data["height"],
            data["fl_x"],
            data["fl_y"],
            data["cx"],
            data["cy"],
            np.array(data["pose"], np.float64).reshape(3, 4),
            tuple(data[key] for key in DISTORTION),
            data["near"],
            data["far"],
            data["held_out"],
            data["fisheye"],
        )


MAX_NUMBER = 1e15
"""Bound on what describes cameras that come in, so that products of a few numbers are finite."""


def check_pose(matrix: Any, where: str) -> np.ndarray:
    """A camera-to-world matrix as `[3, 4]` float64.

    Raises:
        CaptureError: not 3x4 or 4x4, not a rotation and a translation, or the translation is not below `MAX_NUMBER`;
            names `where`.
    """
    try:
        pose = np.array(matrix, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise CaptureError(f"{where}: the pose is not a matrix of numbers") from None
    if pose.shape not in ((3, 4), (4, 4)):
        raise CaptureError(f"{where}: the pose has shape {pose.shape}, expected 4x4 or 3x4")
    pose = pose[:3]
    if not np.isfinite(pose).all():
        raise CaptureError(f"{where}: the pose holds values that are not finite")
    if np.abs(pose[:, 3]).max() >= MAX_NUMBER:
        raise CaptureError(f"{where}: the pose is {np.abs(pose[:, 3]).max():.2g} units away, too far to compute with")
    rotation = pose[:, :3]
    # Very large values would overflow in the product.
    rigid = np.abs(rotation).max() < 2 and np.abs(rotation.T @ rotation - np.eye(3)).max() <= 5e-3
    if not rigid or np.linalg.det(rotation) < 0:
        raise CaptureError(f"{where}: the pose is not rigid (its rotation part is scaled, sheared or mirrored)")
    return pose
