"""The compiled engine beyond `test_engines`: threads, signatures, buffers, hostile rays."""

from __future__ import annotations

import numpy as np
import pytest
from fields import EVERYTHING, PARTS, SPACES, batch, networks, rays, weights, with_parts

from invcodec.field.kernels.grid import update_levels
from invcodec.field.kernels.options import kernel
from invcodec.field.kernels.simd import LANES, load, store
from invcodec.field.registry import build
from invcodec.geometry import contraction
from invcodec.geometry.space import Space
from invcodec.render import kernels
from invcodec.render.compiled import _SCRATCH_BYTES, CompiledEngine
from invcodec.render.kernels import contract_lanes, march_distances, train_chunks
from invcodec.render.networks import Network, Networks


@kernel
def _map_lanes(s, point, distance, contracted):
    for first in range(0, s.shape[1], LANES):
        store(distance, 0, first, march_distances(load(s, 0, first)))
        x, y, z = contract_lanes(load(point, 0, first), load(point, 1, first), load(point, 2, first))
        store(contracted, 0, first, x)
        store(contracted, 1, first, y)
        store(contracted, 2, first, z)


def test_the_kernels_map_space_as_geometry_does() -> None:
    rng = np.random.default_rng(6)
    n = 40 * LANES
    s = np.linspace(0, 0.999, n, dtype=np.float32)[None]
    point = (rng.normal(size=(3, n)) * 10 ** rng.uniform(-2, 3, n)).astype(np.float32)
    # Corners and edges of the inner cube, and points of it.
    point[:, :27] = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), 0).reshape(3, 27)
    expected = contraction.contract(point.T.astype(np.float64)).T
    distance, contracted = np.empty_like(s), np.empty_like(point)
    _map_lanes(s, point, distance, contracted)
    np.testing.assert_allclose(distance[0], contraction.march_distance(s[0].astype(np.float64)), rtol=1e-4)
    np.testing.assert_allclose(contracted, expected, atol=1e-6)
    singly = np.array([kernels.contract(*column) for column in point.T]).T
    np.testing.assert_allclose(singly, expected, atol=1e-6)
    distances = [kernels.march_distance(each) for each in s[0]]
    np.testing.assert_allclose(distances, contraction.march_distance(s[0].astype(np.float64)), rtol=1e-4)


def engine(space: Space, seed: int, threads: int = 2) -> CompiledEngine:
    made = CompiledEngine(networks(space), threads=threads)
    made.load(weights(seed))
    return made


@pytest.mark.parametrize("kind", SPACES)
def test_rays_that_are_not_finite_do_no_harm(kind: str) -> None:
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


def test_motion_beyond_all_bounds_does_no_harm() -> None:
    compiled = CompiledEngine(networks(SPACES["contract"], PARTS), threads=1)
    held = with_parts(weights(1), 1)
    some = rays(SPACES["contract"], np.random.default_rng(2), 40)
    some.origins[:3], some.directions[:3] = 3e38, -3e38
    for size in (1e5, 3e10, 3e38):
        held["scene", "motion"] = np.random.default_rng(0).choice([-size, 0, size], (3, 12)).astype(np.float32)
        compiled.load(held)
        assert np.isfinite(compiled.render(some, np.zeros(3)).rgb[3:]).all()


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
    # Every batch has the same array types: another signature would be compiled while training is timed.
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


def test_rendering_in_little_memory_gives_the_same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    some = rays(SPACES["ndc"], np.random.default_rng(4), 300)
    whole = engine(SPACES["ndc"], 9)
    expected = whole.render(some, np.zeros(3))
    monkeypatch.setattr("invcodec.render.compiled._SCRATCH_BYTES", 7 * whole._samples * whole._sample_bytes())
    bounded = engine(SPACES["ndc"], 9)
    for one, other in zip(bounded.render(some, np.zeros(3)), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert bounded._scratch_capacity < whole._scratch_capacity / 10


def test_scratch_is_bounded_for_the_largest_network_of_a_file() -> None:
    config = {"resolutions": [2, 2], "log2_table": 4, "hidden": 256, "features": 255, "colour_hidden": 4}
    profile = build("grid", config | {"occupancy": 1, "samples": 4096})
    compiled = CompiledEngine(Networks([Network("scene", "scene", profile, SPACES["ndc"])]), threads=1)
    compiled.render(rays(SPACES["ndc"], np.random.default_rng(4), 200), np.zeros(3))
    positions, scratch = compiled._scratch.get()
    taken = positions.nbytes + sum(array.nbytes for array in scratch)
    assert taken < 1.01 * _SCRATCH_BYTES
    assert _SCRATCH_BYTES > 4 * 4096 * 1100
