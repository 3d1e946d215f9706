"""Ray selection, change detection and colour correction against slow twins and known answers."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from invcodec.geometry.camera import Camera
from invcodec.geometry.fitting import choose_space
from invcodec.render.engine import Batch, Step
from invcodec.synth.rig import synthetic_rig
from invcodec.synth.trace import render
from invcodec.training import change
from invcodec.training.attention import worst_pixels
from invcodec.training.change import ChangeFinder, spread
from invcodec.training.colour import ColourCorrection
from invcodec.training.frames import FrameTrainer, SteeringPoint
from invcodec.training.pixels import FramePixels, Views, validation_pixels
from invcodec.training.schedule import Budget, Schedule
from invcodec.training.steps import HostSteps
from invcodec.training.walk import walk

SIZE = (32, 24)


def rig() -> list[Camera]:
    return [camera for camera in synthetic_rig(6, SIZE) if not camera.held_out]


@pytest.mark.parametrize("reach", [0, 1, 3])
@pytest.mark.parametrize("shape", [(9, 7), (5, 6, 8)])
def test_spread_is_a_box_dilation(shape: tuple[int, ...], reach: int) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.05
    box = np.ones((2 * reach + 1,) * mask.ndim)
    np.testing.assert_array_equal(spread(mask, reach), ndimage.binary_dilation(mask, box))


def test_views_number_pixels_through_and_give_their_rays() -> None:
    cameras = rig()
    cameras[1] = replace(cameras[1], width=20, height=10, distortion=(0.05, -0.01, 0.002, 0.001))
    space = choose_space(cameras)
    views = Views(cameras, space)
    start = int(views.offsets[1])
    pixels = np.array([0, start - 1, start, start + 57, len(views) - 1])
    np.testing.assert_array_equal(views.camera_of(pixels), [0, 0, 1, 1, len(cameras) - 1])
    rays = views.rays(pixels)
    for row, (camera, x, y) in enumerate([(0, 0, 0), (0, 31, 23), (1, 0, 0), (1, 17, 2), (len(cameras) - 1, 31, 23)]):
        expected = space.march(*cameras[camera].rays(np.array([[x + 0.5, y + 0.5]])))
        np.testing.assert_allclose(rays.origins[row], expected.origins[0], atol=1e-5)
        np.testing.assert_allclose(rays.directions[row], expected.directions[0], atol=1e-5)
        np.testing.assert_allclose(rays.view[row], expected.view[0], atol=1e-6)


def test_masked_pixels_are_never_drawn_and_alpha_shows_the_background() -> None:
    image = np.zeros((2, 3, 4), np.uint8)
    image[..., :3], image[..., 3] = 100, [[0, 255, 51], [0, 0, 0]]
    mask = np.array([[True, False, True], [True, True, True]])
    pixels = FramePixels.gather([image], [mask], np.array([1, 4]))
    assert pixels.valid.tolist() == [0, 2, 3, 5]
    assert pixels.validation.tolist() == [4]
    background = np.array([[1.0, 0.5, 0.0]] * 3, np.float32)
    target = pixels.target(np.array([0, 1, 2]), background)
    np.testing.assert_allclose(target[0], background[0])
    np.testing.assert_allclose(target[1], 100 / 255, atol=1e-6)
    np.testing.assert_allclose(target[2], 0.2 * 100 / 255 + 0.8 * background[0], atol=1e-6)


def test_what_moved_is_found_in_pixels_and_in_space() -> None:
    cameras = rig()
    views = Views(cameras, choose_space(cameras))
    cells = 16
    finder = ChangeFinder(views, cells)
    none = [None] * len(cameras)
    first, second = (
        FramePixels.gather([render(camera, "moving", time, 1.0) for camera in cameras], none, views.validation)
        for time in (0.0, 0.2)
    )
    same = finder.find(first, first)
    assert same.changed_mask is not None
    assert not same.changed_mask.any()
    assert same.hull is not None
    assert not same.hull.any()
    found = finder.find(second, first)
    assert found.hull is not None
    assert found.changed_mask is not None
    changed = np.flatnonzero(found.changed_mask)
    difference = np.abs(second.colour.astype(int) - first.colour).max(1)
    assert set(np.flatnonzero(difference > 40)) <= {*changed.tolist(), *views.validation.tolist()}
    assert not {*changed.tolist()} & {*views.validation.tolist()}
    assert 0.002 < len(changed) / len(views) < 0.5
    # Validation pixels by the same rule: those that differ, and their neighbours in the picture.
    expected = np.concatenate(
        [spread((difference[a:b] >= 8).reshape(SIZE[::-1]), 1).reshape(-1) for a, b in pairwise(views.offsets.tolist())]
    )
    assert found.changed_validation is not None
    assert found.changed_validation.tolist() == expected[views.validation].tolist()
    assert 0 < found.changed_validation.sum() < len(views.validation)
    assert same.changed_validation is not None
    assert not same.changed_validation.any()
    # The ball, where it was and where it is.
    for time in (0.0, 0.2):
        height = abs(np.sin(np.pi * (time / 0.9 + 0.2)))
        ball = np.array([[0.02 + 0.35 * np.sin(1.7 * time), -0.27 + 0.5 * height, 0.0]])
        assert found.hull[tuple(_cell(views, ball, cells))]
    assert 0 < found.hull.mean() < 0.3


def test_a_hull_of_many_cells_is_found_on_coarser_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = rig()
    views = Views(cameras, choose_space(cameras))
    none = [None] * len(cameras)
    first, second = (
        FramePixels.gather([render(camera, "moving", time, 1.0) for camera in cameras], none, views.validation)
        for time in (0.0, 0.2)
    )
    coarse = ChangeFinder(views, 12).find(second, first).hull
    monkeypatch.setattr(change, "_MOST_CELLS", 12)
    fine = ChangeFinder(views, 24).find(second, first).hull
    assert coarse is not None
    assert fine is not None
    np.testing.assert_array_equal(fine, coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    assert fine.any()


def test_nothing_changes_right_before_a_camera() -> None:
    cameras = rig()
    views = Views(cameras, choose_space(cameras, kind="ndc"))
    none = [None] * len(cameras)
    black = np.zeros((*SIZE[::-1], 3), np.uint8)
    white = black.copy()
    white[:, : SIZE[0] // 3] = 255
    before, after = (FramePixels.gather([image] * len(cameras), none, views.validation) for image in (black, white))
    assert not ChangeFinder(views, 16).empty.any()
    nearest = np.full(len(cameras), 2.5)
    finder = ChangeFinder(views, 16, nearest)
    axis = (np.arange(16) + 0.5) / 16
    centres = views.space.world(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3))
    expected = np.zeros(16**3, bool)
    for camera in cameras:
        pixels, depth = camera.project(centres)
        seen = (depth > 0) & (pixels >= 0).all(1) & (pixels < SIZE).all(1)
        expected |= seen & (depth < 2.5)
    np.testing.assert_array_equal(finder.empty.reshape(-1), expected)
    assert 0.01 < expected.mean() < 0.9
    hull = finder.find(after, before).hull
    assert hull is not None
    assert hull.any()
    assert not (hull & finder.empty).any()


def _cell(views: Views, point: np.ndarray, cells: int) -> np.ndarray:
    """The occupancy cell of a world point: the one whose centre comes nearest to it."""
    axis = (np.arange(cells) + 0.5) / cells
    centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    distance = np.linalg.norm(views.space.world(centres) - point, axis=1)
    return np.array(np.unravel_index(int(distance.argmin()), (cells,) * 3))


def test_colour_correction_recovers_exposures() -> None:
    rng = np.random.default_rng(4)
    gain = np.exp(rng.normal(0, 0.15, (5, 3)))
    gain /= np.exp(np.log(gain).mean(0))
    offset = rng.normal(0, 0.03, (5, 3))
    offset -= offset.mean(0)
    correction = ColourCorrection(5)
    camera = rng.integers(5, size=20_000)
    scene = rng.random((20_000, 3))
    seen = gain[camera] * scene + offset[camera]
    correction.observe(scene, seen, camera)
    correction.fit()
    # A little is lost to the ridge.
    np.testing.assert_allclose(correction.gain, gain, atol=0.06)
    np.testing.assert_allclose(correction.neutral(seen, camera), scene, atol=0.1)
    np.testing.assert_allclose(np.log(correction.gain).mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(correction.offset.mean(0), 0, atol=1e-5)


def test_colour_correction_stays_neutral_without_evidence() -> None:
    correction = ColourCorrection(2)
    scene = np.full((100, 3), 0.5) + np.random.default_rng(0).normal(0, 1e-3, (100, 3))
    correction.observe(scene, scene, np.repeat([0, 1], 50))
    correction.fit()
    np.testing.assert_allclose(correction.gain, 1, atol=0.01)
    np.testing.assert_allclose(correction.offset, 0, atol=0.01)


def test_budgets_end_at_whichever_comes_first() -> None:
    assert Budget(seconds=10, steps=100).fraction(5, 20) == 0.5
    assert Budget(seconds=10, steps=100).fraction(1, 60) == 0.6
    assert Budget(steps=4).fraction(1e9, 1) == 0.25
    assert Budget(seconds=float(Fraction(1, 2))).fraction(0.5, 0) == 1


def test_validation_pixels_are_few_scattered_and_follow_from_the_sizes() -> None:
    cameras = [replace(camera, width=160, height=120) for camera in rig()]
    chosen = validation_pixels(cameras)
    assert all((a == b).all() for a, b in zip(chosen, validation_pixels(cameras), strict=True))
    assert 0.015 < sum(map(len, chosen)) / (160 * 120 * len(cameras)) < 0.025
    rows, columns = np.divmod(np.concatenate(chosen), 160)
    assert np.bincount(rows // 12, minlength=10).std() < 0.25 * len(rows) / 10
    assert np.bincount(columns // 16, minlength=10).std() < 0.25 * len(rows) / 10
    large = [replace(camera, width=1600, height=1200) for camera in cameras]
    assert 3500 < sum(map(len, validation_pixels(large))) < 4700


def test_the_loss_of_batches_is_that_of_all_pixels_with_changed_ones_weighted() -> None:
    cameras = rig()
    views = Views(cameras, choose_space(cameras))
    rng = np.random.default_rng(3)
    frame = FramePixels.gather([render(camera, "moving", 0.0, 1.0) for camera in cameras], [None] * len(cameras),
                               views.validation)  # fmt: skip
    moved = np.zeros(len(views), bool)
    moved[rng.choice(frame.valid, 300, replace=False)] = True
    frame = replace(frame, changed_mask=moved)
    error = rng.random(len(views))
    steps = HostSteps(Idle(), views, None)  # type: ignore[arg-type]
    schedule = Schedule(Budget(steps=1), 2048, 0.1, 0.1, attended_share=0.4, attended_weight=3.0, jitter=0.2)
    steps.start(frame, schedule, rng, observe=False)
    total = []
    for _ in range(60):
        batch, pixels, plain, _ = steps.draw(2048)
        assert set(pixels[: plain.start]) <= set(np.flatnonzero(moved))
        assert batch.jitter.min() >= 0.4
        assert batch.jitter.max() <= 0.6
        total.append(float((batch.weight * error[pixels]).sum()))
    counts = np.ones(len(views))
    counts[moved] = 3.0
    expected = (counts * error)[frame.valid].sum() / len(frame.valid)
    assert np.mean(total) == pytest.approx(expected, rel=0.01)


def test_only_pixels_of_this_frames_mask_are_drawn() -> None:
    cameras = rig()
    views = Views(cameras, choose_space(cameras))
    images = [render(camera, "moving", 0.0, 1.0) for camera in cameras]
    masks = [np.random.default_rng(index).random((2, *SIZE[::-1])) < 0.5 for index in range(len(cameras))]
    steps = HostSteps(Idle(), views, None)  # type: ignore[arg-type]
    schedule = Schedule(Budget(steps=1), 512, 0.1, 0.1)
    for which in (0, 1, 1, 0):
        frame = FramePixels.gather(images, [mask[which] for mask in masks], views.validation)
        steps.start(frame, schedule, np.random.default_rng(0), observe=False)
        drawn = {*steps.draw(100)[1]} | {*steps.draw(512)[1]}
        assert drawn <= set(frame.valid)
        assert len(drawn) == 612
    # Batches that are larger than the pictures show everything again and again.
    few = np.zeros(SIZE[::-1], bool)
    few[3, 5:9] = True
    frame = FramePixels.gather(images, [few, *[np.zeros_like(few)] * (len(cameras) - 1)], views.validation)
    steps.start(frame, schedule, np.random.default_rng(0), observe=False)
    batch, pixels, _, _ = steps.draw(12 * len(frame.valid))
    assert (np.bincount(pixels)[frame.valid] == 12).all()
    assert batch.weight.sum() == pytest.approx(1)


def test_changed_pixels_are_visited_in_an_order_of_their_own() -> None:
    cameras = rig()
    views = Views(cameras, choose_space(cameras))
    frame = FramePixels.gather([render(camera, "moving", 0.0, 1.0) for camera in cameras], [None] * len(cameras),
                               views.validation)  # fmt: skip
    steps = HostSteps(Idle(), views, None)  # type: ignore[arg-type]
    schedule = Schedule(Budget(steps=1), 512, 0.1, 0.1, attended_share=0.25)
    steps.start(replace(frame, changed_mask=frame.valid_mask), schedule, np.random.default_rng(0), observe=False)
    _, pixels, plain, _ = steps.draw(512)
    expected = 128 * 384 / len(frame.valid)
    assert len({*pixels[: plain.start]} & {*pixels[plain]}) < 2 * expected


def test_a_keyframe_attends_to_the_tiles_with_the_largest_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = rig()
    views = Views(cameras, choose_space(cameras))
    width, height = SIZE
    # Tiles of 5 by 5; pictures need not be whole tiles.
    monkeypatch.setattr("invcodec.training.attention._TILES", len(views) / 25)
    errors = np.random.default_rng(0).uniform(0, 0.1, (len(cameras), height, width)).astype(np.float32)
    wrong = np.zeros(errors.shape, bool)
    wrong[0] = True
    wrong[1, 5 * (height // 5) :] = True
    errors[wrong] += 1
    errors[np.random.default_rng(1).random(errors.shape) < 0.5] = np.nan
    valid = np.random.default_rng(2).random(len(views)) < 0.9
    attended = worst_pixels(views, errors.reshape(-1), valid)
    assert not (attended & ~valid).any()
    assert (attended | ~valid)[wrong.reshape(-1)].all()
    tiles = len(cameras) * -(-height // 5) * -(-width // 5)
    whole = np.zeros((len(cameras), -(-height // 5), -(-width // 5)), bool)
    of_tile = (attended | ~valid).reshape(len(cameras), height, width)
    for camera, row, column in np.ndindex(*whole.shape):
        tile = of_tile[camera, 5 * row : 5 * row + 5, 5 * column : 5 * column + 5]
        valid_here = valid.reshape(of_tile.shape)[camera, 5 * row : 5 * row + 5, 5 * column : 5 * column + 5]
        assert tile.all() or not (tile & valid_here).any()
        whole[camera, row, column] = tile.all()
    assert whole.sum() == pytest.approx(tiles / 4, abs=2)


def test_attended_pixels_are_drawn_more_often_until_the_next_look() -> None:
    cameras = rig()
    views = Views(cameras, choose_space(cameras))
    images = [render(camera, "moving", 0.0, 1.0) for camera in cameras]
    images[2] = np.full_like(images[2], (255, 0, 0))
    frame = FramePixels.gather(images, [None] * len(cameras), views.validation)
    red = views.camera_of(np.arange(len(views))) == 2

    class BlindToRed(Idle):
        """Renders everything but pure red as it should be."""

        def step(self, batch: Batch, *rates: float, samples: int) -> Step:
            return Step(0.5, np.where((batch.target == (1, 0, 0)).all(1)[:, None], 0, batch.target))

    engine: Any = BlindToRed()
    steps = HostSteps(engine, views, None)
    schedule = Schedule(Budget(steps=1), 512, 0.1, 0.1, attended_share=0.5)
    steps.start(frame, schedule, np.random.default_rng(0), observe=True)
    assert red[steps.draw(512)[1]].mean() < 0.3
    for _ in range(2 * len(views) // 512):
        steps.step(512, 10, 0.1, 0.1)
    steps.attend_to_errors()
    _, pixels, plain, _ = steps.draw(512)
    assert plain.start == 256
    assert red[pixels[: plain.start]].mean() > 0.9
    assert red[pixels[plain]].mean() < 0.3
    steps.start(frame, schedule, np.random.default_rng(0), observe=True)
    assert steps.draw(512)[2].start == 0


def test_noise_is_told_from_a_part_of_large_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = rig()
    views = Views(cameras, choose_space(cameras))
    rng = np.random.default_rng(1)
    clean = [np.full((*SIZE[::-1], 3), 100) for _ in cameras]
    noisy = [[(image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8) for image in clean] for _ in "ab"]
    first, second = (FramePixels.gather(each, [None] * len(cameras), views.validation) for each in noisy)
    finder = ChangeFinder(views, None)
    found = finder.find(second, first).changed_mask
    monkeypatch.setattr("invcodec.training.change._NOISE_PIXELS", 500)
    assert np.array_equal(finder.find(second, first).changed_mask, found)
    assert found.sum() < 0.01 * len(views)


@given(st.integers(1, 3000), st.integers(0, 2**62))
def test_every_round_visits_all_pixels_in_an_order_of_its_own(count: int, seed: int) -> None:
    numbers = np.arange(count) * 7
    rounds = walk(numbers, seed, 2 * count, 2 * count).reshape(2, count)
    assert (np.sort(rounds, 1) == numbers).all()
    # A batch in the middle of it is that part of the walk.
    assert (walk(numbers, seed, 2 * count + count // 2, count) == rounds.reshape(-1)[count // 2 :][:count]).all()
    if count > 50:
        assert (rounds[0] == rounds[1]).mean() < 0.2
        assert abs(np.corrcoef(rounds[0], numbers)[0, 1]) < 0.6


def test_the_walk_has_no_preference() -> None:
    # Of 20 walks over 1,000 pixels: where the first 50 visits lead, and how far one visit lies from the next.
    starts = np.concatenate([walk(np.arange(1000), seed << 40, 0, 50) for seed in range(20)])
    assert np.bincount(starts // 100, minlength=10).min() > 60
    apart = np.abs(np.diff(walk(np.arange(1000), 5, 0, 1000)))
    assert 280 < apart.mean() < 390


class Idle:
    """An engine that is not asked for anything."""

    networks = ()


def trainer_of(engine: Any) -> tuple[FrameTrainer, FramePixels]:
    """A trainer on an engine, with no cells that stay closed, and a frame to train."""
    cameras = rig()
    views = Views(cameras, choose_space(cameras))
    images = [render(camera, "moving", 0.0, 1.0) for camera in cameras]
    frame = FramePixels.gather(images, [None] * len(cameras), views.validation)
    steps = HostSteps(engine, views, None)
    return FrameTrainer(engine, steps, np.random.default_rng(0), np.zeros((0, 0, 0), bool)), frame


def test_training_is_steered_now_and_then_while_it_can_still_follow() -> None:
    class Engine(Idle):
        prices: ClassVar[list[float]] = []

        def begin(self, trainable: object, price: float, *, delta: bool, mixed: bool = False) -> None:
            self.prices.append(price)

        def set_price(self, price: float) -> None:
            self.prices.append(price)

        def step(self, batch: Batch, *rates: float, samples: int) -> Step:
            return Step(0.5, np.zeros_like(batch.target))

    trainer, frame = trainer_of(Engine())
    asked: list[float] = []
    schedule = Schedule(Budget(steps=100), 64, 0.1, 0.1, price=1.0)
    training = trainer._optimise(frame, schedule, set(), lambda *_: (64, 8))
    event = next(training)
    with contextlib.suppress(StopIteration):
        while True:
            price = None
            if isinstance(event, SteeringPoint):
                asked.append(event.fraction)
                price = 0.25 if len(asked) == 2 else None
            event = training.send(price)
    assert asked == [0.4, 0.55, 0.7, 0.8, 0.9]
    assert Engine.prices == [1.0, 0.25]


def test_a_step_takes_fewer_rays_while_more_of_space_is_open() -> None:
    class Engine(Idle):
        rays: ClassVar[list[int]] = []

        def begin(self, *_: object, **__: object) -> None: ...

        def occupancy(self) -> np.ndarray:
            return np.arange(64).reshape(4, 4, 4) < (64, 16, 4, 0)[len(self.rays) % 4]

        def step(self, batch: Batch, *rates: float, samples: int) -> Step:
            self.rays.append(len(batch.rays))
            return Step(0.5, np.zeros_like(batch.target))

    trainer, frame = trainer_of(Engine())
    visits: list[int] = []

    def work(step: int, fraction: float, visited: int) -> tuple[int, int]:
        visits.append(visited)
        return 1000, 8

    for limit in (2048, 16, None):
        schedule = Schedule(Budget(steps=4), 1000, 0.1, 0.1, samples=limit)
        list(trainer._optimise(frame, schedule, set(), work))
    assert Engine.rays == [256, 1000, 1000, 1000, 64, 64, 64, 64, 1000, 1000, 1000, 1000]
    assert visits[:4] == [0, 256, 1256, 2256]


def test_learning_rates_hold_and_then_decay() -> None:
    schedule = Schedule(Budget(steps=10), 64, lead_rate=0.1, rate=0.01, hold=0.5, decay=0.01)
    assert schedule.rates(0.3) == (0.1, 0.01)
    assert schedule.rates(0.75) == pytest.approx((0.01, 0.001))
    assert schedule.rates(1.0) == pytest.approx((0.001, 0.0001))
