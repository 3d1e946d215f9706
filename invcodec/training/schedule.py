"""Training schedules: budget, learning rates and sampling of a frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

from invcodec.errors import UsageError

LEAST_SECONDS, MOST_SECONDS = 1e-3, 1e9
"""Range of wall times to train or to write a frame in."""


def check_seconds(name: str, value: float) -> None:
    """Check a wall time; the error names it.

    Raises:
        UsageError
    """
    if not LEAST_SECONDS <= value <= MOST_SECONDS:
        raise UsageError(f"{name}: {value:g} is not between {LEAST_SECONDS:g} and {MOST_SECONDS:g}")


@dataclass(frozen=True)
class Budget:
    """When a frame's training ends: after a wall time or a number of steps, whichever comes first.

    Attributes:
        seconds: wall time.
        steps: training steps.
        quiet_steps: steps of a frame in which nothing changed, if they are fewer.
        full_change: share of the training pixels that have to change for a frame to take all of its steps.
    """

    seconds: float | None = None
    steps: int | None = None
    quiet_steps: int | None = None
    full_change: float = 0.0

    def for_change(self, share: float) -> Budget:
        """The budget of a frame in which this share of the training pixels changed."""
        if self.steps is None or self.quiet_steps is None or share >= self.full_change:
            return self
        steps = self.quiet_steps + (self.steps - self.quiet_steps) * share / self.full_change
        return replace(self, steps=round(steps))

    def fraction(self, elapsed: float, step: int) -> float:
        parts = [elapsed / self.seconds if self.seconds else 0.0, step / self.steps if self.steps else 0.0]
        return max(parts)


@dataclass(frozen=True)
class Schedule:
    """How one kind of frame is trained.

    Attributes:
        budget: when to stop.
        rays: per step, at most.
        lead_rate: learning rate of the lead tensors (a grid's tables).
        rate: learning rate of the others.
        hold: fraction of the budget for which the rates stay constant.
        decay: what the rates have fallen to at the end, as a factor.
        price: of a change of a weight, in loss per lattice step (rate in the loss).
        attended_share: part of each batch drawn from the pixels that training attends to (`Steps.attend`).
        attended_weight: weight of such a pixel in the loss, relative to any other.
        jitter: how far samples are moved within their steps; 1 is anywhere, 0 is where a decoder samples.
        mixed: multiply matrices in bfloat16 where the hardware does that faster; weights stay float32.
        samples: per step, at about most: it takes fewer rays while much of space is open. None for no limit.
    """

    budget: Budget
    rays: int
    lead_rate: float
    rate: float
    hold: float = 0.3
    decay: float = 0.05
    price: float = 0.0
    attended_share: float = 0.25
    attended_weight: float = 1.0
    jitter: float = 1.0
    mixed: bool = False
    samples: int | None = None

    def picked(self, rays: int) -> int:
        """Rays of a batch that visit attended pixels, if there are any."""
        return int(rays * self.attended_share)

    def rates(self, fraction: float) -> tuple[float, float]:
        factor = self.decay ** max(0.0, (fraction - self.hold) / (1 - self.hold))
        return self.lead_rate * factor, self.rate * factor
