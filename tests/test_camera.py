"""Cameras: pixels to rays and back, against a camera that takes one point at a time."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera, check_pose


def some_camera(seed: int, distorted: bool) -> Camera:
    rng = np.random.default_rng(seed)
    pose = np.column_stack([Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3) * 5])
    sizes = (0.2, 0.05, 0.01, 0.01, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01)
    # OpenCV's models have 4, 5, 8 or 12 coefficients.
    lens = tuple(rng.uniform(-1, 1, 12) * sizes)[: rng.choice([4, 5, 8, 12])] if distorted else ()
    fx, fy = rng.uniform(40, 80, 2)
    return Camera("some", 48, 36, fx, fy, 24 + rng.normal(), 18 + rng.normal(), pose, lens)


def slow_project(camera: Camera, point: np.ndarray) -> tuple[float, float, float]:
    """Pixel and depth of one point, through the inverse matrix and with OpenCV's formulas written out."""
    to_camera = np.linalg.inv(np.vstack([camera.pose, [0, 0, 0, 1]]))
    right, up, back, _ = to_camera @ [*point, 1]
    x, y = right / -back, -up / -back
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = [*camera.distortion, *[0.0] * 12][:12]
    r2 = x**2 + y**2
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2) + s1 * r2 + s2 * r2**2
    bent_y = y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y + s3 * r2 + s4 * r2**2
    return camera.fx * bent_x + camera.cx, camera.fy * bent_y + camera.cy, -back


def test_known_pixels_of_a_camera_that_looks_down_the_negative_z_axis() -> None:
    camera = Camera("known", 40, 20, 10.0, 20.0, 22.0, 9.0, np.eye(4)[:3])
    pixels, depth = camera.project(np.array([[0, 0, -2], [2, 0, -2], [0, 2, -2.0], [0, 0, 3]]))
    # Right is +x, up is +y, and rows count downwards.
    np.testing.assert_allclose(pixels[:3], [[22, 9], [32, 9], [22, -11]])
    np.testing.assert_allclose(depth, [2, 2, 2, -3])


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=50, deadline=None)
def test_project_against_slow_twin(seed: int, distorted: bool) -> None:
    camera = some_camera(seed, distorted)
    rng = np.random.default_rng(seed)
    in_front = rng.uniform([-2, -2, -9], [2, 2, -1], (5, 3))
    points = in_front @ camera.pose[:, :3].T + camera.pose[:, 3]
    pixels, depth = camera.project(points)
    for pixel, z, point in zip(pixels, depth, points, strict=True):
        np.testing.assert_allclose([*pixel, z], slow_project(camera, point), rtol=1e-8, atol=1e-8)


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=50, deadline=None)
def test_points_along_rays_project_back_to_their_pixels(seed: int, distorted: bool) -> None:
    camera = some_camera(seed, distorted)
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0, [camera.width, camera.height], (20, 2))
    far = rng.uniform(0.1, 100, 20)
    origins, directions = camera.rays(pixels)
    np.testing.assert_array_equal(origins, np.tile(camera.pose[:, 3], (20, 1)))
    back, depth = camera.project(origins + far[:, None] * directions)
    np.testing.assert_allclose(back, pixels, atol=1e-4)
    # The ray parameter is z-depth, not distance.
    np.testing.assert_allclose(depth, far, rtol=1e-9)


def test_strong_pincushion_rays_project_back_to_their_pixels() -> None:
    camera = Camera("wide", 48, 36, 24.0, 24.0, 24.0, 18.0, np.eye(4)[:3], (0.2, 0.1, 0.0, 0.0))
    pixels = np.array([[0.5, 0.5], [47.5, 18.0], [24.0, 18.0]])
    origins, directions = camera.rays(pixels)
    np.testing.assert_allclose(camera.project(origins + directions)[0], pixels, atol=1e-3)


def test_strong_barrel_rays_project_back_to_their_pixels() -> None:
    camera = Camera("wide", 48, 36, 24.0, 24.0, 24.0, 18.0, np.eye(4)[:3], (-0.3, 0.1, 0.002, -0.001))
    origins, directions = camera.rays()
    y, x = np.mgrid[:36, :48] + 0.5
    pixels = np.stack([x, y], -1).reshape(-1, 2)
    np.testing.assert_allclose(camera.project(origins + directions)[0], pixels, atol=1e-3)


FISHEYE = Camera(
    "fisheye", 48, 36, 16.0, 16.0, 24.0, 18.0, np.eye(4)[:3], (0.05, -0.02, 0.0, 0.0, 0.01, -0.004), fisheye=True
)


def test_a_fisheye_maps_angles() -> None:
    camera = replace(FISHEYE, distortion=())
    # 45 degrees to the right, and 45 degrees up.
    pixels, _ = camera.project(np.array([[1.0, 0, -1], [0, 3.0, -3]]))
    np.testing.assert_allclose(pixels, [[24 + 4 * np.pi, 18], [24, 18 - 4 * np.pi]])
    np.testing.assert_allclose(camera.rays(np.array([[24.0, 18.0]]))[1], [[0, 0, -1]], atol=1e-9)
    k1, k2, _, _, k3, k4 = FISHEYE.distortion
    theta = 0.8
    bent = theta * (1 + k1 * theta**2 + k2 * theta**4 + k3 * theta**6 + k4 * theta**8)
    pixels, _ = FISHEYE.project(np.array([[np.tan(theta), 0, -1]]))
    np.testing.assert_allclose(pixels, [[24 + 16 * bent, 18]])


def test_fisheye_rays_project_back_to_their_pixels_up_to_the_edge_of_what_it_sees() -> None:
    origins, directions = FISHEYE.rays()
    pixels = FISHEYE.centres(range(36))
    assert np.isfinite(directions).all()
    back = np.abs(FISHEYE.project(origins + directions)[0] - pixels).max(1)
    seen = FISHEYE.sees(pixels)
    assert 0.5 < seen.mean() < 1
    assert back[seen].max() < 0.5
    inside = np.hypot(*(pixels - (24, 18)).T) < 22
    assert back[inside].max() < 1e-6
    assert not FISHEYE.sees(np.array([[0.0, 0.0], [48.0, 36.0]])).any()


def test_a_lens_that_folds_back_does_not_see_its_corners() -> None:
    camera = Camera("folded", 48, 36, 24.0, 24.0, 24.0, 18.0, np.eye(4)[:3], (-0.4,))
    assert camera.sees(np.array([[24.0, 18.0], [30.0, 12.0]])).all()
    assert not camera.sees(np.array([[0.5, 0.5], [47.5, 35.5]])).any()


@pytest.mark.parametrize("fisheye", [True, False])
def test_rays_of_tensors_are_those_of_arrays(fisheye: bool) -> None:
    lens = (0.05, -0.02, 0.003, -0.004, 0.01, 0.02, 0.0, 0.0, 0.002, 0.0, 0.001)
    camera = replace(FISHEYE, distortion=lens, fisheye=fisheye)
    pixels = camera.centres(range(36))
    for ours, theirs in zip(camera.rays(torch.from_numpy(pixels)), camera.rays(pixels), strict=True):
        assert ours.dtype == torch.float64
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9)


@pytest.mark.parametrize("fisheye", [True, False])
def test_lenses_are_those_of_opencv(fisheye: bool) -> None:
    cv2 = pytest.importorskip("cv2")
    lens = (0.1, -0.05, 0.003, -0.004, 0.02, 0.03, -0.01, 0.005, 0.002, -0.001, 0.003, 0.001)
    matrix = np.array([[50.0, 0, 20], [0, 55, 15], [0, 0, 1]])
    points = np.random.default_rng(0).uniform([-1, -1, 1], [1, 1, 3], (50, 1, 3))
    project, of_opencv = (cv2.fisheye.projectPoints, lens[:4]) if fisheye else (cv2.projectPoints, lens)
    expected, _ = project(points, np.zeros(3), np.zeros(3), matrix, np.array(of_opencv))
    own = (*lens[:2], 0.0, 0.0, *lens[2:4]) if fisheye else lens
    camera = Camera("cv", 40, 30, 50.0, 55.0, 20.0, 15.0, np.eye(3, 4), own, fisheye=fisheye)
    np.testing.assert_allclose(camera.project(points[:, 0] * (1, -1, -1))[0], expected[:, 0], atol=1e-9)


def test_rays_by_default_go_through_all_pixel_centres_row_by_row() -> None:
    camera = some_camera(3, False)
    origins, directions = camera.rays()
    pixels, _ = camera.project(origins + 2 * directions)
    assert pixels.shape == (36 * 48, 2)
    np.testing.assert_allclose(pixels[[0, 1, 48, -1]], [[0.5, 0.5], [1.5, 0.5], [0.5, 1.5], [47.5, 35.5]], atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(8, 200), st.integers(8, 200))
@settings(max_examples=30, deadline=None)
def test_scaled_cameras_see_the_same_directions(seed: int, distorted: bool, width: int, height: int) -> None:
    camera = some_camera(seed, distorted)
    other = camera.scaled(width, height)
    assert (other.width, other.height) == (width, height)
    share = np.random.default_rng(seed).random((10, 2))
    np.testing.assert_allclose(
        other.rays(share * (width, height))[1], camera.rays(share * (camera.width, camera.height))[1], atol=1e-9
    )


@given(st.integers(0, 2**32 - 1), st.none() | st.floats(0.1, 1), st.none() | st.floats(2, 3), st.booleans())
@settings(max_examples=20, deadline=None)
def test_plain_types_and_back(seed: int, near: float | None, far: float | None, held_out: bool) -> None:
    camera = some_camera(seed, True)
    values: Mapping[str, Any] = {**camera.to_dict(), "near": near, "far": far, "held_out": held_out}
    again = Camera.from_dict(json.loads(json.dumps(values)))
    assert again.to_dict() == values
    assert again.pose.dtype == np.float64
    np.testing.assert_array_equal(again.pose, camera.pose)
    points = np.array([[0.1, 0.2, 0.3]])
    np.testing.assert_array_equal(again.project(points)[0], camera.project(points)[0])


def test_cameras_are_equal_by_value() -> None:
    camera, moved = some_camera(5, True), some_camera(5, True)
    assert camera == moved
    assert hash(camera) == hash(moved)
    moved.pose[1, 3] += 1e-9
    assert camera != moved
    assert camera != replace(camera, far=9.0)
    assert camera != camera.to_dict()


def test_poses_of_either_height_are_taken() -> None:
    pose = some_camera(5, False).pose
    np.testing.assert_array_equal(check_pose(pose.tolist(), "here"), pose)
    np.testing.assert_array_equal(check_pose([*pose.tolist(), [0, 0, 0, 1]], "here"), pose)


def edited(row: int, column: int, value: float) -> list[list[float]]:
    matrix = np.eye(4)
    matrix[row, column] = value
    return matrix.tolist()


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ("nothing", "not a matrix of numbers"),
        (None, "shape"),
        ([[1, 0], [0, 1]], "shape"),
        ([[1, 0, 0, 0], [0, 1, 0]], "not a matrix of numbers"),
        (np.eye(4).ravel().tolist(), "shape"),
        (edited(0, 3, float("nan")), "not finite"),
        (edited(1, 1, float("inf")), "not finite"),
        ([[10**400] * 4] * 3, "not a matrix of numbers"),
        (edited(0, 0, 1e300), "not rigid"),
        (edited(0, 0, 1.1), "not rigid"),
        (edited(0, 1, 0.2), "not rigid"),
        # Mirrored: every axis has length one and is at right angles to the others.
        (edited(2, 2, -1.0), "not rigid"),
    ],
)
def test_poses_that_are_none_name_their_place(matrix: Any, words: str) -> None:
    with pytest.raises(CaptureError, match=words) as caught:
        check_pose(matrix, "rig.json: camera 'left'")
    assert "rig.json: camera 'left'" in str(caught.value)
