"""The ray-traced scene: reproducible, and consistent between its cameras."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from invcodec.capture.capture import open_capture
from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera
from invcodec.names import Scene
from invcodec.synth.rig import synthetic_rig
from invcodec.synth.scene import objects_at
from invcodec.synth.trace import render, trace
from invcodec.synth.write import write_synthetic

SMALL = {"cameras": 3, "size": (24, 18), "frames": 2}


@pytest.fixture(scope="session")
def rig() -> list[Camera]:
    return synthetic_rig(5, (24, 18))


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "room"
    write_synthetic(folder, **SMALL)
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_files_every_time(written: Path, tmp_path: Path) -> None:
    done = []
    write_synthetic(tmp_path, **SMALL, done=lambda: done.append(1))
    assert contents(tmp_path) == contents(written)
    assert len(contents(written)) == 3 * 2 + 1
    assert len(done) == 3 * 2


def test_videos_are_the_same_every_time_as_well(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_synthetic(tmp_path / name, cameras=2, size=(24, 18), frames=2, layout="n3dv")
    first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
    assert sorted(first) == ["cam00.mp4", "cam01.mp4", "poses_bounds.npy"]
    assert first == second


def test_a_folder_that_is_not_empty_is_left_alone(written: Path, tmp_path: Path) -> None:
    before = contents(written)
    with pytest.raises(UsageError, match="room: already exists"):
        write_synthetic(written, **SMALL)
    assert contents(written) == before
    (tmp_path / "file").write_text("here first")
    with pytest.raises(UsageError, match="file: already exists"):
        write_synthetic(tmp_path / "file", **SMALL)


@pytest.mark.parametrize("scene", ["still", "moving", "changing"])
def test_pictures_change_with_time_only_where_the_scene_does(rig: list[Camera], scene: Scene) -> None:
    first, later = (render(rig[0], scene, time, 1.0).astype(int) for time in (0.0, 0.4))
    changed = (first != later).any(-1).mean()
    if scene == "still":
        assert changed == 0
    else:
        # Something moves, but the room around it stays.
        assert 0.02 < changed < 0.8


def test_repainting_changes_every_colour_and_no_shape(rig: list[Camera]) -> None:
    for camera in rig:
        first, last = (trace(objects_at("repainted", time, 1.0), *camera.rays()) for time in (0.0, 1.0))
        np.testing.assert_array_equal(first[1], last[1])
        # Red, green and blue have changed places, in light, shadow and mirrors alike.
        np.testing.assert_allclose(last[0], first[0][:, [2, 0, 1]])
        assert (np.abs(last[0] - first[0]).max(1) > 0.02).mean() > 0.8


def test_an_object_appears_half_way_through_changing_and_not_in_moving() -> None:
    counts = {
        (scene, time): len(objects_at(scene, time, 2.0))
        for scene in ("moving", "changing")
        for time in (0, 0.99, 1, 1.9)
    }
    assert [counts["moving", t] for t in (0, 0.99, 1, 1.9)] == [5, 5, 5, 5]
    assert [counts["changing", t] for t in (0, 0.99, 1, 1.9)] == [5, 5, 6, 6]


def test_the_object_that_appears_is_seen_from_every_camera(rig: list[Camera]) -> None:
    for camera in rig:
        before = trace(objects_at("changing", 0.4999, 1.0), *camera.rays())[1]
        after = trace(objects_at("changing", 0.5, 1.0), *camera.rays())[1]
        # It can only come in front of what was there.
        assert (after <= before + 0.01).all()
        assert (after < before - 0.05).sum() > 5


def test_depth_agrees_between_cameras(rig: list[Camera]) -> None:
    objects = objects_at("moving", 0.3, 1.0)
    seen = hidden = 0
    for here in rig:
        origins, directions = here.rays()
        depth = trace(objects, origins, directions)[1]
        points = origins + depth[:, None] * directions
        for there in rig:
            pixels, z = there.project(points)
            inside = (pixels > 0).all(1) & (pixels < (there.width, there.height)).all(1) & (z > 0)
            found = trace(objects, *there.rays(pixels[inside]))[1]
            # An occluder may be nearer; the surface itself is never missing.
            same = np.isclose(found, z[inside], rtol=1e-6)
            assert (same | (found < z[inside])).all()
            if there is here:
                assert same.all()
            else:
                seen += same.sum()
                hidden += (~same).sum()
    assert seen > 5 * hidden > 0


def test_all_cameras_see_a_matt_point_in_the_same_colour(rig: list[Camera]) -> None:
    # The mirror ball, at index 3, is the only thing whose colour changes with the view.
    objects = [each for each in objects_at("moving", 0.3, 1.0) if not each.mirror]
    origins, directions = rig[0].rays()
    colour, depth = trace(objects, origins, directions)
    points = origins + depth[:, None] * directions
    pixels, z = rig[1].project(points)
    other, found = trace(objects, *rig[1].rays(pixels))
    same = np.isclose(found, z, rtol=1e-6)
    assert same.mean() > 0.7
    # Edges of light and shadow may fall either way.
    assert (np.abs(other - colour)[same].max(1) < 1e-3).mean() > 0.97


def test_the_rig_faces_one_way_and_bounds_what_it_sees(rig: list[Camera]) -> None:
    assert [camera.held_out for camera in rig] == [True, False, False, False, False]
    assert len({tuple(np.round(camera.pose[:, 3], 6)) for camera in rig}) == 5
    for camera in rig:
        assert camera.near is not None
        assert camera.far is not None
        np.testing.assert_allclose(camera.pose[:, :3].T @ camera.pose[:, :3], np.eye(3), atol=1e-12)
        assert camera.pose[1, 1] > 0.8
        for time in (0.0, 0.3, 0.7):
            depth = trace(objects_at("changing", time, 1.0), *camera.rays())[1]
            assert camera.near < depth.min()
            assert depth.max() < camera.far


def test_frames_have_the_requested_rate(tmp_path: Path) -> None:
    write_synthetic(tmp_path, cameras=3, size=(24, 18), frames=3, fps=5, scene="still")
    capture = open_capture(tmp_path)
    assert capture.fps == 5
    assert capture.time(2) == Fraction(2, 5)
    rows = json.loads((tmp_path / "transforms.json").read_text())["frames"]
    assert [row["timestamp"] for row in rows[:3]] == [0.0, 0.2, 0.4]
    pictures = [np.asarray(Image.open(tmp_path / row["file_path"])) for row in rows[:3]]
    np.testing.assert_array_equal(pictures[0], pictures[2])
