"""Playback: frames and cameras on one timeline, and its constant-rate video."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invcodec.decoding.playback import Film, Shot, film
from invcodec.decoding.poses import Pose
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import look_at

CAMERA = Camera("c0", 24, 18, 20.0, 20.0, 12.0, 9.0, np.eye(4)[:3])


def ring() -> list[Camera]:
    cameras = []
    for index, angle in enumerate((-0.3, 0.0, 0.3)):
        place = 3 * np.array([np.sin(angle), 0.1 * index, np.cos(angle)])
        cameras.append(replace(CAMERA, name=f"c{index}", pose=look_at(place, np.zeros(3), np.array([0.0, 1.0, 0.0]))))
    return cameras


RIG = ring()


@dataclass(frozen=True)
class AFrame:
    number: int
    time: Fraction
    cameras: Sequence[Camera]


def frames(*times: Fraction | int, first: int = 0) -> list[AFrame]:
    return [AFrame(first + i, Fraction(t), RIG) for i, t in enumerate(times)]


def even(count: int, rate: Fraction | int, first: int = 0) -> list[AFrame]:
    return frames(*((first + i) / Fraction(rate) for i in range(count)), first=first)


def filmed(times: Sequence[Fraction], duration: Fraction) -> Film:
    return Film(tuple(Shot(i, CAMERA, t) for i, t in enumerate(times)), duration, True)


def at(rate: Fraction, repeats: list[int]) -> list[Fraction]:
    """When each shot of a constant-rate video starts, then when the video ends."""
    return [sum(repeats[:i]) / rate for i in range(len(repeats) + 1)]


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(25, 2), Fraction(30000, 1001), Fraction(1, 3)])
def test_even_frames_play_at_their_own_rate(rate: Fraction) -> None:
    out = film(Pose("c0", (RIG[0],)), even(5, rate, first=40), rate)
    assert out.constant_rate() == (rate, [1, 1, 1, 1, 1])
    assert out.duration == 5 / rate
    assert [shot.number for shot in out.shots] == [40, 41, 42, 43, 44]
    # The timeline starts at the first shot, wherever that is in the file.
    assert out.shots[0].time == 0
    assert out.by_frame


def test_a_gap_holds_the_frame_before_it() -> None:
    out = film(Pose("c0", (RIG[0],)), frames(0, Fraction(1, 10), Fraction(5, 10)), Fraction(10))
    assert out.constant_rate() == (10, [1, 4, 1])


def test_uneven_steps_get_the_lowest_rate_that_meets_them_all() -> None:
    # Steps of 1/10, 1/15 and, for the last frame, 1/10: 30 Hz meets them, 15 Hz and 10 Hz do not.
    out = film(Pose("c0", (RIG[0],)), frames(0, Fraction(1, 10), Fraction(1, 6)), Fraction(10))
    assert out.constant_rate() == (30, [3, 2, 3])


def test_a_single_frame_is_shown_for_one_period() -> None:
    out = film(Pose("c0", (RIG[0],)), frames(3, first=9), Fraction(25))
    assert out.constant_rate() == (25, [1])
    assert out.duration == Fraction(1, 25)


def slow_rate(steps: list[Fraction]) -> Fraction:
    """The lowest rate at which every step is a whole number of periods, by trial; denominators are at most 12."""
    tried = {Fraction(n) for n in range(1, 27721) if 27720 % n == 0}
    tried |= {rate / k for rate in tried for k in range(2, 13)}
    return next(rate for rate in sorted(tried) if all((step * rate).denominator == 1 for step in steps))


@given(st.lists(st.builds(Fraction, st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_constant_rate_shows_every_shot_on_time(steps: list[Fraction]) -> None:
    times = [sum(steps[:i], Fraction(0)) for i in range(len(steps) + 1)]
    rate, repeats = filmed(times[:-1], times[-1]).constant_rate()
    assert len(repeats) == len(steps)
    expected = slow_rate(steps)
    if expected <= 240:
        assert rate == expected
        assert at(rate, repeats) == times
    else:
        assert rate == 240
        assert all(abs(a - b) <= Fraction(1, 480) for a, b in zip(at(rate, repeats), times, strict=True))


def test_high_rates_are_capped_without_drift() -> None:
    times = [k / Fraction(1000) + Fraction(k * k, 7000) for k in range(200)]
    rate, repeats = filmed(times, Fraction(7)).constant_rate()
    assert rate == 240
    assert min(repeats) >= 0
    for shown, wanted in zip(at(rate, repeats), [*times, Fraction(7)], strict=True):
        assert abs(shown - wanted) <= Fraction(1, 480)


def test_a_named_camera_moves_with_the_rig_and_keeps_its_size() -> None:
    def moved(number: int) -> list[Camera]:
        shift = np.zeros((3, 4))
        shift[0, 3] = number
        return [replace(camera, pose=camera.pose + shift) for camera in RIG]

    named = replace(RIG[1], width=50)
    moving = [replace(frame, cameras=moved(frame.number)) for frame in even(3, 10)]
    out = film(Pose("c1", (named,)), moving, Fraction(10))
    for number, shot in enumerate(out.shots):
        np.testing.assert_allclose(shot.camera.pose[:, 3] - RIG[1].pose[:, 3], [number, 0, 0], atol=1e-12)
        assert shot.camera.width == 50
    # A camera without a name does not move, even if the rig has cameras without names.
    alone = replace(RIG[1], name="")
    nameless = [replace(frame, cameras=[replace(c, name="") for c in frame.cameras]) for frame in moving[1:]]
    assert all(shot.camera is alone for shot in film(Pose("x", (alone,)), nameless, Fraction(10)).shots)


def test_an_orbit_is_one_revolution_in_the_duration_of_the_frames() -> None:
    pose = Pose("orbit", (replace(RIG[1], name=""),), orbit=True)
    out = film(pose, frames(1, 2, 5, first=4), Fraction(2))
    assert [(s.number, s.time) for s in out.shots] == [(4, 0), (5, 1), (6, 4)]
    assert out.duration == Fraction(9, 2)
    assert out.by_frame
    np.testing.assert_allclose(out.shots[0].camera.pose[:, 3], RIG[1].pose[:, 3])
    assert len({tuple(s.camera.pose[:, 3]) for s in out.shots}) == 3


def test_an_orbit_around_one_frame_takes_four_seconds() -> None:
    pose = Pose("orbit", (replace(RIG[1], name=""),), orbit=True)
    out = film(pose, frames(7, first=70), Fraction(10))
    assert {shot.number for shot in out.shots} == {70}
    assert (len(out.shots), out.duration, out.by_frame) == (96, 4, False)
    assert out.constant_rate() == (24, [1] * 96)


def path(count: int, rate: Fraction | int, times: Sequence[float] | None = None) -> Pose:
    cameras = tuple(replace(CAMERA, name="", cx=float(i)) for i in range(count))
    return Pose("path", cameras, Fraction(rate), None if times is None else tuple(times))


def test_a_path_at_another_pace_shows_the_frame_on_screen() -> None:
    out = film(path(8, 20), even(3, 10, first=5), Fraction(10))
    # Two pictures per frame; then the last frame is held.
    assert [shot.number for shot in out.shots] == [5, 5, 6, 6, 7, 7, 7, 7]
    assert [shot.camera.cx for shot in out.shots] == list(range(8))
    assert out.duration == Fraction(8, 20)
    assert not out.by_frame
    assert out.constant_rate() == (20, [1] * 8)


def test_a_slow_path_skips_frames() -> None:
    out = film(path(3, 4), even(10, 10), Fraction(10))
    # At 0, 0.25 and 0.5 s.
    assert [shot.number for shot in out.shots] == [0, 2, 5]


def test_a_path_over_a_gap_holds_the_frame_before_it() -> None:
    times = frames(0, Fraction(1, 10), Fraction(4, 10))
    assert [s.number for s in film(path(6, 10), times, Fraction(10)).shots] == [0, 1, 1, 1, 2, 2]


def test_a_path_with_times_shows_the_frames_at_these_times() -> None:
    out = film(path(5, 30, [1.0, 0.0, 0.5, 0.49, 0.25]), even(5, 10, first=3), Fraction(10))
    assert [shot.number for shot in out.shots] == [7, 3, 5, 4, 4]
    assert [shot.time for shot in out.shots] == [Fraction(k, 30) for k in range(5)]


@pytest.mark.parametrize("count", [4, 7, 50])
def test_a_path_with_a_time_for_each_frame_shows_each_frame(count: int) -> None:
    times = [k / (count - 1) for k in range(count)]
    out = film(path(count, 24, times), even(count, 10), Fraction(10))
    assert [shot.number for shot in out.shots] == list(range(count))
