"""Sampling and compositing against loops that take one ray and one sample at a time."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from invcodec.geometry.contraction import contract, expand, march_distance
from invcodec.render import composite


def slow_composite(density, length, s):
    """Weights, opacity and median depth of one ray, as FORMAT.md says it."""
    left, median, weights = 1.0, 1.0, []
    for sigma, delta, at in zip(density, length, s, strict=True):
        if left <= 1e-3:
            weights.append(0.0)
            continue
        alpha = 1 - math.exp(-sigma * delta)
        weights.append(left * alpha)
        after = left * (1 - alpha)
        if left >= 0.5 > after:
            median = at
        left = after
    return weights, 1 - left, median


def test_composite_against_slow_twin():
    rng = np.random.default_rng(0)
    # From nearly clear to rays that end after a sample or two.
    density = rng.exponential(1, (200, 24)) * 10 ** rng.uniform(-3, 3, (200, 1)) * (rng.random((200, 24)) < 0.7)
    length = rng.uniform(0.01, 0.1, (200, 24))
    s = np.sort(rng.random((200, 24)), 1)
    fast = composite.composite(*(torch.tensor(a) for a in (density, length, s)))
    ended = 0
    for r in range(200):
        weights, opacity, median = slow_composite(density[r], length[r], s[r])
        np.testing.assert_allclose(fast.weights[r], weights, atol=1e-12)
        assert math.isclose(fast.opacity[r], opacity, abs_tol=1e-12)
        assert fast.s[r] == median
        ended += opacity >= 0.999
    assert 20 < ended < 180


def test_opaque_sample_hides_the_rest_and_takes_no_gradient_from_it():
    density = torch.tensor([[0.0, 1e4, 5.0]], requires_grad=True)
    out = composite.composite(density, torch.ones(1, 3), torch.tensor([[0.1, 0.5, 0.9]]))
    (out.weights * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    np.testing.assert_allclose(out.weights.detach(), [[0, 1, 0]])
    assert out.s.item() == 0.5
    assert density.grad[0, 2] == 0
    assert density.grad[0, 0] != 0


def slow_contract(point):
    norm = max(abs(v) for v in point)
    if norm <= 1:
        return [v / 4 + 0.5 for v in point]
    folded = [math.copysign(2 - 1 / norm, v) if abs(v) == norm else v / norm for v in point]
    return [v / 4 + 0.5 for v in folded]


coordinate = st.floats(-50, 50)


@given(st.tuples(coordinate, coordinate, coordinate))
@settings(max_examples=100, deadline=None)
def test_contraction_against_slow_twin_and_back(point):
    out = contract(torch.tensor(point, dtype=torch.float64)[None])
    np.testing.assert_allclose(out[0], slow_contract(point), atol=1e-12)
    assert (out > 0).all()
    assert (out < 1).all()
    np.testing.assert_allclose(expand(4 * out.numpy() - 2)[0], point, rtol=1e-9, atol=1e-9)


def test_march_distance_agrees_with_its_numpy_twin():
    s = np.linspace(0, 0.999, 300)
    np.testing.assert_allclose(march_distance(torch.tensor(s)), march_distance(s))


def test_straight_steps_have_equal_length():
    directions = torch.tensor([[3.0, 4.0, 0.0]])
    samples = composite.uniform(10, torch.tensor([0.25]))
    np.testing.assert_allclose(samples.s[0], (np.arange(10) + 0.25) / 10, rtol=1e-6)
    lengths = composite.lengths(torch.zeros(1, 3), directions, samples, False)
    np.testing.assert_allclose(lengths, np.full((1, 10), 0.5), rtol=1e-5)


def test_contracted_steps_add_up_to_the_path():
    # A path along an axis leaves the inner cube at 1 and ends at the surface of the outer one, at 2.
    origins, directions = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]])
    samples = composite.uniform(64, torch.tensor([0.5]))
    lengths = composite.lengths(origins, directions, samples, True)
    assert (lengths > 0).all()
    end = 1 - 0.25 / 64
    assert math.isclose(lengths.sum(), (2 - 1 / (1 / (2 - 2 * end))) / 4, rel_tol=1e-4)


def test_importance_samples_of_a_single_step_divide_it():
    weights = torch.zeros(1, 8)
    weights[0, 3] = 1.0
    s = composite.importance(weights, 4, torch.tensor([0.5]))
    np.testing.assert_allclose(s[0], (3 + np.array([1, 3, 5, 7]) / 8) / 8, atol=1e-4)


def test_importance_samples_without_weights_are_uniform():
    s = composite.importance(torch.zeros(1, 8), 16, torch.tensor([0.5]))
    np.testing.assert_allclose(s[0], (np.arange(16) + 0.5) / 16, atol=1e-6)


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40),
    st.integers(1, 40),
    st.floats(0, 1, width=32, exclude_max=True),
)
@settings(max_examples=100, deadline=None)
def test_importance_and_merge(weights, count, jitter):
    j = torch.tensor([jitter])
    more = composite.importance(torch.tensor([weights]), count, j)
    assert more.shape == (1, count)
    assert (more >= 0).all()
    assert (more < 1).all()
    # As many samples as the cumulative weights promise, give or take one, in front of every step.
    share = np.array(weights) + 1e-5
    ends = np.cumsum(share / share.sum())
    for step, end in enumerate(ends):
        before = (more[0] < (step + 1) / len(weights)).sum().item()
        assert abs(before - count * end) <= 1.01

    merged = composite.merge(composite.uniform(len(weights), j), more)
    assert (merged.s.diff(dim=1) >= 0).all()
    assert merged.low[0, 0] == 0
    assert merged.high[0, -1] == 1
    torch.testing.assert_close(merged.low[:, 1:], merged.high[:, :-1])
    assert (merged.low <= merged.s).all()
    assert (merged.s <= merged.high).all()
