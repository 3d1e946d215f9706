"""The choice of the space for a rig: the map that spends the unit cube, and the samples of a ray, where cameras look.

Cameras want detail in proportion to their pixels: evenly over the picture and, as parallax decides what can be told
apart, evenly over disparity. Points drawn that way, between each camera's depth bounds and where a second camera sees
them too, have some distribution in the world. A map gives each of them some volume of the cube, and some share of the
samples of its ray. Of all candidates that hold these points, the best one has the highest mean logarithm of the product
at the points: by Gibbs' inequality, nothing exceeds a map whose densities follow their distribution, and what is
missing is waste.

Everything follows the world's axes, origin and unit: a rig that is moved, turned or scaled gets the same map, moved,
turned or scaled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import training_cameras, upright
from invcodec.geometry.space import Kind, Space

_PIXELS = (11, 8)
"""Image points of a camera that are considered, borders included."""
_DEPTHS = 16
_MARGIN = 0.01
"""Room around what is seen between the considered image points, as a fraction of the extent of a fitted map."""

_SETBACKS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""How far behind the rig the reference camera of `ndc` may stand, in distances of the scene from the rig. The further,
the more the map is like a box."""
_TAILS = (0.025, 0.05, 0.1, 0.15, 0.2, 0.25)
"""Share of the points that may lie beyond each face of the inner box of `contract`."""

_PULL = 1e-3
"""Weight of the first camera in the mean of axes."""
_MIN_FORWARD_COSINE = 0.2
"""Between each camera and the mean one, for normalised device coordinates at all."""

_NEAREST, _FARTHEST = 0.25, 30.0
"""Depth bounds where none are known, in distances of the camera from what the rig looks at. What is farther hardly
moves from camera to camera."""
_CLEAR = 0.8
"""Share of the nearest depth of a camera that is taken to be empty."""
_OBJECT_NEAREST, _OBJECT_FARTHEST = 0.4, 1.6
"""The same around an object before a transparent background."""
_OBJECT_QUORUM = 0.5
"""Share of the cameras that see every part of such an object."""

_MIN_POINTS = 50
"""Reconstructed points that a camera must see before they say anything about its depth bounds."""
_POINT_TAIL = 0.005
"""Share of these points that may be mistakes, at each end."""
_POINT_MARGIN = 1.25
"""Factor by which the scene may come nearer, or reach farther, than these points: they lie on texture that stands
still."""


def choose_space(
    cameras: Sequence[Camera],
    *,
    points: np.ndarray | None = None,
    transparent: bool = False,
    kind: Kind | None = None,
) -> Space:
    """The space for a rig, from its training cameras.

    Captures with a transparent background get a `box` around what most cameras see. All others get the best of `ndc`,
    `box` and `contract`. Without depth bounds for every camera it is `contract` around what the rig looks at, which
    loses nothing.

    Args:
        cameras: the rig; held-out cameras are ignored.
        points: `[N, 3]` reconstructed points of the scene, which narrow the cameras' depth bounds or stand in for them.
        transparent: whether the scene is an object before a transparent background.
        kind: only "ndc" is a choice: normalised device coordinates of the mean camera, as published.

    Raises:
        UsageError: `ndc` is asked for, but the cameras do not face one way.
    """
    rig, frame, bounded = _bounded(cameras, points, transparent)
    seen = _seen(rig, _OBJECT_QUORUM if transparent else 0.0)
    if kind == "ndc":
        return _published(rig, seen, frame, bounded)
    if transparent:
        return next(_boxes("box", seen, frame, [0]))
    if not bounded:
        return _around(rig, frame)
    candidates = [*_boxes("contract", seen, frame, _TAILS), *_boxes("box", seen, frame, [0])]
    candidates += _moved_back(rig, seen, frame)
    return max(candidates, key=lambda space: _fitness(space, seen))


def nearest_depths(
    cameras: Sequence[Camera], *, points: np.ndarray | None = None, transparent: bool = False
) -> np.ndarray:
    """The z-depth `[C]` before which there is nothing in front of each training camera.

    Args:
        points, transparent: see `choose_space`.
    """
    rig = _bounded(cameras, points, transparent)[0]
    return _CLEAR * np.array([camera.near for camera in rig])


@dataclass(frozen=True)
class _Seen:
    """What the cameras see.

    Attributes:
        origins, directions: `[R, 3]`, rays of all cameras, their parameter being z-depth.
        depths: `[D, R]`, of points on them.
        weights: `[R]`, with which the points of a ray count.
        corners: `[N, 3]`, of all that is shared.
    """

    origins: np.ndarray
    directions: np.ndarray
    depths: np.ndarray
    weights: np.ndarray
    corners: np.ndarray

    @cached_property
    def points(self) -> np.ndarray:
        """The points `[D * R, 3]`."""
        return (self.origins + self.depths[..., None] * self.directions).reshape(-1, 3)

    @cached_property
    def held(self) -> np.ndarray:
        """Points `[M, 3]` that a map has to hold."""
        return np.concatenate([self.points, self.corners])

    def quantiles(self, values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
        """Weighted quantiles `[len(shares), K]` of values `[D * R, K]` of the points."""
        order = values.argsort(0)
        total = np.tile(self.weights, len(self.depths))[order].cumsum(0)
        rank = [(total < share * total[-1]).sum(0).clip(max=len(order) - 1) for share in shares]
        return np.take_along_axis(values, np.take_along_axis(order, np.array(rank), 0), 0)


def _fitness(space: Space, seen: _Seen) -> float:
    """Mean logarithm of the density of volume and of samples, up to a constant of the rig; higher is better."""
    volume = np.log(space.density(seen.points)).reshape(seen.depths.shape)
    pace = np.log(space.pace(seen.depths, space.march(seen.origins, seen.directions)))
    return float((volume + pace).mean(0) @ seen.weights)


def narrowed(camera: Camera, points: np.ndarray) -> Camera:
    """A camera with its depth bounds narrowed to the points `[N, 3]` that it sees, if these are enough to tell."""
    image, depth = camera.project(points)
    inside = (depth > 0) & (image >= 0).all(1) & (image[:, 0] < camera.width) & (image[:, 1] < camera.height)
    if np.count_nonzero(inside) < _MIN_POINTS:
        return camera
    nearest, farthest = np.quantile(depth[inside], [_POINT_TAIL, 1 - _POINT_TAIL])
    near, far = max(camera.near or 0.0, nearest / _POINT_MARGIN), min(camera.far or np.inf, farthest * _POINT_MARGIN)
    return replace(camera, near=float(near), far=float(far)) if near < far else camera


def _bounded(
    cameras: Sequence[Camera], points: np.ndarray | None, transparent: bool
) -> tuple[list[Camera], np.ndarray, bool]:
    """The training cameras, all with depth bounds; their frame `[3, 4]`; and whether no bound is a guess."""
    rig = [cameras[index] for index in training_cameras(cameras)]
    if points is not None:
        rig = [narrowed(camera, points) for camera in rig]
    bounded = all(camera.near is not None and camera.far is not None for camera in rig)
    frame = _frame(rig)
    return _with_bounds(rig, frame, transparent), frame, bounded


def _with_bounds(rig: Sequence[Camera], frame: np.ndarray, transparent: bool) -> list[Camera]:
    """The cameras, those without depth bounds with a guess: around the point where the optical axes meet."""
    focus, spread = _focus(rig, frame)
    nearest, farthest = (_OBJECT_NEAREST, _OBJECT_FARTHEST) if transparent else (_NEAREST, _FARTHEST)
    bounded = []
    for camera in rig:
        near, far = camera.near or 0.0, camera.far or np.inf
        distance = float((camera.pose[:, 3] - focus) @ camera.pose[:, 2])
        if not max(near, 0.1 * spread) < distance < far:
            distance = 2 / (1 / near + 1 / far) if near else min(3 * spread, far / 2)
        if transparent or not near:
            near = max(near, nearest * distance)
        if transparent or far == np.inf:
            far = min(far, farthest * distance)
        bounded.append(replace(camera, near=near, far=far))
    return bounded


def _focus(rig: Sequence[Camera], frame: np.ndarray) -> tuple[np.ndarray, float]:
    """The point `[3]` where the optical axes meet, and the median distance of the cameras from their middle."""
    middle = frame[:, 3]
    centres, axes = (np.stack([camera.pose[:, k] for camera in rig]) for k in (3, 2))
    spread = float(np.median(np.linalg.norm(centres - middle, axis=1)))
    if spread <= 1e-9 * np.abs(centres).max():
        # Cameras in one place tell nothing of the scene's size.
        spread = 1.0
    off_axis = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    # The minimum-norm solution: axes that are parallel meet nowhere in front.
    target = (off_axis @ (centres - middle)[:, :, None]).sum(0)[:, 0]
    focus = middle + np.linalg.lstsq(off_axis.sum(0), target, rcond=1e-6)[0]
    return focus, spread


def _frame(rig: Sequence[Camera]) -> np.ndarray:
    """Pose `[3, 4]` of the mean camera: median position, and axes along what the cameras have most in common.

    That is where they look, or, of cameras around a scene, which way is up. The first camera decides where the others
    cancel out.
    """
    poses = np.stack([camera.pose for camera in rig])
    up, back = (poses[:, :, axis].mean(0) + _PULL * poses[0, :, axis] for axis in (1, 2))
    if np.linalg.norm(up) > np.linalg.norm(back):
        back = back - up * (up @ back) / (up @ up)
    rotation = upright(np.zeros(3), back / np.linalg.norm(back), up)[:, :3]
    # The median along these axes, so that it turns with the rig.
    return np.append(rotation, rotation @ np.median(poses[:, :, 3] @ rotation, 0)[:, None], 1)


def _seen(rig: Sequence[Camera], quorum: float) -> _Seen:
    """Points along the rays of all cameras, evenly in disparity, from where a ray is first seen by enough to the last.

    A ray that too few others cross counts at the middle of its camera's disparities, without weight.

    Args:
        rig: cameras, all with bounds.
        quorum: share of the cameras that have to see a point; two at least.
    """
    count = max(int(np.ceil(quorum * len(rig))), 2)
    origins, directions = (np.concatenate(part) for part in zip(*(c.rays(_grid(c)) for c in rig), strict=True))
    near, far = np.repeat([_bounds(camera) for camera in rig], np.prod(_PIXELS), axis=0).T
    first, last = _shared(origins, directions, (near, far), rig, count)
    alone = ~(first < last)
    nearest, farthest = 1 / np.where(alone, near, first), 1 / np.where(alone, far, last)
    nearest, farthest = (np.where(alone, (nearest + farthest) / 2, each) for each in (nearest, farthest))
    depths = 1 / (nearest + (farthest - nearest) * np.linspace(0, 1, _DEPTHS)[:, None])
    weights = (nearest - farthest) / (1 / near - 1 / far)
    # Where no two cameras share anything, all rays count alike.
    weights = weights if weights.any() else np.ones_like(weights)
    # What two cameras share is convex, and its corners are where an edge of what one sees meets what the other sees.
    starts, edges = (np.concatenate(part) for part in zip(*(_edges(camera) for camera in rig), strict=True))
    first, last = _shared(starts, edges, (0.0, 1.0), rig, count)
    met = first < last
    corners = np.concatenate([starts[met] + t[met, None] * edges[met] for t in (first, last)])
    return _Seen(origins, directions, depths, weights / weights.sum(), corners)


def _edges(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Starts and extents, `[8, 3]` each, of the edges of what a camera sees at its near and at its far bound."""
    x, y = np.array([[0, 1, 1, 0], [0, 0, 1, 1]]) * np.array([[camera.width], [camera.height]])
    origins, directions = camera.rays(np.stack([x, y], 1))
    corners = np.array([origins + depth * directions for depth in _bounds(camera)])
    return corners.reshape(-1, 3), (np.roll(corners, -1, 1) - corners).reshape(-1, 3)


def _bounds(camera: Camera) -> tuple[float, float]:
    assert camera.near is not None
    assert camera.far is not None
    return camera.near, camera.far


def _grid(camera: Camera) -> np.ndarray:
    """Image points `[N, 2]`, borders included."""
    x, y = np.linspace(0, camera.width, _PIXELS[0]), np.linspace(0, camera.height, _PIXELS[1])
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def _shared(
    origins: np.ndarray, directions: np.ndarray, limits: tuple[Any, Any], rig: Sequence[Camera], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first and last ray parameters `[R]` within limits at which `count` cameras see rays; first > last if none."""
    crossings = [_crossing(origins, directions, camera) for camera in rig]
    enter, leave = (np.stack(ends) for ends in zip(*crossings, strict=True))
    enter, leave = enter.clip(min=limits[0]), leave.clip(max=limits[1])
    valid = enter < leave
    ends = np.concatenate([np.where(valid, enter, np.inf), np.where(valid, leave, np.inf)])
    order = ends.argsort(0, kind="stable")
    ends = np.take_along_axis(ends, order, 0)
    inside = (np.where(order < len(rig), 1, -1).cumsum(0) >= count) & np.isfinite(ends)
    after = np.append(ends[1:], ends[-1:], 0)
    return np.where(inside, ends, np.inf).min(0), np.where(inside, after, -np.inf).max(0)


def _crossing(origins: np.ndarray, directions: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The ray parameters `[R]` at which rays `[R, 3]` enter and leave what a camera sees between its bounds."""
    near, far = _bounds(camera)
    rotation = camera.pose[:, :3]
    plane = (camera.rays(_grid(camera))[1] @ rotation)[:, :2]
    # Rays and edges of the camera itself lie on its borders.
    slack = 1e-6 * np.ptp(plane, axis=0)
    low, high = plane.min(0) - slack, plane.max(0) + slack
    # Rows are the half-spaces that bound it: inside, the product with a point is above the limit.
    sides = np.array([[0, 0, -1], [0, 0, 1], [1, 0, low[0]], [-1, 0, -high[0]], [0, 1, low[1]], [0, -1, -high[1]]])
    limits = np.array([(1 - 1e-6) * near, -(1 + 1e-6) * far, 0, 0, 0, 0])
    start = sides @ ((origins - camera.pose[:, 3]) @ rotation).T - limits[:, None]
    slope = sides @ (directions @ rotation).T
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        at = -start / slope
    never = (slope == 0) & (start < 0)
    enter = np.where(slope > 0, at, np.where(never, np.inf, -np.inf)).max(0)
    return enter, np.where(slope < 0, at, np.inf).min(0)


def _boxes(kind: Kind, seen: _Seen, frame: np.ndarray, tails: Sequence[float]) -> Iterator[Space]:
    """Boxes along the axes of a frame `[3, 4]`, around all points but a tail beyond each face."""
    axes = frame[:, :3]
    local, held = seen.points @ axes, seen.held @ axes
    least = 1e-3 * np.ptp(held, axis=0).max()
    lows, highs = np.split(seen.quantiles(local, [*tails, *(1 - tail for tail in tails)]), 2)
    for tail, low, high in zip(tails, lows, highs, strict=True):
        if not tail:
            low, high = held.min(0), held.max(0)
        half = (0.5 + _MARGIN) * np.maximum(high - low, least)
        yield Space(kind, np.append(axes, (axes @ (low + high) / 2)[:, None], 1), -half, half)


def _around(rig: Sequence[Camera], frame: np.ndarray) -> Space:
    """`contract` around the point where the optical axes meet; half of the cameras stand within its inner cube.

    A cube that only held what is likely to be in focus would leave the room between it and the cameras, where
    matter that floats before one camera is hard to tell from the scene, with few samples and large cells.
    """
    focus, spread = _focus(rig, frame)
    distance = float(np.median([np.linalg.norm(camera.pose[:, 3] - focus) for camera in rig]))
    half = np.full(3, max(distance, spread))
    return Space("contract", np.append(frame[:, :3], focus[:, None], 1), -half, half)


def _moved_back(rig: Sequence[Camera], seen: _Seen, frame: np.ndarray) -> Iterator[Space]:
    """`ndc` of reference cameras ever farther behind the rig; none unless all points are in front of all cameras."""
    back = frame[:, 2]
    depth = (frame[:, 3] - seen.held) @ back
    foremost = _foremost(rig, frame)
    distance = seen.quantiles(((frame[:, 3] - seen.points) @ back)[:, None], [0.5]).item()
    for setback in _SETBACKS:
        moved = setback * distance
        near = (1 - _MARGIN) * (depth.min() + moved)
        if near > max(foremost + moved, 0):
            pose = np.append(frame[:, :3], (frame[:, 3] + moved * back)[:, None], 1)
            yield _perspective(seen.held, pose, near, (1 + _MARGIN) * (depth.max() + moved))


def _published(rig: Sequence[Camera], seen: _Seen, frame: np.ndarray, bounded: bool) -> Space:
    """`ndc` of the mean camera; what lies nearer than the foremost camera is cut off, which some rigs cannot avoid.

    Raises:
        UsageError: the cameras do not face one way.
    """
    turned = min(float(camera.pose[:, 2] @ frame[:, 2]) for camera in rig)
    depth = (frame[:, 3] - seen.held) @ frame[:, 2]
    median = float(np.median(depth))
    least = max(_foremost(rig, frame), 0.0) + _MARGIN * median
    if turned < _MIN_FORWARD_COSINE or median < 2 * least:
        raise UsageError(
            "normalised device coordinates need cameras that face one way, and these do not; choose another preset"
        )
    near = max((1 - _MARGIN) * depth.min(), least)
    return _perspective(seen.held, frame, near, (1 + _MARGIN) * depth.max() if bounded else np.inf)


def _foremost(rig: Sequence[Camera], frame: np.ndarray) -> float:
    """How far the foremost camera is before a frame."""
    return max(float((frame[:, 3] - camera.pose[:, 3]) @ frame[:, 2]) for camera in rig)


def _perspective(points: np.ndarray, pose: np.ndarray, near: float, far: float) -> Space:
    """`ndc` of a reference camera between two planes, wide enough for those of the points that lie between them."""
    local = (points - pose[:, 3]) @ pose[:, :3]
    local = local[-local[:, 2] >= near]
    plane = local[:, :2] / -local[:, 2:]
    low, high = plane.min(0), plane.max(0)
    margin = _MARGIN * (high - low)
    return Space("ndc", pose, np.append(low - margin, near), np.append(high + margin, far))
