"""The compiled engine against the torch engine: the same pictures, the same training."""

from __future__ import annotations

import numpy as np
import pytest
from fields import EVERYTHING, SPACES, batch, network, rays, weights

from invcodec.field.kernels.grid import update_levels
from invcodec.geometry.space import Space
from invcodec.render.compiled import CompiledEngine
from invcodec.render.kernels import train_chunks
from invcodec.render.reference import TorchEngine


def engines(space: Space, seed: int, threads: int = 2) -> tuple[CompiledEngine, TorchEngine]:
    """Both with the same weights."""
    pair = CompiledEngine(network(space), threads), TorchEngine((network(space),), threads=1)
    for each in pair:
        each.load(weights(seed))
    return pair


@pytest.mark.parametrize("kind", SPACES)
def test_both_render_the_same(kind: str) -> None:
    space = SPACES[kind]
    compiled, plain = engines(space, 1)
    # Not a multiple of the chunk, so that the last one is partly filled.
    view = rays(space, np.random.default_rng(2), 150)
    background = np.array([0.2, 0.5, 0.9])
    a, b = compiled.render(view, background), plain.render(view, background)
    assert 0.1 < b.opacity.mean() < 0.999
    np.testing.assert_allclose(a.rgb, b.rgb, atol=2e-4)
    np.testing.assert_allclose(a.opacity, b.opacity, atol=2e-4)
    # The median depth is a sample's: rounding may choose the next one where the light is at one half.
    assert np.mean(np.abs(a.s - b.s) < 1e-6) > 0.97


@pytest.mark.parametrize("kind", SPACES)
def test_rays_that_are_no_numbers_do_no_harm(kind: str) -> None:
    compiled, _ = engines(SPACES[kind], 1)
    good = rays(SPACES[kind], np.random.default_rng(2), 40)
    bad = rays(SPACES[kind], np.random.default_rng(2), 40)
    for index, value in enumerate((np.nan, np.inf, -np.inf, 3e38, -3e38)):
        for axis in range(3):
            bad.origins[6 * axis + index, axis] = value
            bad.directions[20 + 6 * axis + index, axis] = value
    sound = ((bad.origins == good.origins) & (bad.directions == good.directions)).all(1)
    assert 0 < sound.sum() < 20
    seen = compiled.render(bad, np.zeros(3))
    np.testing.assert_array_equal(seen.rgb[sound], compiled.render(good, np.zeros(3)).rgb[sound])


@pytest.mark.parametrize("kind", SPACES)
def test_both_train_the_same(kind: str) -> None:
    space = SPACES[kind]
    compiled, plain = engines(space, 3)
    for engine in (compiled, plain):
        engine.begin(EVERYTHING, 1e-5)
    for index in range(4):
        one = batch(space, np.random.default_rng(index), 100)
        a, b = (engine.step(one, 0.01, 0.002, samples=30 + index) for engine in (compiled, plain))
        assert a.loss == pytest.approx(b.loss, rel=2e-3)
        np.testing.assert_allclose(a.rgb, b.rgb, atol=2e-3)
    before = engines(space, 3)[0].weights()
    after, twin = compiled.weights(), plain.weights()
    for key, value in after.items():
        moved = np.abs(twin[key] - before[key])
        # Adam divides by the gradient's own size, so a gradient near zero may step either way.
        agree = np.abs(value - twin[key]) <= 0.02 * moved + 1e-4
        assert agree.mean() > 0.9, key
        assert key[1] == "occupancy" or moved.max() > 0, key
    np.testing.assert_allclose(compiled.take_cell_weights(), plain.take_cell_weights(), atol=2e-3)


def test_only_what_may_change_changes() -> None:
    compiled, _ = engines(SPACES["box"], 5)
    before = compiled.weights()
    compiled.begin({("scene", "grid.1"), ("scene", "colour.0.weight")}, 0.0)
    compiled.step(batch(SPACES["box"], np.random.default_rng(0), 64), 0.01, 0.01)
    changed = {name for (_, name), value in compiled.weights().items() if (value != before["scene", name]).any()}
    # Tables are trained together; the encoder sends those that it wants to.
    assert "colour.0.weight" in changed
    assert not changed & {"density.0.weight", "colour.1.weight", "colour.0.bias", "occupancy"}


def test_a_high_price_keeps_the_tables_as_they_are() -> None:
    compiled, _ = engines(SPACES["box"], 5)
    before = compiled.weights()
    compiled.begin({("scene", f"grid.{level}") for level in range(4)}, 1e3)
    compiled.step(batch(SPACES["box"], np.random.default_rng(0), 64), 0.01, 0.01)
    after = compiled.weights()
    assert all((after[key] == before[key]).all() for key in before)


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    results = []
    for threads in (1, 3):
        compiled, _ = engines(SPACES["ndc"], 7, threads)
        compiled.begin(EVERYTHING, 1e-6)
        for index in range(3):
            compiled.step(batch(SPACES["ndc"], np.random.default_rng(index), 200), 0.01, 0.002)
        results.append(compiled.weights())
    assert all((results[0][key] == results[1][key]).all() for key in results[0])


def test_cell_density_is_that_of_a_point_in_the_cell() -> None:
    compiled, plain = engines(SPACES["box"], 9)
    a, b = (engine.cell_density(np.random.default_rng(3)) for engine in (compiled, plain))
    np.testing.assert_allclose(a, b, rtol=2e-3)


def test_the_warm_up_compiles_what_training_needs_and_leaves_no_trace() -> None:
    compiled, _ = engines(SPACES["box"], 13)
    before = compiled.weights()
    compiled.warm_up()
    assert all((compiled.weights()[key] == before[key]).all() for key in before)
    compiled.begin({("scene", "grid.1")}, 1e-6)
    compiled.step(batch(SPACES["box"], np.random.default_rng(1), 300), 0.01, 0.01, samples=20)
    # Whatever the batch, its arrays are of the same types: more signatures are more to compile, while time is counted.
    assert len(train_chunks.signatures) == len(update_levels.signatures) == 1


def test_batches_may_grow_and_shrink() -> None:
    # Few rays with many samples, then many rays with few, then many of both: buffers are kept between steps.
    steps = [(1, 40), (300, 10), (300, 40), (20, 200), (500, 200)]
    results = []
    for warm in (False, True):
        compiled, _ = engines(SPACES["box"], 11)
        if warm:
            for count, samples in steps:
                compiled.begin(EVERYTHING, 0.0)
                compiled.step(batch(SPACES["box"], np.random.default_rng(1), count), 0.0, 0.0, samples=samples)
        compiled.begin(EVERYTHING, 0.0)
        compiled.step(batch(SPACES["box"], np.random.default_rng(2), 500), 0.01, 0.01, samples=200)
        results.append(compiled.weights())
    assert all((results[0][key] == results[1][key]).all() for key in results[0])
