"""How good a frame is on cameras that are not trained on, measured while it is encoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from invcodec.capture.camera import Camera
from invcodec.metrics import BEST_PSNR
from invcodec.render.engine import Engine
from invcodec.render.space import Rays, Space

_PIXELS = 2048
"""As many as give the PSNR of whole pictures to two tenths of a dB or so, in a hundredth of a second."""


class HeldOut:
    """Some pixels of the held-out cameras, the same for all frames.

    Args:
        cameras: the rig.
        held_out: indices of the cameras to look through.
        space: where rays run.
    """

    def __init__(self, cameras: Sequence[Camera], held_out: Sequence[int], space: Space) -> None:
        rng = np.random.default_rng(0)
        self._chosen: list[tuple[int, np.ndarray, Rays]] = []
        for index in held_out:
            camera = cameras[index]
            total = camera.width * camera.height
            pixels = np.sort(rng.choice(total, min(total, _PIXELS // len(held_out) + 1), replace=False))
            points = np.stack([pixels % camera.width, pixels // camera.width], 1) + 0.5
            self._chosen.append((index, pixels, space.march(*camera.rays(points))))

    def psnr(self, engine: Engine, images: Sequence[np.ndarray]) -> float:
        """PSNR in dB of what an engine shows, over black, against the images `[H, W, 3 or 4]` of all cameras."""
        squares, count = 0.0, 0
        for index, pixels, rays in self._chosen:
            seen = images[index].reshape(-1, images[index].shape[-1])[pixels].astype(np.float32) / 255
            if seen.shape[1] == 4:
                seen = seen[:, :3] * seen[:, 3:]
            shown = np.clip(engine.render(rays, np.zeros(3)).rgb, 0, 1)
            squares += float(((shown - seen) ** 2).sum())
            count += seen.size
        return min(BEST_PSNR, -10 * float(np.log10(max(squares / count, 1e-12))))
