"""Sampling of rays and compositing of samples in plain torch (FORMAT.md, "Sampling" and "Compositing").

R rays have N samples each. A sample represents an interval of the ray parameter, `low` to `high`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from invcodec.geometry.space import positions
from invcodec.render.engine import MIN_TRANSMITTANCE

_IMPORTANCE_FLOOR = 1e-5


class Samples(NamedTuple):
    """Ray parameters `[R, N]` of samples and of the ends of their intervals, increasing along each ray."""

    s: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


class Composite(NamedTuple):
    """Composited samples.

    Attributes:
        weights: `[R, N]`, each sample's share of the colour.
        opacity: `[R]`, the sum of the weights.
        s: `[R]`, median depth as ray parameter, 1 if there is none.
    """

    weights: torch.Tensor
    opacity: torch.Tensor
    s: torch.Tensor


def uniform(count: int, jitter: torch.Tensor) -> Samples:
    """Steps of equal length, each sampled at the fraction `jitter` `[R]` of its length."""
    s = (torch.arange(count, device=jitter.device) + jitter[:, None]) / count
    half = 0.5 / count
    return Samples(s, s - half, s + half)


def importance(weights: torch.Tensor, count: int, jitter: torch.Tensor) -> torch.Tensor:
    """Ray parameters `[R, count]` distributed like the weights `[R, N]` of N steps of equal length.

    Samples are the inverse of the cumulative weights at `(k + jitter) / count`; `jitter` is `[R]`.
    """
    steps = weights.shape[1]
    share = weights + _IMPORTANCE_FLOOR
    share = share / share.sum(1, keepdim=True)
    ends = share.cumsum(1)
    u = (torch.arange(count, device=jitter.device) + jitter[:, None]) / count
    step = torch.searchsorted(ends, u.contiguous(), right=True).clamp(max=steps - 1)
    start = (ends - share).gather(1, step)
    fraction = ((u - start) / share.gather(1, step)).clamp(0, 1)
    # The largest number below one keeps the sample inside the ray.
    return ((step + fraction) / steps).clamp(max=1 - 2**-24)


def merge(samples: Samples, more: torch.Tensor) -> Samples:
    """Both sets of samples, sorted; intervals end half-way to the neighbours, or at 0 and 1."""
    s = torch.cat([samples.s, more], 1).sort(1).values
    middle = (s[:, 1:] + s[:, :-1]) / 2
    return Samples(
        s,
        torch.nn.functional.pad(middle, (1, 0), value=0.0),
        torch.nn.functional.pad(middle, (0, 1), value=1.0),
    )


class Placed(NamedTuple):
    """S samples among the cells of a network (FORMAT.md, "Compositing").

    Attributes:
        taken: `[S]` bool, whether each is used.
        points: `[S, 3]`, where the field is evaluated.
        cell: `[S]` int64, the number of the cell around that point; of no meaning where a sample is not used.
    """

    taken: torch.Tensor
    points: torch.Tensor
    cell: torch.Tensor


def place(points: torch.Tensor, cells: torch.Tensor, motion: torch.Tensor) -> Placed:
    """Place samples at points `[S, 3]` among cells `[M, M, M]` and parts with the motion `[P, 12]`."""
    inside = ((points >= 0) & (points < 1)).all(1)
    owners = cells.reshape(-1)
    cell = _cell_of(points, len(cells))
    own = owners[cell]
    taken = inside & (own != 0)
    at = points
    for number in range(2, 2 + len(motion)):
        taken &= own != number
    # Of several parts, the first one has the sample.
    for number in reversed(range(len(motion))):
        row = motion[number].reshape(3, 4)
        moved = points + (points - 0.5) @ row[:, :3].T + row[:, 3]
        moved_cell = _cell_of(moved, len(cells))
        belongs = inside & ((moved >= 0) & (moved < 1)).all(1) & (owners[moved_cell] == number + 2)
        taken = taken | belongs
        at = torch.where(belongs[:, None], moved, at)
        cell = torch.where(belongs, moved_cell, cell)
    return Placed(taken, at, cell)


def _cell_of(points: torch.Tensor, side: int) -> torch.Tensor:
    """Numbers `[S]` of the cells around points, with `side` cells along each axis."""
    x, y, z = (points.clamp(0, 1) * side).long().clamp(max=side - 1).unbind(1)
    return (x * side + y) * side + z


def lengths(origins: torch.Tensor, directions: torch.Tensor, samples: Samples, contracted: bool) -> torch.Tensor:
    """Length in the unit cube `[R, N]` of each sample's interval."""
    if not contracted:
        return (samples.high - samples.low) * directions.norm(dim=-1, keepdim=True)
    # The end of the ray is at infinity.
    high = samples.high.clamp(max=1 - 0.25 / samples.s.shape[1])
    a = positions(origins, directions, samples.low.clamp(min=0), contracted)
    b = positions(origins, directions, high, contracted)
    return (b - a).norm(dim=-1)


def composite(density: torch.Tensor, length: torch.Tensor, s: torch.Tensor) -> Composite:
    """Composite samples; all arguments are `[R, N]`, the density per unit of length.

    A sample contributes if more than `MIN_TRANSMITTANCE` of the light is left in front of it.
    """
    thickness = density * length
    counts = _shift(torch.exp(-thickness.cumsum(1))) > MIN_TRANSMITTANCE
    thickness = thickness * counts
    after = torch.exp(-thickness.cumsum(1))
    before = _shift(after)
    weights = before * -torch.expm1(-thickness)
    crossing = (before >= 0.5) & (after < 0.5)
    median = torch.where(crossing.any(1), s.gather(1, crossing.int().argmax(1, keepdim=True))[:, 0], 1.0)
    return Composite(weights, 1 - after[:, -1], median)


def _shift(after: torch.Tensor) -> torch.Tensor:
    """Transmittance in front of each sample from that behind each (both `[R, N]`)."""
    return torch.nn.functional.pad(after[:, :-1], (1, 0), value=1.0)
