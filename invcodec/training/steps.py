"""Training steps: the rays of each batch, their target colours, and their weights in the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from invcodec.render.engine import Batch, Trainer
from invcodec.training.colour import ColourCorrection
from invcodec.training.pixels import FramePixels, Views
from invcodec.training.schedule import Schedule
from invcodec.training.walk import walk


class Steps(ABC):
    """Takes training steps on one frame after another.

    The caller calls the engine's `begin` before the first step of a frame.
    """

    @abstractmethod
    def start(self, frame: FramePixels, schedule: Schedule, rng: np.random.Generator, *, observe: bool) -> None:
        """Start on a frame.

        Args:
            rng: source of all randomness until the next frame.
            observe: gather statistics for `fit_colour`.
        """

    @abstractmethod
    def step(self, rays: int, samples: int, lead_rate: float, rate: float) -> float | None:
        """Draw a batch and train the engine on it.

        Returns:
            The mean squared error of uniformly drawn pixels, in this step or one shortly before; None if not known
            yet.
        """

    def finish(self) -> float | None:
        """Wait for pending steps; returns the error of the last one if `step` has not returned it."""
        return None

    @abstractmethod
    def fit_colour(self) -> None:
        """Fit the colour correction to the colours observed since the last fit."""


class HostSteps(Steps):
    """Draws batches on the host, for any engine; see `invcodec.training.make_steps`."""

    def __init__(
        self, engine: Trainer, views: Views, correction: ColourCorrection | None, *, random_background: bool = True
    ) -> None:
        self._engine = engine
        self._views = views
        self._correction = correction
        self._random_background = random_background
        self._valid_mask, self._valid = np.empty(0), np.zeros(1, np.int64)
        # Compile now, before any frame is timed.
        walk(self._valid, 0, 0, 1)

    def start(self, frame: FramePixels, schedule: Schedule, rng: np.random.Generator, *, observe: bool) -> None:
        self._frame = frame
        self._schedule = schedule
        self._rng = rng
        self._seed = int(rng.integers(2**62))
        self._visits = self._changed_visits = 0
        # Masks seldom change, and numbering the valid pixels takes a while.
        if not np.array_equal(frame.valid_mask, self._valid_mask):
            self._valid_mask, self._valid = frame.valid_mask, frame.valid
        self._lowest, highest = frame.backgrounds()
        self._span = highest - self._lowest
        self._observes = observe and self._correction is not None

    def step(self, rays: int, samples: int, lead_rate: float, rate: float) -> float:
        batch, pixels, plain, seen = self.draw(rays)
        result = self._engine.step(batch, lead_rate, rate, samples=samples)
        if self._observes:
            assert self._correction is not None
            self._correction.observe(result.rgb, seen, self._views.camera_of(pixels))
        return float(((result.rgb[plain] - batch.target[plain]) ** 2).mean())

    def fit_colour(self) -> None:
        if self._correction is not None:
            self._correction.fit()

    def draw(self, rays: int) -> tuple[Batch, np.ndarray, slice, np.ndarray]:
        """A batch, its pixel numbers, the uniformly drawn part of it, and the cameras' colours."""
        frame, rng = self._frame, self._rng
        picked = self._schedule.picked(rays) if len(frame.changed) else 0
        pixels = walk(self._valid, self._seed, self._visits, rays - picked)
        self._visits += rays - picked
        if picked:
            pixels = np.concatenate([walk(frame.changed, ~self._seed, self._changed_visits, picked), pixels])
            self._changed_visits += picked
        background = np.zeros((rays, 3), np.float32)
        if self._random_background:
            background = self._lowest + self._span * rng.random((rays, 3), np.float32)
        seen = frame.target(pixels, background)
        target = seen
        if self._correction is not None:
            target = self._correction.neutral(seen, self._views.camera_of(pixels))
        batch = Batch(
            self._views.rays(pixels),
            target,
            background,
            self._share(pixels, picked),
            np.float32(0.5) + np.float32(self._schedule.jitter) * (rng.random(rays, np.float32) - np.float32(0.5)),
        )
        return batch, pixels, slice(picked, rays), seen

    def _share(self, pixels: np.ndarray, picked: int) -> np.ndarray:
        """Loss weights `[R]` of a batch's pixels that make the expected loss that of all pixels.

        That is the mean squared error over all valid pixels, in which a changed one counts `changed_weight` times. The
        batch's first `picked` pixels were drawn from the changed ones, the others from all.
        """
        frame = self._frame
        rest = len(pixels) - picked
        share = np.full(len(pixels), 1 / rest, np.float32)
        if picked:
            visits = picked / len(frame.changed) + rest / len(self._valid)
            assert frame.changed_mask is not None
            share[frame.changed_mask[pixels]] = self._schedule.changed_weight / (len(self._valid) * visits)
        return share
