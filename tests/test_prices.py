"""Prices of changes are near what changes cost."""

import numpy as np
from files import make_vectors

from invcodec.coding.codec import encode_delta
from invcodec.coding.entropy import Memory
from invcodec.coding.prices import prices
from invcodec.coding.state import State
from invcodec.field.profile import TensorKey

GRID = make_vectors.grid("ndc", resolutions=[3, 7, 11, 15], log2_table=10)
Levels = dict[TensorKey, np.ndarray]


def change(state: State, rng: np.random.Generator) -> Levels:
    """A residual on the levels of a grid, at places that are mostly the same each time."""
    spots = np.random.default_rng(0)
    residuals = {}
    for key, levels in state.levels.items():
        if key[1].startswith("grid"):
            usual = spots.random(levels.shape[:-1]) < 0.05
            where = usual & (rng.random(usual.shape) < 0.7) | (rng.random(usual.shape) < 0.01)
            residuals[key] = (where[..., None] * rng.integers(-4, 5, levels.shape)).astype(np.int32)
    return residuals


def learned() -> tuple[State, np.random.Generator]:
    rng = np.random.default_rng(1)
    made = make_vectors.Maker(make_vectors.header([GRID], make_vectors.cameras("ndc")), 1).key(0, 0)
    state = made.state
    for _ in range(6):
        _, state = encode_delta(state, {k: state.levels[k] + r for k, r in change(state, rng).items()})
    return state, rng


def test_further_changes_cost_what_their_prices_say() -> None:
    state, rng = learned()
    residuals = change(state, rng)
    further = {k: (r == 0) * rng.choice([-1, 1], r.shape) * (rng.random(r.shape) < 0.03) for k, r in residuals.items()}
    sizes = []
    for each in (residuals, {k: r + further[k].astype(np.int32) for k, r in residuals.items()}):
        coded, _ = encode_delta(state, {k: state.levels[k] + r for k, r in each.items()})
        sizes.append(8 * len(coded))
    found = prices(state, residuals)
    total = sum(found[key].of(r).sum() for key, r in further.items())
    assert 0.7 * total < sizes[1] - sizes[0] < 1.3 * total


def test_what_changes_often_is_cheaper() -> None:
    state, rng = learned()
    found = prices(state, change(state, rng))
    assert found.keys() == state.levels.keys()
    memory = state.memory
    assert isinstance(memory, Memory)
    for key, history in memory.history.items():
        price = found[key].nonzero
        assert (price.shape, price.dtype) == (state.levels[key].shape, np.float32)
        by_place = price.reshape(len(history), -1)
        assert by_place[history >= 192].mean() + 2 < by_place[history == 0].mean()
        # Magnitudes that never occurred cost more.
        assert (found[key].size[3:6] > found[key].size[2] + 3).all()


def test_prices_change_nothing() -> None:
    state, rng = learned()
    residuals = change(state, rng)
    levels = {k: state.levels[k] + r for k, r in residuals.items()}
    before, _ = encode_delta(state, levels)
    prices(state, residuals)
    assert encode_delta(state, levels)[0] == before
