"""What the benchmarks compute, against known answers."""

from __future__ import annotations

import math

import pytest
from files import ROOT, load
from hypothesis import given
from hypothesis import strategies as st

bjontegaard = load("bjontegaard", ROOT / "benchmarks")
simulcast = load("simulcast", ROOT / "benchmarks")

ANCHOR = [(9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)]
TEST = [(9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)]


def test_rate_difference_is_that_of_another_implementation() -> None:
    # The bjontegaard package, 1.3.0, gives this with method="pchip".
    assert bjontegaard.bd_rate(ANCHOR, TEST) == pytest.approx(-0.04417485350589)


@given(st.floats(0.1, 10), st.permutations(ANCHOR))
def test_rate_difference_of_a_scaled_curve_is_the_scale(scale: float, curve: list[tuple[float, float]]) -> None:
    scaled = [(scale * rate, quality) for rate, quality in curve]
    assert bjontegaard.bd_rate(ANCHOR, scaled) == pytest.approx(scale - 1, abs=1e-9)


def test_rate_difference_is_taken_where_both_curves_are() -> None:
    # Rates are 10^(q / 10) and 10^(q / 5 - 3): between 32 and 38 dB the exponents differ by q / 10 - 3, 0.5 on average.
    before = [(10 ** (q / 10), q) for q in (28, 32, 35, 38)]
    after = [(10 ** (q / 5 - 3), q) for q in (32, 33, 36, 39, 42)]
    assert bjontegaard.bd_rate(before, after) == pytest.approx(10**0.5 - 1)
    assert bjontegaard.bd_rate(before, [(1, 40), (2, 41)]) is None


def test_points_that_others_beat_do_not_count() -> None:
    curve = [(100, 30), (200, 29), (200, 33), (150, 30), (400, 36), (300, 32.5)]
    assert bjontegaard.front(curve).tolist() == [[100, 30], [200, 33], [400, 36]]
    assert bjontegaard.rate_at(curve, 31.5) == pytest.approx(100 * math.sqrt(2), rel=0.01)
    assert bjontegaard.rate_at(curve, 33) == pytest.approx(200)
    assert bjontegaard.rate_at(curve, 29.9) is None
    assert bjontegaard.rate_at(curve, 36.1) is None


@pytest.mark.parametrize(
    ("sizes", "frames"),
    [
        ((100, 1, 10, 3), 46),
        ((100, 1, 10, 1), None),
        ((100, 3, 10, 1), None),
        ((5, 1, 10, 1), 1),
        ((5, 2, 10, 1), None),
    ],
)
def test_number_of_frames_from_which_a_file_is_smaller(sizes: tuple[int, ...], frames: int | None) -> None:
    assert simulcast.crossing(*sizes) == frames
