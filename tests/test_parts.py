"""Parts that move as a whole: they are found in pictures, followed, and left alone where nothing moved as a whole."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import Cli
from fields import SPACES, networks

from invcodec.coding.chain import StateReader
from invcodec.coding.state import State
from invcodec.field.grid import MOTION_STEP, GridProfile
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import look_at
from invcodec.render.compiled import CompiledEngine
from invcodec.training.change import ChangeFinder, spread
from invcodec.training.motions import where
from invcodec.training.parts import PartTracker
from invcodec.training.pixels import FramePixels, Views

SIDE = 32
BALL = np.array([12.0, 16.0, 16.0])
"""Its centre, in cells."""
TRUTH = np.array([[-0.03, 0.2, 0, -0.1], [-0.2, -0.03, 0, 0.03], [0, 0, 0, 0.05]])
"""Motion of the ball: a turn, and a shift by up to two cells."""


class Scene:
    """A speckled ball above a floor, seen by eight cameras; the pictures are the engine's own."""

    def __init__(self) -> None:
        profile = GridProfile((16, 32), 16, 4, 7, 4, SIDE, 96, parts=2)
        self.engine = CompiledEngine(networks(SPACES["box"], profile), threads=1)
        rng = np.random.default_rng(0)
        held = {("scene", name): value for name, value in profile.initialise(rng).items()}
        for level in range(2):
            held["scene", f"grid.{level}"] *= 100
        held["scene", "density.1.bias"][0] = 4
        held["scene", "density.1.weight"][0] = 0
        held["scene", "density.1.weight"][1:4] = rng.normal(0, 4, (3, 4))
        places = np.moveaxis(np.indices((SIDE,) * 3), 0, -1)
        self.ball = np.linalg.norm(places + 0.5 - BALL, axis=-1) < 2.9
        cells = self.ball.astype(np.float32)
        cells[:, 8] = 1
        held["scene", "occupancy"] = cells
        self.engine.load(held)
        angles = np.arange(8) * 0.8
        rig = [
            Camera(f"{k}", 32, 32, 60.0, 60.0, 16.0, 16.0, look_at(2.5 * place, np.zeros(3), np.array([0, 1.0, 0])))
            for k, place in enumerate(np.stack([np.sin(angles), np.full(8, 0.3), np.cos(angles)], 1))
        ]
        self.views = Views(rig, SPACES["box"])
        self.finder = ChangeFinder(self.views, SIDE)
        self.tracker = PartTracker(self.engine, self.views, None)

    def show(self, cells: np.ndarray, motion: np.ndarray) -> None:
        self.engine.set_occupancy(cells)
        self.engine.load({("scene", "motion"): np.stack([motion, 0 * motion]).reshape(2, 12).astype(np.float32)})

    def motion(self) -> np.ndarray:
        return self.engine.weights()["scene", "motion"].reshape(2, 3, 4)

    def pictures(self) -> FramePixels:
        rgb = self.engine.render(self.views.rays(np.arange(len(self.views))), np.zeros(3, np.float32)).rgb
        colour = np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8)
        return FramePixels(colour, np.ones(len(colour), bool), np.zeros(0, np.int64))

    def moved(self, motion: np.ndarray, cells: np.ndarray | None = None) -> FramePixels:
        """Pictures of the ball, or some of its cells, elsewhere; the engine holds what it held before."""
        held = self.engine.weights()
        self.show(np.where(self.ball if cells is None else cells, 2, self.engine.occupancy()), motion)
        seen = self.pictures()
        self.engine.load(held)
        return seen


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_part_is_found_followed_and_kept(scene: Scene) -> None:
    first, second = scene.pictures(), scene.moved(TRUTH)
    frame = scene.finder.find(second, first)
    assert frame.hull is not None
    left = scene.tracker.follow(frame)
    cells = scene.engine.occupancy()
    assert (cells[scene.ball] == 2).all()
    # At its centre and at its surface, the ball is where it is.
    points = (BALL + 2 * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])) / SIDE - 0.5
    for row, limit in ((scene.motion()[0], 0.25 / SIDE),):
        np.testing.assert_allclose(_back(row, points), _back(TRUTH, points), atol=limit)
    np.testing.assert_array_equal(scene.motion()[0] / MOTION_STEP, np.rint(scene.motion()[0] / MOTION_STEP))
    # What the part explains is not opened.
    now = where(scene.ball, TRUTH)
    assert (frame.hull & (now | scene.ball)).any()
    assert left.hull is not None
    assert not (left.hull & (now | scene.ball)).any()
    # Where nothing changes, nothing is done; and the next frame begins where this one ended.
    held = scene.engine.weights()
    scene.tracker.follow(scene.finder.find(second, second))
    assert all((scene.engine.weights()[key] == value).all() for key, value in held.items())
    further = TRUTH + [[0, 0, 0, -0.06], [0, 0, 0, 0.02], [0, 0, 0, 0]]
    scene.tracker.follow(scene.finder.find(scene.moved(further), second))
    np.testing.assert_allclose(_back(scene.motion()[0], points), _back(further, points), atol=0.25 / SIDE)
    assert (scene.motion()[1] == 0).all()
    # A part keeps its shape and size, and its turn.
    matrix = np.eye(3) + scene.motion()[0, :, :3]
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-3)
    np.testing.assert_allclose(matrix[0, 1], np.sin(0.2), atol=0.03)


def test_a_part_leaves_nothing_where_it_was(scene: Scene) -> None:
    first, second = scene.pictures(), scene.moved(TRUTH)
    scene.tracker.follow(scene.finder.find(second, first))
    further = TRUTH + [[0, 0, 0, -0.06], [0, 0, 0, 0.02], [0, 0, 0, 0]]
    before, now = where(scene.ball, TRUTH), where(scene.ball, further)
    within = now & ~spread(~now, 1) & ~scene.ball
    beside = spread(now, 1) & ~now & ~scene.ball
    cells = scene.engine.occupancy()
    cells[within] = cells[beside] = 1
    scene.engine.set_occupancy(cells)
    frame = scene.finder.find(scene.moved(further), second)
    left = scene.tracker.follow(frame)
    # What of the scene is in the ball cannot be there; what touches it can.
    found = where(scene.engine.occupancy() == 2, scene.motion()[0])
    within &= ~spread(~found, 1)
    assert within.any()
    assert not scene.engine.occupancy()[within].any()
    assert (scene.engine.occupancy()[beside] == 1).all()
    # Where it just was is now empty, and does not open.
    assert frame.hull is not None
    assert left.hull is not None
    assert (frame.hull & before & ~now).any()
    assert not (left.hull & before).any()


def test_a_thing_of_which_only_some_moves_makes_no_part(scene: Scene) -> None:
    first = scene.pictures()
    half = scene.ball & (np.indices(scene.ball.shape)[0] < BALL[0])
    frame = scene.finder.find(scene.moved(TRUTH, half), first)
    scene.tracker.follow(frame)
    assert scene.engine.occupancy().max() == 1
    assert (scene.motion() == 0).all()


def _back(motion: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where points `[N, 3]` about the middle of the cube are now, by a motion that takes them back."""
    return (points - motion[:, 3]) @ np.linalg.inv(np.eye(3) + motion[:, :3]).T


def test_a_change_that_is_no_motion_makes_no_part(scene: Scene) -> None:
    first = scene.pictures()
    held = scene.engine.weights()
    bias = held["scene", "colour.2.bias"]
    scene.engine.load({("scene", "colour.2.bias"): bias + np.array([1, -1, 0.5], np.float32)})
    second = scene.pictures()
    scene.engine.load(held)
    frame = scene.finder.find(second, first)
    assert frame.changed_mask is not None
    assert frame.changed_mask.mean() > 0.1
    scene.tracker.follow(frame)
    assert scene.engine.occupancy().max() == 1
    assert (scene.motion() == 0).all()


def test_a_thing_that_touches_others_is_told_from_them(scene: Scene) -> None:
    floor = np.zeros_like(scene.ball)
    floor[:, 11:13] = True
    scene.engine.set_occupancy(scene.ball | floor)
    first, second = scene.pictures(), scene.moved(TRUTH)
    frame = scene.finder.find(second, first)
    assert frame.hull is not None
    # They are one piece of what may have changed.
    assert (spread(scene.ball, 1) & floor & frame.hull).any()
    assert (floor & frame.hull).sum() > 20
    scene.tracker.follow(frame)
    part = scene.engine.occupancy() == 2
    # All of it but some cells within, which no pixel sees.
    assert (part & scene.ball).sum() >= 0.8 * scene.ball.sum()
    assert (part & ~scene.ball).sum() <= 0.1 * scene.ball.sum()
    points = (BALL + 2 * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])) / SIDE - 0.5
    np.testing.assert_allclose(_back(scene.motion()[0], points), _back(TRUTH, points), atol=0.25 / SIDE)


def test_a_part_that_no_motion_explains_is_the_scene_again(scene: Scene) -> None:
    first, second = scene.pictures(), scene.moved(TRUTH)
    scene.tracker.follow(scene.finder.find(second, first))
    part = scene.engine.occupancy() == 2
    assert part.any()
    now = where(part, scene.motion()[0])
    held = scene.engine.weights()
    weight = held["scene", "density.1.weight"].copy()
    weight[1:4] = 0.6 * weight[1:4] + 0.4 * np.random.default_rng(1).normal(0, 4, (3, 4))
    scene.engine.load({("scene", "density.1.weight"): weight})
    third = scene.moved(TRUTH)
    scene.engine.load(held)
    left = scene.tracker.follow(scene.finder.find(third, second))
    cells = scene.engine.occupancy()
    assert cells.max() == 1
    assert cells[now].all()
    assert not cells[part & ~now].any()
    assert (scene.motion() == 0).all()
    assert left.hull is not None
    assert left.hull[now].all()


def test_a_part_that_has_left_the_cube_is_none(scene: Scene) -> None:
    first = scene.pictures()
    scene.engine.set_occupancy(np.where(scene.ball, 2, scene.engine.occupancy()))
    away = np.zeros((3, 4))
    away[0, 3] = -2
    scene.show(scene.engine.occupancy(), away)
    scene.tracker.follow(scene.finder.find(scene.pictures(), first))
    assert scene.engine.occupancy().max() == 1
    assert (scene.motion() == 0).all()


def test_the_end_of_one_part_leaves_others_as_they_are(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    other = np.roll(scene.ball, 9, 0)
    cells = np.where(scene.ball, 2, np.where(other, 3, scene.engine.occupancy()))
    scene.show(cells, np.zeros((3, 4)))
    frame = scene.finder.find(scene.moved(TRUTH), scene.pictures())
    # The first part stands where the second was learned.
    onto = np.zeros((3, 4))
    onto[0, 3] = -9 / SIDE
    scene.show(cells, onto)
    followed = scene.tracker._followed
    monkeypatch.setattr(scene.tracker, "_followed", lambda *given: None if given[3] == 0 else followed(*given))
    scene.tracker.follow(frame)
    assert ((scene.engine.occupancy() == 3) == other).all()


@pytest.mark.parametrize("expected", [True, False])
def test_a_part_is_expected_to_move_on(scene: Scene, expected: bool) -> None:
    step = np.zeros((3, 4))
    step[:, 3] = -4 / SIDE, 0, -3 / SIDE
    scene.engine.set_occupancy(np.where(scene.ball, 2, scene.engine.occupancy()))
    frames = []
    for times in (1, 2):
        scene.show(scene.engine.occupancy(), times * step)
        frames.append(scene.pictures())
    scene.show(scene.engine.occupancy(), step)
    before = Mock(State)
    before.weight.return_value = np.zeros((2, 12), np.float32)
    scene.tracker.follow(scene.finder.find(frames[1], frames[0]), before if expected else None)
    found = np.abs(scene.motion()[0] - 2 * step).max() < 0.5 / SIDE
    assert found == expected


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("place", [(0.5, 0.5, 0.5), (0.3, 0.6, 0.97), (0.9, 0.2, 0.1)])
def test_pixels_towards_a_box_are_all_that_see_it(name: str, place: tuple[float, float, float]) -> None:
    space = SPACES[name]
    ends = (np.array(place) + [[-0.08] * 3, [0.08] * 3]).clip(0.01, 0.99)
    rng = np.random.default_rng(0)
    centre = space.world(np.array([[0.5, 0.5, 0.5]]))[0]
    rig = [
        Camera(f"{k}", 40, 30, 30.0, 30.0, 20.0, 15.0, look_at(centre + offset, centre, np.array([0, 1.0, 0])))
        for k, offset in enumerate(rng.normal(0, 1, (4, 3)))
    ]
    # One is in the box.
    inside = space.world(ends.mean(0)[None])[0]
    rig.append(Camera("in", 40, 30, 30.0, 30.0, 20.0, 15.0, look_at(inside, inside + [0, 0, 1], np.array([0, 1.0, 0]))))
    views = Views(rig, space)
    towards = views.split(views.towards(ends))
    assert towards[-1].all()
    points = space.world(rng.uniform(*ends, (400, 3)))
    for camera, mask in zip(rig[:-1], towards[:-1], strict=True):
        image, depth = camera.project(points)
        seen = (depth > 0) & (image > 0).all(1) & (image < (40, 30)).all(1)
        column, row = image[seen].astype(int).T
        assert mask[row, column].mean() > 0.98 if seen.any() else True


def test_an_encode_codes_the_motion_of_a_ball(cli: Cli, tmp_path: Path) -> None:
    scene, moving, plain = tmp_path / "scene", tmp_path / "moving.inv", tmp_path / "plain.inv"
    assert not cli("synth", scene, "--frames", 4).code
    for path, more in ((moving, ("--motion",)), (plain, ("--no-motion", "--frames", "0:2"))):
        assert not cli("encode", scene, path, "--preset", "draft", "--threads", 1, *more).code
        assert not cli("verify", path).code
    key, later = (StateReader(moving).state_at(number).levels for number in range(2))
    assert key["scene", "occupancy"].max() == 1
    assert not key["scene", "motion"].any()
    # A ball of this size has some 250 cells; the cube stands on the table, so it is no part.
    assert 150 < (later["scene", "occupancy"] == 2).sum() < 400
    assert later["scene", "occupancy"].max() == 2
    assert later["scene", "motion"][0].any()
    assert not later["scene", "motion"][1:].any()
    assert ("scene", "motion") not in StateReader(plain).state_at(1).levels
    # An encode that was interrupted goes on with what it knew of the motion.
    whole = moving.read_bytes()
    with StateReader(moving) as reader:
        end = reader.frames[3].offset
    moving.write_bytes(whole[:end])
    assert not cli("encode", scene, moving, "--resume").code
    assert moving.read_bytes() == whole
