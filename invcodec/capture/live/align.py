"""Matching the images of several cameras by timestamp."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

_BUFFER_SECONDS = 2.0
"""How long a camera's images wait for the other cameras' images of the same time."""
_BUFFER_BYTES = 1 << 30
"""Of all images that wait."""
_SAME_TIME = 0.5
"""Images match if their timestamps differ by at most this many frames."""
_ON_TIME = 0.05
"""A timestamp this close to a multiple of the frame time, in frames, is snapped to it: containers round timestamps."""


@dataclass(frozen=True)
class SyncedImages:
    """Images taken by all cameras at the same time.

    Attributes:
        number: frame number.
        time: in seconds, from the earliest first image of any camera.
        images: for each camera `[H, W, 3]` uint8.
        arrived: when the last of them arrived.
    """

    number: int
    time: Fraction
    images: list[np.ndarray]
    arrived: float


class Aligner:
    """Matches the images of several cameras by timestamp.

    Time 0 is the earliest of the cameras' first images; a frame's number is its time in frames, rounded. The first
    camera sets the pace: the others may be up to half a frame out of step with it.

    Args:
        cameras: number of cameras.
        fps: nominal frame rate.
    """

    def __init__(self, cameras: int, fps: Fraction) -> None:
        self.fps = fps
        self._held: list[deque[tuple[float, np.ndarray, float]]] = [deque() for _ in range(cameras)]
        self._first: list[float | None] = [None] * cameras
        self._newest: list[float | None] = [None] * cameras
        self._last_number = -1

    def missing(self) -> list[int]:
        """Indices of the cameras that have not delivered any image."""
        return [index for index, stamp in enumerate(self._newest) if stamp is None]

    def behind(self) -> tuple[list[int], float]:
        """Indices of the cameras whose latest images are the oldest, to a frame; and by how many seconds."""
        newest = [-math.inf if stamp is None else stamp for stamp in self._newest]
        oldest = min(newest)
        late = [index for index, stamp in enumerate(newest) if stamp == oldest or (stamp - oldest) * self.fps <= 1]
        return late, max(newest) - oldest

    def add(self, camera: int, stamp: float, image: np.ndarray, arrived: float) -> SyncedImages | None:
        """Add a camera's image; returns the latest set that it completes, if any.

        Args:
            camera: index.
            stamp: the image's timestamp in seconds.
            image: `[H, W, 3]` uint8.
            arrived: passed on.
        """
        mine = self._held[camera]
        mine.append((stamp, image, arrived))
        share = _BUFFER_BYTES // (len(self._held) * image.nbytes)
        while len(mine) > max(2, min(share, max(8, math.ceil(_BUFFER_SECONDS * self.fps)))):
            mine.popleft()
        self._newest[camera] = stamp
        if self._first[camera] is None:
            self._first[camera] = stamp
        if not all(self._held) or None in self._first:
            return None
        zero = min(first for first in self._first if first is not None)
        for pace, _, _ in reversed(self._held[0]):
            found = [min(held, key=lambda each: abs(each[0] - pace)) for held in self._held]
            if all(abs(each[0] - pace) * self.fps <= _SAME_TIME + 1e-6 for each in found):
                break
        else:
            return None
        number = round((pace - zero) * self.fps)
        # Images up to this time can no longer be part of a later set.
        for held in self._held:
            while held and held[0][0] <= pace:
                held.popleft()
        if number <= self._last_number:
            return None
        self._last_number = number
        exact = Fraction(round((pace - zero) * 1e6), 1_000_000)
        if abs(exact * self.fps - number) < _ON_TIME:
            exact = number / self.fps
        return SyncedImages(number, exact, [each[1] for each in found], max(each[2] for each in found))
