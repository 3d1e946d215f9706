"""What the compiled engine promises beyond `test_engines`: threads, signatures, buffers, hostile rays."""

from __future__ import annotations

import numpy as np
import pytest
from fields import EVERYTHING, SPACES, batch, networks, rays, weights

from invcodec.field.kernels.grid import update_levels
from invcodec.geometry.space import Space
from invcodec.render.compiled import CompiledEngine
from invcodec.render.kernels import train_chunks


def engine(space: Space, seed: int, threads: int = 2) -> CompiledEngine:
    made = CompiledEngine(networks(space), threads=threads)
    made.load(weights(seed))
    return made


@pytest.mark.parametrize("kind", SPACES)
def test_rays_that_are_no_numbers_do_no_harm(kind: str) -> None:
    compiled = engine(SPACES[kind], 1)
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


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    results = []
    for threads in (1, 3):
        compiled = engine(SPACES["ndc"], 7, threads)
        compiled.begin(EVERYTHING, 1e-6)
        for index in range(3):
            compiled.step(batch(SPACES["ndc"], np.random.default_rng(index), 200), 0.01, 0.002)
        results.append(compiled.weights())
    assert all((results[0][key] == results[1][key]).all() for key in results[0])


def test_the_warm_up_compiles_what_training_needs_and_leaves_no_trace() -> None:
    compiled = engine(SPACES["box"], 13)
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
        compiled = engine(SPACES["box"], 11)
        if warm:
            for count, samples in steps:
                compiled.begin(EVERYTHING, 0.0)
                compiled.step(batch(SPACES["box"], np.random.default_rng(1), count), 0.0, 0.0, samples=samples)
        compiled.begin(EVERYTHING, 0.0)
        compiled.step(batch(SPACES["box"], np.random.default_rng(2), 500), 0.01, 0.01, samples=200)
        results.append(compiled.weights())
    assert all((results[0][key] == results[1][key]).all() for key in results[0])
