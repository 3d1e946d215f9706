"""Live encoding: matching by timestamp, latest frame first, deadlines, and the whole program on pipes."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import Cli
from files import PATIENCE
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import invcodec
from invcodec.capture.capture import Frame, open_capture
from invcodec.capture.live.align import Aligner, SyncedImages
from invcodec.capture.live.pipe import RawPipe
from invcodec.capture.live.played import PlayedCapture
from invcodec.capture.live.rig import CameraRig
from invcodec.capture.live.source import LiveSource, Newest
from invcodec.container.reader import Reader
from invcodec.encoding.live import _Pace, encode_live
from invcodec.encoding.presets import resolve
from invcodec.errors import CaptureError, InvWarning
from invcodec.streaming.follow import follow_url

PROGRAM = [sys.executable, "-c", "import sys; from invcodec_cli import main; sys.exit(main())"]
FPS = Fraction(10)
WIDTH, HEIGHT = 16, 12
QUICK = ("--preset", "draft", "--steps", "3", "--key-seconds", "600", "--seconds-per-frame", "600")
"""Deadlines that no machine misses, and few steps."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However late one camera's thread is, the end of the others does not end it."""
    monkeypatch.setattr("invcodec.capture.live.rig._CATCH_UP", PATIENCE)


def image(value: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


# alignment


def aligned(events: list[tuple[int, float, int]], cameras: int) -> list[SyncedImages]:
    """The sets that images (camera, timestamp, value) form, each arriving at its place in the list."""
    aligner = Aligner(cameras, FPS)
    found = [aligner.add(c, stamp, image(value), float(place)) for place, (c, stamp, value) in enumerate(events)]
    return [synced for synced in found if synced is not None]


def values(synced: SyncedImages) -> list[int]:
    return [int(each[0, 0, 0]) for each in synced.images]


def test_images_are_matched_by_timestamp_however_late_they_arrive() -> None:
    # Camera 1 is three frames late, and its clock differs by 30 ms.
    events = [(0, k / 10, k) for k in range(4)]
    for k in range(8):
        events += [(1, k / 10 + 0.03, 100 + k), (0, (k + 4) / 10, k + 4)]
    sets = aligned(events, 2)
    assert [synced.number for synced in sets] == list(range(8))
    assert [values(synced) for synced in sets] == [[k, 100 + k] for k in range(8)]
    # Timestamps that differ from a frame's time by rounding are snapped to it.
    assert [synced.time for synced in sets] == [k / FPS for k in range(8)]


def test_a_frame_that_one_camera_missed_leaves_a_gap() -> None:
    events = [(c, k / 10, 10 * c + k) for k in range(6) for c in range(3) if (c, k) not in ((1, 2), (0, 4))]
    sets = aligned(events, 3)
    assert [synced.number for synced in sets] == [0, 1, 3, 5]
    assert all(values(each) == [each.number, 10 + each.number, 20 + each.number] for each in sets)


def test_uneven_times_are_kept() -> None:
    sets = aligned([(c, t, 0) for t in (7.0, 7.131, 7.252) for c in range(2)], 2)
    assert [(m.number, m.time) for m in sets] == [(0, 0), (1, Fraction(131, 1000)), (3, Fraction(252, 1000))]


@given(
    st.lists(st.floats(-0.024, 0.024), min_size=2, max_size=4),
    st.lists(st.integers(0, 3), min_size=10, max_size=60),
    st.sets(st.tuples(st.integers(0, 3), st.integers(0, 29))),
)
def test_matched_images_are_in_order_and_of_the_same_time(
    offsets: list[float], order: list[int], missing: set[tuple[int, int]]
) -> None:
    cameras = len(offsets)
    sent = [0] * cameras
    aligner = Aligner(cameras, FPS)
    last, last_time = -1, Fraction(-1)
    for camera in (each % cameras for each in order):
        k, sent[camera] = sent[camera], sent[camera] + 1
        if (camera, k) in missing:
            continue
        synced = aligner.add(camera, 5 + k / 10 + offsets[camera], image(k), 0.0)
        if synced is not None:
            assert synced.number > last
            assert synced.time > last_time
            last, last_time = synced.number, synced.time
            assert len(set(values(synced))) == 1


# latest first


def frame(number: int) -> Frame:
    return Frame(number, number / FPS, [], [])


def test_a_slow_consumer_gets_the_latest_frame_and_then_the_end() -> None:
    newest = Newest()
    for number in range(5):
        newest.put(frame(number), 0.0)
    taken = newest.take()
    assert taken is not None
    assert (taken.frame.number, taken.received) == (4, 5)
    with pytest.raises(TimeoutError):
        newest.take(0.0)
    newest.put(frame(6), 0.0)
    newest.put(frame(7), 0.0)
    # What arrives after a frame was taken is no matter of that frame: one was dropped between the two.
    assert taken.received == 5
    newest.end(CaptureError("cut off"))
    newest.end()
    last = newest.take()
    assert last is not None
    assert (last.frame.number, last.received) == (7, 7)
    with pytest.raises(CaptureError, match="cut off"):
        newest.take()


def test_time_is_reserved_for_coding() -> None:
    pace = _Pace(key_seconds=10, seconds_per_frame=1)
    for kind, coding in (("key", 0.5), ("delta", 0.1)):
        pace.observe(kind, coding, 0.05)
    assert 1 - 0.1 - 0.05 > pace.training(1, "delta") > 0.7
    assert 1 - 0.5 - 0.05 > pace.training(1, "key") > 0.3
    assert 10 - 0.5 > pace.training(0, "key") > 8
    # One slow frame does not starve those after it, and is forgotten.
    before = pace.training(1, "delta")
    pace.observe("delta", 30.0, 20.0)
    assert before > pace.training(1, "delta") > 0.5
    for _ in range(40):
        pace.observe("delta", 0.1, 0.05)
    assert pace.training(1, "delta") == pytest.approx(before, abs=0.01)
    pace.observe("delta", 5.0, 0.05)
    assert pace.training(1, "delta") > 0


# sources


def write_rig(path: Path, videos: list[str], per_camera: dict[str, list[object]] | None = None, **top: object) -> Path:
    """A rig of parallel cameras, with further keys per camera and at the top level."""
    cameras = []
    for index, video in enumerate(videos):
        pose = np.eye(4)
        pose[0, 3] = 0.3 * index
        row = {"name": f"cam{index}", "video": video, "transform_matrix": pose.tolist(), "near": 1.0, "far": 5.0}
        row |= {key: values[index] for key, values in (per_camera or {}).items()}
        cameras.append({key: value for key, value in row.items() if value is not None})
    path.write_text(json.dumps({"fps": 10, "w": WIDTH, "h": HEIGHT, "fl_x": 14.0, "cameras": cameras} | top))
    return path


def write_counting_video(path: Path, frames: int, first: int, camera: int, **metadata: str) -> None:
    """A lossless video whose pixel values identify frame and camera."""
    with av.open(path, "w") as container:
        container.metadata.update(metadata)
        stream = container.add_stream("ffv1", 10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        for k in range(frames):
            frame = av.VideoFrame.from_ndarray(image(20 * (first + k) + camera), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0", threads=1)))
        container.mux(stream.encode(None))


def feed(pipe: Path, video: Path) -> None:
    """Send a video to a named pipe in real time."""
    with open(pipe, "wb", buffering=0) as out, av.open(video) as source, av.open(out, "w", format="nut") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        start = time.monotonic()
        for packet in source.demux(video=0):
            if packet.size:
                time.sleep(max(0.0, start + float(packet.pts * packet.time_base) - time.monotonic()))
                packet.stream = stream
                target.mux(packet)


class Everything(Newest):
    """Keeps every frame that is put."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Frame] = []

    def put(self, frame: Frame, arrived: float) -> None:
        self.all.append(frame)
        super().put(frame, arrived)


def filmed(source: LiveSource) -> list[Frame]:
    newest = Everything()
    source._run(newest, threading.Event())
    return newest.all


def pixel_values(frames: list[Frame]) -> list[list[int]]:
    return [[int(each[0, 0, 0]) for each in frame.images] for frame in frames]


def test_files_are_played_and_offsets_align_them(tmp_path: Path) -> None:
    # Camera 2 started two frames before the others.
    for camera, (frames, first) in enumerate([(5, 2), (5, 2), (7, 0)]):
        write_counting_video(tmp_path / f"{camera}.mkv", frames, first, camera)
    rig = write_rig(
        tmp_path / "rig.json",
        ["0.mkv", "1.mkv", str(tmp_path / "2.mkv")],
        {"offset": [None, 0.0, -0.2]},
        test_cameras=["cam1"],
    )
    source = CameraRig(rig, downscale=1, holdout=None)
    assert [camera.held_out for camera in source.cameras] == [False, True, False]
    frames = filmed(source)
    # Time 0 is that of the earliest image, two frames before the first complete set.
    assert pixel_values(frames) == [[20 * k, 20 * k + 1, 20 * k + 2] for k in range(2, 7)]
    assert [frame.number for frame in frames] == [2, 3, 4, 5, 6]
    assert [frame.time for frame in frames] == [k / FPS for k in range(2, 7)]


def test_images_are_downscaled_as_they_are_read(tmp_path: Path) -> None:
    for camera in range(2):
        write_counting_video(tmp_path / f"{camera}.mkv", 2, 0, camera)
    rig = write_rig(tmp_path / "rig.json", ["0.mkv", "1.mkv"])
    text = json.loads(rig.read_text())
    rig.write_text(json.dumps(text))
    with pytest.raises(CaptureError, match="fewer than 8 pixels"):
        CameraRig(rig, downscale=2, holdout=None)
    for name in ("w", "h"):
        text[name] *= 2
    rig.write_text(json.dumps(text))
    with pytest.raises(CaptureError, match=r"camera 'cam\d' .*16x12, but its calibration is for 32x24"):
        filmed(CameraRig(rig, downscale=2, holdout=None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": ["x", 0, 0]}, "'offset' is 'x'"),
        ({"clock": ["sun", "stream", "stream"]}, "'clock' is 'sun'"),
        ({"ffmpeg": [["-f", "v4l2"], {}, {}]}, "'ffmpeg' is not an object"),
        ({"ffmpeg": [{"f": ["v4l2"]}, {}, {}]}, "'ffmpeg' is not an object"),
        ({"name": ["a", "a", "b"]}, "same name"),
        ({"video": [None, "b", "c"]}, "has no 'video'"),
        ({"w": [16, 1e9, 16]}, "camera 'cam1' is 1000000000x12, the limit is 16384"),
    ],
)
def test_faults_of_a_rig_are_named(tmp_path: Path, change: dict[str, list[object]], message: str) -> None:
    rig = write_rig(tmp_path / "rig.json", ["a", "b", "c"], change)
    with pytest.raises(CaptureError, match=message):
        CameraRig(rig, downscale=1, holdout=None)
    for key, value, message in (("fps", None, "has no 'fps'"), ("cameras", [], "'cameras' is empty")):
        write_rig(rig, ["a", "b", "c"], **{key: value})
        with pytest.raises(CaptureError, match=message):
            CameraRig(rig, downscale=1, holdout=None)


def test_a_missing_camera_is_named(tmp_path: Path) -> None:
    for camera in range(2):
        write_counting_video(tmp_path / f"{camera}.mkv", 3, 0, camera)
    rig = write_rig(tmp_path / "rig.json", ["0.mkv", "gone.mkv"])
    with pytest.raises(CaptureError, match=r"camera 'cam1' \(gone.mkv\): No such file"):
        filmed(CameraRig(rig, downscale=1, holdout=None))


def test_input_options_reach_ffmpeg(tmp_path: Path) -> None:
    options = {"f": "rawvideo", "video_size": "16x12", "framerate": 10, "pixel_format": "gray"}
    videos = ["testsrc=size=16x12:rate=10:duration=0.3", "a:b.raw"]
    rig = write_rig(tmp_path / "rig.json", videos, {"ffmpeg": [{"f": "lavfi"}, options]})
    # A name that FFmpeg would take for an address.
    (tmp_path / "a:b.raw").write_bytes(b"".join(bytes([20 * k]) * 192 for k in range(3)))
    frames = filmed(CameraRig(rig, downscale=1, holdout=None))
    assert [int(frame.images[1][0, 0, 0]) for frame in frames] == [0, 20, 40]
    rig = write_rig(rig, ["testsrc=", "a:b.raw"], {"ffmpeg": [None, options]})
    with pytest.raises(CaptureError, match=r"camera 'cam0' \(testsrc=\): "):
        filmed(CameraRig(rig, downscale=1, holdout=None))


def test_metadata_cannot_pose_as_time_stamps(tmp_path: Path) -> None:
    for camera in range(2):
        lines = "x\n[Parsed_showinfo_0 @ 0x1] n: 0 pts: 0 pts_time:900.5 pos: 0 fmt:bgr0 s:8x8 Error"
        write_counting_video(tmp_path / f"{camera}.mkv", 3, 0, camera, title=lines, comment=lines)
    frames = filmed(CameraRig(write_rig(tmp_path / "rig.json", ["0.mkv", "1.mkv"]), downscale=1, holdout=None))
    assert [frame.time for frame in frames] == [k / FPS for k in range(3)]


def test_files_loop_with_rising_times(tmp_path: Path) -> None:
    for camera in range(2):
        write_counting_video(tmp_path / f"{camera}.mkv", 3, 0, camera)
    rig = write_rig(tmp_path / "rig.json", ["0.mkv", "1.mkv"])
    stop = threading.Event()

    class Stopping(Everything):
        def put(self, frame: Frame, arrived: float) -> None:
            super().put(frame, arrived)
            if len(self.all) == 7:
                stop.set()

    newest = Stopping()
    CameraRig(rig, downscale=1, holdout=None, loop=True)._run(newest, stop)
    numbers = [frame.number for frame in newest.all]
    assert numbers == sorted(set(numbers))
    assert [int(frame.images[1][0, 0, 0]) for frame in newest.all] == [20 * (n % 3) + 1 for n in numbers]


def test_clocks_that_never_meet_are_named(tmp_path: Path) -> None:
    for camera in range(3):
        write_counting_video(tmp_path / f"{camera}.mkv", 3, 0, camera)
    rig = write_rig(tmp_path / "rig.json", ["0.mkv", "1.mkv", "2.mkv"], {"offset": [0, 3600, 0]})
    message = r"clock of camera cam0, cam2 is 3600 s behind; set its 'offset', or 'clock'"
    with pytest.raises(CaptureError, match=message):
        filmed(CameraRig(rig, downscale=1, holdout=None))


def test_what_the_first_frame_waits_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invcodec.capture.live.source._PATIENCE", 0.001)
    newest = Newest()

    class Waiting(LiveSource):
        def waiting(self) -> str:
            if waits.append(None) or len(waits) == 3:
                newest.put(frame(0), 0.0)
            return f"no image yet from camera {len(waits)}"

        def _run(self, newest: Newest, stop: threading.Event) -> None: ...

    waits: list[None] = []
    with pytest.warns(InvWarning) as said:
        taken = Waiting("rig.json", [], FPS, (8, 8), 1).take(newest, False)
    assert taken is not None
    assert [str(each.message) for each in said] == [
        f"rig.json: waiting: no image yet from camera {n}" for n in (1, 2, 3)
    ]


def test_images_that_wait_are_bounded_in_time_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def held(frames: int) -> int:
        aligner = Aligner(3, FPS)
        for k in range(frames):
            for camera in (0, 1):
                aligner.add(camera, k / 10 + 1000 * camera, image(k), 0.0)
        assert aligner.missing() == [2]
        return sum(each[1].nbytes for held in aligner._held for each in held)

    assert held(100) == held(50) == 2 * 20 * image(0).nbytes
    monkeypatch.setattr("invcodec.capture.live.align._BUFFER_BYTES", 15 * image(0).nbytes)
    assert held(100) == 2 * 5 * image(0).nbytes


def test_raw_frames_hold_all_cameras_in_order(tmp_path: Path) -> None:
    rig = write_rig(tmp_path / "rig.json", ["", "", ""])
    data = b"".join(image(20 * k + camera).tobytes() for k in range(3) for camera in range(3))
    frames = filmed(RawPipe(rig, io.BytesIO(data), downscale=1, holdout=None))
    assert pixel_values(frames) == [[20 * k, 20 * k + 1, 20 * k + 2] for k in range(3)]
    assert [(frame.number, frame.time) for frame in frames] == [(k, k / FPS) for k in range(3)]
    newest = Everything()
    with pytest.raises(CaptureError, match="ends inside frame 2"):
        RawPipe(rig, io.BytesIO(data[:-1]), downscale=1, holdout=None)._run(newest, threading.Event())
    assert len(newest.all) == 2


def test_a_capture_loops(capture: Path) -> None:
    opened = open_capture(capture, frames=(1, 3))
    newest, stop = Everything(), threading.Event()

    class Stopping(Everything):
        def put(self, frame: Frame, arrived: float) -> None:
            super().put(frame, arrived)
            if len(self.all) == 5:
                stop.set()

    newest = Stopping()
    PlayedCapture(opened, loop=True)._run(newest, stop)
    assert [frame.number for frame in newest.all] == [1, 2, 3, 4, 5]
    assert [frame.time for frame in newest.all] == [k / opened.fps for k in range(1, 6)]
    np.testing.assert_array_equal(newest.all[0].images[3], newest.all[2].images[3])
    assert [frame.number for frame in filmed(PlayedCapture(opened))] == [1, 2]


# the whole program


def rows(text: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_a_capture_is_encoded_live(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "live.inv"
    result = cli("encode", capture, path, "--live", "--loop", "--frames", "2:9", *QUICK, "--progress", "json")
    assert result.code == 0, result.err
    reports = rows(result.err)
    numbers = [int(report["frame"]) for report in reports]
    assert numbers == sorted(set(numbers))
    assert numbers[0] >= 2
    assert numbers[-1] <= 8
    # Frames that were not taken in time are gaps, and were counted.
    assert sum(report["dropped"] for report in reports) == numbers[-1] - numbers[0] + 1 - len(numbers)
    for report in reports:
        assert report["time"] == pytest.approx(report["frame"] / 10)
        assert report["seconds"] == pytest.approx(report["training"] + report["coding"], abs=0.01)
        assert report["queue"] >= 0
        assert 5 < report["psnr"] < 60
    info = json.loads(cli("info", path, "--json").out)
    assert (info["state"], info["frames"]["count"]) == ("complete", len(numbers))
    held = {n for a, b in info["frames"]["gaps"] for n in range(a, b + 1)}
    assert held == set(range(numbers[0], numbers[-1] + 1)) - set(numbers)
    assert cli("verify", path).code == 0
    with Reader(path) as reader:
        for entry, report in zip(reader.frames, reports, strict=True):
            stats = reader.frame(entry)[0].stats
            assert stats.captured == pytest.approx(1000 * report["captured"], abs=1)
            assert stats.fidelity.psnr == pytest.approx(report["psnr"], abs=0.01)


@pytest.mark.slow
def test_a_transparent_capture_stays_transparent(capture: Path, tmp_path: Path) -> None:
    folder, path = tmp_path / "alpha", tmp_path / "out.inv"
    shutil.copytree(capture, folder)
    for name in folder.rglob("*.png"):
        with Image.open(name) as picture:
            picture.putalpha(200)
            picture.save(name)
    config = {"resolutions": [4, 9], "log2_table": 9, "occupancy": 8, "samples": 16}
    settings = resolve("draft", steps=3, threads=1)
    settings = replace(settings, networks=({**settings.networks[0], "config": config},))
    encode_live(PlayedCapture(open_capture(folder)), path, settings, key_seconds=600, seconds_per_frame=600)
    with invcodec.open(path) as video:
        assert video.head.background is None
        assert video.head.networks[0].space["kind"] == "box"


def test_a_live_file_keeps_to_its_rate(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "live.inv"
    target = ("--bitrate", "160k", "--max-frame-bytes", "700")
    result = cli("encode", capture, path, "--live", "--loop", "--frames", "0:8", *QUICK, *target, "--progress", "json")
    assert result.code == 0, result.err
    *reports, rate, cap = rows(result.err)
    assert (rate["target"], rate["met"], cap["target"], cap["met"]) == ("bitrate", True, "max_frame_bytes", True)
    assert all(report["bytes"] <= 700 for report in reports if report["kind"] == "delta")
    assert cli("verify", path).code == 0


@pytest.mark.slow
def test_pipes_that_are_fed_in_real_time(cli: Cli, tmp_path: Path) -> None:
    names = ["0.pipe", "1.pipe", "2.pipe"]
    feeders = []
    for camera, name in enumerate(names):
        write_counting_video(tmp_path / f"{camera}.mkv", 8, 0, camera)
        os.mkfifo(tmp_path / name)
        feeders.append(threading.Thread(target=feed, args=(tmp_path / name, tmp_path / f"{camera}.mkv"), daemon=True))
        feeders[-1].start()
    rig = write_rig(tmp_path / "rig.json", names, test_cameras=["cam1"])
    path = tmp_path / "live.inv"
    result = cli("encode", rig, path, "--live", *QUICK, "--progress", "json")
    for feeder in feeders:
        feeder.join(PATIENCE)
    assert result.code == 0, result.err
    numbers = [int(report["frame"]) for report in rows(result.err)]
    assert numbers == sorted(set(numbers))
    # The last frame is kept until it is taken.
    assert numbers[-1] == 7
    assert cli("verify", path).code == 0


@pytest.mark.slow
def test_raw_frames_on_standard_input(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = write_rig(tmp_path / "rig.json", ["", "", ""])
    data = b"".join(image(40 * k + 10 * camera).tobytes() for k in range(2) for camera in range(3))

    class Stdin:
        buffer = io.BytesIO(data)

    monkeypatch.setattr("sys.stdin", Stdin())
    path = tmp_path / "live.inv"
    result = cli("encode", rig, path, "--live", "--stdin", *QUICK, "--progress", "json")
    assert result.code == 0, result.err
    assert [report["frame"] for report in rows(result.err)][-1] == 1
    assert cli("verify", path).code == 0


@pytest.mark.slow
def test_ctrl_c_ends_a_recording_and_followers_get_all_of_it(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "live.inv"
    process = subprocess.Popen(
        [*PROGRAM, "encode", str(capture), str(path), "--live", "--loop", "--serve", "0", *QUICK, "--progress", "json"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    url = process.stderr.readline().split()[1].rstrip(";")
    followed: list[int] = []
    scanners = []

    def follow() -> None:
        for scanner, found in follow_url(url, lambda: False):
            scanners.append(scanner)
            if found.entry is not None:
                followed.append(found.entry.number)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    for _ in range(3):
        assert process.stderr.readline().startswith("{")
    # Whatever else it says must not fill the pipe.
    drain = threading.Thread(target=process.stderr.read, daemon=True)
    drain.start()
    # The follower may be about to poll.
    while not followed:
        time.sleep(0.01)
    # A terminal signals all processes, including the server.
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    thread.join(PATIENCE)
    drain.join(PATIENCE)
    process.stderr.close()
    info = json.loads(cli("info", path, "--json").out)
    assert info["state"] == scanners[-1].status == "complete"
    with Reader(path) as reader:
        numbers = [entry.number for entry in reader.frames]
    assert len(numbers) >= 3
    assert followed == numbers[-len(followed) :]


def test_the_server_dies_with_a_killed_encoder(capture: Path, tmp_path: Path) -> None:
    command = [*PROGRAM, "encode", str(capture), str(tmp_path / "x.inv"), "--live", "--serve", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    host, port = process.stderr.readline().split("/")[2].split(":")

    def listening() -> bool:
        with socket.socket() as client:
            return client.connect_ex((host, int(port))) == 0

    end = time.monotonic() + PATIENCE
    while not listening():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait()
    while listening():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.stderr.close()


def test_invalid_options_are_refused(cli: Cli, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.inv"
    for arguments in (
        (capture, path, "--loop"),
        (capture, path, "--stdin"),
        (capture, "-", "--serve", "8080"),
        (capture, path, "--live", "--stdin", "--loop"),
        (tmp_path / "none.json", path, "--live"),
        (capture, path, "--live", "--target-size", "1M"),
        (capture, path, "--live", "--bitrate", "2k"),
        (capture, path, "--live", "--seconds-per-frame", "0"),
        (capture, path, "--live", "--seconds-per-frame", "0.4ms"),
        (capture, path, "--live", "--key-seconds", "0"),
    ):
        result = cli("encode", *arguments)
        assert (result.code, result.err.count("\n")) == (2, 1), result.err
        assert not path.exists()


@pytest.mark.slow
def test_a_source_that_ends_too_soon_leaves_nothing(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = write_rig(tmp_path / "rig.json", ["", "", ""])

    class Stdin:
        buffer = io.BytesIO(b"")

    monkeypatch.setattr("sys.stdin", Stdin())
    path = tmp_path / "live.inv"
    result = cli("encode", rig, path, "--live", "--stdin", *QUICK)
    assert (result.code, "before the first frame" in result.err) == (2, True)
    assert list(tmp_path.iterdir()) == [rig]
