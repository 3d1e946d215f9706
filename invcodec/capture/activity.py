"""What happens in a video, over time: how much of its picture changes, and how loud it is.

Cameras that film one scene see and hear the same things happen, which tells when each of them began
(`invcodec.capture.sync`).
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

from invcodec.capture.video import all_frames, open_video, probe

_SIDE = 64
"""Pictures are shrunk by an integer as long as their longer side keeps this many pixels."""
_NOISE = 0.03
"""Changes of a pixel up to this part of the picture's mean brightness are noise."""
_SCALE = 400
"""Of changes that are stored in 8 bits: the greatest is two thirds of the mean brightness."""
_MOST_SECONDS, _MOST_FRAMES = 120, 8000
"""Of a video, so much is looked at."""
_BANDS = ((100, 300), (300, 700), (700, 1500), (1500, 3400))
"""Frequencies in Hz of which the loudness is taken."""
_SOUND_RATE, LOUDNESS_RATE = 8000, 250
"""Of samples, and of their loudness, in Hz."""
_WINDOW = np.hanning(13)[1:-1] / np.hanning(13).sum()
"""Over which the loudness is averaged."""
_FLOOR = 0.1
"""Power below this part of the mean is noise."""
_SILENCE = 1e-4
"""A sound whose samples differ by less is none; 1 is full scale."""


@dataclass(frozen=True)
class Motion:
    """Changes from frame to frame.

    Attributes:
        times: `[T]` in seconds after the first frame, each between two frames.
        changes: `[T, H, W]` uint8, of a shrunken picture.
    """

    times: np.ndarray
    changes: np.ndarray

    def between(self, begin: float, end: float) -> Motion:
        """The part between two times."""
        part = (self.times >= begin) & (self.times <= end)
        return Motion(self.times[part], self.changes[part])


def motion(path: Path) -> Motion:
    """How a video's picture changes.

    Raises:
        CaptureError: it cannot be decoded.
    """
    info = probe(path)
    times: list[float] = []
    shown: list[np.ndarray] = []
    before: tuple[float, np.ndarray] | None = None
    with closing(all_frames(info, max(1, max(info.width, info.height) // _SIDE))) as frames:
        for time, picture in frames:
            if time > _MOST_SECONDS or len(times) == _MOST_FRAMES:
                break
            grey = picture.mean(2, dtype=np.float32)
            grey /= max(float(grey.mean()), 1.0)
            if before is not None and time > before[0]:
                change = np.maximum(np.abs(grey - before[1]) - _NOISE, 0)
                times.append((time + before[0]) / 2)
                shown.append(np.minimum(_SCALE * change, 255).astype(np.uint8))
            before = time, grey
    return Motion(np.array(times), np.stack(shown) if shown else np.zeros((0, 1, 1), np.uint8))


@dataclass(frozen=True)
class Loudness:
    """How loud it is.

    Attributes:
        start: in seconds after the first frame.
        bands: `[B, T]`, logarithm of the power in some bands of frequencies, `LOUDNESS_RATE` times a second.
    """

    start: float
    bands: np.ndarray

    @property
    def times(self) -> np.ndarray:
        """`[T]` in seconds after the first frame."""
        return self.start + np.arange(self.bands.shape[1]) / LOUDNESS_RATE

    def between(self, begin: float, end: float) -> Loudness:
        """The part between two times."""
        part = (self.times >= begin) & (self.times <= end)
        return Loudness(float(self.times[part][0]) if part.any() else begin, self.bands[:, part])


def loudness(path: Path) -> Loudness | None:
    """How loud a video is, or None if it has no sound, or is silent.

    Raises:
        CaptureError: the file cannot be read.
    """
    start, sound = _sound(path)
    if len(sound) < _SOUND_RATE or np.ptp(sound) < _SILENCE:
        return None
    spectrum = np.fft.rfft(sound)
    frequencies = np.fft.rfftfreq(len(sound), 1 / _SOUND_RATE)
    every = _SOUND_RATE // LOUDNESS_RATE
    count = len(sound) // every
    bands = []
    for low, high in _BANDS:
        band = np.fft.irfft(np.where((frequencies >= low) & (frequencies < high), spectrum, 0), len(sound))
        power = np.square(band[: count * every]).reshape(count, every).mean(1)
        # Far below the usual there is only noise.
        bands.append(np.convolve(np.log(power + _FLOOR * power.mean() + _SILENCE**2), _WINDOW, "valid"))
    return Loudness(start + (len(_WINDOW) / 2) / LOUDNESS_RATE, np.stack(bands))


def _sound(path: Path) -> tuple[float, np.ndarray]:
    """When the sound begins, in seconds after the first frame, and its samples `[N]` at `_SOUND_RATE`."""
    info = probe(path)
    zero = int(info.stamps[0]) * info.tick
    sound = np.zeros(_MOST_SECONDS * _SOUND_RATE, np.float32)
    begin, end = len(sound), 0
    with open_video(path) as container:
        stream = next(iter(container.streams.audio), None)
        # Of an unknown codec, a stream has no decoder.
        if stream is None or cast(Any, stream).codec_context is None:
            return 0.0, sound[:0]
        resampler = av.AudioResampler("flt", "mono", _SOUND_RATE)
        for frame in container.decode(stream):
            for part in resampler.resample(frame):
                if part.pts is None or part.time_base is None:
                    continue
                at = round((part.pts * part.time_base - zero) * _SOUND_RATE)
                samples = np.nan_to_num(part.to_ndarray()[0][max(0, -at) :])
                at = max(0, at)
                stop = min(at + len(samples), len(sound))
                if at < stop:
                    sound[at:stop] = samples[: stop - at]
                    begin, end = min(begin, at), max(end, stop)
            if end == len(sound):
                break
    return begin / _SOUND_RATE, sound[begin:end]
