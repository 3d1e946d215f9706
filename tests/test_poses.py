"""Poses to render from: names, orbits, and every kind of JSON file."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invcodec.capture.layouts.transforms import read_rig
from invcodec.decoding.poses import read_pose, resolve_pose
from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import default_view, focus_point, look_at, orbit

UP = np.array([0.0, 1.0, 0.0])
TARGET = np.array([0.3, -0.2, 0.1])


def rig(angles: list[float], radius: float = 3.0) -> list[Camera]:
    """Cameras on a slightly raised circle, all looking at TARGET."""
    cameras = []
    for index, angle in enumerate(angles):
        position = TARGET + radius * np.array([np.sin(angle), 0.25 + 0.1 * (index % 2), np.cos(angle)])
        pose = look_at(position, TARGET, UP)
        cameras.append(
            Camera(f"c{index}", 40, 30, 35.0, 36.0, 21.0, 14.0, pose, (0.01, 0.0, 0.0, 0.0), near=1.0, far=6.0)
        )
    return cameras


FORWARD = rig([-0.3, -0.1, 0.1, 0.3])
AROUND = rig([0.1, 1.7, 3.2, 4.8])
MATRIX = look_at(np.array([1.0, 2.0, 3.0]), TARGET, UP)
FULL = [*MATRIX.tolist(), [0.0, 0.0, 0.0, 1.0]]
FLAT = [value for row in FULL for value in row]


def written(folder: Path, data: Any) -> Path:
    path = folder / "view.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_look_at_puts_the_target_in_the_middle_and_up_upwards() -> None:
    camera = replace(FORWARD[0], pose=look_at(np.array([1.0, 5.0, 2.0]), TARGET, UP), distortion=(0.0,) * 4)
    pixels, depth = camera.project(np.array([TARGET, TARGET + 0.1 * UP]))
    np.testing.assert_allclose(pixels[0], (camera.cx, camera.cy), atol=1e-9)
    assert depth[0] == pytest.approx(np.linalg.norm([0.7, 5.2, 1.9]))
    assert pixels[1, 1] < pixels[0, 1]
    assert pixels[1, 0] == pytest.approx(camera.cx)
    assert np.linalg.det(camera.pose[:, :3]) == pytest.approx(1)


def test_a_camera_is_found_by_its_name() -> None:
    pose = resolve_pose("c2", FORWARD)
    assert (pose.name, pose.rate, pose.times, pose.orbit) == ("c2", None, None, False)
    assert pose.cameras == (FORWARD[2],)


def test_a_camera_named_like_a_keyword_takes_precedence() -> None:
    odd = [replace(FORWARD[0], name="orbit"), *FORWARD[1:]]
    assert resolve_pose("orbit", odd).cameras == (odd[0],)
    assert not resolve_pose("orbit", odd).orbit


def test_the_default_view_is_the_first_held_out_camera() -> None:
    cameras = [replace(c, held_out=i in (1, 2)) for i, c in enumerate(FORWARD)]
    assert default_view(cameras) is cameras[1]
    assert resolve_pose("default", cameras).name == "c1"


def test_the_default_view_of_a_rig_that_faces_forward_is_its_mean() -> None:
    view = default_view(FORWARD)
    assert (view.name, any(view.distortion)) == ("", False)
    np.testing.assert_allclose(view.pose[:, 3], np.mean([c.pose[:, 3] for c in FORWARD], 0))
    assert resolve_pose("default", FORWARD).name == "default"
    # The rig is symmetric about x = TARGET's.
    np.testing.assert_allclose(view.pose[:, 0], [1, 0, 0], atol=0.02)


def test_the_default_view_of_a_rig_all_around_is_its_first_camera() -> None:
    assert default_view(AROUND) is AROUND[0]


@pytest.mark.parametrize("cameras", [FORWARD, AROUND], ids=["forward", "around"])
def test_an_orbit_looks_at_the_focus_and_stays_upright(cameras: list[Camera]) -> None:
    focus = focus_point(cameras, default_view(cameras))
    path = orbit(cameras, 12)
    assert len(path) == 12
    for camera in path:
        assert camera.name == ""
        toward = focus - camera.pose[:, 3]
        np.testing.assert_allclose(-camera.pose[:, 2], toward / np.linalg.norm(toward), atol=1e-9)
        np.testing.assert_allclose(camera.pose[:, :3].T @ camera.pose[:, :3], np.eye(3), atol=1e-9)
        assert camera.pose[:, 1] @ UP > 0.8
        # Level with respect to the rig's up.
        assert abs(camera.pose[:, 0] @ UP) < 0.1
    # It starts at the default view, and neither stops nor jumps.
    np.testing.assert_allclose(path[0].pose[:, 3], default_view(cameras).pose[:, 3], atol=1e-9)
    places = np.stack([camera.pose[:, 3] for camera in path])
    steps = np.linalg.norm(np.roll(places, -1, 0) - places, axis=1)
    assert steps.min() > 0
    assert steps.max() < 4 * steps.min()


def test_an_orbit_goes_all_the_way_round_what_the_cameras_surround() -> None:
    path = orbit(AROUND, 8)
    arms = np.stack([camera.pose[:, 3] for camera in path]) - focus_point(AROUND, AROUND[0])
    np.testing.assert_allclose(np.linalg.norm(arms, axis=1), np.linalg.norm(arms[0]))
    angles = np.unwrap(np.arctan2(arms[:, 0], arms[:, 2]))
    np.testing.assert_allclose(np.abs(np.diff(angles)), np.pi / 4, atol=0.05)


def test_an_orbit_of_a_rig_that_faces_forward_stays_among_its_cameras() -> None:
    centres = np.stack([camera.pose[:, 3] for camera in FORWARD])
    places = np.stack([camera.pose[:, 3] for camera in orbit(FORWARD, 16)])
    # It starts at the top of its ellipse, so it dips below by twice the reach.
    assert (places[:, 0] > centres[:, 0].min()).all()
    assert (places[:, 0] < centres[:, 0].max()).all()
    assert np.ptp(places[:, 0]) > 0.3 * np.ptp(centres[:, 0])


def test_an_orbit_may_start_elsewhere() -> None:
    start = replace(AROUND[2], width=80, height=20)
    path = orbit(AROUND, 5, start)
    np.testing.assert_allclose(path[0].pose[:, 3], start.pose[:, 3], atol=1e-9)
    assert {(c.width, c.height) for c in path} == {(80, 20)}


@pytest.mark.parametrize("cameras", [FORWARD, AROUND], ids=["forward", "around"])
def test_the_focus_is_where_all_axes_meet(cameras: list[Camera]) -> None:
    np.testing.assert_allclose(focus_point(cameras, cameras[1]), TARGET, atol=1e-9)


def test_the_focus_of_parallel_cameras_lies_within_the_bounds() -> None:
    pose = np.eye(4)[:3]
    cameras = [replace(c, pose=pose + np.eye(4)[:3] * 0) for c in FORWARD[:3]]
    for index, camera in enumerate(cameras):
        camera.pose[0, 3] = index
    # The harmonic mean of 1 and 6.
    np.testing.assert_allclose(focus_point(cameras, cameras[1]), [1, 0, -12 / 7])
    unbounded = [replace(camera, near=None, far=None) for camera in cameras]
    focus = focus_point(unbounded, unbounded[1])
    assert focus[2] < 0
    np.testing.assert_allclose(focus[:2], [1, 0])


@given(st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=50, deadline=None)
def test_resizing_keeps_the_vertical_field_of_view(width: int, height: int) -> None:
    camera = FORWARD[0]
    other = camera.resized(width, height)
    assert (other.width, other.height) == (width, height)
    _, old = camera.rays(np.array([[camera.cx, 0.0], [camera.cx, camera.height]]))
    _, new = other.rays(np.array([[other.cx, 0.0], [other.cx, height]]))
    np.testing.assert_allclose(new, old, atol=1e-9)
    # The pixel aspect ratio stays, and so does the offset of the principal point.
    assert other.fx / other.fy == pytest.approx(camera.fx / camera.fy)
    assert (other.cx - width / 2) / other.fx == pytest.approx((camera.cx - camera.width / 2) / camera.fx)


def test_a_size_applies_to_every_camera_of_a_pose(tmp_path: Path) -> None:
    path = written(tmp_path, {"camera_path": [{"camera_to_world": FULL}, {"camera_to_world": FULL, "fov": 50}]})
    for text in ("c0", "default", "orbit", str(path)):
        pose = resolve_pose(text, FORWARD, (64, 20))
        assert {(c.width, c.height) for c in pose.cameras} == {(64, 20)}


@pytest.mark.parametrize(
    "data", [FULL, FULL[:3], FLAT, FLAT[:12], {"transform_matrix": FULL}, {"transform_matrix": FLAT[:12]}]
)
def test_matrices_in_every_shape_take_the_rest_from_the_default_view(tmp_path: Path, data: Any) -> None:
    pose = resolve_pose(str(written(tmp_path, data)), FORWARD)
    assert (pose.name, pose.rate, pose.orbit) == ("view", None, False)
    (camera,) = pose.cameras
    np.testing.assert_allclose(camera.pose, MATRIX)
    expected = default_view(FORWARD)
    for key in ("width", "height", "fx", "fy", "cx", "cy", "near", "far"):
        assert getattr(camera, key) == getattr(expected, key)


def test_a_file_over_a_held_out_camera_is_neither_held_out_nor_named(tmp_path: Path) -> None:
    cameras = [replace(FORWARD[0], held_out=True), *FORWARD[1:]]
    (camera,) = read_pose(written(tmp_path, FULL), cameras).cameras
    assert (camera.held_out, camera.name) == (False, "")


def test_intrinsics_with_the_keys_of_transforms_json(tmp_path: Path) -> None:
    row = {"transform_matrix": FULL, "w": 80, "h": 50, "fl_x": 70, "fl_y": 71, "cx": 33, "cy": 22, "k1": 0.1, "p2": 0.2}
    (camera,) = read_pose(written(tmp_path, row), FORWARD).cameras
    assert (camera.width, camera.height, camera.fx, camera.fy) == (80, 50, 70, 71)
    assert (camera.cx, camera.cy, camera.distortion[:4]) == (33, 22, (0.1, 0.0, 0.0, 0.2))


def test_intrinsics_in_part(tmp_path: Path) -> None:
    def read(**keys: Any) -> Camera:
        return read_pose(written(tmp_path, {"transform_matrix": FULL, **keys}), FORWARD).cameras[0]

    base = default_view(FORWARD)
    # An angle alone: at 90 degrees, half the width is as far as the focal length.
    camera = read(w=60, h=20, camera_angle_x=np.pi / 2)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (pytest.approx(30), pytest.approx(30), 30, 10)
    assert read(fl_y=50.0).fx == 50
    camera = read(fl_x=50.0)
    assert (camera.fy, camera.width, camera.height, camera.cx) == (50, base.width, base.height, base.width / 2)
    # A size alone keeps the base's vertical field of view.
    camera, expected = read(w=90, h=60), base.resized(90, 60)
    assert (camera.fx, camera.fy, camera.cx) == (expected.fx, expected.fy, expected.cx)


@pytest.mark.parametrize(
    "row",
    [
        {"fl_x": 70, "fl_y": 71, "cx": 33, "cy": 22, "k1": 0.1, "k2": -0.02, "p1": 1e-3, "p2": 0.2},
        {"fl_x": 70.5},
        {"fl_y": 71.5, "cx": 3},
        {"camera_angle_x": 0.9},
        {"camera_angle_x": 0.9, "fl_y": 60},
        {"camera_angle_x": 0.9, "fl_x": 60, "p1": 0.1},
    ],
)
def test_a_pose_file_and_a_capture_read_the_same_camera(tmp_path: Path, row: dict[str, Any]) -> None:
    row = {"transform_matrix": FULL, "w": 80, "h": 50, **row}
    (camera,) = read_pose(written(tmp_path, row), FORWARD).cameras
    (files,) = read_rig(written(tmp_path, {"fps": 10, "cameras": [row]}), streams=False).cameras
    for key in ("width", "height", "fx", "fy", "cx", "cy", "distortion"):
        assert getattr(files.camera, key) == getattr(camera, key)
    np.testing.assert_array_equal(files.camera.pose, camera.pose)


def test_a_stream_may_have_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    row = {"transform_matrix": FULL, "w": 80, "h": 50, "fl_x": 70, "video": "rtsp://host/" + "x" * 5000}
    (files,) = read_rig(written(tmp_path, {"fps": 10, "cameras": [row]})).cameras
    assert files.stream is not None
    assert (files.stream.url, files.stream.played) == (row["video"], False)


def test_intrinsics_without_a_focal_length_are_used(tmp_path: Path) -> None:
    row = {"transform_matrix": FULL, "cx": 3.0, "cy": 4.0, "k1": 0.25}
    (camera,) = read_pose(written(tmp_path, row), FORWARD).cameras
    assert (camera.cx, camera.cy, camera.distortion[0]) == (3.0, 4.0, 0.25)


def test_a_fisheye_is_asked_for_by_its_model(tmp_path: Path) -> None:
    row = {"transform_matrix": FULL, "fl_x": 30, "camera_model": "OPENCV_FISHEYE", "k1": 0.1, "k4": 0.02}
    (camera,) = read_pose(written(tmp_path, row), FORWARD).cameras
    assert (camera.fisheye, camera.distortion[:6]) == (True, (0.1, 0.0, 0.0, 0.0, 0.0, 0.02))


def test_a_nerfstudio_path(tmp_path: Path) -> None:
    entries = [
        {"camera_to_world": FLAT, "fov": 90, "aspect": 2, "render_time": 0.25},
        {"camera_to_world": FULL, "fov": 60, "render_time": 1.5},
        {"camera_to_world": FULL[:3], "fov": 60, "render_time": -0.1},
    ]
    data = {"camera_type": "perspective", "render_width": 80, "render_height": 40, "fps": 29.97, "camera_path": entries}
    pose = read_pose(written(tmp_path, data), FORWARD)
    assert (pose.name, pose.rate, pose.orbit) == ("view", Fraction(2997, 100), False)
    # Times beyond the video are clamped.
    assert pose.times == (0.25, 1.0, 0.0)
    for camera in pose.cameras:
        np.testing.assert_allclose(camera.pose, MATRIX)
        assert (camera.width, camera.height, camera.cx, camera.cy) == (80, 40, 40, 20)
        assert not any(camera.distortion)
    # `fov` is vertical.
    assert [c.fx for c in pose.cameras] == pytest.approx([20, 20 * 3**0.5, 20 * 3**0.5])
    assert [c.fy for c in pose.cameras] == [c.fx for c in pose.cameras]


def test_a_minimal_nerfstudio_path(tmp_path: Path) -> None:
    pose = read_pose(written(tmp_path, {"camera_path": [{"camera_to_world": FULL}] * 2}), FORWARD)
    assert (pose.rate, pose.times, len(pose.cameras)) == (Fraction(24), None, 2)
    assert pose.cameras[0].fx == default_view(FORWARD).fx


def entry(**keys: Any) -> dict[str, Any]:
    return {"camera_path": [{"camera_to_world": FULL, **keys}]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{", "not valid JSON"),
        ("5", "holds no pose"),
        ("{}", "holds no pose"),
        ([], "shape"),
        ([[1, 2], [3]], "not a matrix"),
        ([1.0] * 15, "shape"),
        ([1.0] * 16, "not rigid"),
        ({"transform_matrix": "here"}, "not a matrix"),
        ({"transform_matrix": [[float("nan")] * 4] * 3}, "not finite"),
        ({"transform_matrix": (2 * MATRIX).tolist()}, "not rigid"),
        ({"transform_matrix": FULL, "w": "wide"}, "'w' is 'wide', expected a number"),
        ({"transform_matrix": FULL, "w": True}, "'w' is True"),
        ({"transform_matrix": FULL, "h": 0}, "'h' is 0, expected more than 0"),
        ({"transform_matrix": FULL, "h": 1e6}, "expected 1 to 16384 pixels"),
        ({"transform_matrix": FULL, "fl_x": -3}, "'fl_x' is -3"),
        ({"transform_matrix": FULL, "camera_angle_x": 3.2}, "between 0 and pi"),
        ({"transform_matrix": FULL, "fl_x": 3, "cx": float("inf")}, "'cx' is inf"),
        ({"camera_path": []}, "'camera_path' is empty"),
        ({"camera_path": [7]}, "entry 0 of 'camera_path'"),
        ({"camera_path": [{"camera_to_world": FULL}, {}]}, "entry 1 of 'camera_path'.*no 'camera_to_world'"),
        ({"camera_path": entry()["camera_path"], "camera_type": "equirectangular"}, "'equirectangular' is not"),
        ({**entry(), "render_width": -1}, "'render_width' is -1"),
        ({**entry(), "fps": 0}, "'fps' is 0, expected 0.01"),
        (entry(fov=180), "'fov' is 180"),
        (entry(fov=0), "'fov' is 0"),
        (entry(render_time="late"), "'render_time' is 'late'"),
        ({"camera_path": [*entry(render_time=0.5)["camera_path"], *entry()["camera_path"]]}, "others do not"),
        (entry(camera_to_world=[1]), "entry 0 of 'camera_path': the pose has shape"),
    ],
)
def test_files_that_hold_no_pose_are_named(tmp_path: Path, data: Any, words: str) -> None:
    path = written(tmp_path, data)
    with pytest.raises(UsageError, match=words) as caught:
        resolve_pose(str(path), FORWARD)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_pose_lists_the_cameras() -> None:
    with pytest.raises(UsageError, match="pose 'c9': no such camera or file; cameras are c0, c1, c2, c3"):
        resolve_pose("c9", FORWARD)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[" * 100_000, "JSON"),
        (json.dumps({"transform_matrix": FULL, "fl_x": 10**400}), "fl_x"),
        (json.dumps({"camera_path": [{"camera_to_world": FULL}], "fps": 1e-9}), "fps"),
    ],
)
def test_absurd_pose_files_are_named(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "absurd.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"absurd\.json.*{word}"):
        read_pose(path, FORWARD)


def test_focal_lengths_may_be_given_in_different_ways(tmp_path: Path) -> None:
    row = {"transform_matrix": FULL, "w": 100, "h": 80, "camera_angle_x": np.pi / 2, "fl_y": 70.0}
    (camera,) = read_pose(written(tmp_path, row), FORWARD).cameras
    assert (camera.fx, camera.fy) == (pytest.approx(50), 70)
