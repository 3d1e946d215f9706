"""Coordinate maps: march, position, world and depth agree, and so do their densities."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import average_pose
from invcodec.geometry.space import Space, positions


def rotation(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def looking_at(name, position, target, **more):
    back = np.subtract(position, target) / np.linalg.norm(np.subtract(position, target))
    right = np.cross([0, 1, 0], back)
    right /= np.linalg.norm(right)
    pose = np.stack([right, np.cross(back, right), back, position], 1)
    return Camera(name, 64, 48, 60.0, 60.0, 32.0, 24.0, pose, **more)


def arc_rig():
    angles = np.linspace(-0.35, 0.35, 7)
    return [
        looking_at(f"cam{i:02}", (4 * np.sin(a), 0.3 * (i % 2), 4 * np.cos(a)), (0, 0, 0), near=2.0, far=9.0)
        for i, a in enumerate(angles)
    ]


SPACES = {
    "ndc": Space("ndc", np.eye(3, 4), np.array([-0.8, -0.6, 1.5]), np.array([0.9, 0.7, 40.0])),
    "ndc to infinity": Space("ndc", np.eye(3, 4), np.array([-0.8, -0.6, 1.5]), np.array([0.9, 0.7, np.inf])),
    "box": Space("box", np.eye(3, 4), np.array([-2.0, -1.0, -1.5]), np.array([1.0, 1.5, 1.0])),
    "contract": Space("contract", np.eye(3, 4), np.array([-2.0, -1.0, -1.5]), np.array([1.0, 1.5, 1.0])),
}


@pytest.mark.parametrize("name", SPACES)
@given(seed=st.integers(0, 10**6), s=st.floats(0.001, 0.95))
@settings(max_examples=60, deadline=None)
def test_position_on_a_ray_is_the_world_point_at_its_depth(name, seed, s):
    rng = np.random.default_rng(seed)
    pose = np.concatenate([rotation(seed), rng.normal(0, 3, (3, 1))], 1)
    space = Space(SPACES[name].kind, pose, SPACES[name].low, SPACES[name].high)
    local_o = rng.normal(0, 0.4, (5, 3))
    local_d = np.concatenate([rng.uniform(-0.7, 0.7, (5, 2)), np.full((5, 1), -1.0)], 1)
    if space.kind == "box":
        # From outside and inside, through a point of the box.
        local_o *= rng.choice([1, 10], (5, 1))
        local_d = rng.uniform(space.low, space.high, (5, 3)) - local_o
    elif space.kind == "contract":
        local_o *= 10
        local_d = rng.normal(size=(5, 3)) + 0.1
    origins, directions = local_o @ pose[:, :3].T + pose[:, 3], local_d @ pose[:, :3].T

    rays = space.march(origins, directions)
    at = np.full(5, s, np.float32)
    position = positions(
        torch.tensor(rays.origins), torch.tensor(rays.directions), torch.tensor(at)[:, None], space.contracted
    )[:, 0].numpy()
    depth = space.depth(at, rays)
    expected = origins + depth[:, None] * directions
    reach = 1 + np.linalg.norm(expected - pose[:, 3], axis=1, keepdims=True)
    assert (np.abs(space.world(position.astype(np.float64)) - expected) < 1e-3 * reach).all()
    np.testing.assert_allclose(np.linalg.norm(rays.view, axis=1), 1, rtol=1e-5)
    assert (space.depth(at * np.float32(0.9), rays) < depth).all()


@pytest.mark.parametrize("name", SPACES)
def test_densities_are_derivatives(name):
    space = SPACES[name]
    rng = np.random.default_rng(0)
    cube = rng.uniform(0.05, 0.9, (50, 3))
    step = 1e-5
    columns = [(space.world(cube + axis) - space.world(cube - axis)) / (2 * step) for axis in step * np.eye(3)]
    volume = np.abs(np.linalg.det(np.stack(columns, -1)))
    # A contraction leaves the cube's edges empty; and away from the faces where it bends.
    _, second, first = np.sort(np.abs(cube - 0.5), 1).T
    filled = (second < 0.24) & (np.abs(first - 0.25) > 0.01) | (space.kind != "contract")
    np.testing.assert_allclose((space.density(space.world(cube)) * volume)[filled], 1, rtol=1e-4)

    # Rays that point forward and meet a box.
    rays = space.march(rng.normal(0, 0.2, (50, 3)), np.append(rng.uniform(-0.2, 0.2, (50, 2)), -np.ones((50, 1)), 1))
    s = rng.choice([0.1, 0.3, 0.7, 0.9], 50)
    slope = (space.depth(s + step, rays) - space.depth(s - step, rays)) / (2 * step)
    np.testing.assert_allclose(space.pace(space.depth(s, rays), rays) * slope, 1, rtol=1e-3)


def test_box_is_entered_and_left_at_its_faces():
    space = SPACES["box"]
    origins, directions = np.array([[-4.0, 0.25, 0.0]] * 2), np.array([[2.0, 0, 0], [-2.0, 0, 0]])
    rays = space.march(origins, directions)
    np.testing.assert_allclose(rays.origins[0], [0, 0.5, 0.6], atol=1e-6)
    np.testing.assert_allclose(rays.directions[0], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(space.depth(np.array([0.0, 0.0]), rays)[0], 1.0, rtol=1e-6)
    np.testing.assert_allclose(space.depth(np.array([1.0, 0.0]), rays)[0], 2.5, rtol=1e-6)
    # The other ray looks away: it has no length, and lies outside.
    assert (rays.directions[1] == 0).all()
    assert not ((rays.origins[1] >= 0) & (rays.origins[1] < 1)).all()


def test_ndc_planes():
    space = SPACES["ndc"]
    rays = space.march(np.zeros((1, 3)), np.array([[0.1, -0.2, -1.0]]))
    np.testing.assert_allclose(space.depth(np.array([0.0]), rays), 1.5, rtol=1e-6)
    np.testing.assert_allclose(space.depth(np.array([1.0]), rays), 40.0, rtol=1e-5)
    # Linear in disparity.
    np.testing.assert_allclose(1 / space.depth(np.array([0.5]), rays), (1 / 1.5 + 1 / 40) / 2, rtol=1e-5)


def test_contracted_depth():
    space = Space("contract", np.eye(3, 4), np.full(3, -2.0), np.full(3, 2.0))
    # From the centre, and from two half-widths away: the ray reaches the far side of the inner box half-way.
    rays = space.march(np.array([[0.0, 0, 0], [-4.0, 0, 0]]), np.array([[1.0, 0, 0]] * 2))
    np.testing.assert_allclose(space.depth(np.array([0.5, 0.5]), rays), [2 * 1.05, 2 * 3.05], rtol=1e-6)
    np.testing.assert_allclose(space.depth(np.array([0.75, 0.75]), rays), [2 * 2.05, 2 * 6.05], rtol=1e-6)


@pytest.mark.parametrize("name", SPACES)
def test_stored_and_read_back(name):
    space = SPACES[name]
    again = Space.from_dict(space.to_dict())
    assert again.kind == space.kind
    for key in ("pose", "low", "high"):
        np.testing.assert_array_equal(getattr(again, key), getattr(space, key))


def test_average_pose_is_a_rotation_between_the_cameras():
    pose = average_pose(arc_rig())
    np.testing.assert_allclose(pose[:, :3].T @ pose[:, :3], np.eye(3), atol=1e-9)
    assert np.linalg.det(pose[:, :3]) > 0
    assert pose[2, 2] > 0.99


@pytest.mark.parametrize("name", SPACES)
def test_tensors_march_as_arrays_do(name):
    space = SPACES[name]
    for camera in arc_rig()[:2]:
        camera = replace(camera, distortion=(0.05, -0.01, 0.002, 0.001))
        arrays, tensors = (
            space.march(*camera.rays(camera.centres(range(2, 5), place))) for place in (np.asarray, torch.tensor)
        )
        assert len(arrays) == 3 * camera.width
        for field in fields(arrays):
            array, tensor = getattr(arrays, field.name), getattr(tensors, field.name)
            assert tensor.dtype == torch.float32
            np.testing.assert_allclose(tensor.numpy(), array, rtol=1e-5, atol=1e-6)
        s = np.linspace(0, 0.99, len(arrays), dtype=np.float32)
        np.testing.assert_allclose(space.depth(torch.tensor(s), tensors).numpy(), space.depth(s, arrays), rtol=1e-4)


def test_a_grazing_slope_is_measured_in_the_axes_of_the_space():
    # FORMAT.md, "Coordinate mapping": of d in the space's axes, which a file may give sheared.
    pose = np.array([[1.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 1.0, 0]])
    space = Space("ndc", pose, np.array([-0.8, -0.6, 1.5]), np.array([0.9, 0.7, 40.0]))
    rays = space.march(np.zeros((1, 3)), np.array([[0.0, 2.0, 1.0]]))
    np.testing.assert_allclose(rays.depth_scale, 1e4 / np.hypot(6, 1), rtol=1e-6)


def test_an_extent_beyond_all_numbers_is_no_space():
    whole = SPACES["contract"].to_dict() | {"low": [-1e308, -1e308, 1e-320], "high": [1e308] * 3}
    with pytest.raises(ValueError, match="no such space"):
        Space.from_dict(whole)
