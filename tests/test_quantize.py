"""The lattice: steps are exact, evenly spread over octaves, and rounding goes to the nearest multiple."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invcodec.coding.quantize import MAX_LEVEL, STEP_BITS, from_lattice, nearest_qp, step, to_lattice
from invcodec.limits import MAX_QP, MIN_QP

qps = st.integers(MIN_QP, MAX_QP)
levels = st.integers(-MAX_LEVEL, MAX_LEVEL)


def test_steps_are_known_rise_and_are_exact_in_float32() -> None:
    assert [step(qp) for qp in (-16, -8, -1, 0, 1, 7, 8, 9)] == [0.25, 0.5, 15 / 16, 1, 9 / 8, 15 / 8, 2, 9 / 4]
    sizes = [step(qp) for qp in range(MIN_QP, MAX_QP + 1)]
    assert sizes == sorted(set(sizes))
    assert all(float(np.float32(size)) == size for size in sizes)
    assert (sizes[0], sizes[-1]) == (2.0**-20, 2.0**8)
    # An octave is 2^STEP_BITS steps everywhere, below zero too.
    k = 1 << STEP_BITS
    assert all(b == 2 * a for a, b in zip(sizes, sizes[k:], strict=False))


@pytest.mark.parametrize("qp", [MIN_QP - 1, MAX_QP + 1, 10**6])
def test_a_qp_outside_the_range_is_refused(qp: int) -> None:
    with pytest.raises(ValueError, match=str(qp)):
        step(qp)


@given(qps, st.floats(0.97, 1.03))
def test_nearest_qp_finds_its_step_again(qp: int, error: float) -> None:
    # Neighbouring steps are at least 16 / 15 apart, so 3 % of error lie nearer to this one.
    assert nearest_qp(step(qp) * error) == qp


@given(st.floats(1e-12, 1e12))
def test_no_other_step_is_nearer(size: float) -> None:
    qp = nearest_qp(size)
    distance = abs(math.log(step(qp) / size))
    for other in (MIN_QP, qp - 1, qp + 1, MAX_QP):
        if MIN_QP <= other <= MAX_QP:
            assert abs(math.log(step(other) / size)) >= distance


@given(st.lists(st.integers(-(2**23), 2**23), min_size=1, max_size=8), qps)
def test_levels_survive_the_round_trip(values: list[int], qp: int) -> None:
    # Beyond 2^23 a float32 may be coarser than the step, and two levels may share one weight.
    integers = np.array([*values, 2**23, -(2**23)], np.int32)
    weights = from_lattice(integers, qp)
    assert weights.dtype == np.float32
    back = to_lattice(weights, qp)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, integers)


@given(levels, qps)
def test_weights_are_the_correctly_rounded_products(level: int, qp: int) -> None:
    exact = Fraction(level) * Fraction(step(qp))
    got = from_lattice(np.array([level], np.int32), qp)[0]
    # No float32 lies nearer: both neighbours are at least as far away.
    error = abs(Fraction(float(got)) - exact)
    for neighbour in (np.nextafter(got, np.float32(-np.inf)), np.nextafter(got, np.float32(np.inf))):
        assert abs(Fraction(float(neighbour)) - exact) >= error


@given(st.floats(-1e6, 1e6, width=32), qps)
def test_rounding_is_off_by_half_a_step_at_most_or_saturates(value: float, qp: int) -> None:
    level = int(to_lattice(np.array([value], np.float32), qp)[0])
    if abs(value) >= MAX_LEVEL * step(qp):
        assert level == math.copysign(MAX_LEVEL, value)
    else:
        assert abs(Fraction(level) * Fraction(step(qp)) - Fraction(value)) <= Fraction(step(qp)) / 2


def test_ties_go_to_even_and_the_largest_floats_saturate() -> None:
    np.testing.assert_array_equal(to_lattice(np.array([0.5, 1.5, -0.5, -2.5]), 0), [0, 2, 0, -2])
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(
        to_lattice(np.array([largest, -largest], np.float32), MIN_QP), [MAX_LEVEL, -MAX_LEVEL]
    )


def test_shapes_are_kept() -> None:
    values = np.zeros((2, 1, 3), np.float32)
    assert to_lattice(values, 0).shape == from_lattice(to_lattice(values, 0), 0).shape == (2, 1, 3)
