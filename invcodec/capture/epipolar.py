"""Whether a calibration fits the pictures: epipolar errors between neighbouring cameras, in pixels.

Points that look alike in two pictures are matched (SIFT; Lowe 2004). Those that agree with any epipolar geometry at all
show by how much the calibration's is off, and on which side of the cameras they would be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from invcodec.capture.image import area_downscale
from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera

_SIDE = 1000
"""Pictures are shrunk to about this many pixels per side: features of calibrated rigs are larger than a pixel."""
_FEATURES = 2000
_RATIO = 0.8
"""A match is kept if the second best is worse by this factor."""
_ENOUGH = 24
"""Fewer matches say nothing about a pair."""
_PAIRS = 24
"""At most so many pairs are compared."""
_WRONG = 0.01
"""An error of more than this share of the picture's width is one of convention, not of accuracy."""
_FLIP = np.array([1.0, -1.0, -1.0, 1.0])


def _inverted(pose: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.vstack([pose, [0, 0, 0, 1]]))[:3]


_OTHERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the cameras' y and z axes point the other way (OpenCV's for OpenGL's)": lambda pose: pose * _FLIP,
    "poses are world-to-camera instead of camera-to-world or the reverse": _inverted,
    "poses are world-to-camera with OpenCV's axes": lambda pose: _inverted(pose) * _FLIP,
    "poses are inverted after their axes were": lambda pose: _inverted(pose * _FLIP),
}
"""Conventions that calibrations are mistaken for."""


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
        instead: the convention under which they would be, if it is known.
    """

    pairs: tuple[PairError, ...]
    error: float | None
    wrong: bool
    instead: str | None


def check(cameras: Sequence[Camera], images: Sequence[np.ndarray]) -> Fit:
    """Compare the calibration of cameras with their pictures at one time.

    Args:
        images: `[H, W, 3 or 4]` uint8 of each camera.

    Raises:
        UsageError: OpenCV is not installed.
    """
    cv2 = _opencv()
    features: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    matched = []
    for a, b in neighbours(cameras):
        for index in (a, b):
            if index not in features:
                features[index] = _features(cv2, images[index], cameras[index])
        points = _match(cv2, features[a], features[b])
        agreeing = _consistent(cv2, cameras[a], cameras[b], *points)
        if agreeing.sum() >= _ENOUGH:
            matched.append((cameras[a], cameras[b], points[0][agreeing], points[1][agreeing]))
    pairs = tuple(_pair_error(*each) for each in matched)
    if not pairs:
        return Fit((), None, False, None)
    wrong = _is_wrong(pairs, matched)
    instead = None
    if wrong:
        for words, change in _OTHERS.items():
            changed = [(_with(a, change), _with(b, change), p, q) for a, b, p, q in matched]
            if not _is_wrong([_pair_error(*each) for each in changed], changed):
                instead = words
                break
    return Fit(pairs, float(np.median([pair.error for pair in pairs])), wrong, instead)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise UsageError("the check of poses on pictures needs OpenCV: pip install 'invcodec[check]'") from None
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


def _features(cv2: Any, image: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Places `[N, 2]` in the camera's pixels, and descriptors `[N, 128]`."""
    factor = max(1, round(max(image.shape[:2]) / _SIDE))
    grey = cv2.cvtColor(np.ascontiguousarray(area_downscale(image, factor)[..., :3]), cv2.COLOR_RGB2GRAY)
    found, descriptors = cv2.SIFT_create(_FEATURES).detectAndCompute(grey, None)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    # OpenCV counts from the centre of the first pixel.
    places = (np.array([point.pt for point in found], np.float64) + 0.5) * factor
    seen = camera.sees(places)
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
    """Undistorted image-plane coordinates `[N, 2]`, x right and y down, at unit depth."""
    directions = camera.rays(pixels)[1] @ camera.pose[:, :3]
    return directions[:, :2] * (1, -1)


def _consistent(cv2: Any, a: Camera, b: Camera, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Which matches `[M]` bool agree with one epipolar geometry, whatever it is."""
    if len(p) < _ENOUGH:
        return np.zeros(len(p), bool)
    # In pixels of lenses without distortion.
    flat = [(_plane(camera, pixels) * camera.fx).astype(np.float32) for camera, pixels in ((a, p), (b, q))]
    cv2.setRNGSeed(0)
    _, mask = cv2.findFundamentalMat(*flat, cv2.USAC_MAGSAC, 2.0, 0.999, 5000)
    return np.zeros(len(p), bool) if mask is None else mask[:, 0].astype(bool)


def _pair_error(a: Camera, b: Camera, p: np.ndarray, q: np.ndarray) -> PairError:
    """The error of matches at pixels `[M, 2]` of two cameras: Sampson's distance (Hartley and Zisserman, 11.4.3)."""
    # From the axes of a, right, down and forward, to those of b.
    signs = np.array([1.0, -1.0, -1.0])
    turn = (b.pose[:, :3] * signs).T @ (a.pose[:, :3] * signs)
    move = (b.pose[:, :3] * signs).T @ (a.pose[:, 3] - b.pose[:, 3])
    essential = np.cross(move, turn, axisb=0, axisc=0)
    x, y = (np.column_stack([_plane(camera, pixels), np.ones(len(pixels))]) for camera, pixels in ((a, p), (b, q)))
    lines_b, lines_a = x @ essential.T, y @ essential
    slopes = (lines_a[:, :2] ** 2).sum(1) / a.fx**2 + (lines_b[:, :2] ** 2).sum(1) / b.fx**2
    error = np.abs((y * lines_b).sum(1)) / np.sqrt(np.maximum(slopes, 1e-24))
    # The points of both rays that are nearest to each other: depths s and t with s turn x + move = t y.
    along = x @ turn.T
    aa, ab, bb = (along**2).sum(1), (along * y).sum(1), (y**2).sum(1)
    scale = np.maximum(aa * bb - ab**2, 1e-24)
    s = (ab * (y @ move) - bb * (along @ move)) / scale
    t = (aa * (y @ move) - ab * (along @ move)) / scale
    return PairError((a.name, b.name), len(p), float(np.median(error)), float(((s < 0) | (t < 0)).mean()))


def _is_wrong(pairs: Sequence[PairError], matched: Sequence[tuple[Camera, Camera, np.ndarray, np.ndarray]]) -> bool:
    shares = [pair.error / a.width for pair, (a, _, _, _) in zip(pairs, matched, strict=True)]
    return bool(np.median(shares) > _WRONG or np.median([pair.behind for pair in pairs]) > 0.5)


def _with(camera: Camera, change: Callable[[np.ndarray], np.ndarray]) -> Camera:
    return replace(camera, pose=change(camera.pose))
