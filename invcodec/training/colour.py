"""Per-camera exposure and white balance, learned along with the scene."""

from __future__ import annotations

import numpy as np


class ColourCorrection:
    """Per-camera gain and offset, fitted by least squares while the scene is learned.

    A camera shows `gain * colour + offset` for each channel. Over all cameras the gains multiply to one and the
    offsets add to zero, so that the scene keeps the rig's average look.
    """

    _RIDGE = 0.02

    def __init__(self, cameras: int) -> None:
        self._cameras = cameras
        self.reset()

    def reset(self) -> None:
        """Make all cameras neutral and drop what was accumulated."""
        self.gain = np.ones((self._cameras, 3), np.float32)
        self.offset = np.zeros((self._cameras, 3), np.float32)
        self._sums = np.zeros((5, self._cameras, 3))

    def neutral(self, colour: np.ndarray, camera: np.ndarray) -> np.ndarray:
        """Scene colours `[R, 3]` that cameras `[R]` (indices) see as these colours `[R, 3]`."""
        return (colour - self.offset[camera]) / self.gain[camera]

    def observe(self, scene: np.ndarray, seen: np.ndarray, camera: np.ndarray) -> None:
        """Accumulate pairs of scene colour `[R, 3]` and camera colour `[R, 3]` of cameras `[R]`."""
        for total, value in zip(
            self._sums, (np.ones_like(scene), scene, seen, scene * scene, scene * seen), strict=True
        ):
            for channel in range(3):
                total[:, channel] += np.bincount(camera, value[:, channel], len(total))

    def add(self, sums: np.ndarray) -> None:
        """Accumulate the statistics of many pairs at once: counts, sums and sums of products, `[5, C, 3]`."""
        self._sums += sums

    def fit(self) -> None:
        """Update gains and offsets from the pairs accumulated since the last call."""
        n, x, y, xx, xy = self._sums
        n = np.maximum(n, 1)
        mean_x, mean_y = x / n, y / n
        # The ridge pulls towards gain 1: a camera that sees only a flat wall carries no information on contrast.
        gain = (xy / n - mean_x * mean_y + self._RIDGE) / (xx / n - mean_x**2 + self._RIDGE)
        gain = np.clip(gain, 0.25, 4)
        gain /= np.exp(np.log(gain).mean(0))
        offset = mean_y - gain * mean_x
        self.gain = gain.astype(np.float32)
        self.offset = (offset - offset.mean(0)).astype(np.float32)
        self._sums[:] = 0
