"""Whether a calibration fits the pictures: epipolar errors between neighbouring cameras, in pixels.

Points that look alike in two pictures are matched (SIFT; Lowe 2004). Those that agree with any epipolar geometry at all
show by how much the calibration's is off, and on which side of the cameras they would be.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from invcodec.capture.capture import Capture
from invcodec.errors import CaptureError, InvWarning
from invcodec.geometry.camera import Camera
from invcodec.geometry.convention import Convention, common, conventions

_SIDE = 700
"""Pictures are shrunk to about this many pixels per side: features of calibrated rigs are larger than a pixel."""
_FEATURES = 2000
_RATIO = 0.8
"""A match is kept if the second best is worse by this factor."""
_ENOUGH = 24
"""Fewer matches say nothing about a pair."""
_PAIRS = 24
"""At most so many pairs are compared."""
_WRONG = 0.01
"""An error of more than this share of the picture's width is not one of accuracy."""
_RIGHT, _SHARE = 0.003, 0.8
"""Another convention explains the pictures if this share of the pairs have at most this error, of the width."""
_BETTER = 0.25
"""And if its error is at most this share of that of the one that was assumed."""
_LIKE = 1.25
"""Conventions that are better than others by less than this factor are as good: some rigs cannot tell them apart."""
_SEVERAL = 3
"""With fewer pairs, an unusual convention may fit by chance: there are many of them."""
_PARALLAX = 0.003
"""Points that move by less than this share of the width, from one picture to the other, are at no known distance."""


@dataclass(frozen=True)
class PairError:
    """How the calibration fits two cameras' pictures.

    Attributes:
        cameras: their names.
        matches: how many points were matched.
        error: median distance of matched points from their epipolar lines, in pixels.
        behind: the share of points that would be behind a camera.
    """

    cameras: tuple[str, str]
    matches: int
    error: float
    behind: float


@dataclass(frozen=True)
class Fit:
    """How a calibration fits the pictures.

    Attributes:
        pairs: those with enough matches.
        error: the median of their errors, in pixels; None without pairs.
        wrong: whether the poses are not those of the pictures.
        instead: the convention under which they would be, if one is much better.
    """

    pairs: tuple[PairError, ...]
    error: float | None
    wrong: bool
    instead: str | None


@dataclass(frozen=True)
class _Matched:
    """Points that two cameras, `a` and `b`, see.

    Attributes:
        x, y: `[M, 3]`, where they are in each camera's undistorted image plane: right, down, and 1 forward.
    """

    a: Camera
    b: Camera
    x: np.ndarray
    y: np.ndarray


def compare(capture: Capture) -> Fit | None:
    """How a capture's calibration fits the pictures of its first frame; None if it has none, or OpenCV is missing.

    Raises:
        CaptureError: a picture cannot be read.
    """
    cv2 = _opencv()
    if capture.convention is None or cv2 is None:
        return None
    with closing(capture.frames()) as frames:
        first = next(frames)
    seen = [
        (camera, image, mask)
        for camera, image, mask in zip(capture.cameras, first.images, first.masks, strict=True)
        if image is not None
    ]
    cameras, images, masks = zip(*seen, strict=True)
    return measure(cv2, cameras, images, masks, capture.convention)


def judge(capture: Capture, fit: Fit) -> None:
    """Refuse a calibration of a wrong convention, and warn of one that does not fit for reasons that are not known.

    Two pairs of cameras have to agree: what repeats itself may look alike in one by mistake.

    Raises:
        CaptureError: the pictures show in which other convention the poses are.
    """
    if not fit.wrong:
        return
    found = f"{capture.folder}: the poses do not fit the pictures (epipolar error {fit.error:.1f} px)"
    if fit.instead is None:
        warnings.warn(
            f"{found}; poses or lenses are those of other cameras or pictures: calibrate again",
            InvWarning,
            stacklevel=2,
        )
        return
    found += f" as {capture.convention}; as {fit.instead} they would: convert them"
    if len(fit.pairs) > 1:
        raise CaptureError(found)
    warnings.warn(found, InvWarning, stacklevel=2)


def measure(
    cv2: Any,
    cameras: Sequence[Camera],
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray | None],
    convention: Convention,
) -> Fit:
    """Compare the calibration of cameras with their pictures at one time.

    Args:
        cv2: the module of OpenCV.
        images: `[H, W, 3 or 4]` uint8 of each camera.
        masks: `[H, W]` bool of each camera (False: ignore the pixel), or None.
        convention: in which the poses were read.
    """
    features: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    matched = []
    for a, b in neighbours(cameras):
        for index in (a, b):
            if index not in features:
                features[index] = _features(cv2, images[index], masks[index], cameras[index])
        places = _match(cv2, features[a], features[b])
        x, y = (_plane(camera, pixels) for camera, pixels in zip((cameras[a], cameras[b]), places, strict=True))
        agreeing = _consistent(cv2, cameras[a], cameras[b], x, y)
        if agreeing.sum() >= _ENOUGH:
            matched.append(_Matched(cameras[a], cameras[b], x[agreeing], y[agreeing]))
    if not matched:
        return Fit((), None, False, None)
    pairs = _errors(matched, convention, convention)
    error, behind = _error(pairs), _are_behind(pairs)
    large = bool(np.median(_shares(pairs, matched)) > _WRONG)
    instead = _instead(matched, convention, error if behind else _BETTER * error)
    return Fit(pairs, error, behind or large or instead is not None, instead)


def _instead(matched: Sequence[_Matched], convention: Convention, enough: float) -> str | None:
    """The commonest convention with an error of at most `enough` of poses that were read in another one."""
    fitting = []
    for other in conventions() if len(matched) >= _SEVERAL else common():
        pairs = _errors(matched, convention, other)
        shares = [
            0.5 if pair.behind > 0.5 else share for pair, share in zip(pairs, _shares(pairs, matched), strict=True)
        ]
        if _error(pairs) <= enough and np.quantile(shares, _SHARE, method="higher") <= _RIGHT:
            fitting.append((_error(pairs), other))
    best = min((error for error, _ in fitting), default=0.0)
    return next((str(other) for error, other in fitting if error <= _LIKE * best), None)


def _opencv() -> Any:
    """The module of OpenCV, or None if it is not installed or lacks a library."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def neighbours(cameras: Sequence[Camera]) -> list[tuple[int, int]]:
    """Pairs of cameras that are likely to see the same: each with the nearest that looks about the same way."""
    centres = np.stack([camera.pose[:, 3] for camera in cameras])
    axes = np.stack([camera.pose[:, 2] for camera in cameras])
    apart = np.linalg.norm(centres[:, None] - centres, axis=2)
    # In units of the rig's size; cameras that look at right angles are as bad as the whole rig apart.
    cost = apart / max(float(apart.max()), 1e-12) + 1 - axes @ axes.T
    np.fill_diagonal(cost, np.inf)
    pairs = sorted({(min(a, b), max(a, b)) for a, b in enumerate(cost.argmin(1).tolist())})
    return pairs[:: -(-len(pairs) // _PAIRS)]


def _features(cv2: Any, image: np.ndarray, mask: np.ndarray | None, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Places `[N, 2]` in the camera's pixels, and descriptors `[N, 128]`."""
    factor = max(1, round(max(image.shape[:2]) / _SIDE))
    grey = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2GRAY)
    height, width = (side // factor for side in grey.shape)
    grey = cv2.resize(grey[: factor * height, : factor * width], (width, height), interpolation=cv2.INTER_AREA)
    found, descriptors = cv2.SIFT_create(_FEATURES).detectAndCompute(grey, None)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    # OpenCV counts from the centre of the first pixel.
    places = (np.array([point.pt for point in found], np.float64) + 0.5) * factor
    seen = camera.sees(places)
    if mask is not None:
        column, row = np.clip(places.astype(int), 0, (camera.width - 1, camera.height - 1)).T
        seen &= mask[row, column]
    return places[seen], descriptors[seen]


def _match(
    cv2: Any, a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Places `[M, 2]` in both pictures of points that are each other's best match."""
    if min(len(a[0]), len(b[0])) < 2:
        return np.zeros((0, 2)), np.zeros((0, 2))
    matcher = cv2.BFMatcher(cv2.NORM_L2)

    def best(one: np.ndarray, other: np.ndarray) -> dict[int, int]:
        found = matcher.knnMatch(one, other, k=2)
        return {m.queryIdx: m.trainIdx for m, n in found if m.distance < _RATIO * n.distance}

    there, back = best(a[1], b[1]), best(b[1], a[1])
    mutual = [(i, j) for i, j in there.items() if back.get(j) == i]
    return a[0][[i for i, _ in mutual]], b[0][[j for _, j in mutual]]


def _plane(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """Where pixels `[N, 2]` are in the undistorted image plane `[N, 3]`: right, down, and 1 forward."""
    directions = camera.rays(pixels)[1] @ camera.pose[:, :3]
    return directions * (1, -1, -1)


def _consistent(cv2: Any, a: Camera, b: Camera, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which matches `[M]` bool agree with one epipolar geometry, whatever it is."""
    if len(x) < _ENOUGH:
        return np.zeros(len(x), bool)
    # In pixels of lenses without distortion.
    flat = [(plane[:, :2] * camera.fx).astype(np.float32) for camera, plane in ((a, x), (b, y))]
    cv2.setRNGSeed(0)
    try:
        _, mask = cv2.findFundamentalMat(*flat, cv2.USAC_MAGSAC, 2.0, 0.999, 5000)
    except cv2.error:
        # Of few points that nothing explains.
        mask = None
    return np.zeros(len(x), bool) if mask is None else mask[:, 0].astype(bool)


def _errors(matched: Sequence[_Matched], convention: Convention, other: Convention) -> tuple[PairError, ...]:
    """Errors of poses that were read in one convention, were they of another."""

    def pose(camera: Camera) -> np.ndarray:
        return other.pose(convention.matrix(camera.pose))

    return tuple(_pair_error(each, pose(each.a), pose(each.b)) for each in matched)


def _pair_error(matched: _Matched, pose_a: np.ndarray, pose_b: np.ndarray) -> PairError:
    """The error of matches with poses `[3, 4]`: Sampson's distance (Hartley and Zisserman, 11.4.3)."""
    a, b, x, y = matched.a, matched.b, matched.x, matched.y
    # From the axes of a, right, down and forward, to those of b.
    signs = np.array([1.0, -1.0, -1.0])
    turn = (pose_b[:, :3] * signs).T @ (pose_a[:, :3] * signs)
    move = (pose_b[:, :3] * signs).T @ (pose_a[:, 3] - pose_b[:, 3])
    essential = np.cross(move, turn, axisb=0, axisc=0)
    along = x @ turn.T
    if not move.any():
        # In one place, both see everything in the same direction.
        away = np.linalg.norm(
            along / np.linalg.norm(along, axis=1)[:, None] - y / np.linalg.norm(y, axis=1)[:, None], axis=1
        )
        return PairError((a.name, b.name), len(x), float(np.median(away)) * b.fx, 0.0)
    lines_b, lines_a = x @ essential.T, y @ essential
    slopes = (lines_a[:, :2] ** 2).sum(1) / a.fx**2 + (lines_b[:, :2] ** 2).sum(1) / b.fx**2
    error = np.abs((y * lines_b).sum(1)) / np.sqrt(np.maximum(slopes, 1e-24))
    # The points of both rays that are nearest to each other: depths s and t with s turn x + move = t y.
    aa, ab, bb = (along**2).sum(1), (along * y).sum(1), (y**2).sum(1)
    scale = np.maximum(aa * bb - ab**2, 1e-24)
    s = (ab * (y @ move) - bb * (along @ move)) / scale
    t = (aa * (y @ move) - ab * (along @ move)) / scale
    apart = np.sqrt(scale / (aa * bb)) * b.fx > _PARALLAX * b.width
    behind = apart & ((s < 0) | (t < 0))
    return PairError((a.name, b.name), len(x), float(np.median(error)), float(behind.mean()))


def _error(pairs: Sequence[PairError]) -> float:
    return float(np.median([pair.error for pair in pairs]))


def _are_behind(pairs: Sequence[PairError]) -> bool:
    return bool(np.median([pair.behind for pair in pairs]) > 0.5)


def _shares(pairs: Sequence[PairError], matched: Sequence[_Matched]) -> list[float]:
    """Errors in picture widths."""
    return [pair.error / each.a.width for pair, each in zip(pairs, matched, strict=True)]
