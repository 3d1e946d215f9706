"""What the matrices of calibration files mean: which way they go, and where a camera's axes point."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

_DIRECTIONS = {
    "right": (1, 0, 0),
    "left": (-1, 0, 0),
    "up": (0, 1, 0),
    "down": (0, -1, 0),
    "backward": (0, 0, 1),
    "forward": (0, 0, -1),
}
"""Along the axes of a pose."""
_NAMES = {
    ("right", "up", "backward"): "OpenGL",
    ("right", "down", "forward"): "OpenCV",
    ("down", "right", "backward"): "LLFF",
}


@dataclass(frozen=True)
class Convention:
    """A convention of matrices `[3, 4]`, a rotation and a translation.

    Attributes:
        axes: where x, y and z of a camera point. If they are left-handed, so is the world.
        inverted: whether matrices are world-to-camera, and not camera-to-world.
        note: how a calibration departs from that, for people.
    """

    axes: tuple[str, str, str] = ("right", "up", "backward")
    inverted: bool = False
    note: str = ""

    def __str__(self) -> str:
        name = f"{_NAMES[self.axes]} " if self.axes in _NAMES else ""
        where = ", ".join(f"{axis} {direction}" for axis, direction in zip("xyz", self.axes, strict=True))
        handed = "" if self._right_handed else ", in a left-handed world"
        note = f"; {self.note}" if self.note else ""
        return f"{'world-to-camera' if self.inverted else 'camera-to-world'}, {name}axes ({where}){handed}{note}"

    def pose(self, matrix: np.ndarray) -> np.ndarray:
        """The pose `[3, 4]`, camera-to-world with OpenGL axes, of a matrix of this convention.

        Of a left-handed world the mirror image is taken, which is the same for all cameras.
        """
        pose = _inverse(matrix) if self.inverted else matrix
        pose = np.column_stack([pose[:, :3] @ self._axes.T, pose[:, 3]])
        return pose if self._right_handed else _mirrored(pose)

    def matrix(self, pose: np.ndarray) -> np.ndarray:
        """Inverse of `pose`."""
        pose = pose if self._right_handed else _mirrored(pose)
        matrix = np.column_stack([pose[:, :3] @ self._axes, pose[:, 3]])
        return _inverse(matrix) if self.inverted else matrix

    @property
    def _axes(self) -> np.ndarray:
        """`[3, 3]`, an axis in each column."""
        return np.array([_DIRECTIONS[direction] for direction in self.axes], np.float64).T

    @property
    def _right_handed(self) -> bool:
        return float(np.linalg.det(self._axes)) > 0


OPENGL = Convention()
OPENCV = Convention(("right", "down", "forward"))
OPENCV_INVERTED = Convention(("right", "down", "forward"), inverted=True)
LLFF = Convention(("down", "right", "backward"))


def common() -> list[Convention]:
    """Those with names."""
    return [Convention(axes, inverted) for axes in _NAMES for inverted in (False, True)]


def conventions() -> list[Convention]:
    """All of them, the common ones first, and those of left-handed worlds last."""
    every = [
        (x, y, z)
        for order in permutations((("right", "left"), ("up", "down"), ("backward", "forward")))
        for x, y, z in product(*order)
    ]
    both = [Convention(axes, inverted) for axes in every for inverted in (False, True)]
    return sorted(dict.fromkeys([*common(), *both]), key=lambda each: not each._right_handed)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    turned = matrix[:, :3].T
    return np.column_stack([turned, -turned @ matrix[:, 3]])


def _mirrored(pose: np.ndarray) -> np.ndarray:
    return pose * np.array([[1.0], [1.0], [-1.0]])
