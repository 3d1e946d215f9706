"""A frame as exports need it: how dense its field is at points in space, and what its cameras see of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from invcodec.decoding.video import Frame, Video
from invcodec.errors import UsageError
from invcodec.field.profile import MOTION
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import training_cameras
from invcodec.render import camera_colour, composite, make_trainer

Density = Callable[[np.ndarray], np.ndarray]
"""Density `[N]` float32 at points `[N, 3]` float32 of the unit cube, per unit of length."""

EDGE = 1e-3
"""Spaces may have no end: exports keep so far from the faces of the unit cube."""
_MOST_PIXELS = 1 << 22
"""Of all pictures of a frame together; larger ones are rendered smaller."""
_MOST_POINTS = 1 << 19
"""Of the unit cube that are evaluated at once, which bounds memory."""
_BEHIND = 0.07
"""What is this share of its depth behind the surface that a camera sees is hidden from it."""
_NEAR, _FAR_WEIGHT = 0.01, 1e-3
"""A camera has the more to say about a point's colour, the nearer the point is to the surface that it sees: within this
share of the depth. Farther away it has the second weight."""


class Field:
    """How dense a file's field is at points of the unit cube, as rays meet it.

    Args:
        video: the open file.
        device, threads: as for `Video`.

    Raises:
        UsageError: it is the video of one camera, and has no depth.
    """

    def __init__(self, video: Video, *, device: str = "auto", threads: int | None = None) -> None:
        if video.networks.shown.profile.flat:
            raise UsageError(
                f"{video.name}: holds pictures of one camera (profile {video.networks.shown.profile.name}), which have "
                "no depth; only scenes can be exported as points or surfaces"
            )
        self._video = video
        self._name = video.networks.shown.name
        self._engine = make_trainer(video.networks, device=device, threads=threads)
        self._cells: torch.Tensor | None = None
        self._motion = torch.zeros((0, 12))

    def load(self, frame: Frame) -> None:
        """Go to a frame of the video.

        Raises:
            DamagedError: the frame, or one that it builds on, is damaged.
        """
        weights, _ = camera_colour.split(self._video.head, self._video.source.state_at(frame.number).weights())
        self._engine.load(weights)
        cells = self._engine.occupancy()
        self._cells = None if cells is None else torch.tensor(cells)
        if (self._name, MOTION) in weights:
            self._motion = torch.tensor(weights[self._name, MOTION])

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Density `[N]` float32, per unit of length in the cube, at points `[N, 3]` float32.

        It is 0 in empty cells, and parts are where they have moved to.
        """
        density = np.zeros(len(points), np.float32)
        for first in range(0, len(points), _MOST_POINTS):
            at = torch.from_numpy(points[first : first + _MOST_POINTS])
            if self._cells is None:
                taken = ((at >= 0) & (at < 1)).all(1)
            else:
                taken, at, _ = composite.place(at, self._cells, self._motion)
            index = taken.nonzero()[:, 0].numpy()
            if len(index):
                density[first + index] = self._engine.density(at.numpy()[index])
        return density


@dataclass(frozen=True)
class Sight:
    """What a camera sees.

    Attributes:
        depth: `[H, W]` z-depth in world units, infinite where opacity is below one half.
        colour: `[H, W, 3]` uint8, display-referred sRGB.
    """

    camera: Camera
    depth: np.ndarray
    colour: np.ndarray

    def find(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The world points `[N, 3]` that are in the picture and not hidden.

        Returns:
            Their indices `[M]`; how far behind the surface they are, as a share of its depth `[M]`, negative in front
            of it; and the colours of their pixels `[M, 3]`.
        """
        image, depth = self.camera.project(points)
        size = self.camera.width, self.camera.height
        found = np.flatnonzero((depth > 0) & (image >= 0).all(1) & (image < size).all(1))
        column, row = image[found].astype(np.int64).T
        with np.errstate(divide="ignore", invalid="ignore"):
            behind = depth[found] / self.depth[row, column] - 1
        shown = behind < _BEHIND
        return found[shown], behind[shown], self.colour[row[shown], column[shown]]


def sights(frame: Frame) -> list[Sight]:
    """What the cameras see that the file was trained on, in the scene's own colours.

    Raises:
        DamagedError: the frame, or one that it builds on, is damaged.
    """
    cameras = [frame.cameras[index] for index in training_cameras(frame.cameras)]
    total = sum(camera.width * camera.height for camera in cameras)
    factor = min(1.0, (_MOST_PIXELS / max(total, 1)) ** 0.5)
    seen = []
    for camera in cameras:
        size = (max(1, round(factor * camera.width)), max(1, round(factor * camera.height)))
        smaller = camera.scaled(*size)
        view = frame.render(smaller, neutral_colour=True)
        seen.append(Sight(smaller, view.depth, view.rgb))
    return seen


def colours(points: np.ndarray, seen: Sequence[Sight]) -> tuple[np.ndarray, np.ndarray]:
    """Colours of world points `[N, 3]` as cameras see them.

    Returns:
        Which points some camera sees, `[N]` bool, and the colours of all, `[N, 3]` in [0, 1], 0 for the others.
    """
    total, sums = np.zeros(len(points)), np.zeros((len(points), 3))
    for sight in seen:
        index, behind, colour = sight.find(points)
        weight = np.exp(-((behind / _NEAR) ** 2)) + _FAR_WEIGHT
        total[index] += weight
        sums[index] += weight[:, None] * (colour / 255)
    return total > 0, sums / np.where(total > 0, total, 1)[:, None]


def grid(count: int, first: float) -> Iterator[np.ndarray]:
    """Points `[N, 3]` float32 of a grid in the unit cube, `count` along each axis, in order, many at a time.

    Args:
        first: coordinate of the first point; that of the last one is as far from 1.
    """
    along = np.linspace(first, 1 - first, count, dtype=np.float32)
    planes = max(1, _MOST_POINTS // count**2)
    for start in range(0, count, planes):
        yield np.stack(np.meshgrid(along[start : start + planes], along, along, indexing="ij"), -1).reshape(-1, 3)
