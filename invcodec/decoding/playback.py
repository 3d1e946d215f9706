"""Which pictures to show, and when: a file's frames and a pose's cameras on one clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from invcodec.container.index import FrameEntry
from invcodec.decoding.poses import Pose
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import orbit

_ORBIT_RATE = Fraction(24)
_ORBIT_SECONDS = 4
_MAX_RATE = 240
_FINEST = 1_000_000
"""Fractions of the video are rounded to these: 2/3 as a float falls short of the frame at 2/3."""


@dataclass(frozen=True)
class Shot:
    """One picture: a frame from a camera, on screen from `time` on (seconds from the first shot)."""

    number: int
    camera: Camera
    time: Fraction


@dataclass(frozen=True)
class Film:
    """Pictures in order.

    Attributes:
        duration: in seconds, the last picture's included.
        by_frame: whether each picture is another frame, so that the frame number tells them apart.
    """

    shots: tuple[Shot, ...]
    duration: Fraction
    by_frame: bool

    def constant_rate(self) -> tuple[Fraction, list[int]]:
        """Frame rate, and how often to repeat each shot, so that a video of one rate shows each shot in its time.

        The rate is the lowest at which every shot starts on time; where that exceeds 240 Hz, shots start within half
        a period of 1/240 s.
        """
        times = [shot.time for shot in self.shots] + [self.duration]
        steps = [after - before for before, after in pairwise(times)]
        common = math.lcm(*(step.denominator for step in steps))
        rate = Fraction(common, math.gcd(*(int(step * common) for step in steps)))
        if rate > _MAX_RATE:
            rate = Fraction(_MAX_RATE)
        starts = [round(time * rate) for time in times]
        return rate, [after - before for before, after in pairwise(starts)]


def film(
    pose: Pose, entries: Sequence[FrameEntry], frame_rate: Fraction, rig: Callable[[int], Sequence[Camera]]
) -> Film:
    """The pictures that a pose gives of some frames.

    - One camera shows every frame at the file's own pace, gaps and uneven steps included.
    - An orbit goes round once: in the time of the frames, or around a single frame in four seconds.
    - A path keeps its own pace. It shows the frame on screen at each moment, and holds the last one when
      the frames end first; where it says at which fraction of the video it looks, that decides.

    Args:
        entries: the frames to show, in order; at least one.
        frame_rate: the file's; how long its last frame stays.
        rig: the cameras at a frame, which may move. Where the pose is one of them, it moves along.
    """
    start = entries[0].time
    if pose.orbit:
        if len(entries) == 1:
            entries, times, duration = _still(entries[0], Fraction(_ORBIT_SECONDS))
        else:
            times, duration = _pace(entries, frame_rate)
        cameras = orbit(rig(entries[0].number), len(entries), pose.cameras[0])
        shots = [Shot(e.number, c, t) for e, c, t in zip(entries, cameras, times, strict=True)]
        return Film(tuple(shots), duration, entries[0].number != entries[-1].number)
    if pose.rate is None:
        times, duration = _pace(entries, frame_rate)
        shots = [
            Shot(e.number, _follow(pose.cameras[0], rig(e.number)), t) for e, t in zip(entries, times, strict=True)
        ]
        return Film(tuple(shots), duration, True)
    times = [k / pose.rate for k in range(len(pose.cameras))]
    if pose.times is None:
        looks = [start + time for time in times]
    else:
        looks = [
            start + Fraction(fraction).limit_denominator(_FINEST) * (entries[-1].time - start)
            for fraction in pose.times
        ]
    shots = [
        Shot(_on_screen(entries, look).number, camera, time)
        for look, camera, time in zip(looks, pose.cameras, times, strict=True)
    ]
    return Film(tuple(shots), len(shots) / pose.rate, False)


def _pace(entries: Sequence[FrameEntry], frame_rate: Fraction) -> tuple[list[Fraction], Fraction]:
    times = [entry.time - entries[0].time for entry in entries]
    return times, times[-1] + 1 / frame_rate


def _still(entry: FrameEntry, seconds: Fraction) -> tuple[list[FrameEntry], list[Fraction], Fraction]:
    count = int(seconds * _ORBIT_RATE)
    return [entry] * count, [k / _ORBIT_RATE for k in range(count)], seconds


def _on_screen(entries: Sequence[FrameEntry], time: Fraction) -> FrameEntry:
    shown = [entry for entry in entries if entry.time <= time]
    return shown[-1] if shown else entries[0]


def _follow(camera: Camera, rig: Sequence[Camera]) -> Camera:
    """The camera, where it is at this frame."""
    for known in rig:
        if camera.name and known.name == camera.name:
            return replace(camera, pose=known.pose)
    return camera
