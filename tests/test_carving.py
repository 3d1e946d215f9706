"""Opening and closing cells while a keyframe is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from invcodec.training import carving
from invcodec.training.carving import SHAPED, Carving

CELLS = 8
WINDOW = 10**6
"""Rays from one review to the next: more than a window of them."""


class Scene:
    """An engine whose density is 100 within a ball of this radius, and whose cells were seen as `light` says."""

    def __init__(self, cells: int = CELLS) -> None:
        self.cells = np.zeros((cells,) * 3, bool)
        self.light = np.zeros(self.cells.shape, np.float32)
        self.radius = 0.3
        self.looks: list[int] = []

    def occupancy(self) -> np.ndarray:
        return self.cells

    def set_occupancy(self, cells: np.ndarray) -> None:
        self.cells = cells.copy()

    def take_cell_weights(self) -> np.ndarray:
        return self.light.copy()

    def density(self, points: np.ndarray) -> np.ndarray:
        self.looks.append(len(points))
        return np.where(np.linalg.norm(points - 0.5, axis=1) < self.radius, 100, 0).astype(np.float32)


def carved(scene: Any, empty: np.ndarray | None = None) -> Carving:
    none = np.zeros(scene.cells.shape, bool)
    return Carving(scene, np.random.default_rng(0), none if empty is None else empty)


def test_all_cells_are_open_until_they_are_looked_at() -> None:
    scene = Scene()
    carved(scene)
    assert scene.cells.all()


def test_empty_cells_are_closed_and_solid_ones_stay_open() -> None:
    scene = Scene()
    carving = carved(scene)
    for step in range(30):
        carving.review(WINDOW * step, 0.0)
    centres = (np.stack(np.meshgrid(*[np.arange(CELLS)] * 3, indexing="ij"), -1) + 0.5) / CELLS
    far = np.linalg.norm(centres - 0.5, axis=-1)
    half = 0.5 * 3**0.5 / CELLS
    assert scene.cells[far < 0.3 - half].all()
    assert not scene.cells[far > 0.3 + half].any()


def test_cells_that_nobody_sees_are_closed_once_the_scene_has_taken_shape() -> None:
    scene = Scene()
    scene.radius = 1
    scene.light[4, 4, 4] = 1
    carving = carved(scene)
    carving.review(0, SHAPED / 2)
    assert scene.cells[4, 4, 2]
    carving.review(WINDOW, SHAPED * 2)
    assert scene.cells[3:6, 3:6, 3:6].all()
    assert scene.cells.sum() == 27
    # What was seen long ago counts no longer, and a cell beside one that is seen opens again.
    scene.light[4, 4, 4] = 0
    scene.light[4, 4, 5] = 1
    for step in range(2, 5):
        carving.review(WINDOW * step, SHAPED * 2)
    assert scene.cells[3:6, 3:6, 4:7].all()
    assert scene.cells.sum() == 27


def test_cells_that_are_empty_for_certain_stay_closed() -> None:
    scene = Scene()
    scene.radius = 1
    scene.light[:] = 1
    empty = np.random.default_rng(0).random(scene.cells.shape) < 0.3
    carving = carved(scene, empty)
    for step, fraction in enumerate((0, 0, SHAPED, 2 * SHAPED, 1)):
        np.testing.assert_array_equal(scene.cells, ~empty)
        carving.review(WINDOW * step, fraction)


def test_a_scene_that_is_still_fog_stays_open() -> None:
    scene = Scene()
    scene.radius = 0
    carving = carved(scene)
    carving.review(0, 0.0)
    assert scene.cells.all()


def test_one_review_looks_at_a_part_of_the_cells_and_several_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carving, "_REVIEWED", CELLS**3 // 4)
    scene = Scene()
    scene.light[:] = 1
    under_test = carved(scene)
    for review in range(4):
        under_test.review(WINDOW * review, 0.0)
        assert scene.cells.mean() < 1
    assert scene.looks == [CELLS**3 // 4] * 4
    # Corners are empty: all of them have been looked at.
    assert not scene.cells[::7, ::7, ::7].any()
