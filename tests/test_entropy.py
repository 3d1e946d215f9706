"""The entropy coder: what goes in comes out, in few bytes, in bytes that stay the same, whatever bytes come back."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from invcodec.coding import entropy
from invcodec.coding.quantize import MAX_LEVEL
from invcodec.errors import DamagedError

# Small integers, those around the end of the unary code, and the largest.
integers = st.one_of(
    st.integers(-3, 3),
    st.integers(-entropy.UNARY_LIMIT - 4, entropy.UNARY_LIMIT + 4),
    st.integers(-MAX_LEVEL, MAX_LEVEL),
    st.sampled_from([MAX_LEVEL, -MAX_LEVEL, MAX_LEVEL - 1, 2**23, 2**23 + entropy.UNARY_LIMIT]),
)
# Long first dimensions cross the blocks that one skip flag covers.
shapes = st.one_of(
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6),
    st.tuples(st.integers(60, 200)),
    st.tuples(st.integers(10, 40), st.integers(1, 8)),
)


def tensors(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.int32, shape, elements=integers, fill=st.just(0))


cases = shapes.flatmap(lambda shape: st.tuples(tensors(shape), st.none() | tensors(shape), st.none() | tensors(shape)))


@given(cases)
@settings(max_examples=150, deadline=None)
def test_round_trip_with_and_without_contexts(case: tuple[np.ndarray, np.ndarray | None, np.ndarray | None]) -> None:
    values, before, recent = case
    data = entropy.encode(values, before, recent)
    back = entropy.decode(data, values.shape, before, recent)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, values)
    # Trailing zeros are implied, so there is one spelling of each tensor.
    assert not data.endswith(b"\0")


class SlowDamage(Exception):
    """What FORMAT.md calls damaged."""


def slow_decode(
    data: bytes, shape: tuple[int, ...], before: np.ndarray | None, recent: np.ndarray | None
) -> np.ndarray:
    """A decoder in the words of FORMAT.md, which shares nothing with the one under test."""
    if data.endswith(b"\0"):
        raise SlowDamage
    feed = iter(data)
    taken = 4
    range_, code = 0xFFFFFFFF, int.from_bytes(bytes(next(feed, 0) for _ in range(4)), "big")
    contexts: dict[tuple[str, int], tuple[int, int]] = {}

    def bit(p: int) -> int:
        nonlocal range_, code, taken
        bound = (range_ >> 15) * p
        if code < bound:
            out, range_ = 1, bound
        else:
            out, code, range_ = 0, code - bound, range_ - bound
        while range_ < 2**24:
            range_, code = (range_ << 8) % 2**32, (code << 8 | next(feed, 0)) % 2**32
            taken += 1
        return out

    def adaptive(family: str, index: int) -> int:
        f, s = contexts.get((family, index), (32768, 32768))
        out = bit(min(max((f + s) >> 2, 1), 32767))
        if out:
            f, s = f + ((65536 - f) >> 4), s + ((65536 - s) >> 7)
        else:
            f, s = f - (f >> 4), s - (s >> 7)
        contexts[family, index] = f, s
        return out

    def sgn(value: int) -> int:
        return 0 if value == 0 else 1 if value > 0 else 2

    n = int(np.prod(shape))
    d = (1,) * (4 - len(shape)) + shape
    old = [0] * n if before is None else [int(x) for x in before.flat]
    last = [0] * n if recent is None else [int(x) for x in recent.flat]
    places = list(np.ndindex(d))
    v = dict.fromkeys(places, 0)
    used = 0
    for start in range(0, n, 64):
        block = range(start, min(start + 64, n))
        r = 0 if recent is None else 2 if any(last[i] for i in block) else 1
        used = adaptive("skip", used + 2 * r)
        for i in block if used else ():
            p = places[i]
            # A place outside the tensor has an index of -1, and is no key.
            sides = [abs(v.get((*p[:x], p[x] - 1, *p[x + 1 :]), 0)) for x in (3, 2, 1, 0)]
            m = min(sum(sides), 64) if d[0] > 1 or d[1] > 1 else min(2 * (sides[0] + sides[1]), 64)
            g = m if m < 4 else 4 if m < 7 else 5 if m < 12 else 6 if m < 24 else 7
            h, w = min(abs(last[i]), 2), min(abs(old[i]), 2)
            if not adaptive("zero", (3 * g + h) * 3 + w):
                continue
            negative = adaptive("sign", 3 * sgn(old[i]) + sgn(last[i]))
            level = 1
            while level < 15 and adaptive("unary", 14 * g + level - 1):
                level += 1
            if level == 15:
                k = 0
                while adaptive("prefix", k):
                    k += 1
                    if k == 25:
                        raise SlowDamage
                x = 1
                for _ in range(k):
                    x = 2 * x + bit(2**14)
                level = x + 14
            v[p] = -level if negative else level
    if len(data) > taken:
        raise SlowDamage
    return np.array([v[p] for p in places]).reshape(shape)


@given(cases)
@settings(max_examples=60, deadline=None)
def test_coded_bytes_mean_what_the_format_says(
    case: tuple[np.ndarray, np.ndarray | None, np.ndarray | None],
) -> None:
    values, before, recent = case
    np.testing.assert_array_equal(slow_decode(entropy.encode(*case), values.shape, before, recent), values)


@given(cases, st.binary(max_size=100))
@settings(max_examples=60, deadline=None)
def test_random_bytes_mean_what_the_format_says(
    case: tuple[np.ndarray, np.ndarray | None, np.ndarray | None], data: bytes
) -> None:
    values, before, recent = case
    try:
        slow = slow_decode(data, values.shape, before, recent)
    except SlowDamage:
        with pytest.raises(DamagedError):
            entropy.decode(data, values.shape, before, recent)
        return
    np.testing.assert_array_equal(entropy.decode(data, values.shape, before, recent), slow)


@given(st.integers(1, 2000), st.integers(1, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_round_trip_of_data_that_misleads_every_adaptation(n: int, run: int, seed: int) -> None:
    # Runs of one size, then another: probabilities learn the one and pay for the other. The buffer must hold it.
    rng = np.random.default_rng(seed)
    bits = np.repeat(rng.integers(0, 25, n // run + 1), run)[:n]
    values = np.minimum(2.0**bits * rng.uniform(1, 2, n), MAX_LEVEL) * (bits > 0) * rng.choice([-1, 1], n)
    values = values.astype(np.int32)
    np.testing.assert_array_equal(entropy.decode(entropy.encode(values), values.shape), values)


@pytest.mark.parametrize("value", [0, 1, -1, 14, 15, 16, -17, MAX_LEVEL, -MAX_LEVEL])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 5000])
def test_round_trip_of_constants(value: int, count: int) -> None:
    # Long runs drive the probabilities to the ends of their range.
    values = np.full(count, value, np.int32)
    values[-1] = -value
    data = entropy.encode(values)
    np.testing.assert_array_equal(entropy.decode(data, (count,)), values)
    if value == 0:
        assert len(data) <= 8


FROZEN = np.array([[0, 1, -1, 0], [2, -3, 0, 0], [15, -16, 300, MAX_LEVEL]], np.int32)
BEFORE = np.arange(-6, 6, dtype=np.int32).reshape(3, 4)
RECENT = np.roll(BEFORE, 3)


@pytest.mark.parametrize(
    ("before", "recent", "coded"),
    [
        (None, None, "58b58f345298029c5b811a2fbb7c400232003d78"),
        (BEFORE, None, "58b58eb526ea029e9a20f810db46940238003e20"),
        (BEFORE, RECENT, "58b583ce06ea02b5a8c139ef4840000217003a84"),
    ],
)
def test_the_bytes_do_not_change(before: np.ndarray | None, recent: np.ndarray | None, coded: str) -> None:
    # If this fails, files written before the change no longer decode: it is a new format version.
    assert entropy.encode(FROZEN, before, recent).hex() == coded
    np.testing.assert_array_equal(entropy.decode(bytes.fromhex(coded), FROZEN.shape, before, recent), FROZEN)


def order0(values: np.ndarray) -> float:
    """Bytes that an ideal coder with a fixed probability for each value needs."""
    share = np.unique(values, return_counts=True)[1] / values.size
    return float(-(share * np.log2(share)).sum()) * values.size / 8


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(32000,), (2000, 16), (20, 20, 20, 4)])
def test_sparse_data_costs_little_more_than_its_entropy(density: float, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    values = (rng.integers(-3, 4, shape) * (rng.random(shape) < density)).astype(np.int32)
    assert len(entropy.encode(values)) <= 1.15 * order0(values)


@pytest.mark.parametrize("scale", [0.5, 5, 500])
def test_dense_data_costs_little_more_than_its_entropy(scale: float) -> None:
    values = np.rint(np.random.default_rng(6).laplace(0, scale, (200, 100))).astype(np.int32)
    assert len(entropy.encode(values)) <= 1.15 * order0(values)


def test_untouched_blocks_are_nearly_free() -> None:
    rng = np.random.default_rng(7)
    values = np.zeros(64 * 1024, np.int32)
    # 1 % of the blocks are used, densely: far from what the values' frequencies alone would promise.
    for block in rng.choice(1024, 10, replace=False):
        values[block * 64 : block * 64 + 64] = rng.integers(-2, 3, 64)
    assert len(entropy.encode(values)) < 0.6 * order0(values)


def test_structure_in_space_and_time_is_used() -> None:
    rng = np.random.default_rng(8)
    # Change happens in one corner, as it did in the record before.
    where = np.zeros((24, 24, 24), bool)
    where[:8, :8, :8] = True
    recent = (rng.integers(-2, 3, where.shape) * where).astype(np.int32)
    values = (rng.integers(-2, 3, where.shape) * (recent != 0)).astype(np.int32)
    alone = len(entropy.encode(values))
    assert alone < 0.8 * order0(values)
    assert len(entropy.encode(values, None, recent)) < 0.9 * alone
    # Weights decay: the sign of the change is known from the sign of what was there.
    before = rng.integers(-9, 10, where.shape).astype(np.int32)
    decay = (-np.sign(before) * (rng.random(where.shape) < 0.3)).astype(np.int32)
    assert len(entropy.encode(decay, before)) < 0.8 * len(entropy.encode(decay))


@given(st.binary(max_size=200), shapes, st.data())
@settings(max_examples=200, deadline=None)
def test_random_bytes_decode_or_are_damaged(data: bytes, shape: tuple[int, ...], more: st.DataObject) -> None:
    before, recent = (more.draw(st.none() | tensors(shape)) for _ in range(2))
    try:
        values = entropy.decode(data, shape, before, recent)
    except DamagedError:
        return
    assert values.dtype == np.int32
    assert values.shape == shape
    # The code can spell a few integers beyond the largest that a file may hold, but never wrap around.
    assert np.abs(values.astype(np.int64)).max() <= MAX_LEVEL + entropy.UNARY_LIMIT + 1


def test_hostile_bytes_take_no_more_memory_than_the_tensor() -> None:
    tracemalloc.start()
    try:
        for data in (b"", b"\xff" * 64, b"\0" * 3 + b"\x01"):
            try:
                entropy.decode(data, (1 << 18,))
            except DamagedError:
                continue
        assert tracemalloc.get_traced_memory()[1] < 3 * (4 << 18)
    finally:
        tracemalloc.stop()


def test_an_endless_prefix_is_damaged() -> None:
    # All-zero code bytes answer every question with 1, also "is it longer still?".
    with pytest.raises(DamagedError):
        entropy.decode(b"", (3,))


@given(cases, st.binary(min_size=12, max_size=20))
@settings(max_examples=50, deadline=None)
def test_bytes_that_are_left_over_are_damaged(
    case: tuple[np.ndarray, np.ndarray | None, np.ndarray | None], more: bytes
) -> None:
    values, before, recent = case
    with pytest.raises(DamagedError):
        entropy.decode(entropy.encode(values, before, recent) + more, values.shape, before, recent)


def test_values_that_are_too_large_are_refused() -> None:
    for value in (2 * MAX_LEVEL + 1, -2 * MAX_LEVEL - 1, -(2**31)):
        with pytest.raises(ValueError, match=str(2 * MAX_LEVEL)):
            entropy.encode(np.array([0, value], np.int32))
