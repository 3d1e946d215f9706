"""What settings leave open follows from the rig, and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from invcodec.encoding import capacity
from invcodec.encoding.capacity import cells_per_axis, fit, grid_config
from invcodec.encoding.presets import PRESETS, resolve
from invcodec.encoding.settings import Settings
from invcodec.field.grid import GridProfile
from invcodec.geometry.camera import Camera
from invcodec.geometry.fitting import choose_space
from invcodec.geometry.space import Space
from invcodec.synth.rig import synthetic_rig
from invcodec.training.schedule import Budget, Schedule

RIG = synthetic_rig(17, (32, 24))


def rig(width: int, height: int, cameras: int = 17) -> list[Camera]:
    return [camera.scaled(width, height) for camera in RIG[:cameras]]


def fitted(cameras: Sequence[Camera], preset: str = "medium", **options: object) -> Settings:
    return fit(resolve(preset, **options), cameras, choose_space(cameras))  # type: ignore[arg-type]


def open_budget(steps: int) -> Budget:
    """Of a later frame, whose steps follow from what changed."""
    return Budget(steps=steps, quiet_steps=round(capacity.QUIET_STEPS * steps), full_change=capacity.FULL_CHANGE)


def test_capacity_follows_the_pictures() -> None:
    small, large = fitted(rig(128, 96)), fitted(rig(676, 507))
    assert (small.pixels, large.pixels) == (16 * 128 * 96, 16 * 676 * 507)
    small_config, config = small.networks[0]["config"], large.networks[0]["config"]
    for found, size in ((small_config, (128, 96)), (config, (676, 507))):
        finest = cells_per_axis(rig(*size)[1:], choose_space(rig(*size)))
        assert (found["resolutions"][0], found["resolutions"][-1]) == (capacity.COARSEST, round(finest))
    # The numbers of the module are about a rig of this size.
    assert (small_config["log2_table"], small_config["occupancy"]) == (capacity.LOG2_TABLE, capacity.OCCUPANCY)
    assert config["log2_table"] > small_config["log2_table"]
    assert config["occupancy"] == capacity.FINE_OCCUPANCY
    assert config["samples"] > small_config["samples"]
    # 27 times the pixels that prices refer to: a weight explains a smaller share of their mean.
    growth = (large.pixels / capacity.SMALL_PIXELS) ** capacity.PRICE_GROWTH
    assert large.delta.price == pytest.approx(small.delta.price * growth)
    key, later = capacity.STEPS["medium"]
    assert large.key.budget == Budget(steps=key)
    assert large.delta.budget == open_budget(later)


def test_fitting_twice_changes_nothing() -> None:
    for preset in PRESETS:
        once = fitted(rig(128, 96), preset)
        again = fit(Settings.from_dict(once.to_dict()), rig(676, 507), choose_space(rig(676, 507)))
        assert again == once


def test_more_pixels_never_get_less() -> None:
    sizes = np.unique(np.geomspace(1_000, 1e9, 300).astype(int)).tolist()
    configs = [grid_config(pixels, pixels**0.5 / 3) for pixels in sizes]
    for key in ("log2_table", "occupancy", "samples"):
        found = [config[key] for config in configs]
        assert found == sorted(found)
    for found in ([len(config["resolutions"]) for config in configs], [c["resolutions"][-1] for c in configs]):
        assert found == sorted(found)
    for config in configs:
        # Every one is a network that can be built, with finer and finer levels.
        assert GridProfile(**config).config["samples"] == config["samples"]
        assert sorted(set(config["resolutions"])) == config["resolutions"]


def test_what_is_given_stays() -> None:
    cameras = rig(676, 507)
    config = {"resolutions": [4, 9], "log2_table": 9}
    given = resolve(steps=7, key_seconds=3)
    given = replace(given, networks=({**given.networks[0], "config": config},))
    made = fit(given, cameras, choose_space(cameras))
    assert made.networks == given.networks
    assert (made.key.budget, made.delta.budget) == (Budget(3, 7), Budget(steps=7))
    limited = fitted(cameras, seconds_per_frame=2)
    assert limited.delta.budget == replace(open_budget(capacity.STEPS["medium"][1]), seconds=2)


def test_the_published_configuration_is_as_published_and_the_small_mlp_keeps_its_size() -> None:
    cameras = rig(676, 507)
    paper = fitted(cameras, "paper")
    assert replace(paper, pixels=None) == resolve("paper")
    mlp, grid = fitted(cameras, profile="nerf"), fitted(cameras)
    assert mlp.networks == resolve(profile="nerf").networks
    assert mlp.key.budget == replace(grid.key.budget, steps=2 * capacity.STEPS["medium"][0])
    assert mlp.warm.budget == mlp.delta.budget == open_budget(3 * capacity.STEPS["medium"][1])


def test_held_out_cameras_count_for_nothing() -> None:
    cameras = rig(128, 96, 5)
    assert fitted(cameras) == fitted(cameras[1:])


def test_a_cell_of_the_finest_level_is_as_large_as_a_pixel() -> None:
    pose = np.concatenate([np.eye(3), [[0.0], [0.0], [2.0]]], 1)
    camera = Camera("a", 100, 80, 100, 100, 50, 40, pose)
    box = Space("box", np.eye(3, 4), np.full(3, -2.0), np.full(3, 2.0))
    # Rays run from the camera, on a face of the box, to the opposite face; half-way they are 2 units deep.
    assert cells_per_axis([camera], box) == pytest.approx(200, rel=0.05)
    for space in (box, replace(box, kind="contract"), choose_space(RIG)):
        cameras = RIG if space.kind == "ndc" else [camera]
        finer = [each.scaled(4 * each.width, 4 * each.height) for each in cameras]
        assert cells_per_axis(finer, space) == pytest.approx(4 * cells_per_axis(cameras, space), rel=0.05)


def test_a_rig_that_sees_nothing_of_its_space_is_fitted_all_the_same() -> None:
    pose = np.concatenate([np.eye(3), [[0.0], [0.0], [-9.0]]], 1)
    away = Camera("a", 100, 80, 100, 100, 50, 40, pose)
    box = Space("box", np.eye(3, 4), np.full(3, -2.0), np.full(3, 2.0))
    assert cells_per_axis([away], box) == capacity.FINEST_RANGE[0]


def test_a_frame_takes_the_steps_that_its_change_calls_for() -> None:
    budget = Budget(seconds=9, steps=200, quiet_steps=20, full_change=0.1)
    assert [budget.for_change(share).steps for share in (0, 0.05, 0.1, 1)] == [20, 110, 200, 200]
    assert budget.for_change(0).seconds == 9
    for whole in (Budget(steps=200), Budget(seconds=9)):
        assert whole.for_change(0) == whole
    assert isinstance(resolve().delta, Schedule)
