"""One frame's optimisation: its steps, the occupancy of space meanwhile, and when it stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass

import numpy as np

from invcodec.container.frame import Stage
from invcodec.field.profile import TensorKey
from invcodec.render.engine import Trainer
from invcodec.training.carving import SHAPED, Carving
from invcodec.training.pixels import FramePixels
from invcodec.training.schedule import Schedule
from invcodec.training.steps import Steps


@dataclass(frozen=True)
class Trained:
    """Cost and result of training one frame; the loss is that of uniformly drawn training pixels."""

    steps: int
    loss: float


@dataclass(frozen=True)
class StepDone:
    """One step is done: the fraction of the budget used so far, and running means of loss and PSNR (dB)."""

    fraction: float
    loss: float
    psnr: float


@dataclass(frozen=True)
class SteeringPoint:
    """The frame can be steered here: the value sent to the generator is the price from here on, or None."""

    fraction: float


Training = Generator[StepDone | SteeringPoint, float | None, Trained]
"""A frame's training, step by step."""

_STEER_AT = (0.4, 0.55, 0.7, 0.8, 0.9)
"""Fractions of the budget at which a frame is steered: late enough to predict its size, early enough to change it."""

_COARSE_STEPS = 64
"""Opening steps of a keyframe, with few rays, while all of space is still open."""
_REVIEW_STEPS, _REVIEW_SHARE = 16, 1 / 400
"""Minimum steps, and share of the budget, between two updates of a keyframe's occupancy; three times as many once it
has taken shape."""
_LEAST_RAYS = 64
"""Rays of a step; with fewer, it would be too noisy."""
_ATTEND_FROM, _ATTEND_APART = 0.1, 0.025
"""Fractions of a keyframe's budget: when it first attends to the worst parts of the pictures, and between two looks."""
_SETTLED = 0.4
"""Fraction of a later frame's budget after which cells that contributed nothing are closed."""
_NEW_CELL, _DARK_CELL = 0.2, 0.003
"""A cell of a later frame that may have changed opens where some ray gives it more than the first compositing weight,
and closes where none gives it more than the second. What lies between stays as it was: every change of a cell costs
bytes, and cells at the edge of something would open and close from frame to frame. Opening is stricter than in a
keyframe: nothing else limits the growth of open cells, each costs time, and fog costs quality."""
_KEPT = {"weight": 0.95, "bias": 0.85}
"""What a refresh leaves of the dense layers before it trains them ("shrink and perturb", Ash and Adams 2020). Nothing
else holds them: they would grow with each refresh, until, after some twenty of them, quality falls and bytes rise."""


class FrameTrainer:
    """Trains a frame on one engine.

    Args:
        engine: holds the weights.
        steps: of that engine.
        rng: source of all randomness.
        empty: `[M, M, M]` bool, occupancy cells that stay closed; of no meaning if there is no occupancy.
    """

    def __init__(self, engine: Trainer, steps: Steps, rng: np.random.Generator, empty: np.ndarray) -> None:
        self.engine = engine
        self.steps = steps
        self.rng = rng
        self.empty = empty

    def train(self, stage: Stage, frame: FramePixels, schedule: Schedule) -> Training:
        """Train a frame from the weights that the engine holds.

        Args:
            stage: "key" trains everything, finding the occupancy on the way; "refresh" every tensor of a keyframe that
                starts from the last frame; "all" the change of every tensor, "lead" that of lead tensors alone.
        """
        if stage == "key":
            return self._train_keyframe(frame, schedule)
        networks = self.engine.networks
        if stage == "refresh":
            self._shrink_layers()
        trainable = networks.lead if stage == "lead" else networks.tensors.keys()
        return self._train_later(frame, schedule, trainable, delta=stage != "refresh")

    def _shrink_layers(self) -> None:
        layers = {key: key[1].rpartition(".")[2] for key in self.engine.networks.tensors}
        weights = self.engine.weights()
        self.engine.load({key: np.float32(_KEPT[kind]) * weights[key] for key, kind in layers.items() if kind in _KEPT})

    def _train_keyframe(self, frame: FramePixels, schedule: Schedule) -> Training:
        samples = self.engine.networks.samples
        coarse = _COARSE_STEPS if schedule.budget.steps is None else min(_COARSE_STEPS, schedule.budget.steps // 8)
        due, due_at, attend_at = coarse, 0.0, _ATTEND_FROM
        carving = None if self.engine.occupancy() is None else Carving(self.engine, self.rng, self.empty)

        def before_step(step: int, fraction: float, visited: int) -> tuple[int, int]:
            nonlocal due, due_at, attend_at
            if carving and step < coarse:
                return max(schedule.rays // 4, 64), max(samples // 2, 1)
            if carving and step >= due and fraction >= due_at:
                apart = 1 if fraction < 0.3 else 3
                due, due_at = step + apart * _REVIEW_STEPS, fraction + apart * _REVIEW_SHARE
                carving.review(visited, fraction)
            if step % 32 == 0 and 0.1 < fraction < 0.9:
                self.steps.fit_colour()
            if schedule.attended_share and fraction >= attend_at:
                attend_at = fraction + _ATTEND_APART
                self.steps.attend_to_errors()
            # Coarser steps will do until cells are closed: most of the time would be spent on empty space.
            return schedule.rays, samples if carving is None or fraction > SHAPED else max(samples // 2, 1)

        everything = self.engine.networks.tensors.keys()
        return (yield from self._optimise(frame, schedule, everything, before_step, observe=True))

    def _train_later(
        self, frame: FramePixels, schedule: Schedule, trainable: Collection[TensorKey], *, delta: bool
    ) -> Training:
        samples = self.engine.networks.samples
        before = self.engine.occupancy()
        if before is not None and frame.hull is not None:
            self.engine.set_occupancy(np.where(frame.hull, np.maximum(before, 1), before))
            self.engine.take_cell_weights()
        settled = False

        def before_step(step: int, fraction: float, visited: int) -> tuple[int, int]:
            nonlocal settled
            if not settled and fraction >= _SETTLED:
                # By now the new surfaces carry weight; the other cells would only cost samples.
                settle()
                settled = True
            return schedule.rays, samples

        def settle() -> None:
            if before is not None and frame.hull is not None:
                light = self.engine.take_cell_weights()
                now = np.where(before > 0, light > _DARK_CELL, light > _NEW_CELL)
                self.engine.set_occupancy(np.where(frame.hull & (before <= 1), now, before))

        trained = yield from self._optimise(frame, schedule, trainable, before_step, delta=delta)
        settle()
        return trained

    def _optimise(
        self,
        frame: FramePixels,
        schedule: Schedule,
        trainable: Collection[TensorKey],
        before_step: Callable[[int, float, int], tuple[int, int]],
        *,
        delta: bool = False,
        observe: bool = False,
    ) -> Training:
        """Take steps until the budget is used up.

        Args:
            before_step: gives the rays of a step, at most, and the equal steps along each, from the steps, the fraction
                of the budget and the rays so far.
        """
        start = time.perf_counter()
        self.engine.begin(trainable, schedule.price, delta=delta, mixed=schedule.mixed)
        self.steps.start(frame, schedule, self.rng, observe=observe)
        step, visited, loss = 0, 0, float("nan")
        corners = list(_STEER_AT)
        while (fraction := schedule.budget.fraction(time.perf_counter() - start, step)) < 1:
            rays, samples = before_step(step, fraction, visited)
            rays = self._affordable(schedule, rays, samples)
            if corners and fraction >= corners[0]:
                corners = [corner for corner in corners if corner > fraction]
                price = yield SteeringPoint(fraction)
                if price is not None:
                    self.engine.set_price(price)
            error = self.steps.step(rays, samples, *schedule.rates(fraction))
            if error is not None:
                # A running mean over about twenty steps: a single batch is too noisy to show.
                first = step < 2 or math.isnan(loss)
                loss = error if first else loss + (error - loss) * max(0.05, 1 / step)
            step += 1
            visited += rays
            yield StepDone(min(fraction, 1.0), loss, _psnr(loss))
        last = self.steps.finish()
        if last is not None and math.isnan(loss):
            loss = last
        return Trained(step, loss)

    def _affordable(self, schedule: Schedule, rays: int, samples: int) -> int:
        """Rays of a step that may take `rays`, with so many equal steps along each."""
        if schedule.samples is None:
            return rays
        cells = self.engine.occupancy()
        taken = samples * (1.0 if cells is None else float((cells > 0).mean()))
        return min(rays, max(_LEAST_RAYS, int(schedule.samples / max(taken, 1.0))))


def _psnr(mean_squared_error: float) -> float:
    """PSNR in dB for colours in [0, 1]."""
    return -10 * float(np.log10(max(mean_squared_error, 1e-10)))
