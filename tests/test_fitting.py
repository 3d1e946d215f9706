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


def sees(each, points):
    """Whether a camera sees points `[N, 3]` between its bounds."""
    image, depth = each.project(points)
    inside = (image >= 0).all(1) & (image <= (each.width, each.height)).all(1)
    return inside & (depth >= each.near) & (depth <= each.far)


def seen_points(rig, count=3000, seed=0):
    """Random points that at least two cameras see between their bounds."""
    rng = np.random.default_rng(seed)
    found = []
    for each in rig:
        origins, directions = each.rays(rng.uniform(0, 1, (count, 2)) * (each.width, each.height))
        depth = rng.uniform(each.near, each.far, (count, 1))
        found.append(origins + depth * directions)
    points = np.concatenate(found)
    return points[sum(sees(each, points).astype(int) for each in rig) >= 2]


@pytest.mark.parametrize("name", RIGS)
def test_what_two_cameras_see_lies_in_the_cube(name):
    points = seen_points(RIGS[name])
    assert len(points) > 100 or name == "nothing shared"
    assert in_cube(choose_space(RIGS[name]), points).all()


@pytest.mark.parametrize("name", RIGS)
def test_every_pixel_sees_some_of_the_cube(name):
    space = choose_space(RIGS[name])
    for each in RIGS[name]:
        origins, directions = each.rays(np.random.default_rng(0).uniform(0, 1, (300, 2)) * (each.width, each.height))
        depths = 1 / np.linspace(1 / each.near, 1 / each.far, 100)
        met = np.zeros(len(origins), bool)
        for depth in depths:
            met |= in_cube(space, origins + depth * directions)
        assert met.mean() > 0.99


# Cameras in one place do not know the scale of anything without bounds.
@pytest.mark.parametrize("name", [name for name in ALL if name != "one place without bounds"])
@given(seed=st.integers(0, 10**6), size=st.floats(-3, 3))
@settings(max_examples=2, deadline=None)
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


def shared_part(rig):
    """The part of the cube that at least two cameras see between their bounds."""
    space = choose_space(rig)
    points = space.world(np.random.default_rng(0).uniform(0, 1, (20000, 3)))
    return np.mean(sum(sees(each, points).astype(int) for each in rig) >= 2)


@pytest.mark.parametrize(
    ("name", "least"), [("narrow arc", 0.5), ("wide arc", 0.35), ("ring", 0.35), ("parallel", 0.7)]
)
def test_little_of_the_cube_is_wasted(name, least):
    assert shared_part(RIGS[name]) > least


def test_one_camera_twice_gets_its_own_pyramid():
    # Its pixels and disparities are spread evenly over the cube: nothing is wasted but the margins.
    each = camera("a", (1, 2, 3), (0, 0, 0), near=2.0, far=8.0)
    space = choose_space([each, replace(each, name="b")])
    assert space.kind == "ndc"
    np.testing.assert_allclose(space.pose, each.pose, atol=1e-9)
    np.testing.assert_allclose(space.low, [-0.5, -0.375, 2.0], rtol=0.03)
    np.testing.assert_allclose(space.high, [0.5, 0.375, 8.0], rtol=0.03)


def test_cameras_around_a_scene_get_axes_of_their_own():
    # A narrow room: long lenses across it, all of them level.
    rig = ring(near=0.5, far=30.0)
    space = choose_space(rig)
    assert space.kind == "contract"
    np.testing.assert_allclose(np.abs(space.pose[:, :3].T @ UP).max(), 1, atol=1e-3)
    assert space.high[1] < 0.8 * space.high[0]


def test_without_bounds_nothing_is_lost():
    for name, rig in BARE.items():
        assert choose_space(rig).kind == "contract", name


def test_held_out_cameras_do_not_affect_the_space():
    behind = camera("behind", (0, 0, -4), (0, 0, 0), near=2.0, far=9.0, held_out=True)
    assert choose_space([*WIDE, behind]).to_dict() == choose_space(WIDE).to_dict()


def test_points_stand_in_for_bounds_and_narrow_them():
    rng = np.random.default_rng(0)
    scene = rng.uniform((-4, -2, -5), (4, 2, 1.5), (500, 3))
    outliers = np.array([[0, 0, 9.5], [0, 0, -500]])
    spaces = [
        choose_space(rig, points=np.append(scene, outliers, 0))
        for rig in (arc(focal=0.55), arc(focal=0.55, near=0.1, far=1000.0))
    ]
    for space in spaces:
        assert space.kind in ("ndc", "box")
        assert in_cube(space, scene).all()
        corners = space.world(np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T)
        assert np.abs(corners).max() < 60
    # A handful says nothing.
    assert choose_space(arc(focal=0.55), points=scene[:20]).kind == "contract"


def test_a_transparent_capture_gets_a_box_around_the_object():
    sphere = np.random.default_rng(0).normal(size=(500, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    for rig, radius in ((ring(), 1.0), (dome(), 1.0), (arc(radius=4.0), 1.2), (ring(near=0.01, far=100.0), 1.0)):
        space = choose_space(rig, transparent=True)
        assert space.kind == "box"
        assert in_cube(space, radius * sphere).all()
        assert not in_cube(space, np.stack([each.pose[:, 3] for each in rig])).any()


def test_ndc_on_demand_is_that_of_the_mean_camera():
    rig = arc(focal=0.55, degrees=45, near=3.0, far=22.0)
    space = choose_space(rig, kind="ndc")
    assert space.kind == "ndc"
    mean = np.mean([each.pose for each in rig], 0)
    assert np.abs(space.pose[:, 3] - mean[:, 3]).max() < 1.0
    assert space.pose[:, 2] @ mean[:, 2] > 0.99 * np.linalg.norm(mean[:, 2])
    # Nothing of it lies behind a camera.
    assert space.low[2] > max((space.pose[:, 3] - each.pose[:, 3]) @ space.pose[:, 2] for each in rig)
    assert np.isinf(choose_space([replace(each, near=None, far=None) for each in rig], kind="ndc").high[2])


@pytest.mark.parametrize("rig", [ring(), dome(near=1.0, far=5.0), RIGS["nothing shared"]])
def test_ndc_of_cameras_that_face_each_other_is_refused(rig):
    with pytest.raises(UsageError, match="face one way"):
        choose_space(rig, kind="ndc")
