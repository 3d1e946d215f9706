"""When each of several videos began, from what happens in them.

Two signals of the same events are most alike when they are shifted by the difference of the cameras' offsets. For each
pair of videos the likelihood of all shifts is computed, and the offsets are those that are most likely together, so a
pair that sees different things, or the same thing again and again, is outvoted.

Where the cameras are calibrated, what moves in one picture moves on the corresponding epipolar lines of the other
(Ben-Artzi, Halperin, Werman and Peleg 2016, "Epipolar geometry based on line similarity"): changes are compared on each
of a pencil of epipolar planes, which tells far more than how much of the whole picture changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np

from invcodec.capture.activity import LOUDNESS_RATE, Loudness, Motion, loudness, motion
from invcodec.capture.offsets import write
from invcodec.capture.video import probe
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera
from invcodec.names import Evidence

SURE = 0.98
"""Offsets of less confidence are not to be trusted."""
_INTERVAL = 2.0
"""Offsets whose log-likelihood is less than the best one's by this are as far off as can be expected (95 %)."""
_PLANES = 24
"""Epipolar planes of a pair."""
_LEAST_SECONDS, _LEAST_PLACES = 0.25, 8
"""Two videos must have so much in common, and so many frames."""
_LEAST_SHARE = 0.5
"""And this share of the shorter one."""
_LEAST_STEP = 1 / 250
"""Motion is compared at shifts at least so far apart, in seconds."""
_ROUNDS = 20
"""Of choosing each offset given the others."""
_DRIFT_SECONDS, _DRIFT_PART = 16.0, 4
"""Videos of at least so many seconds in common are compared by the first and the last of so many parts, for clocks
that run at different speeds."""


@dataclass(frozen=True)
class Curve:
    """Log-likelihood of the difference of two videos' offsets.

    Attributes:
        first: the first difference, in seconds.
        step: between differences, in seconds.
        values: `[N]`, 0 where nothing speaks for it.
    """

    first: float
    step: float
    values: np.ndarray

    def at(self, differences: np.ndarray) -> np.ndarray:
        places = self.first + self.step * np.arange(len(self.values))
        return np.interp(differences, places, self.values, 0, 0)

    def reversed(self) -> Curve:
        """With the videos in the other order."""
        return Curve(-self.first - self.step * (len(self.values) - 1), self.step, self.values[::-1])

    def later(self, shift: float) -> Curve:
        """With all differences greater by a shift in seconds."""
        return Curve(self.first + shift, self.step, self.values)

    def plus(self, other: Curve) -> Curve:
        """With what another curve says at the same differences."""
        return Curve(
            self.first,
            self.step,
            self.values + other.at(self.first + self.step * np.arange(len(self.values))),
        )

    @property
    def best(self) -> tuple[float, float]:
        """The likeliest difference, and its log-likelihood."""
        place = int(self.values.argmax())
        return self.first + self.step * place, float(self.values[place])


@dataclass(frozen=True)
class Synchrony:
    """Offsets of some videos.

    Attributes:
        offsets: `[N]` in seconds, to be added to the times of each video's frames; 0 for the first video.
        confidence: `[N]`, the probability that each is right, given the others, if either it or the next best is:
            1 - exp(b - a), where a is its log-likelihood, and b the greatest that the next best may have.
        within: `[N]`, in seconds: how far off each may be if it is the right one.
    """

    offsets: np.ndarray
    confidence: np.ndarray
    within: np.ndarray

    @property
    def sure(self) -> bool:
        return bool((self.confidence >= SURE).all())


@dataclass(frozen=True)
class Found:
    """What was found of a folder's videos.

    Attributes:
        folder: that holds them.
        videos: in order.
        rate: frames per second by which they are numbered.
        told_by: "sound", "motion", or "motion along epipolar lines".
        synchrony: in the order of `videos`.
        drift: `[N]`, seconds by which the offset of each video grows in a second: its clock is slower than that of the
            first by so much. 0 where the offset stays within half a frame, or it cannot be told.
    """

    folder: Path
    videos: tuple[Path, ...]
    rate: Fraction
    told_by: str
    synchrony: Synchrony
    drift: np.ndarray

    @property
    def sure(self) -> bool:
        """Whether offsets are certain, and hold from the first frame to the last."""
        return self.synchrony.sure and not self.drift.any()

    def write(self, force: bool) -> Path:
        """Write the offsets beside the videos.

        Raises:
            UsageError: as `invcodec.capture.offsets.write`.
        """
        return write(self.folder, dict(zip(self.videos, self.synchrony.offsets.tolist(), strict=True)), force)


def synchronise(
    folder: Path,
    videos: Sequence[Path],
    cameras: Sequence[Camera] | None,
    *,
    by: Evidence | None = None,
    done: Callable[[], None] = lambda: None,
) -> Found:
    """Find when each video of a folder began.

    Args:
        videos, cameras: as `invcodec.capture.capture.videos_of` gives them.
        by: if None, sound if all have it and it is clear, else both together.
        done: called once for every video and kind of evidence, unless the first one will do.

    Raises:
        CaptureError: there are fewer than two videos, one of them cannot be read, or one has no sound.
    """
    if len(videos) < 2:
        what = "1 video" if videos else "no videos"
        raise CaptureError(f"{folder}: has {what}; at least 2 are needed to find offsets between them")
    rate = min(probe(video).fps for video in videos)
    heard: list[Loudness | None] = [None] * len(videos)
    if by != "motion":
        for index, video in enumerate(videos):
            heard[index] = loudness(video)
            done()
        if by == "sound" and None in heard:
            raise CaptureError(f"{videos[heard.index(None)]}: has no sound; find offsets by motion instead")
        found = solve(len(videos), by_sound(heard))
        drift = _drift(found, [each for each in heard if each is not None], by_sound, rate)
        if by == "sound" or found.sure or drift.any():
            return Found(folder, tuple(videos), rate, "sound", found, drift)
    seen = []
    for video in videos:
        seen.append(motion(video))
        done()
    curves = by_motion(seen, cameras)
    for pair, curve in by_sound(heard).items():
        # Sound that did not convince may still agree.
        curves[pair] = curves[pair].plus(curve) if pair in curves else curve
    found = solve(len(videos), curves)
    drift = _drift(found, seen, lambda parts: by_motion(parts, cameras), rate)
    return Found(
        folder, tuple(videos), rate, "motion" if cameras is None else "motion along epipolar lines", found, drift
    )


_Signal = TypeVar("_Signal", Loudness, Motion)


def _drift(
    found: Synchrony,
    signals: Sequence[_Signal],
    curves: Callable[[Sequence[_Signal]], dict[tuple[int, int], Curve]],
    rate: Fraction,
) -> np.ndarray:
    """How much the offsets of videos grow in a second, as `Found.drift`, from their first and last parts.

    Args:
        signals: of the videos that have any.
    """
    none = np.zeros(len(found.offsets))
    if len(signals) < len(none) or not all(len(each.times) for each in signals):
        return none
    both = list(zip(found.offsets, signals, strict=True))
    begin = max(offset + each.times[0] for offset, each in both)
    end = min(offset + each.times[-1] for offset, each in both)
    if end - begin < _DRIFT_SECONDS:
        return none
    part = (end - begin) / _DRIFT_PART
    first, last = (
        solve(len(both), curves([each.between(start - offset, start + part - offset) for offset, each in both]))
        for start in (begin, end - part)
    )
    change = last.offsets - first.offsets
    told = (first.confidence >= SURE) & (last.confidence >= SURE)
    told &= np.abs(change) > np.maximum(first.within + last.within, 0.5 / float(rate))
    return np.where(told, change / (end - begin - part), 0)


def by_sound(heard: Sequence[Loudness | None]) -> dict[tuple[int, int], Curve]:
    """Curves of all pairs of videos that have sound."""
    curves = {}
    for first, second in combinations(range(len(heard)), 2):
        a, b = heard[first], heard[second]
        if a is not None and b is not None:
            # Changes of loudness, whatever its level.
            curve = compare(np.diff(a.bands), np.diff(b.bands), 1 / LOUDNESS_RATE)
            curves[first, second] = curve.later(a.start - b.start)
    return curves


def by_motion(motions: Sequence[Motion], cameras: Sequence[Camera] | None) -> dict[tuple[int, int], Curve]:
    """Curves of all pairs of videos that have motion.

    Args:
        motions: of each video.
        cameras: their calibration, if there is one.
    """
    step = min((float(np.median(np.diff(each.times))) for each in motions if len(each.times) > 1), default=1.0)
    step = max(step, _LEAST_STEP)
    curves = {}
    for first, second in combinations(range(len(motions)), 2):
        pair = motions[first], motions[second]
        if min(len(each.times) for each in pair) > 1:
            planes = (
                None
                if cameras is None
                else _planes(cameras[first], cameras[second], [m.changes.shape[1:] for m in pair])
            )
            signals = []
            for index, each in enumerate(pair):
                if planes is None:
                    summed = each.changes.mean((1, 2), dtype=np.float64)[None]
                else:
                    summed = _along(each.changes, planes[index])
                rate = np.diff(each.times, prepend=2 * each.times[0] - each.times[1])
                grid = np.arange(each.times[0], each.times[-1] + step / 2, step)
                signals.append(np.stack([np.interp(grid, each.times, row / rate) for row in summed]))
            curve = compare(signals[0], signals[1], step)
            curves[first, second] = curve.later(float(pair[0].times[0] - pair[1].times[0]))
    return curves


def compare(a: np.ndarray, b: np.ndarray, step: float) -> Curve:
    """How well two signals agree, for every shift of one against the other.

    For a correlation r over n samples that is -n log(1 - r^2) / 2, the log-likelihood ratio of signals that are
    correlated to ones that are not. Samples that are like the ones before count for less (Bartlett 1946).

    Args:
        a, b: `[C, N]` and `[C, M]`, sampled every `step` seconds.
    """
    n, m = a.shape[1], b.shape[1]
    shorter = min(n, m)
    least = max(_LEAST_PLACES, round(_LEAST_SECONDS / step), round(_LEAST_SHARE * shorter))
    if shorter < least:
        return Curve(0.0, step, np.zeros(1))
    # a[i + lag] is compared with b[i].
    lags = np.arange(-(m - least), n - least + 1)
    from_a, from_b = np.maximum(lags, 0), np.maximum(-lags, 0)
    count = np.minimum(n - from_a, m - from_b)
    size = 1 << (n + m - 1).bit_length()
    joint = np.zeros(len(lags))
    squares = np.zeros((2, len(lags)))
    for x, y in zip(a.astype(np.float64), b.astype(np.float64), strict=True):
        x, y = x - x.mean(), y - y.mean()
        product = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(y, size).conj(), size)[lags % size]
        sums = []
        for row, (signal, start) in enumerate(((x, from_a), (y, from_b))):
            total, power = (np.concatenate([[0.0], np.cumsum(each)]) for each in (signal, signal**2))
            sums.append(total[start + count] - total[start])
            squares[row] += power[start + count] - power[start] - sums[row] ** 2 / count
        joint += product - sums[0] * sums[1] / count
    scale = np.sqrt(np.maximum(squares, 0).prod(0))
    noise = 1e-9 * float(scale.max()) if scale.size else 0.0
    correlation = np.where(scale > noise, joint / np.maximum(scale, 1e-300), 0)
    values = -0.5 * count * np.log1p(-(np.clip(correlation, 0, 0.9999) ** 2))
    return Curve(float(lags[0]) * step, step, values / _memory(a, b))


def _memory(a: np.ndarray, b: np.ndarray) -> float:
    """How many samples of two signals `[C, N]` and `[C, M]` count as one, at least 1."""
    shorter = min(a.shape[1], b.shape[1])
    like = []
    for signal in (a, b):
        centred = signal - signal.mean(1, keepdims=True)
        spectrum = np.abs(np.fft.rfft(centred, 2 * signal.shape[1])) ** 2
        power = np.fft.irfft(spectrum.sum(0))[:shorter]
        like.append(power / power[0] if power[0] > 0 else np.zeros(shorter))
    share = 1 - np.arange(shorter) / shorter
    return max(1.0, 1 + 2 * float((share * like[0] * like[1])[1 : max(1, shorter // 4)].sum()))


def _planes(a: Camera, b: Camera, sizes: Sequence[tuple[int, ...]]) -> list[np.ndarray] | None:
    """For each pixel of two shrunken pictures `[H, W]`, the epipolar plane on which it is, or -1.

    None if the cameras are in the same place, where there are no such planes.
    """
    baseline = b.pose[:, 3] - a.pose[:, 3]
    length = float(np.linalg.norm(baseline))
    ahead = -(a.pose[:, 2] + b.pose[:, 2])
    if not length:
        return None
    baseline = baseline / length
    ahead = ahead - baseline * (ahead @ baseline)
    if np.linalg.norm(ahead) < 1e-6:
        ahead = a.pose[:, 1] - baseline * (a.pose[:, 1] @ baseline)
    ahead = ahead / np.linalg.norm(ahead)
    aside = np.cross(baseline, ahead)
    angles = []
    for camera, (height, width) in zip((a, b), sizes, strict=True):
        y, x = np.mgrid[:height, :width] + 0.5
        pixels = np.stack([x.reshape(-1) * camera.width / width, y.reshape(-1) * camera.height / height], 1)
        _, directions = camera.rays(pixels)
        angles.append(np.arctan2(directions @ aside, directions @ ahead).reshape(height, width))
    low, high = max(each.min() for each in angles), min(each.max() for each in angles)
    if not high > low:
        return None
    planes = [np.floor((each - low) / (high - low) * _PLANES) for each in angles]
    return [np.where((each >= 0) & (each < _PLANES), each, -1).astype(int) for each in planes]


def _along(changes: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Mean change `[_PLANES, T]` on each epipolar plane."""
    flat, where = changes.reshape(len(changes), -1), planes.reshape(-1)
    sums = [
        flat[:, where == plane].sum(1, dtype=np.float64) / max(1, (where == plane).sum()) for plane in range(_PLANES)
    ]
    return np.stack(sums)


def solve(count: int, curves: dict[tuple[int, int], Curve]) -> Synchrony:
    """The offsets that are most likely together.

    Args:
        count: of videos.
        curves: of some of their pairs (a, b), over the offset of b less that of a.
    """
    offsets, joined = np.zeros(count), {0}
    both = {**curves, **{(b, a): curve.reversed() for (a, b), curve in curves.items()}}
    while len(joined) < count:
        # The pair that says most about a video that is not yet placed.
        ways = [(both[i, j].best[1], i, j) for i in joined for j in range(count) if j not in joined and (i, j) in both]
        if not ways:
            joined.add(next(j for j in range(count) if j not in joined))
            continue
        _, i, j = max(ways)
        offsets[j] = offsets[i] + both[i, j].best[0]
        joined.add(j)
    for _ in range(_ROUNDS):
        before = offsets.copy()
        for video in range(count):
            offsets[video], *_ = _best(video, offsets, both)
        if np.abs(offsets - before).max() < 1e-4:
            break
    _, confidence, within = np.array([_best(video, offsets, both) for video in range(count)]).T
    return Synchrony(offsets - offsets[0], confidence, within)


def _best(video: int, offsets: np.ndarray, both: dict[tuple[int, int], Curve]) -> tuple[float, float, float]:
    """The likeliest offset of a video, given the others', how far it stands out, and how far off it may be."""
    known = [(offsets[i], curve) for (i, j), curve in both.items() if j == video]
    if not known:
        return float(offsets[video]), 0.0, np.inf
    step = min(curve.step for _, curve in known)
    low = min(offset + curve.first for offset, curve in known)
    high = max(offset + curve.first + curve.step * (len(curve.values) - 1) for offset, curve in known)
    places = np.arange(low, high + step / 2, step)
    total = np.sum([curve.at(places - offset) for offset, curve in known], axis=0)
    top = int(total.argmax())
    best = float(total[top])
    if best <= 0:
        return float(offsets[video]), 0.0, np.inf
    before, after = np.append(0, total[:-1]), np.append(total[1:], 0)
    # The peak ends where it has fallen to half; another one beyond it speaks against it.
    low_half, high_half = _extent(total, top, best / 2)
    others = (total >= before) & (total >= after) & (total > 0)
    others[low_half:high_half] = False
    second = _heights(total[others], np.maximum(before, after)[others], min(before[top], after[top]) / best).max(
        initial=0
    )
    shift = 0.0
    if 0 < top < len(total) - 1:
        bend = total[top - 1] - 2 * best + total[top + 1]
        shift = 0.5 * float((total[top - 1] - total[top + 1]) / bend) if bend < 0 else 0.0
    low_end, high_end = _extent(total, top, best - _INTERVAL)
    within = step * (high_end - low_end) / 2
    return float(places[top]) + shift * step, 1 - float(np.exp(min(second - best, 0))), within


def _extent(values: np.ndarray, top: int, least: float) -> tuple[int, int]:
    """The first of the samples around one that are all at least `least`, and one past the last."""
    below = np.concatenate([[True], values < least, [True]])
    return int(np.flatnonzero(below[: top + 1])[-1]), top + 1 + int(np.flatnonzero(below[top + 2 :])[0])


def _heights(peaks: np.ndarray, beside: np.ndarray, fall: float) -> np.ndarray:
    """How high peaks are that may lie between two samples, where signals of few frames agree less.

    Args:
        peaks: `[P]`, their highest samples.
        beside: `[P]`, the higher one of both samples beside each.
        fall: what is left of a peak a whole sample away; it falls exponentially on both sides.
    """
    fall = min(max(fall, 0.01), 0.99)
    away = (1 - np.log(np.maximum(beside, 1e-9) / peaks) / np.log(fall)) / 2
    return peaks * fall ** -np.clip(away, 0, 0.5)
