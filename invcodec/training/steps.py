"""Training steps: the rays of each batch, their target colours, and their weights in the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from invcodec.render.engine import Batch, Trainer
from invcodec.training.attention import worst_pixels
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
        """Start on a frame, attending to the pixels that changed.

        Args:
            rng: source of all randomness until the next frame.
            observe: gather statistics for `fit_colour` and `attend_to_errors`.
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

    @abstractmethod
    def attend_to_errors(self) -> None:
        """From here on, attend to the worst parts of the pictures (`invcodec.training.attention`)."""


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
        self._visits = self._attended_visits = 0
        # Masks seldom change, and numbering the valid pixels takes a while.
        if not np.array_equal(frame.valid_mask, self._valid_mask):
            self._valid_mask, self._valid = frame.valid_mask, frame.valid
        self._lowest, highest = frame.backgrounds()
        self._span = highest - self._lowest
        self._errors = np.full(len(frame.valid_mask), np.nan, np.float32) if observe else None
        changed = frame.changed_mask
        self._attend(np.zeros_like(frame.valid_mask) if changed is None else changed)

    def step(self, rays: int, samples: int, lead_rate: float, rate: float) -> float:
        batch, pixels, plain, seen = self.draw(rays)
        result = self._engine.step(batch, lead_rate, rate, samples=samples)
        error = ((result.rgb - batch.target) ** 2).mean(1)
        if self._errors is not None:
            self._errors[pixels] = error
            if self._correction is not None:
                self._correction.observe(result.rgb[plain], seen[plain], self._views.camera_of(pixels[plain]))
        return float(error[plain].mean())

    def fit_colour(self) -> None:
        if self._correction is not None:
            self._correction.fit()

    def attend_to_errors(self) -> None:
        assert self._errors is not None
        self._attend(worst_pixels(self._views, self._errors, self._frame.valid_mask))

    def _attend(self, mask: np.ndarray) -> None:
        """Attend to pixels `[P]` bool."""
        self._attended_mask, self._attended = mask, np.flatnonzero(mask)

    def draw(self, rays: int) -> tuple[Batch, np.ndarray, slice, np.ndarray]:
        """A batch, its pixel numbers, the uniformly drawn part of it, and the cameras' colours."""
        frame, rng = self._frame, self._rng
        picked = self._schedule.picked(rays) if len(self._attended) else 0
        pixels = walk(self._valid, self._seed, self._visits, rays - picked)
        self._visits += rays - picked
        if picked:
            pixels = np.concatenate([walk(self._attended, ~self._seed, self._attended_visits, picked), pixels])
            self._attended_visits += picked
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

        That is the mean squared error over all valid pixels, in which an attended one counts `attended_weight` times.
        The batch's first `picked` pixels were drawn from the attended ones, the others from all.
        """
        rest = len(pixels) - picked
        share = np.full(len(pixels), 1 / rest, np.float32)
        if picked:
            visits = picked / len(self._attended) + rest / len(self._valid)
            share[self._attended_mask[pixels]] = self._schedule.attended_weight / (len(self._valid) * visits)
        return share
