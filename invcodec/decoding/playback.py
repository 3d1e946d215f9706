"""Playback: a file's frames and a pose's cameras on one timeline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Protocol

from invcodec.container.index import end_of_last
from invcodec.decoding.poses import Pose
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import orbit

_ORBIT_RATE = Fraction(24)
"""Pictures per second of an orbit around a single frame."""
_ORBIT_SECONDS = 4
"""Its duration."""
_MAX_RATE = 240
"""Highest frame rate of a video, in Hz."""
_FINEST = 1_000_000
"""Largest denominator of a fraction of the video: 2/3 as a float falls short of the frame at 2/3."""


class TimedFrame(Protocol):
    """The part of `invcodec.Frame` that playback uses."""

    @property
    def number(self) -> int: ...
    @property
    def time(self) -> Fraction: ...
    @property
    def cameras(self) -> Sequence[Camera]: ...


@dataclass(frozen=True)
class Shot:
    """One picture: a frame from a camera, on screen from `time` on (in seconds since the first shot)."""

    number: int
    camera: Camera
    time: Fraction


@dataclass(frozen=True)
class Film:
    """A sequence of pictures.

    Attributes:
        shots: in order of time.
        duration: in seconds, including the last picture's.
        by_frame: whether no two pictures show the same frame, so that frame numbers can name them.
    """

    shots: tuple[Shot, ...]
    duration: Fraction
    by_frame: bool

    def constant_rate(self) -> tuple[Fraction, list[int]]:
        """Frame rate of a constant-rate video that shows each shot on time, and how often it repeats each shot.

        The rate is the lowest at which every shot starts exactly on time. If that exceeds 240 Hz, the rate is 240 Hz,
        and each shot starts within half a period of its time.
        """
        times = [shot.time for shot in self.shots] + [self.duration]
        steps = [after - before for before, after in pairwise(times)]
        common = math.lcm(*(step.denominator for step in steps))
        rate = Fraction(common, math.gcd(*(int(step * common) for step in steps)))
        if rate > _MAX_RATE:
            rate = Fraction(_MAX_RATE)
        starts = [round(time * rate) for time in times]
        return rate, [after - before for before, after in pairwise(starts)]


def film(pose: Pose, frames: Sequence[TimedFrame], frame_rate: Fraction) -> Film:
    """The pictures that a pose gives of some frames.

    - A single camera shows every frame at the file's own pace, gaps and uneven intervals included. If it is one of the
      rig's cameras, it moves with the rig.
    - An orbit is one revolution: in the duration of the frames, or in four seconds around a single frame.
    - A camera path keeps its own pace. Each picture shows the frame that is on screen at its time, and the last frame
      if the frames end first; a path that gives times as fractions of the video shows the frames at these times.

    Args:
        frames: the frames to show, in order; at least one.
        frame_rate: the file's, in Hz; the last frame is shown for one period.
    """
    start = frames[0].time
    if pose.orbit:
        if len(frames) == 1:
            frames, times, duration = _still(frames[0], Fraction(_ORBIT_SECONDS))
        else:
            times, duration = _pace(frames, frame_rate)
        cameras = orbit(frames[0].cameras, len(frames), pose.cameras[0])
        shots = [Shot(f.number, c, t) for f, c, t in zip(frames, cameras, times, strict=True)]
        return Film(tuple(shots), duration, frames[0].number != frames[-1].number)
    if pose.rate is None:
        times, duration = _pace(frames, frame_rate)
        shots = [Shot(f.number, _follow(pose.cameras[0], f.cameras), t) for f, t in zip(frames, times, strict=True)]
        return Film(tuple(shots), duration, True)
    times = [k / pose.rate for k in range(len(pose.cameras))]
    if pose.times is None:
        looks = [start + time for time in times]
    else:
        looks = [
            start + Fraction(fraction).limit_denominator(_FINEST) * (frames[-1].time - start) for fraction in pose.times
        ]
    shots = [
        Shot(_on_screen(frames, look).number, camera, time)
        for look, camera, time in zip(looks, pose.cameras, times, strict=True)
    ]
    return Film(tuple(shots), len(shots) / pose.rate, False)


def _pace(frames: Sequence[TimedFrame], frame_rate: Fraction) -> tuple[list[Fraction], Fraction]:
    """When each frame is shown, in seconds since the first, and the duration of all."""
    times = [frame.time - frames[0].time for frame in frames]
    return times, end_of_last(times[-1], frame_rate)


def _still(frame: TimedFrame, seconds: Fraction) -> tuple[list[TimedFrame], list[Fraction], Fraction]:
    """A frame repeated for so long, when each repetition is shown, and the duration of all."""
    count = int(seconds * _ORBIT_RATE)
    return [frame] * count, [k / _ORBIT_RATE for k in range(count)], seconds


def _on_screen(frames: Sequence[TimedFrame], time: Fraction) -> TimedFrame:
    shown = [frame for frame in frames if frame.time <= time]
    return shown[-1] if shown else frames[0]


def _follow(camera: Camera, rig: Sequence[Camera]) -> Camera:
    """The camera with the pose that it has in this rig, if it is one of its cameras."""
    for known in rig:
        if camera.name and known.name == camera.name:
            return replace(camera, pose=known.pose)
    return camera
