"""Coordinate spaces: the maps from world rays to rays in the unit cube that the field is defined on.

Every kind turns a world ray into an origin and a direction in *march space* such that the ray parameter
`s` in [0, 1) runs over the whole of it (FORMAT.md, "Coordinate mapping"):

- `ndc`: normalised device coordinates of one reference camera, linear in disparity between two planes.
  Straight rays stay straight, so the position is `origin + s * direction`.
- `box`: an axis-aligned box; `s` runs from where the ray enters it to where it leaves it.
- `contract`: an inner cube, and all the rest of space folded around it (Barron et al. 2022, with the
  maximum norm). The position is `contract(origin + tau(s) * direction)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from invcodec.arrays import Array, namespace, rows, single
from invcodec.geometry.contraction import contract, expand, march_distance

_Columns: TypeAlias = Sequence[Array]
"""Components of N vectors, `[N]` each."""
_March: TypeAlias = tuple[_Columns, _Columns, Array, Array]
"""Starts and ends of rays, and the offset and scale that turn the ray parameter into depth."""

Kind = Literal["ndc", "box", "contract"]


@dataclass(frozen=True)
class Rays:
    """Rays in march space; the arrays are all on one device.

    Attributes:
        origins: `[N, 3]` float32, where `s = 0`.
        directions: `[N, 3]` float32; the parameter s runs from 0 to 1.
        view: `[N, 3]` float32, unit directions in world axes.
        depth_origin: `[N]` float32 and
        depth_scale: `[N]` float32, which turn s into z-depth: see `Space.depth`.
    """

    origins: Array
    directions: Array
    view: Array
    depth_origin: Array
    depth_scale: Array

    def __len__(self) -> int:
        return len(self.origins)


@dataclass(frozen=True)
class Space:
    """A coordinate map, as the file records it.

    Attributes:
        kind: "ndc", "box" or "contract".
        pose: `[3, 4]` rotation and translation of the space's own axes in the world (columns: right, up, back).
        low: `[3]`, in those axes. `ndc`: lowest x/-z and y/-z, and the near plane's distance. Otherwise the
            low corner of the (inner) box.
        high: `[3]`. `ndc`: highest x/-z and y/-z, and the far plane's distance, which may be infinite.
            Otherwise the high corner.
    """

    kind: Kind
    pose: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "pose": [float(v) for v in self.pose.ravel()],
            "low": [float(v) for v in self.low],
            "high": [float(v) if np.isfinite(v) else None for v in self.high],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Space:
        """Inverse of `to_dict`.

        Raises:
            ValueError: there is no such space.
        """
        space = cls(
            data["kind"],
            np.array(data["pose"], np.float64).reshape(3, 4),
            np.array(data["low"], np.float64).reshape(3),
            np.array([np.inf if v is None else v for v in data["high"]], np.float64).reshape(3),
        )
        with np.errstate(over="ignore"):
            extent = space.high - space.low
        bounded = np.isfinite(extent[:2]).all() and (space.kind == "ndc" or np.isfinite(extent[2]))
        if space.kind not in get_args(Kind) or not bounded or not (space.low < space.high).all():
            raise ValueError("no such space")
        if space.kind == "ndc" and space.low[2] <= 0:
            raise ValueError("the near plane is not in front")
        return space

    @property
    def contracted(self) -> bool:
        return self.kind == "contract"

    def march(self, origins: Array, directions: Array) -> Rays:
        """Map world rays to march space; `[N, 3]` float64 each, directions scaled to one unit of z-depth."""
        xp = namespace(directions)
        centre, axes = self.pose[:, 3].tolist(), self.pose[:, :3].T.tolist()
        along = [directions[:, k] for k in range(3)]
        length = xp.sqrt(_dot(along, along))
        o = [_dot(axis, [origins[:, k] - centre[k] for k in range(3)]) for axis in axes]
        d = [_dot(axis, along) for axis in axes]
        marches = {"ndc": self._march_ndc, "box": self._march_box, "contract": self._march_contract}
        start, end, depth_origin, depth_scale = marches[self.kind](xp, o, d)
        return Rays(
            rows(start),
            rows([b - a for a, b in zip(start, end, strict=True)]),
            rows([component / length for component in along]),
            single(depth_origin),
            single(depth_scale),
        )

    def _march_ndc(self, xp: Any, o: _Columns, d: _Columns) -> _March:
        near, far = self.low[2].item(), self.high[2].item()
        low, size = self.low[:2].tolist(), (self.high[:2] - self.low[:2]).tolist()
        # A ray that does not go forward never reaches the far plane; it gets a grazing slope, and its samples
        # outside the cube are empty.
        slope = xp.minimum(d[2], -1e-4 * xp.sqrt(_dot(d, d)))
        t_near = (-near - o[2]) / slope
        start = [((o[k] + t_near * d[k]) / near - low[k]) / size[k] for k in range(2)]
        if far == np.inf:
            at_far = [d[k] / -slope for k in range(2)]
        else:
            t_far = (-far - o[2]) / slope
            at_far = [(o[k] + t_far * d[k]) / far for k in range(2)]
        end = [(at_far[k] - low[k]) / size[k] for k in range(2)]
        return [*start, xp.zeros_like(slope)], [*end, xp.ones_like(slope)], -o[2] / slope, -1 / slope

    def _march_box(self, xp: Any, o: _Columns, d: _Columns) -> _March:
        low, size = self.low.tolist(), (self.high - self.low).tolist()
        o = [(o[k] - low[k]) / size[k] for k in range(3)]
        d = [d[k] / size[k] for k in range(3)]
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            faces = [(-a / b, (1 - a) / b) for a, b in zip(o, d, strict=True)]
        # A ray within a face yields NaN there, which fmax and fmin ignore.
        enter = reduce(xp.fmax, [xp.minimum(a, b) for a, b in faces]).clip(min=0)
        leave = reduce(xp.fmin, [xp.maximum(a, b) for a, b in faces]).clip(min=0)
        # A ray that misses the box gets zero length, outside it.
        miss = enter >= leave
        nowhere = xp.zeros_like(enter)
        enter, leave = xp.where(miss, nowhere, enter), xp.where(miss, nowhere, leave)
        start = [xp.where(miss, nowhere - 1, o[k] + enter * d[k]) for k in range(3)]
        return start, [start[k] + (leave - enter) * d[k] for k in range(3)], enter, leave - enter

    def _march_contract(self, xp: Any, o: _Columns, d: _Columns) -> _March:
        low, half = self.low.tolist(), ((self.high - self.low) / 2).tolist()
        o = [(o[k] - low[k] - half[k]) / half[k] for k in range(3)]
        d = [d[k] / half[k] for k in range(3)]
        length = xp.sqrt(_dot(d, d))
        near = 0.05
        scale = (reduce(xp.maximum, [xp.abs(a) for a in o]) + 1) / length
        start = [o[k] + near / length * d[k] for k in range(3)]
        return start, [start[k] + scale * d[k] for k in range(3)], near / length, scale

    def depth(self, s: Array, rays: Rays) -> Array:
        """Z-depth `[N]` in world units at the ray parameter s `[N]`."""
        if self.kind == "ndc":
            near, far = self.low[2].item(), self.high[2].item()
            with np.errstate(divide="ignore"):
                s = 1 / ((1 - s) / near + s / far)
        elif self.kind == "contract":
            s = march_distance(s)
        return rays.depth_origin + s * rays.depth_scale

    def pace(self, depth: np.ndarray, rays: Rays) -> np.ndarray:
        """How much of the ray parameter goes by per unit of z-depth, at depths `[..., N]` on each of N rays."""
        at = (depth - rays.depth_origin) / rays.depth_scale
        if self.kind == "ndc":
            at = 1 / (at * at * (1 / self.low[2] - 1 / self.high[2]))
        elif self.kind == "contract":
            at = 0.5 / np.maximum(at, 1) ** 2
        else:
            at = np.ones_like(at)
        return at / rays.depth_scale

    def density(self, points: np.ndarray) -> np.ndarray:
        """Volume of the unit cube per volume of the world, `[N]`, around world points `[N, 3]` that the space holds."""
        local = (points - self.pose[:, 3]) @ self.pose[:, :3]
        size = self.high - self.low
        if self.kind == "ndc":
            return local[:, 2] ** -4.0 / (size[0] * size[1] * (1 / self.low[2] - 1 / self.high[2]))
        if self.kind == "box":
            return np.full(len(local), 1 / size.prod())
        beyond = np.abs((local - self.low) / size * 2 - 1).max(1).clip(min=1)
        return beyond**-4.0 / (2 * size).prod()

    def world(self, position: np.ndarray) -> np.ndarray:
        """Points of the unit cube `[N, 3]` back to world coordinates `[N, 3]`."""
        if self.kind == "ndc":
            near, far = self.low[2], self.high[2]
            z = 1 / ((1 - position[:, 2]) / near + position[:, 2] / far)
            xy = (self.low[:2] + position[:, :2] * (self.high[:2] - self.low[:2])) * z[:, None]
            local = np.concatenate([xy, -z[:, None]], 1)
        else:
            half = (self.high - self.low) / 2
            unit = 2 * position - 1 if self.kind == "box" else expand(4 * position - 2)
            local = self.low + half + unit * half
        return local @ self.pose[:, :3].T + self.pose[:, 3]


def positions(origins: Array, directions: Array, s: Array, contracted: bool) -> Array:
    """Points of the unit cube `[R, N, 3]` at ray parameters s `[R, N]` of march-space rays `[R, 3]`."""
    if contracted:
        return contract(origins[:, None] + march_distance(s)[..., None] * directions[:, None])
    return origins[:, None] + s[..., None] * directions[:, None]


def _dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    """Dot product of vectors given by their components."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
