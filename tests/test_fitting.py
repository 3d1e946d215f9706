"""The choice of a space: it holds what the cameras see, follows the rig, and wastes little."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera
from invcodec.geometry.fitting import choose_space
from invcodec.geometry.rig import look_at
from invcodec.geometry.space import Space

UP = np.array([0.0, 1.0, 0.0])


def camera(name, position, target, focal=1.0, **more):
    """A camera of 64x48 pixels; the focal length is in picture widths."""
    pose = look_at(np.array(position, float), np.array(target, float), UP)
    return Camera(name, 64, 48, 64 * focal, 64 * focal, 32.0, 24.0, pose, **more)


def arc(count=9, degrees=35.0, radius=10.0, **more):
    """Cameras on an arc before the origin, in two rows, looking at it."""
    angles = np.radians(np.linspace(-degrees, degrees, count))
    return [
        camera(
            f"cam{i:02}", (radius * np.sin(a), radius * (0.1 - 0.2 * (i % 2)), radius * np.cos(a)), (0, 0, 0), **more
        )
        for i, a in enumerate(angles)
    ]


def ring(count=8, radius=3.0, **more):
    """Cameras all around the origin."""
    angles = 2 * np.pi * np.arange(count) / count
    return [
        camera(f"cam{i}", (radius * np.sin(a), 0.5, radius * np.cos(a)), (0, 0, 0), **more)
        for i, a in enumerate(angles)
    ]


def dome(**more):
    """Cameras on a half-sphere, one of them straight above."""
    lower = ring(6, **more)
    upper = [
        camera(f"up{i}", (1.5 * np.sin(a), 2.5, 1.5 * np.cos(a)), (0, 0, 0), **more) for i, a in enumerate((0, 2, 4))
    ]
    return [*lower, *upper, camera("top", (0, 3, 1e-3), (0, 0, 0), **more)]


WIDE = arc(focal=0.55, near=8.0, far=22.0)
RIGS = {
    "narrow arc": arc(degrees=20, near=6.0, far=18.0),
    "wide arc": WIDE,
    "parallel": [camera(f"cam{i}", (0.3 * i, 0, 0), (0.3 * i, 0, -1), near=2.0, far=20.0) for i in range(4)],
    "ring": ring(near=1.0, far=5.0),
    "ring of long lenses": ring(focal=17.0, near=2.0, far=4.0),
    "dome": dome(near=1.0, far=5.0),
    "macro": arc(radius=0.2, degrees=50, near=0.1, far=0.4),
    "stadium": ring(12, radius=50.0, near=10.0, far=120.0),
    "outlier": [*arc(near=6.0, far=18.0), camera("away", (0, 20, 200), (0, 0, 0), focal=12.0, near=180.0, far=220.0)],
    "one place": [
        camera(f"cam{i}", (0, 0, 0), (np.sin(a), 0, -np.cos(a)), near=1.0, far=9.0) for i, a in enumerate((0, 0.3))
    ],
    "nothing shared": [
        camera("a", (0, 0, 1), (0, 0, 2), near=1.0, far=5.0),
        camera("b", (0, 0, -1), (0, 0, -2), near=1.0, far=5.0),
    ],
}
BARE = {name: [replace(each, near=None, far=None) for each in rig] for name, rig in RIGS.items()}
ALL = {**RIGS, **{f"{name} without bounds": rig for name, rig in BARE.items()}}


def in_cube(space: Space, points):
    """Whether points `[N, 3]` lie in the space, from FORMAT.md alone."""
    local = (points - space.pose[:, 3]) @ space.pose[:, :3]
    if space.kind == "contract":
        return np.ones(len(points), bool)
    if space.kind == "ndc":
        depth = -local[:, 2:]
        with np.errstate(divide="ignore", invalid="ignore"):
            local = np.append(local[:, :2] / depth, depth, 1)
    return ((local > space.low) & (local < space.high)).all(1)


def seen_points(rig, count=3000, seed=0):
    """Random points that at least two cameras see between their bounds."""
    rng = np.random.default_rng(seed)
    found = []
    for each in rig:
        origins, directions = each.rays(rng.uniform(0, 1, (count, 2)) * (each.width, each.height))
        depth = rng.uniform(each.near, each.far, (count, 1))
        found.append(origins + depth * directions)
    points = np.concatenate(found)
    seen = np.zeros(len(points), int)
    for each in rig:
        image, depth = each.project(points)
        seen += (
            (depth >= each.near)
            & (depth <= each.far)
            & (image >= 0).all(1)
            & (image <= (each.width, each.height)).all(1)
        )
    return points[seen >= 2]


@pytest.mark.parametrize("name", RIGS)
def test_what_two_cameras_see_lies_in_the_cube(name):
    points = seen_points(RIGS[name])
    assert len(points) > 100 or name == "nothing shared"
    assert in_cube(choose_space(RIGS[name]), points).all()


@pytest.mark.parametrize("name", RIGS)
def test_every_pixel_sees_some_of_the_cube(name):
    space = choose_space(RIGS[name])
    for each in RIGS[name]:
        origins, directions = each.rays()
        depths = 1 / np.linspace(1 / each.near, 1 / each.far, 200)
        met = np.zeros(len(origins), bool)
        for depth in depths:
            met |= in_cube(space, origins + depth * directions)
        assert met.mean() > 0.99


@pytest.mark.parametrize("name", ALL)
@given(seed=st.integers(0, 10**6), size=st.floats(-3, 3))
@settings(max_examples=5, deadline=None)
def test_the_space_moves_turns_and_scales_with_the_rig(name, seed, size):
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    scale, shift = 10.0**size, rng.normal(0, 5, 3)

    def moved(pose):
        return np.append(turn @ pose[:, :3], (scale * turn @ pose[:, 3] + shift)[:, None], 1)

    rig = ALL[name]
    other = [
        replace(each, pose=moved(each.pose), near=each.near and scale * each.near, far=each.far and scale * each.far)
        for each in rig
    ]
    space, same = choose_space(rig), choose_space(other)
    assert same.kind == space.kind
    extent = np.linalg.norm(space.world(np.array([[0.3] * 3])) - space.world(np.array([[0.7] * 3])))
    corners = np.random.default_rng(0).uniform(0.1, 0.9, (20, 3))
    expected = scale * space.world(corners) @ turn.T + shift
    np.testing.assert_allclose(same.world(corners), expected, atol=1e-4 * scale * extent)


def test_a_wide_forward_arc_gets_a_map_without_folds():
    assert choose_space(WIDE).kind in ("ndc", "box")
