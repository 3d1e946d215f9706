"""Training data: the pixels of the training cameras, as rays and as the colours of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from invcodec.geometry.camera import Camera
from invcodec.geometry.space import Rays, Space

_VALIDATION_SHARE, _VALIDATION_MOST = 0.02, 4096
"""Share of the training cameras' pixels kept for validation, and their largest number."""


def validation_pixels(cameras: Sequence[Camera]) -> list[np.ndarray]:
    """For each training camera, the numbers `[V]` (row by row) of its validation pixels, in increasing order.

    They follow from the cameras' sizes alone, so that encoder and evaluation select the same ones. Scattered by a
    multiplicative hash (Knuth, The Art of Computer Programming 6.4): no row, column or block is preferred.
    """
    total = sum(camera.width * camera.height for camera in cameras)
    share = min(_VALIDATION_SHARE, _VALIDATION_MOST / total)
    chosen, first = [], 0
    for camera in cameras:
        count = camera.width * camera.height
        numbers = np.arange(first, first + count, dtype=np.uint64)
        hashed = (numbers + np.uint64(1)) * np.uint64(2654435761) & np.uint64(0xFFFFFFFF)
        chosen.append(np.flatnonzero(hashed < np.uint64(share * 2**32)))
        first += count
    return chosen


def held(
    images: Sequence[np.ndarray | None], before: Sequence[np.ndarray] | None, cameras: Sequence[Camera], channels: int
) -> list[np.ndarray]:
    """Images `[H, W, C]` uint8 in which cameras that have none keep their last one, so that nothing seems to change.

    Args:
        before: the last images, themselves held; a camera without any is black.
    """
    kept = before or [np.zeros((camera.height, camera.width, channels), np.uint8) for camera in cameras]
    return [last if image is None else image for image, last in zip(images, kept, strict=True)]


class Views:
    """All pixels of the training cameras, numbered consecutively, and their rays.

    Args:
        cameras: the training cameras.
        space: where their rays run.

    Attributes:
        validation: `[V]` pixel numbers that are never trained on.
    """

    def __init__(self, cameras: Sequence[Camera], space: Space) -> None:
        self.cameras = tuple(cameras)
        self.space = space
        self.offsets = np.cumsum([0] + [camera.width * camera.height for camera in cameras])
        chosen = validation_pixels(cameras)
        self.validation = np.concatenate([own + first for own, first in zip(chosen, self.offsets[:-1], strict=True)])
        self._rotation = np.stack([camera.pose[:, :3] for camera in cameras], -1)
        self._centre = np.stack([camera.pose[:, 3] for camera in cameras], -1)
        # Image-plane coordinates cost 8 bytes a pixel; whole rays would cost 44.
        plane = [camera.rays()[1] @ camera.pose[:, :3] for camera in self.cameras]
        self._plane = np.concatenate([d[:, :2].astype(np.float32) for d in plane])

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """For each camera `[H, W, ...]` of the values `[P, ...]` of all pixels."""
        parts = np.split(values, self.offsets[1:-1])
        return [part.reshape(c.height, c.width, *values.shape[1:]) for part, c in zip(parts, self.cameras, strict=True)]

    def camera_of(self, pixels: np.ndarray) -> np.ndarray:
        """Index of the camera `[R]` that each pixel number `[R]` belongs to."""
        return np.searchsorted(self.offsets, pixels, side="right") - 1

    def rays(self, pixels: np.ndarray) -> Rays:
        camera = self.camera_of(pixels)
        x, y = self._plane[pixels].T
        right, up, back = self._rotation[:, 0, camera], self._rotation[:, 1, camera], self._rotation[:, 2, camera]
        return self.space.march(self._centre[:, camera].T, (right * x + up * y - back).T)

    def towards(self, ends: np.ndarray) -> np.ndarray:
        """Pixels `[P]` bool that look about towards a box of the unit cube.

        Args:
            ends: its lowest and highest corners `[2, 3]`.
        """
        axes = np.linspace(ends[0], ends[1], 3).T
        world = self.space.world(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3))
        found = []
        for camera in self.cameras:
            image, depth = camera.project(world)
            size = np.array([camera.width, camera.height])
            # Of a box that reaches behind a camera, anything may be seen.
            low, high = (image.min(0) // 1, np.ceil(image.max(0))) if (depth > 0).all() else (0 * size, size)
            (left, top), (right, bottom) = np.stack([low, high]).clip(0, size).astype(np.int64)
            mask = np.zeros((camera.height, camera.width), bool)
            mask[top:bottom, left:right] = True
            found.append(mask.reshape(-1))
        return np.concatenate(found)


_STATISTICS_PIXELS = 1 << 16
"""Pixels that a frame's mean colour and spread are taken from, at most."""
_LEAST_SPREAD = 0.05
"""Smallest standard deviation of random backgrounds: pictures of one colour have to be learned as opaque as well."""


@dataclass(frozen=True)
class FramePixels:
    """One frame of all training cameras.

    Attributes:
        colour: `[P, 3]` or `[P, 4]` uint8 (straight alpha), in the order of `Views`.
        valid_mask: `[P]` bool, pixels to train on: those that are neither masked out nor reserved for validation.
        validation: `[V]` pixel numbers to measure quality on.
        changed_mask: `[P]` bool, training pixels that changed since the last frame, or None if unknown.
        changed_validation: `[V]` bool, which validation pixels did, or None if unknown.
        hull: `[M, M, M]` bool, occupancy cells that may hold the change, or None.
    """

    colour: np.ndarray
    valid_mask: np.ndarray
    validation: np.ndarray
    changed_mask: np.ndarray | None = None
    changed_validation: np.ndarray | None = None
    hull: np.ndarray | None = None

    @cached_property
    def valid(self) -> np.ndarray:
        """`[N]` numbers of the pixels to train on."""
        return np.flatnonzero(self.valid_mask)

    def _some_colours(self) -> np.ndarray:
        """Colours `[N, 3]` or `[N, 4]` float32 in [0, 1] of pixels to train on, evenly spread."""
        apart = -(-len(self.valid) // _STATISTICS_PIXELS)
        return self.colour[self.valid[::apart]].astype(np.float32) / 255

    def mean_colour(self) -> np.ndarray:
        """Mean colour `[3]` float32, in (0, 1), of the pixels to train on, weighted by their alpha."""
        colour = self._some_colours()
        weight = colour[:, 3:] if colour.shape[1] == 4 else np.ones((len(colour), 1), np.float32)
        mean = (weight * colour[:, :3]).sum(0) / max(weight.sum(), 1e-6)
        return np.clip(mean, 1 / 255, 254 / 255)

    def backgrounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest random background `[3]` float32 to train over.

        Opaque pictures are trained over backgrounds that vary like their own colours. Where others would outweigh the
        contrast of the pictures, fog closes in front of the cameras before anything behind it is learned. Pictures
        with alpha show what is behind them, so they are trained over any colour.
        """
        colour = self._some_colours()
        if colour.shape[1] == 4:
            return np.zeros(3, np.float32), np.ones(3, np.float32)
        # A uniform distribution's standard deviation is half its width, divided by the root of 3.
        half = np.float32(3**0.5) * np.maximum(colour.std(0), np.float32(_LEAST_SPREAD))
        return np.clip(colour.mean(0) - half, 0, 1), np.clip(colour.mean(0) + half, 0, 1)

    @property
    def change(self) -> float:
        """Share of the pixels to train on that changed since the last frame; 1 if unknown."""
        if self.changed_mask is None:
            return 1.0
        return int(np.count_nonzero(self.changed_mask)) / max(1, int(np.count_nonzero(self.valid_mask)))

    @classmethod
    def gather(
        cls,
        images: Sequence[np.ndarray],
        masks: Sequence[np.ndarray | None],
        validation: np.ndarray,
        *,
        reserve: bool = True,
    ) -> FramePixels:
        """Gather images `[H, W, C]` and masks `[H, W]` (False: ignore) in the order of `Views`.

        Args:
            validation: `[V]` pixel numbers to measure quality on.
            reserve: whether these are kept from training.
        """
        colour = np.concatenate([image.reshape(-1, image.shape[-1]) for image in images])
        keep = np.ones(len(colour), bool)
        if any(mask is not None for mask in masks):
            sizes = [image.shape[:2] for image in images]
            keep = np.concatenate(
                [
                    (np.ones(size, bool) if mask is None else mask).reshape(-1)
                    for size, mask in zip(sizes, masks, strict=True)
                ]
            )
        measured = validation[keep[validation]]
        keep[measured] &= not reserve
        return cls(colour, keep, measured)

    def target(self, pixels: np.ndarray, background: np.ndarray) -> np.ndarray:
        """Colours `[R, 3]` float32 in [0, 1] over backgrounds `[R, 3]`."""
        value = self.colour[pixels].astype(np.float32) / 255
        if value.shape[1] == 3:
            return value
        alpha = value[:, 3:]
        return value[:, :3] * alpha + (1 - alpha) * background
