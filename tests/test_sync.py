"""Finding when videos began, from sound and motion, and reading them accordingly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from invcodec.capture import offsets, sync
from invcodec.capture.activity import loudness, motion
from invcodec.capture.capture import open_capture, videos_of
from invcodec.capture.sync import Curve, _memory, compare, solve, synchronise
from invcodec.capture.video import probe
from invcodec.errors import CaptureError, InvWarning
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import look_at

SIZE = (64, 48)
UP = np.array([0, 1.0, 0])


def rig(count: int) -> list[Camera]:
    places = [np.array([np.sin(a), 0.4 * np.cos(3 * a), np.cos(a)]) * 3 for a in np.linspace(-0.5, 0.6, count)]
    return [
        Camera(f"cam{i}", *SIZE, 55.0, 55.0, SIZE[0] / 2, SIZE[1] / 2, look_at(place, np.zeros(3), UP))
        for i, place in enumerate(places)
    ]


def picture(camera: Camera, time: float, exposure: float = 1.0) -> np.ndarray:
    """Balls that never repeat their paths, in front of a pattern."""
    y, x = np.mgrid[: camera.height, : camera.width] + 0.5
    image = 60 + 30 * np.sin(x / 3) * np.sin(y / 4)
    for ball, speed in enumerate((1.1, 1.7, 2.3)):
        phase = speed * (time + 20) + ball
        centre = np.array(
            [np.sin(phase) + 0.4 * np.sin(2.7 * phase), 0.8 * np.sin(1.618 * phase), np.cos(0.77 * phase)]
        )
        local = (centre - camera.pose[:, 3]) @ camera.pose[:, :3]
        u, v = camera.cx - camera.fx * local[0] / local[2], camera.cy + camera.fy * local[1] / local[2]
        image = image + 150 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 12)
    return np.repeat((exposure * image)[..., None], 3, 2)


def noise_at(times: np.ndarray) -> np.ndarray:
    """A recording of bursts that all microphones hear, at times in seconds."""
    rng = np.random.default_rng(5)
    sound = np.zeros_like(times)
    for start, length, pitch in rng.uniform((-5, 0.03, 200), (60, 0.3, 2500), (150, 3)):
        passed = times - start
        sound += np.where((passed > 0) & (passed < length), np.sin(2 * np.pi * pitch * passed), 0)
    return 0.2 * sound


def save(
    path: Path,
    camera: Camera,
    begin: float,
    *,
    frames: int = 60,
    fps: int = 30,
    exposure: float = 1.0,
    noise: float = 0.0,
    sound: Callable[[np.ndarray], np.ndarray] | None = None,
    still: bool = False,
    dropped: int | None = None,
) -> None:
    """Film from `begin` on, in seconds of the scene; one frame may be dropped."""
    rng = np.random.default_rng(list(path.stem.encode()))
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", fps, options={"crf": "12", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        if sound is not None:
            audio = container.add_stream("aac", 16000, layout="mono")
        for number in range(frames):
            image = picture(camera, begin + (0 if still else number / fps), exposure) + rng.normal(
                0, noise, (*SIZE[::-1], 3)
            )
            frame = av.VideoFrame.from_ndarray(np.clip(image, 0, 255).astype(np.uint8))
            frame.pts, frame.time_base = number, Fraction(1, fps)
            if number != dropped:
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            heard = sound(begin + np.arange(frames * 16000 // fps) / 16000).astype(np.float32)
            samples = av.AudioFrame.from_ndarray(heard[None], "fltp", "mono")
            samples.sample_rate = 16000
            container.mux(audio.encode(samples))
            container.mux(audio.encode(None))


def calibrate(folder: Path, cameras: Sequence[Camera]) -> None:
    rows = [
        {key: value for key, value in camera.to_dict().items() if key in ("fl_x", "fl_y", "cx", "cy")}
        | {"name": camera.name, "video": f"{camera.name}.mp4", "w": SIZE[0], "h": SIZE[1]}
        | {"transform_matrix": camera.pose.tolist()}
        for camera in cameras
    ]
    (folder / "transforms.json").write_text(json.dumps({"cameras": rows}))


def off(found: sync.Found, begins: Sequence[float], fps: float = 30) -> np.ndarray:
    """Errors of the offsets, in frames."""
    return np.abs(found.synchrony.offsets - (np.array(begins) - begins[0])) * fps


BEGINS = (0.0, 0.01, -0.55, 0.39)
"""By 0.3 to 16 frames."""


def test_motion_along_epipolar_lines_tells_parts_of_a_frame(tmp_path: Path) -> None:
    cameras = rig(4)
    for camera, begin, exposure in zip(cameras, BEGINS, (1, 0.6, 1.1, 0.8), strict=True):
        save(tmp_path / f"{camera.name}.mp4", camera, begin, exposure=exposure, noise=2)
    calibrate(tmp_path, cameras)
    found = synchronise(tmp_path, *videos_of(tmp_path))
    assert found.told_by == "motion along epipolar lines"
    assert found.sure
    assert off(found, BEGINS).max() < 0.3
    assert (off(found, BEGINS) < 30 * found.synchrony.within).all()
    assert not found.drift.any()
    # Two of them alone, and with another frame rate.
    videos, known = videos_of(tmp_path)
    assert known is not None
    other = tmp_path / "other.mp4"
    save(other, cameras[1], 0.5, fps=25, frames=50)
    pair = synchronise(tmp_path, [videos[0], other], known[:2])
    assert off(pair, (0.0, 0.5)).max() < 0.3


def test_without_a_calibration_what_moves_in_all_tells(tmp_path: Path) -> None:
    for camera, begin in zip(rig(4), BEGINS, strict=True):
        save(tmp_path / f"{camera.name}.mp4", camera, begin, frames=150)
    found = synchronise(tmp_path, *videos_of(tmp_path))
    assert found.told_by == "motion"
    assert found.synchrony.sure
    assert off(found, BEGINS).max() < 1


def test_sound_tells_where_nothing_moves(tmp_path: Path) -> None:
    begins = (0.0, 0.01, -1.35)
    for index, (camera, begin, gain) in enumerate(zip(rig(3), begins, (1, 0.1, 0.5), strict=True)):

        def heard(times: np.ndarray, index: int = index, gain: float = gain) -> np.ndarray:
            return gain * noise_at(times) + 0.005 * np.random.default_rng(index).normal(size=len(times))

        save(tmp_path / f"{camera.name}.mp4", camera, begin, sound=heard, frames=120, still=True)
    found = synchronise(tmp_path, *videos_of(tmp_path))
    assert (found.told_by, found.synchrony.sure) == ("sound", True)
    assert off(found, begins).max() < 0.1
    silent = synchronise(tmp_path, *videos_of(tmp_path), by="motion")
    assert not silent.synchrony.sure


def test_videos_without_sound_say_so(tmp_path: Path) -> None:
    camera = rig(1)[0]
    for name, sound in (("a", noise_at), ("b", None), ("c", np.zeros_like)):
        save(tmp_path / f"{name}.mp4", camera, 0, sound=sound, frames=40)
    assert loudness(tmp_path / "a.mp4") is not None
    assert loudness(tmp_path / "b.mp4") is None
    assert loudness(tmp_path / "c.mp4") is None
    with pytest.raises(CaptureError, match="has no sound"):
        synchronise(tmp_path, *videos_of(tmp_path), by="sound")


def test_motion_is_between_frames(tmp_path: Path) -> None:
    save(tmp_path / "a.mp4", rig(1)[0], 0, frames=5, fps=10)
    seen = motion(tmp_path / "a.mp4")
    assert np.allclose(seen.times, [0.05, 0.15, 0.25, 0.35])
    assert seen.changes.shape == (4, 48, 64)
    assert seen.changes.max() > 20


# the mathematics


@given(st.integers(0, 2**32 - 1), st.integers(20, 40), st.integers(20, 40), st.integers(1, 3))
def test_comparing_shifts_against_a_slow_twin(seed: int, n: int, m: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(3, 1, (channels, n)), rng.normal(-2, 5, (channels, m))
    curve = compare(a, b, 0.1)
    least = max(8, round(0.5 * min(n, m)))
    lags = range(-(m - least), n - least + 1)
    assert len(curve.values) == len(lags)
    assert curve.first == pytest.approx(0.1 * lags[0])
    for lag, value in zip(lags, curve.values, strict=True):
        x = a[:, max(lag, 0) : min(n, m + lag)]
        y = b[:, max(-lag, 0) :][:, : x.shape[1]]
        x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
        r = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())
        expected = -0.5 * x.shape[1] * np.log(1 - max(r, 0) ** 2) / _memory(a, b)
        assert value == pytest.approx(expected, abs=1e-6)


def test_the_same_samples_again_are_no_further_evidence() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=(1, 300))
    a, b = (common + rng.normal(0, 0.7, (1, 300)) for _ in range(2))
    once, again = (compare(np.repeat(a, k, 1), np.repeat(b, k, 1), 1 / k) for k in (1, 6))
    assert once.best[0] == again.best[0] == 0
    assert 0.6 < again.best[1] / once.best[1] < 1.6


def test_signals_that_do_not_change_say_nothing() -> None:
    assert not compare(np.ones((2, 50)), np.random.default_rng(0).normal(size=(2, 50)), 0.1).values.any()
    assert not compare(np.zeros((1, 3)), np.zeros((1, 50)), 0.1).values.any()


def bump(*peaks: tuple[float, float]) -> Curve:
    """Differences and their log-likelihoods."""
    places = np.arange(-100, 101) * 0.1
    return Curve(-10.0, 0.1, np.sum([high * np.exp(-(((places - at) / 0.2) ** 2)) for at, high in peaks], axis=0))


def test_pairs_that_disagree_with_the_others_are_outvoted() -> None:
    true = np.array([0.0, 1.23, -2.5, 4.04])
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    curves = {(i, j): bump((true[j] - true[i], 10.0)) for i, j in pairs}
    curves[0, 2] = bump((3.0, 14.0))
    curves[1, 3] = bump((true[3] - true[1], 9.0), (-6.0, 9.5))
    found = solve(4, curves)
    assert np.abs(found.offsets - true).max() < 0.02
    assert found.sure


def test_what_happens_again_and_again_is_not_certain() -> None:
    periodic = bump(*((k * 1.5, 10.0 - 0.1 * abs(k)) for k in range(-5, 6)))
    assert solve(2, {(0, 1): periodic}).confidence.max() < 0.1
    assert solve(2, {(0, 1): bump((2.0, 10.0))}).confidence.min() > 0.95
    assert solve(2, {}).confidence.max() == 0
    assert np.allclose(solve(3, {(0, 1): bump((-2.0, 10.0))}).offsets, [0, -2, 0], atol=1e-3)


def spikes(*peaks: tuple[int, float]) -> Curve:
    """Peaks of hardly more than a sample, at samples and their halves, as of few frames a second."""
    places = np.arange(-100, 101)
    return Curve(-100.0, 1.0, np.sum([high * np.exp(-3 * np.abs(places - at / 2)) for at, high in peaks], axis=0))


def test_what_may_be_higher_between_two_samples_is_not_certain() -> None:
    assert solve(2, {(0, 1): spikes((4, 30.0), (44, 20.0))}).sure
    # It looks less than half as high as it is.
    between = spikes((4, 30.0), (45, 40.0))
    assert between.at(np.array([22.0, 23.0])).max() < 10
    assert not solve(2, {(0, 1): between}).sure


def test_how_far_off_an_offset_may_be_is_told_by_its_peak() -> None:
    places = np.arange(-100, 101) * 0.1
    for deviation in (0.1, 0.5, 1.0):
        # The logarithm of a normal distribution has fallen by 2 at two standard deviations.
        curve = Curve(-10.0, 0.1, np.maximum(20 - ((places - 1) / deviation) ** 2 / 2, 0))
        assert solve(2, {(0, 1): curve}).within[1] == pytest.approx(2 * deviation, abs=0.051)
    assert np.isinf(solve(2, {}).within).all()


@given(st.lists(st.fractions(-50, 50, max_denominator=1000), min_size=1, max_size=6), st.sampled_from([24, 25, 30]))
def test_frame_0_is_where_all_videos_have_one(each: list[Fraction], fps: int) -> None:
    starts = offsets.starts(each, Fraction(fps))
    # The same time for all, and the first one that all have.
    assert len({start + offset for start, offset in zip(starts, each, strict=True)}) == 1
    assert min(starts) * fps >= Fraction(-1, 2)
    assert min(starts) * fps < 1

    # No choice of it brings the nearest frames closer together.
    def spread(shift: Fraction) -> Fraction:
        places = [start * fps + shift for start in starts]
        apart = [place - (place + Fraction(1, 2)) // 1 for place in places]
        return max(apart) - min(apart)

    assert all(spread(Fraction(0)) <= spread(Fraction(k, 40)) for k in range(40))


def test_videos_that_began_together_start_together() -> None:
    assert offsets.starts([Fraction(0)] * 3, Fraction(30)) == [0, 0, 0]
    assert offsets.starts([Fraction(0), Fraction(1, 10), Fraction(-1, 30)], Fraction(30)) == [
        Fraction(1, 10),
        Fraction(0),
        Fraction(2, 15),
    ]


# the file, and the command


@pytest.fixture
def filmed(tmp_path: Path) -> Path:
    """Two calibrated videos, the second of which began 5.3 frames later."""
    cameras = rig(2)
    for camera, begin in zip(cameras, (0.0, 5.3 / 30), strict=True):
        save(tmp_path / f"{camera.name}.mp4", camera, begin, frames=60)
    calibrate(tmp_path, cameras)
    return tmp_path


def test_from_videos_to_frames_of_one_time(cli: Cli, filmed: Path) -> None:
    done = cli("sync", filmed)
    assert (done.code, done.err) == (0, "")
    assert "told by motion along epipolar lines" in done.out
    written = json.loads((filmed / "sync.json").read_text())["videos"]
    assert [row["video"] for row in written] == ["cam0.mp4", "cam1.mp4"]
    assert written[1]["offset"] * 30 == pytest.approx(5.3, abs=0.15)
    capture = open_capture(filmed)
    # Less than half a frame apart at either end: nearest frames are 5 apart.
    assert capture.available == range(55)
    first = next(capture.frames(0)).images
    assert all(
        np.abs(image - picture(camera, time)).mean() < 6
        for image, camera, time in zip(first, rig(2), (5 / 30, 5.3 / 30), strict=True)
    )
    shown = cli("inspect", filmed, "--preset", "draft", "--threads", 1)
    assert "starts at 0.1" in shown.out
    assert "frames apart" in shown.out
    rows = json.loads(cli("inspect", filmed, "--preset", "draft", "--threads", 1, "--json").out)["cameras"]
    assert rows[0]["apart"] + rows[1]["apart"] == pytest.approx(0.3, abs=0.15)
    again = cli("sync", filmed)
    assert (again.code, "already exists; use -f" in again.err) == (2, True)
    assert json.loads(cli("sync", filmed, "-f", "--json").out)["sure"] is True


def test_nothing_is_written_if_it_is_not_certain(cli: Cli, tmp_path: Path) -> None:
    for camera in rig(2):
        save(tmp_path / f"{camera.name}.mp4", camera, 0, still=True, noise=3)
    done = cli("sync", tmp_path)
    assert (done.code, "nothing was written" in done.err) == (1, True)
    assert not (tmp_path / "sync.json").exists()
    assert cli("sync", tmp_path, "--unsure").code == 0
    assert len(json.loads((tmp_path / "sync.json").read_text())["videos"]) == 2


def test_clocks_that_differ_are_named_with_their_correction(cli: Cli, tmp_path: Path) -> None:
    begins, speeds = (0.0, 0.7), (0.0, 0.006)
    for camera, begin, speed in zip(rig(2), begins, speeds, strict=True):

        def heard(times: np.ndarray, begin: float = begin, speed: float = speed) -> np.ndarray:
            return noise_at(begin + (1 + speed) * (times - begin))

        save(tmp_path / f"{camera.name}.mp4", camera, begin, sound=heard, frames=125, fps=5, still=True)
    done = cli("sync", tmp_path, "--json")
    assert done.code == 1
    words = r"cam1\.mp4: its clock is (0\.\d+)% slower than that of cam0\.mp4; .* \(ffmpeg -itsscale (1\.\d+) "
    named = re.search(words, done.err)
    assert named is not None
    assert float(named[1]) == pytest.approx(0.6, abs=0.06)
    assert float(named[2]) == pytest.approx(1 + float(named[1]) / 100, abs=1e-5)
    assert "clocks differ, so nothing was written" in done.err
    shown = json.loads(done.out)
    assert shown["sure"] is False
    assert [row["drift"] for row in shown["videos"]] == pytest.approx(speeds, abs=6e-4)
    assert not (tmp_path / "sync.json").exists()
    assert cli("sync", tmp_path, "--unsure").code == 0


def test_videos_of_other_lengths_may_have_begun_at_other_times(cli: Cli, filmed: Path) -> None:
    save(filmed / "cam1.mp4", rig(2)[1], 0.2, frames=50)
    with pytest.warns(InvWarning, match=r"images are missing: cam1 10 of 60; .* 'invcodec sync' finds when each was"):
        open_capture(filmed)
    # A dropped frame does not mean that.
    save(filmed / "cam1.mp4", rig(2)[1], 0.2, dropped=9)
    probe.cache_clear()
    with pytest.warns(
        InvWarning, match="images are missing: cam1 1 of 60; the other cameras' are used at these times$"
    ):
        open_capture(filmed)


def test_lengths_may_differ_if_it_is_known_when_videos_began(filmed: Path) -> None:
    save(filmed / "cam1.mp4", rig(2)[1], 0.2, frames=30)
    with pytest.raises(CaptureError, match=r"cam1\.mp4 has only 30 of .* 0:60; .* began with 'invcodec sync'"):
        open_capture(filmed)
    rows = [{"video": "cam0.mp4", "offset": 0}, {"video": "cam1.mp4", "offset": 0.2}]
    (filmed / "sync.json").write_text(json.dumps({"videos": rows}))
    capture = open_capture(filmed)
    assert [files.start for files in capture.files] == [Fraction(1, 5), 0]
    assert capture.available == range(30)
    rows[1]["offset"] = 2.5
    (filmed / "sync.json").write_text(json.dumps({"videos": rows}))
    with pytest.raises(CaptureError, match="there is no time at which all videos have a frame"):
        open_capture(filmed)


def test_a_dropped_frame_is_a_gap_at_the_time_that_the_offsets_give(cli: Cli, filmed: Path) -> None:
    save(filmed / "cam0.mp4", rig(2)[0], 0, dropped=12)
    save(filmed / "cam1.mp4", rig(2)[1], 0.2, frames=40, dropped=9)
    rows = [{"video": "cam0.mp4", "offset": 0}, {"video": "cam1.mp4", "offset": 0.2}]
    (filmed / "sync.json").write_text(json.dumps({"videos": rows}))
    with pytest.warns(InvWarning, match="images are missing: cam0 1, cam1 1 of 40"):
        capture = open_capture(filmed)
    assert (capture.available, capture.gaps) == (range(40), ({6}, {9}))
    for frame in capture.frames(5):
        for index, (camera, image) in enumerate(zip(capture.cameras, frame.images, strict=True)):
            if frame.number in capture.gaps[index]:
                assert image is None
            else:
                assert image is not None
                assert np.abs(image - picture(camera, 0.2 + frame.number / 30)).mean() < 3
    shown = cli("inspect", filmed, "--frames", "0:9", "--preset", "draft", "--threads", 1, "--json")
    assert [(row["start"], row["gaps"]) for row in json.loads(shown.out)["cameras"]] == [(0.2, 1), (0.0, 0)]
    # Frames that both lack cannot be learned of.
    save(filmed / "cam1.mp4", rig(2)[1], 0.2, frames=40, dropped=6)
    probe.cache_clear()
    with pytest.raises(CaptureError, match="no camera to train on has an image of frame 6"):
        open_capture(filmed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "'videos' is not a list of objects"),
        ('{"videos": [3]}', "'videos' is not a list of objects"),
        ('{"videos": [{"video": "cam0.mp4"}]}', "no 'video' or no 'offset'"),
        ('{"videos": [{"video": 3, "offset": 0}]}', "no 'video' or no 'offset'"),
        ('{"videos": [{"video": "cam0.mp4", "offset": NaN}]}', "'offset' is nan"),
        ('{"videos": [{"video": "cam0.mp4", "offset": 1e6}]}', "more than a day"),
        ('{"videos": [{"video": "a", "offset": 0}, {"video": "a", "offset": 0}]}', "two entries for a"),
        ('{"videos": [{"video": "cam0.mp4", "offset": 0}]}', "no entry for cam1.mp4; run 'invcodec sync' again"),
    ],
)
def test_broken_files_are_named(filmed: Path, text: str, message: str) -> None:
    (filmed / "sync.json").write_text(text)
    with pytest.raises(CaptureError) as error:
        open_capture(filmed)
    assert str(error.value).startswith(str(filmed / "sync.json"))
    assert message in str(error.value)


def test_what_cannot_be_synchronised_is_refused(cli: Cli, tmp_path: Path) -> None:
    for prepare, message in (
        (lambda: None, f"{tmp_path}: has no videos of cameras; expected a video for each of at least 2"),
        (
            lambda: save(tmp_path / "a.mp4", rig(1)[0], 0, frames=3),
            f"{tmp_path}: has videos of one camera (a); expected",
        ),
        (lambda: (tmp_path / "b.mp4").write_bytes(b"no video"), "b.mp4: cannot be read as a video"),
    ):
        prepare()
        done = cli("sync", tmp_path)
        assert (done.code, message in done.err) == (2, True), done.err
    assert "a.mp4: has 1 video; at least 2 are needed" in cli("sync", tmp_path / "a.mp4").err
    assert cli("sync", tmp_path / "nowhere").code == 2
    (tmp_path / "b.mp4").unlink()
    (tmp_path / "b.mp4").symlink_to("/dev/null")
    (tmp_path / "c.mp4").symlink_to(Path(__file__))
    done = cli("sync", tmp_path)
    assert (done.code, "lies outside the capture's folder" in done.err) == (2, True)
