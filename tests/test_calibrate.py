"""Cameras are found from their pictures alone, as exactly as those tell; what cannot be placed is named."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from PIL import Image
from scenes import wall

from invcodec.capture import structure
from invcodec.capture.calibrate import Calibration, calibrate
from invcodec.capture.capture import open_capture
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import look_at
from invcodec.mp4 import write_video

SIZE = (320, 240)
UP = np.array([0.2, 1.0, 0.1])
"""Of the world in which the rig is level."""
DOWN = (np.arange(SIZE[1]) / SIZE[1])[:, None, None]
TARGET = np.array([0.1, 0.0, -3.5])
PLACES = [[-0.9, 0.1, 0.3], [-0.3, -0.4, 0.0], [0.2, 0.5, 0.2], [0.8, -0.1, 0.3], [-0.6, 0.5, -0.2]]


def rig(**lens: Any) -> list[Camera]:
    return [
        Camera(f"cam{i}", *SIZE, 300.0, 300.0, SIZE[0] / 2, SIZE[1] / 2, look_at(np.array(place), TARGET, UP), **lens)
        for i, place in enumerate(PLACES)
    ]


RIG = rig(distortion=(-0.08, 0.02))


def write(folder: Path, cameras: list[Camera], pictures: list[np.ndarray] | None = None) -> Path:
    for camera, picture in zip(cameras, pictures or map(wall, cameras), strict=True):
        (folder / camera.name).mkdir(parents=True)
        Image.fromarray(picture).save(folder / camera.name / "0000.png")
    return folder


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [wall(camera) for camera in RIG]


@pytest.fixture
def bare(tmp_path: Path, pictures: list[np.ndarray]) -> Path:
    """The pictures of the rig, without its calibration."""
    return write(tmp_path / "bare", RIG, pictures)


def check(found: Calibration, cameras: list[Camera], *, position: float = 0.005, focal: float = 0.01) -> None:
    """Found cameras are where they should be, after the similarity between the two worlds."""
    true = {camera.name: camera for camera in cameras}
    own = [each.camera for each in found.placed]
    expected = [true[camera.name] for camera in own]
    centres, wanted = (np.stack([camera.pose[:, 3] for camera in each]) for each in (own, expected))
    size = np.linalg.norm(wanted[:, None] - wanted, axis=2).max()
    centred, towards = centres - centres.mean(0), wanted - wanted.mean(0)
    u, s, v = np.linalg.svd(towards.T @ centred)
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ v))])
    turn, scale = (u * signs) @ v, (s * signs).sum() / (centred**2).sum()
    assert np.linalg.norm(scale * centred @ turn.T - towards, axis=1).max() < position * size
    # Up is known as well as the rig is level.
    assert turn[:, 1] @ UP / np.linalg.norm(UP) > np.cos(np.radians(2))
    for each, camera, truth in zip(found.placed, own, expected, strict=True):
        cosine = (np.trace((turn @ camera.pose[:, :3]).T @ truth.pose[:, :3]) - 1) / 2
        assert np.degrees(np.arccos(min(cosine, 1))) < 100 * position
        assert abs(camera.fx / truth.fx - 1) < focal
        assert (camera.width, camera.height, camera.fisheye) == (truth.width, truth.height, truth.fisheye)
        assert each.error < 0.5
        assert each.points > 50
        # The walls are 1 to 6 units away.
        assert camera.near is not None
        assert camera.far is not None
        assert 0.8 < scale * camera.near < scale * camera.far < 10


def test_a_rig_is_found_from_its_pictures(bare: Path) -> None:
    found = calibrate(bare)
    check(found, RIG)
    assert found.shared
    assert (found.frames, found.unplaced) == ((0,), ())
    centres = np.stack([each.camera.pose[:, 3] for each in found.placed])
    assert centres.mean(0) == pytest.approx(0, abs=1e-9)
    assert np.linalg.norm(centres, axis=1).max() == pytest.approx(1)
    # What was written is what was found, and the reader takes it.
    capture = open_capture(bare)
    assert capture.layout == "transforms"
    assert list(capture.cameras) == [each.camera for each in found.placed]
    first = (bare / "transforms.json").read_bytes()
    calibrate(bare, force=True)
    assert (bare / "transforms.json").read_bytes() == first


def test_pictures_from_one_place_tell_no_distances(cli: Cli, tmp_path: Path, pictures: list[np.ndarray]) -> None:
    folder = write(tmp_path / "bare", RIG[:3], pictures[:1] * 3)
    done = cli("calibrate", folder)
    assert done.code == 2
    assert "but they fit no place where it could be: tell about its lens" in done.err
    assert "pictures from one place, or of one camera twice, tell no distances" in done.err
    assert not (folder / "transforms.json").exists()


def test_lenses_and_sizes_may_differ(tmp_path: Path) -> None:
    def lens(camera: Camera, index: int) -> Camera:
        if index == 4:
            return replace(camera, width=400, height=260, fx=400.0, fy=400.0, cx=200.0, cy=130.0)
        return camera if index % 2 else replace(camera, fx=380.0, fy=380.0)

    cameras = [lens(camera, index) for index, camera in enumerate(RIG)]
    found = calibrate(write(tmp_path / "bare", cameras))
    assert not found.shared
    check(found, cameras, position=0.02, focal=0.02)


def test_fisheyes_are_found_if_they_are_named(tmp_path: Path) -> None:
    cameras = [replace(camera, fx=200.0, fy=200.0) for camera in rig(fisheye=True)]
    found = calibrate(write(tmp_path / "bare", cameras), fisheye=True, focal_length=0.7)
    check(found, cameras, position=0.01, focal=0.02)


def test_instants_are_pooled(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    folder = write(tmp_path / "bare", RIG, pictures)
    grey = np.full_like(pictures[0], 90)
    for camera, picture in zip(RIG, pictures, strict=True):
        # There is something to see in the upper part, and then in the lower.
        for number, shown in enumerate((DOWN < 0.7, DOWN > 0.3)):
            Image.fromarray(np.where(shown, picture, grey)).save(folder / camera.name / f"{number:04d}.png")
    one, both = calibrate(folder, frames=[1]), calibrate(folder, frames=[1, 0, 1], force=True)
    assert both.frames == (0, 1)
    check(both, RIG, position=0.01)
    assert len(both.points) > 1.2 * len(one.points)
    # What stays adds nothing.
    for camera, picture in zip(RIG, pictures, strict=True):
        for number in range(2):
            Image.fromarray(picture).save(folder / camera.name / f"{number:04d}.png")
    assert len(calibrate(folder, force=True).points) == len(calibrate(folder, frames=[0], force=True).points)


def test_cameras_may_lack_frames(bare: Path) -> None:
    for camera in RIG:
        for number in (1, 2):
            shutil.copy(bare / camera.name / "0000.png", bare / camera.name / f"{number:04d}.png")
    (bare / "cam2" / "0001.png").unlink()
    whole = calibrate(bare)
    assert (whole.frames, whole.unplaced) == ((0, 2), ())
    gappy = calibrate(bare, frames=[1], force=True)
    assert [each.name for each in gappy.unplaced] == ["cam2"]
    check(gappy, RIG)


def test_matches_are_those_of_colmap(pictures: list[np.ndarray]) -> None:
    colmap = structure.require_colmap()
    extractor = colmap.FeatureExtractor.create(colmap.FeatureExtractionOptions(use_gpu=False), colmap.Device.cpu)
    options = colmap.FeatureMatchingOptions(use_gpu=False)
    options.sift.cpu_brute_force_matcher = True
    matcher = colmap.FeatureMatcher.create(options, colmap.Device.cpu)
    theirs = [extractor.extract_from_uint8_array(np.asarray(Image.fromarray(each).convert("L"))) for each in pictures]
    own = [
        structure.Features(colmap.keypoints_to_matrix(keys), descriptors.data.astype(np.float32))
        for keys, descriptors in theirs
    ]
    expected = matcher.match(*theirs[0], *theirs[1])
    assert len(expected) > 50
    assert set(map(tuple, structure.match(own[0], own[1]).tolist())) == set(map(tuple, expected.tolist()))


def test_a_camera_that_cannot_be_placed_is_named(cli: Cli, bare: Path) -> None:
    masks = bare.parent / "masks"
    masks.mkdir()
    for camera in RIG:
        Image.new("L", SIZE, 0 if camera.name == "cam2" else 255).save(masks / f"{camera.name}.png")
    done = cli("calibrate", bare, "--masks", masks)
    assert done.code == 0
    assert "camera cam2 could not be placed: it shows 0 distinct points; choose moments with more texture" in done.err
    assert "4 of 5 cameras placed, from frame 0" in done.out
    assert "one lens" in done.out
    assert [camera.name for camera in open_capture(bare).cameras] == ["cam0", "cam1", "cam3", "cam4"]
    again = cli("calibrate", bare)
    assert (again.code, "transforms.json: already exists; use -f" in again.err) == (2, True)


def test_the_report_and_the_plot(cli: Cli, bare: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = bare.parent / "rig.png"
    done = cli("calibrate", bare, "--json", "--plot", plot, "--share-intrinsics", "--seed", 7)
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert [camera["name"] for camera in found["cameras"]] == [camera.name for camera in RIG]
    assert max(camera["error"] for camera in found["cameras"]) < 0.5
    assert (found["unplaced"], found["shared_intrinsics"]) == ([], True)
    assert plot.stat().st_size > 10_000


def test_bare_videos_are_encoded_by_one_command(cli: Cli, tmp_path: Path, pictures: list[np.ndarray]) -> None:
    folder, out = tmp_path / "videos", tmp_path / "out.inv"
    folder.mkdir()
    for camera, picture in zip(RIG, pictures, strict=True):
        with open(folder / f"{camera.name}.mp4", "wb") as file:
            write_video(file, [picture] * 2, Fraction(10))
    # Pictures beside videos are of no camera.
    for name in ("preview", "rig"):
        Image.fromarray(pictures[0]).save(folder / f"{name}.png")
    options = "--downscale", 6, "--frames", "0:1", "--steps", 2, "--holdout", "cam0"
    refused = cli("encode", folder, out, *options)
    assert (refused.code, "no capture recognised" in refused.err) == (2, True)
    done = cli("encode", folder, out, "--calibrate", *options)
    assert (done.code, done.err) == (0, "")
    written = (folder / "transforms.json").stat().st_mtime_ns
    assert cli("encode", folder, out, "--calibrate", "-f", *options).code == 0
    assert (folder / "transforms.json").stat().st_mtime_ns == written
    assert "held out  cam0" in cli("inspect", folder, "--downscale", 6, "--holdout", "cam0").out


def test_what_is_looked_at_is_what_was_filmed_at_one_time(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    grey = np.full_like(pictures[0], 90)
    offsets = []
    for index, (camera, picture) in enumerate(zip(RIG, pictures, strict=True)):
        # All videos show the scene for a moment, which is in different places of them.
        with open(tmp_path / f"{camera.name}.mp4", "wb") as file:
            write_video(file, [grey] * index + [picture] + [grey] * (len(RIG) - index), Fraction(10))
        offsets.append({"video": f"{camera.name}.mp4", "offset": -index / 10})
    (tmp_path / "sync.json").write_text(json.dumps({"videos": offsets}))
    found = calibrate(tmp_path, frames=[0])
    check(found, RIG, position=0.02, focal=0.02)
    assert found.unplaced == ()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_killed_calibration_leaves_nothing_behind(number: signal.Signals, bare: Path) -> None:
    program = """
import os, signal, sys
from contextlib import contextmanager
from invcodec_cli import main, progress

@contextmanager
def counted(what, total):
    yield lambda: os.kill(os.getpid(), int(sys.argv[1])) if what == "placing cameras" else None

signal.signal(signal.SIGINT, signal.default_int_handler)
progress.counted = counted
sys.exit(main(["calibrate", sys.argv[2]]))
"""
    before = sorted(bare.rglob("*"))
    done = subprocess.run([sys.executable, "-c", program, str(int(number)), bare], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130 if number == signal.SIGINT else -number, "")
    assert done.stderr.strip() == ("invcodec: interrupted" if number == signal.SIGINT else "")
    assert sorted(bare.rglob("*")) == before


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        ([], [], "has no pictures of cameras; expected a video or a folder of images for each of at least 2 cameras"),
        (["cam0"], [], "has pictures of one camera (cam0)"),
        (["cam0", "cam1"], ["--at", 3], "no frame 3; it has frames 0:1"),
        (["cam0", "cam1"], ["--masks", "none"], "none/cam0.png: no such image"),
        (["cam0", "cam1"], ["--source", "videos"], "has no videos of cameras; expected a video for each of at least 2"),
        (["cam0", "cam1"], [], "none of 2 cameras could be placed; for one, cam0 shows 0 distinct points: choose"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    names: list[str], arguments: list[Any], message: str, cli: Cli, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        Image.new("RGB", SIZE, (90, 90, 90)).save(tmp_path / name / "0000.png")
    done = cli("calibrate", tmp_path, *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_pictures_of_different_places_are_not_made_to_fit(cli: Cli, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 45, 60, 3), dtype=np.uint8)
    apart = [np.asarray(Image.fromarray(each).resize(SIZE, Image.Resampling.BICUBIC)) for each in noise]
    done = cli("calibrate", write(tmp_path / "bare", RIG[:3], apart))
    assert done.code == 2
    assert "none of 3 cameras could be placed; for one, cam0 has" in done.err
    assert "in common" in done.err
    assert "move it nearer to another camera" in done.err
    assert not (tmp_path / "bare" / "transforms.json").exists()


def test_without_colmap_it_says_what_to_install(cli: Cli, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    for done in (cli("calibrate", bare), cli("encode", bare, bare.parent / "out.inv", "--calibrate")):
        assert done.code == 2
        assert "pip install 'invcodec[calibrate]'" in done.err
        assert done.err.count("\n") == 1
    live = cli("encode", bare, bare.parent / "out.inv", "--calibrate", "--live")
    assert (live.code, "run 'invcodec calibrate' before --live" in live.err) == (2, True)
