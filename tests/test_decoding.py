"""Reading files: frames by number, by position and by time, cameras by name, and sources other than files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from files import SPEC

import invcodec
from invcodec.coding.chain import StateReader
from invcodec.coding.state import State
from invcodec.container.frame import Stats
from invcodec.container.head import Head
from invcodec.container.index import FrameEntry, FrameList
from invcodec.decoding.video import Video
from invcodec.errors import FrameNotFoundError, UsageError
from invcodec.geometry.camera import Camera

VALID = SPEC / "vectors" / "valid"
FAR = 1 << 40
"""Number of the last frame of `gaps`, whose numbers are -3, 0, 100 and this one."""


def opened(name: str) -> Video:
    return invcodec.open(VALID / name / "input.inv", device="cpu", threads=1)


@pytest.fixture
def gaps() -> Video:
    return opened("gaps-and-uneven-times")


def test_frames_come_in_order_and_by_number_and_by_position(gaps: Video) -> None:
    numbers = [-3, 0, 100, FAR]
    assert [frame.number for frame in gaps] == numbers
    assert len(gaps) == 4
    assert [gaps[number].number for number in numbers] == numbers
    assert [gaps.frames[i].number for i in range(-4, 4)] == numbers * 2
    assert [number in gaps for number in (-3, -1, 1, 100)] == [True, False, False, True]
    assert gaps[100] == gaps.frames[2]
    # A negative key is a number like any other, not a position from the end.
    assert gaps[-3] == gaps.frames[0]


@pytest.mark.parametrize(
    ("first", "stop", "numbers"),
    [
        (None, None, [-3, 0, 100, FAR]),
        (0, 101, [0, 100]),
        (-2, 100, [0]),
        (-3, None, [-3, 0, 100, FAR]),
        (None, 0, [-3]),
        (1, 100, []),
        (100, 0, []),
    ],
)
def test_a_slice_is_a_range_of_numbers(gaps: Video, first: int | None, stop: int | None, numbers: list[int]) -> None:
    assert [frame.number for frame in gaps[first:stop]] == numbers


def test_a_range_of_numbers_takes_no_step_and_a_range_of_positions_does(gaps: Video) -> None:
    with pytest.raises(UsageError, match="no step"):
        gaps[::2]
    assert [frame.number for frame in gaps.frames[::-2]] == [FAR, 0]


@pytest.mark.parametrize(
    ("number", "hint"),
    [(7, "its neighbours are 0 and 100"), (-1, "its neighbours are -3 and 0"), (-4, f"has frames -3 to {FAR}")],
)
def test_a_number_that_is_missing_names_its_neighbours(gaps: Video, number: int, hint: str) -> None:
    with pytest.raises(FrameNotFoundError, match=hint) as error:
        gaps[number]
    # Whoever expects the errors of a mapping catches it, too, and its message is not quoted.
    assert isinstance(error.value, KeyError)
    assert isinstance(error.value, UsageError)
    assert str(error.value).startswith(str(VALID))


def test_the_frame_on_screen_stays_until_the_next_one(gaps: Video) -> None:
    # Frames are at -0.1, 0.007, 0.008 and 1000 s, and the last one stays for 1/25 s.
    for seconds, number in [
        (Fraction(-1, 10), -3), (0, -3), (0.0069, -3), (Fraction(7, 1000), 0), (0.5, 100), (1000, FAR), (1000.039, FAR),
    ]:  # fmt: skip
        assert gaps.at(seconds).number == number
    for seconds in (-0.101, 1000.05):
        with pytest.raises(UsageError, match=r"from -0.1 to 1000.04 s"):
            gaps.at(seconds)
    assert gaps.duration == Fraction(100014, 100)


def test_a_frame_tells_what_its_record_holds() -> None:
    with opened("grid-ndc") as video:
        key, delta, _ = video
        assert (key.kind, key.time, delta.kind, delta.time) == ("key", 0, "delta", Fraction(1, 25))
        assert sum(frame.bytes for frame in video) < video.size
        assert (video.frame_rate, video.duration) == (25, Fraction(3, 25))
        weights = delta.weights()
        assert {value.dtype for value in weights.values()} == {np.dtype("float32")}
        assert any((weights[name] != value).any() for name, value in key.weights().items())


def test_a_frame_has_the_cameras_of_its_time() -> None:
    with opened("moving-cameras") as video:
        rigs = [frame.cameras for frame in video]
        assert any(rig != video.cameras for rig in rigs)
        for frame, rig in zip(video, rigs, strict=True):
            for camera in rig:
                by_name, by_camera = frame.render(camera.name), frame.render(camera)
                np.testing.assert_array_equal(by_name.rgb, by_camera.rgb)


def test_an_unknown_camera_is_a_usage_error_that_lists_the_cameras(gaps: Video) -> None:
    with pytest.raises(UsageError, match="no camera 'cam09'; cameras are cam00, cam01"):
        gaps[0].render("cam09")


def test_frames_may_be_rendered_in_any_order() -> None:
    with opened("grid-contract-colour") as video:
        frames = list(video)
        expected = [frame.render("cam00").rgb for frame in frames]
        for index in (2, 0, 3, 1, 1):
            np.testing.assert_array_equal(frames[index].render("cam00").rgb, expected[index])
        neutral = frames[0].render("cam00", neutral_colour=True).rgb
        assert (neutral != expected[0]).any()


def test_only_what_changed_is_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened("grid-ndc") as video:
        states = [video.source.state_at(frame.number) for frame in video.frames]
        loaded = []
        load = video._renderer.load
        monkeypatch.setattr(video._renderer, "load", lambda weights: (loaded.append(set(weights)), load(weights)))
        for frame in video.frames:
            frame.render("cam00")
    assert loaded[0] == set(states[0].levels)
    for before, after, keys in zip(states, states[1:], loaded[1:], strict=False):
        differing = {key for key in after.levels if (after.levels[key] != before.levels[key]).any()}
        assert differing <= keys < loaded[0]


def test_rgba_is_colour_and_opacity_in_8_bits() -> None:
    with opened("grid-box-transparent") as video:
        assert video.transparent
        view = video[1].render("cam01")
        np.testing.assert_array_equal(view.rgba[..., :3], view.rgb)
        assert np.abs(view.rgba[..., 3] - view.alpha * 255).max() <= 0.5
        assert np.ptp(view.rgba[..., 3]) > 0


class Keyframes:
    """A source that is not in the package: the keyframes of a file alone."""

    def __init__(self, path: Path) -> None:
        self._reader = StateReader(path)
        self.name, self.path, self.size = "keyframes", path, self._reader.size
        self.head: Head = self._reader.head
        keys = (entry for entry in self._reader.frames if entry.kind == "key")
        self.frames = FrameList(self.head.time_base, keys)
        self.status, self.problems = self._reader.status, self._reader.problems

    def entry(self, number: int) -> FrameEntry:
        for entry in self.frames:
            if entry.number == number:
                return entry
        raise FrameNotFoundError(f"{self.name}: has no frame {number}")

    def state_at(self, number: int) -> State:
        return self._reader.state_at(number)

    def stats_at(self, number: int) -> Stats:
        return self._reader.stats_at(number)

    def cameras_at(self, number: int) -> tuple[Camera, ...]:
        return self._reader.cameras_at(number)

    def close(self) -> None:
        self._reader.close()


def test_a_video_takes_its_frames_from_any_source() -> None:
    path = VALID / "grid-contract-colour" / "input.inv"
    with Video(Keyframes(path), device="cpu", threads=1) as keys, opened("grid-contract-colour") as whole:
        assert [frame.number for frame in keys] == [0, 2]
        assert (keys.at(0.05).number, whole.at(0.05).number) == (0, 1)
        for frame in keys:
            np.testing.assert_array_equal(frame.render("cam01").rgb, whole[frame.number].render("cam01").rgb)
        with pytest.raises(KeyError):
            keys[1]


def test_a_video_that_cannot_be_rendered_closes_what_it_opened_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Reader(StateReader):
        def close(self) -> None:
            closed.append(self.name)
            super().close()

    monkeypatch.setattr("invcodec.decoding.video.StateReader", Reader)
    path = str(VALID / "grid-ndc" / "input.inv")
    with pytest.raises(UsageError, match="device 'abacus'"):
        Video(path, device="abacus")
    assert closed == [path]
    source = Reader(path)
    with pytest.raises(UsageError, match="device 'abacus'"):
        Video(source, device="abacus")
    assert closed == [path]
    # It still reads.
    with Video(source, device="cpu", threads=1) as video:
        video.frames[0].weights()
    assert closed == [path, path]
