"""Records that fit: what is left out, in which order, and what stays."""

from __future__ import annotations

import io
import math
from fractions import Fraction

import numpy as np
import pytest
from files import a_camera
from hypothesis import given, settings
from hypothesis import strategies as st

from invcodec.coding.codec import delta_frame, encode_delta, encode_key
from invcodec.coding.fit import MOST_STATS, fit_change, fit_key, largest_empty_delta
from invcodec.coding.quantize import MAX_LEVEL, from_lattice, nearest_qp, step, to_lattice
from invcodec.coding.state import State
from invcodec.container.head import Head, NetworkInfo, TensorInfo
from invcodec.container.index import INDEX_FIXED_BYTES, INDEX_ROW_BYTES, FrameEntry, FrameList, pack_ending
from invcodec.container.writer import Writer, bytes_without_frames, record_bytes
from invcodec.field.profile import TensorKey
from invcodec.limits import MAX_QP, MIN_QP

TABLE, CELLS = ("n", "table"), ("n", "cells")
SHAPES: dict[TensorKey, tuple[int, ...]] = {TABLE: (512, 2), CELLS: (8, 8, 8)}


def head() -> Head:
    tensors = tuple(TensorInfo(name, SHAPES["n", name], "structure") for name in ("table", "cells"))
    network = NetworkInfo("n", "scene", 200, "any", 1, {}, {}, tensors)
    return Head(
        frame_rate=Fraction(10),
        time_base=Fraction(1, 100),
        source_size=(8, 6),
        downscale=1,
        background=None,
        cameras=(a_camera("a", 8, 6),),
        networks=(network,),
        encoder={},
    )


def a_state(rng: np.random.Generator) -> State:
    levels = {TABLE: rng.integers(-9, 10, SHAPES[TABLE], np.int32), CELLS: rng.integers(0, 2, SHAPES[CELLS], np.int32)}
    return encode_key(head(), levels, {TABLE: nearest_qp(0.1), CELLS: nearest_qp(1.0)})[1]


def moved(state: State, rng: np.random.Generator) -> dict[TensorKey, np.ndarray]:
    """Weights after a change that few take much part in."""
    weights = state.weights()
    weights[TABLE] = weights[TABLE] + (0.1 * rng.standard_normal(SHAPES[TABLE]) ** 3).astype(np.float32)
    flipped = rng.random(SHAPES[CELLS]) < 0.05
    weights[CELLS] = np.where(flipped, 1 - weights[CELLS], weights[CELLS])
    return weights


@settings(deadline=None)
@given(st.integers(0, 50), st.floats(0, 1))
def test_a_change_fits_and_its_smallest_parts_go_first(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    before = a_state(rng)
    weights = moved(before, rng)
    free = fit_change(before, weights, 0.6, math.inf, {CELLS})
    assert len(free.coded) == free.needed
    room = share * free.needed
    fitted = fit_change(before, weights, 0.6, room, {CELLS})
    empty = encode_delta(before, {})[0]
    assert fitted.needed == free.needed
    assert len(fitted.coded) <= max(room, len(empty))
    # What was sent is what would be sent with room, or nothing; and changes sent are no smaller than those left out.
    change = np.abs(weights[TABLE] / step(before.qps[TABLE]) - before.levels[TABLE])
    now, then, full = fitted.state.levels[TABLE], before.levels[TABLE], free.state.levels[TABLE]
    sent = now != then
    assert (now[sent] == full[sent]).all()
    left = (full != then) & ~sent
    if sent.any() and left.any():
        assert change[sent].min() >= change[left].max() - 0.13
    cells = fitted.state.levels[CELLS]
    assert (cells == free.state.levels[CELLS]).all() or (cells == before.levels[CELLS]).all()
    # The loop is closed: with room again, all that was left out is caught up on.
    again = fit_change(fitted.state, weights, 0.6, math.inf, {CELLS})
    assert (np.abs(weights[TABLE] / step(before.qps[TABLE]) - again.state.levels[TABLE]) <= 0.63).all()
    assert (again.state.levels[CELLS] == free.state.levels[CELLS]).all()


@pytest.mark.parametrize("qp", [MIN_QP, 0, MAX_QP])
def test_a_change_from_one_end_of_the_lattice_to_the_other_arrives(qp: int) -> None:
    ends = np.array([-MAX_LEVEL, MAX_LEVEL, 1 - MAX_LEVEL, 0], np.int32)
    before = {key: np.resize(ends, shape) for key, shape in SHAPES.items()}
    after = {key: np.resize(np.roll(ends, 1), shape) for key, shape in SHAPES.items()}
    state = encode_key(head(), before, dict.fromkeys(SHAPES, qp))[1]
    weights = {key: from_lattice(levels, qp) for key, levels in after.items()}
    fitted = fit_change(state, weights, 0.6, math.inf, {CELLS})
    for key, levels in after.items():
        np.testing.assert_array_equal(fitted.state.levels[key], levels)
    # Weights beyond the lattice become its nearest end.
    beyond = {TABLE: 3 * weights[TABLE]}
    levels = fit_change(state, beyond, 0.6, math.inf).state.levels[TABLE]
    np.testing.assert_array_equal(levels, np.clip(3 * after[TABLE].astype(np.int64), -MAX_LEVEL, MAX_LEVEL))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 20))
def test_an_empty_record_is_no_larger_than_said(seed: int) -> None:
    rng = np.random.default_rng(seed)
    state = a_state(rng)
    for _ in range(6):
        # What the coder has learned must not make saying "nothing" dear.
        state = fit_change(state, moved(state, rng), 0.6, math.inf).state
    fitted = fit_change(state, moved(state, rng), 0.6, 0)
    assert fitted.state.levels[TABLE] is state.levels[TABLE]
    frame = delta_frame(fitted.state, 2**52, 2**40, MOST_STATS)
    assert record_bytes(frame, fitted.coded) <= largest_empty_delta(state.head)


def test_a_keyframe_gets_as_coarse_as_it_must() -> None:
    weights = np.random.default_rng(0).standard_normal(SHAPES[TABLE])
    cells = np.zeros(SHAPES[CELLS], np.int32)

    def attempt(quality: float) -> tuple[bytes, State]:
        qp = nearest_qp(0.01 * 2 ** ((50 - quality) / 20))
        return encode_key(head(), {TABLE: to_lattice(weights, qp), CELLS: cells}, {TABLE: qp, CELLS: 0})

    free = fit_key(attempt, 50, math.inf)
    assert (free.coded, free.needed) == (attempt(50)[0], len(free.coded))
    least = len(attempt(0)[0])
    for room in np.linspace(least, free.needed - 1, 7):
        fitted = fit_key(attempt, 50, room)
        assert 0.95 * room - 20 <= len(fitted.coded) <= room
        assert fitted.needed == free.needed
    assert fit_key(attempt, 50, least / 2).coded == attempt(0)[0]


def test_a_file_without_frames_takes_what_is_said() -> None:
    out = io.BytesIO()
    writer = Writer(out, head())
    writer.finish(True)
    assert writer.size == len(out.getvalue())
    # Room for what compresses badly.
    assert writer.size + INDEX_FIXED_BYTES == bytes_without_frames(head())


@pytest.mark.parametrize("count", [1, 2, 5, 20, 100, 3000])
@pytest.mark.parametrize("jitter", [0, 5])
def test_the_index_takes_no_more_than_its_allowance(count: int, jitter: int) -> None:
    rng = np.random.default_rng(count)
    frames, empty = FrameList(Fraction(1, 1000)), len(pack_ending(FrameList(Fraction(1)), 0, True))
    offset = 5000
    for number in range(10**6, 10**6 + count):
        length = int(rng.integers(100, 2**24))
        time = Fraction(40 * number + int(rng.integers(-jitter, jitter + 1)), 1000)
        frames.append(FrameEntry(number, time, offset, length, number % 100 == 0, False))
        offset += length
    assert len(pack_ending(frames, offset, True)) <= empty + INDEX_FIXED_BYTES + count * INDEX_ROW_BYTES
