"""The entropy coder: what goes in comes out, in few bytes, in bytes that stay the same, whatever bytes come back."""

import tracemalloc
from dataclasses import dataclass
from math import prod

import numpy as np
import pytest
from files import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from invcodec.coding import model
from invcodec.coding.entropy import Known, RecordCoder, Statistics
from invcodec.coding.guide import Guide, order
from invcodec.coding.mixing import _SQUASH, _STRETCH
from invcodec.coding.model import RECENT_LIMIT
from invcodec.coding.quantize import MAX_LEVEL
from invcodec.container.head import NetworkInfo, TensorInfo
from invcodec.errors import DamagedError

Shape = tuple[int, ...]

# Small integers, those around powers of 2, and the largest.
integers = st.one_of(
    st.integers(-3, 3),
    st.integers(-40, 40),
    st.integers(-MAX_LEVEL, MAX_LEVEL),
    st.sampled_from([MAX_LEVEL, -MAX_LEVEL, MAX_LEVEL - 1, 2**23, 2**23 - 1]),
)
# All kinds of places, with and without features; long first dimensions cross the blocks that one flag covers.
shapes = st.one_of(
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6),
    st.tuples(st.integers(30, 120)),
    st.tuples(st.integers(30, 120), st.integers(1, 4)),
    st.tuples(st.integers(10, 40), st.integers(5, 8)),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(5, 8), st.integers(1, 4)),
)


@dataclass(frozen=True)
class Case:
    """A tensor, and what may be known of it."""

    values: np.ndarray
    known: Known | None
    hints: np.ndarray

    @property
    def shape(self) -> Shape:
        return self.values.shape


def tensors(shape: Shape, elements: st.SearchStrategy[int] = integers) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.int32, shape, elements=elements, fill=st.just(0))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    values = draw(tensors(shape))
    count = prod(model.places(shape)[2])
    small = st.integers(-RECENT_LIMIT, RECENT_LIMIT)
    bits = hnp.arrays(np.uint8, count, elements=st.integers(0, 255), fill=st.just(0))
    known = None
    if draw(st.booleans()):
        recent = draw(st.none() | tensors(shape, small).map(lambda a: a.astype(np.int8)))
        known = Known(draw(tensors(shape)), recent, draw(st.none() | bits))
    hints = draw(hnp.arrays(np.uint8, count, elements=st.integers(0, model.HINTS - 1), fill=st.just(0)))
    return Case(values, known, hints)


def encode(case: Case, position: int = 0) -> bytes:
    coder = RecordCoder(Statistics())
    coder.tensor(position, case.shape, case.values, case.known, case.hints)
    return coder.finish()


def decode(data: bytes, case: Case, position: int = 0) -> np.ndarray:
    coder = RecordCoder(Statistics(), data)
    coded = coder.tensor(position, case.shape, None, case.known, case.hints)
    coder.finish()
    return coded.values


def plain(values: np.ndarray, known: Known | None = None) -> Case:
    return Case(values, known, np.zeros(prod(model.places(values.shape)[2]), np.uint8))


@given(cases(), st.integers(0, 100))
@settings(max_examples=150, deadline=None)
def test_round_trip_with_and_without_contexts(case: Case, position: int) -> None:
    data = encode(case, position)
    back = decode(data, case, position)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, case.values)
    # Trailing zeros are implied, so there is one spelling of each record.
    assert not data.endswith(b"\0")


# The reference decoder, written from FORMAT.md alone, is the slow twin.


def slow_decode(data: bytes, case: Case, position: int = 0) -> np.ndarray:
    coder = reference.RangeDecoder(data, reference.Statistics())
    values = slow_tensor(coder, case, position)
    coder.finish()
    return values


def slow_tensor(coder: object, case: Case, position: int) -> np.ndarray:
    past = None
    if case.known is not None:
        known, n = case.known, case.values.size
        past = reference.Past(
            known.before.ravel().tolist(),
            [0] * n if known.recent is None else known.recent.ravel().tolist(),
            [0] * case.hints.size if known.history is None else known.history.tolist(),
        )
    walk = reference.Walk(coder, min(position, 63), case.shape, case.hints.tolist(), past)
    return np.array(walk.run()).reshape(case.shape)


@given(cases(), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_coded_bytes_mean_what_the_format_says(case: Case, position: int) -> None:
    np.testing.assert_array_equal(slow_decode(encode(case, position), case, position), case.values)


@given(cases(), st.binary(max_size=100))
@settings(max_examples=60, deadline=None)
def test_random_bytes_mean_what_the_format_says(case: Case, data: bytes) -> None:
    try:
        slow = slow_decode(data, case)
    except reference.Refused:
        with pytest.raises(DamagedError):
            decode(data, case)
        return
    np.testing.assert_array_equal(decode(data, case), slow)


@given(st.lists(st.lists(st.none() | cases(), min_size=1, max_size=3), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_what_is_learned_goes_on_from_record_to_record(records: list[list[Case | None]]) -> None:
    statistics = {"encoder": Statistics(), "decoder": Statistics()}
    slow_statistics = reference.Statistics()
    for record in records:
        before = statistics["encoder"].contexts.copy()
        coder = RecordCoder(statistics["encoder"])
        for position, case in enumerate(record):
            if coder.changes(position, case is not None) and case is not None:
                coder.tensor(position, case.shape, case.values, case.known, case.hints)
        data = coder.finish()
        # What the coder began with is as it was.
        np.testing.assert_array_equal(statistics["encoder"].contexts, before)
        decoder = RecordCoder(statistics["decoder"], data)
        slow = reference.RangeDecoder(data, slow_statistics)
        for position, case in enumerate(record):
            assert decoder.changes(position) == (case is not None)
            assert slow.bit(("CHANGES",), ("CHANGES", position)) == (case is not None)
            if case is not None:
                coded = decoder.tensor(position, case.shape, None, case.known, case.hints)
                np.testing.assert_array_equal(coded.values, case.values)
                np.testing.assert_array_equal(coded.recent, np.clip(case.values, -RECENT_LIMIT, RECENT_LIMIT))
                changed = (case.values.reshape(len(coded.changed), -1) != 0).any(1)
                np.testing.assert_array_equal(coded.changed, changed)
                np.testing.assert_array_equal(slow_tensor(slow, case, position), case.values)
        decoder.finish()
        slow.finish()
        statistics = {"encoder": coder.statistics, "decoder": decoder.statistics}
        np.testing.assert_array_equal(coder.statistics.contexts, decoder.statistics.contexts)
        np.testing.assert_array_equal(coder.statistics.mixers, decoder.statistics.mixers)


def test_log_odds_and_probabilities_are_inverse() -> None:
    odds = np.arange(-2047, 2048)
    assert _SQUASH[odds + 2048].tolist() == [reference.squash(d) for d in odds]
    assert _STRETCH.tolist() == reference.STRETCH
    assert (np.diff(_SQUASH) >= 0).all()
    np.testing.assert_allclose(_SQUASH[odds + 2048] / 65536, 1 / (1 + np.exp(-odds / 256)), atol=0.005)


@given(st.integers(1, 2000), st.integers(1, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_round_trip_of_data_that_misleads_every_adaptation(n: int, run: int, seed: int) -> None:
    # Runs of one size, then another: probabilities learn the one and pay for the other. The buffer must hold it.
    rng = np.random.default_rng(seed)
    bits = np.repeat(rng.integers(0, 25, n // run + 1), run)[:n]
    values = np.minimum(2.0**bits * rng.uniform(1, 2, n), MAX_LEVEL) * (bits > 0) * rng.choice([-1, 1], n)
    case = plain(values.astype(np.int32))
    np.testing.assert_array_equal(decode(encode(case), case), case.values)


@pytest.mark.parametrize("value", [0, 1, -1, 14, 15, 16, -17, MAX_LEVEL, -MAX_LEVEL, 2 * MAX_LEVEL])
@pytest.mark.parametrize("count", [1, 31, 32, 33, 5000])
def test_round_trip_of_constants(value: int, count: int) -> None:
    # Long runs drive the probabilities to the ends of their range.
    values = np.full(count, value, np.int32)
    values[-1] = -value
    for known in (None, Known(np.zeros(count, np.int32))):
        case = plain(values, known)
        data = encode(case)
        np.testing.assert_array_equal(decode(data, case), values)
        if value == 0:
            assert len(data) <= 12


@pytest.mark.parametrize("shape", [(30_000,), (300, 100), (10_000, 3), (30, 31, 32)])
def test_round_trip_of_tensors_whose_bytes_need_more_room_than_there_is_at_first(shape: Shape) -> None:
    values = np.random.default_rng(9).integers(-MAX_LEVEL, MAX_LEVEL, shape).astype(np.int32)
    for known in (None, Known(np.roll(values, 1))):
        case = plain(values, known)
        data = encode(case)
        assert len(data) > 1 << 16
        np.testing.assert_array_equal(decode(data, case), values)


FROZEN = np.array([[0, 1, -1, 0], [2, -3, 0, 0], [15, -16, 300, MAX_LEVEL]], np.int32)
BEFORE = np.arange(-6, 6, dtype=np.int32).reshape(3, 4)
RECENT = np.clip(np.roll(BEFORE, 3), -3, 3).astype(np.int8)
HISTORY = np.array([0, 128, 64], np.uint8)


@pytest.mark.parametrize(
    ("known", "coded"),
    [
        (None, "01ef7bdff92acbc88500d21ffa46f0"),
        (Known(BEFORE), "01ef7929efeb10b05866ba26fd483c18"),
        (Known(BEFORE, RECENT, HISTORY), "01ef745b39a1563cefb1be6bee505fdb"),
    ],
)
def test_the_bytes_do_not_change(known: Known | None, coded: str) -> None:
    # If this fails, files written before the change no longer decode: it is a new format version.
    case = plain(FROZEN, known)
    assert encode(case).hex() == coded
    np.testing.assert_array_equal(decode(bytes.fromhex(coded), case), FROZEN)


def order0(values: np.ndarray) -> float:
    """Bytes that an ideal coder with a fixed probability for each value needs."""
    share = np.unique(values, return_counts=True)[1] / values.size
    return float(-(share * np.log2(share)).sum()) * values.size / 8


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(32000,), (2000, 16), (20, 20, 20, 4), (16000, 2)])
@pytest.mark.parametrize("is_delta", [False, True])
def test_sparse_data_costs_little_more_than_its_entropy(density: float, shape: Shape, is_delta: bool) -> None:
    rng = np.random.default_rng(5)
    values = (rng.integers(-3, 4, shape) * (rng.random(shape) < density)).astype(np.int32)
    assert len(encode(plain(values, Known(np.zeros_like(values)) if is_delta else None))) <= 1.1 * order0(values)


@pytest.mark.parametrize("scale", [0.5, 5, 500])
def test_dense_data_costs_little_more_than_its_entropy(scale: float) -> None:
    values = np.rint(np.random.default_rng(6).laplace(0, scale, (200, 100))).astype(np.int32)
    assert len(encode(plain(values))) <= 1.1 * order0(values)


def test_rows_and_columns_of_a_matrix_have_scales() -> None:
    rng = np.random.default_rng(6)
    values = np.rint(rng.laplace(0, 1, (200, 100)) * rng.choice([1, 30], (200, 1)) * rng.choice([1, 9], 100))
    mixed = rng.permutation(values.ravel()).reshape(values.shape)
    sizes = [len(encode(plain(each.astype(np.int32)))) for each in (values, mixed)]
    assert sizes[0] < 0.95 * sizes[1]


def test_untouched_blocks_are_nearly_free() -> None:
    rng = np.random.default_rng(7)
    values = np.zeros(64 * 1024, np.int32)
    # 1 % of the blocks are used, densely: far from what the values' frequencies alone would promise.
    for block in rng.choice(1024, 10, replace=False):
        values[block * 64 : block * 64 + 64] = rng.integers(-2, 3, 64)
    assert len(encode(plain(values, Known(np.zeros_like(values))))) < 0.6 * order0(values)
    # In a keyframe the same of places with several features.
    values = values.reshape(32, 32, 32, 2)
    assert len(encode(plain(values))) < 0.6 * order0(values)


def test_structure_in_space_and_time_is_used() -> None:
    rng = np.random.default_rng(8)
    # Change happens in one corner, as it did in the record before.
    where = np.zeros((24, 24, 24), bool)
    where[:8, :8, :8] = True
    recent = (rng.integers(-2, 3, where.shape) * where).astype(np.int8)
    values = (rng.integers(-2, 3, where.shape) * (recent != 0)).astype(np.int32)
    zero = np.zeros_like(values)
    alone = len(encode(plain(values, Known(zero))))
    assert alone < 0.8 * order0(values)
    history = ((recent != 0) * np.uint8(128)).ravel().astype(np.uint8)
    assert len(encode(plain(values, Known(zero, recent, history)))) < 0.9 * alone
    # A hint says where to look.
    assert len(encode(Case(values, Known(zero), (values != 0).ravel() * np.uint8(9)))) < 0.9 * alone
    # Weights decay: the sign of the change is known from the sign of what was there.
    before = rng.integers(-9, 10, where.shape).astype(np.int32)
    decay = (-np.sign(before) * (rng.random(where.shape) < 0.3)).astype(np.int32)
    assert len(encode(plain(decay, Known(before)))) < 0.8 * len(encode(plain(decay, Known(zero))))


@given(st.binary(max_size=200), cases())
@settings(max_examples=200, deadline=None)
def test_random_bytes_decode_or_are_damaged(data: bytes, case: Case) -> None:
    try:
        values = decode(data, case)
    except DamagedError:
        return
    assert values.dtype == np.int32
    assert values.shape == case.shape
    # The code can spell integers beyond the largest that a file may hold, but never wraps around.
    assert np.abs(values.astype(np.int64)).max() < 2**model.MAX_SIZE_BITS


def test_hostile_bytes_take_no_more_memory_than_the_tensor() -> None:
    case = plain(np.zeros(1 << 18, np.int32))
    tracemalloc.start()
    try:
        for data in (b"", b"\xff" * 64, b"\0" * 3 + b"\x01"):
            try:
                decode(data, case)
            except DamagedError:
                continue
        assert tracemalloc.get_traced_memory()[1] < 4 * (4 << 18)
    finally:
        tracemalloc.stop()


def test_a_magnitude_without_end_is_damaged() -> None:
    # All-zero code bytes answer every question with 1, also "is it larger still?".
    with pytest.raises(DamagedError):
        decode(b"", plain(np.zeros(3, np.int32)))


@given(cases(), st.binary(min_size=12, max_size=20))
@settings(max_examples=50, deadline=None)
def test_bytes_that_are_left_over_are_damaged(case: Case, more: bytes) -> None:
    with pytest.raises(DamagedError):
        decode(encode(case) + more, case)


def test_values_that_are_too_large_are_refused() -> None:
    for value in (2 * MAX_LEVEL + 1, -2 * MAX_LEVEL - 1, -(2**31)):
        with pytest.raises(ValueError, match=str(2 * MAX_LEVEL)):
            encode(plain(np.array([0, value], np.int32)))


# Hints


def grid(resolutions: object, shapes_: list[Shape], cells: int, **changes: object) -> NetworkInfo:
    tensors_ = [TensorInfo(f"grid.{i}", shape, "structure") for i, shape in enumerate(shapes_)]
    tensors_.append(TensorInfo("occupancy", (cells,) * 3, "structure"))
    fields = {"profile": 2, "version": 1, "config": {"resolutions": resolutions}} | changes
    return NetworkInfo("scene", "scene", profile_name="grid", space={}, tensors=tuple(tensors_), **fields)  # type: ignore[arg-type]


def both_hints(network: NetworkInfo, seed: int, is_delta: bool) -> list[np.ndarray]:
    """Hints of all tensors in coding order, the same from the package and from the reference decoder."""
    rng = np.random.default_rng(seed)
    guide = Guide(network, is_delta)
    slow = reference.Hints(network.to_plain(), is_delta)
    result = []
    for index in order(network):
        info = network.tensors[index]
        count = prod(model.places(info.shape)[2])
        hints, slow_hints = guide.hints(index), slow.hints(index, count)
        result.append(np.zeros(count, np.uint8) if hints is None else hints)
        assert result[-1].tolist() == slow_hints
        changed = (rng.random(count) < 0.1).astype(np.uint8)
        before, values = rng.integers(0, 2, (2, *info.shape), dtype=np.int32)
        if info.name == "occupancy":
            guide.learn(index, before if is_delta else np.zeros_like(before), values, changed)
            slow.set_occupancy(values + before if is_delta else values)
        else:
            guide.learn(index, before, values, changed)
            if is_delta:
                slow.learn(index, changed.tolist())
    return result


GRID_SHAPES: list[Shape] = [(4, 4, 4, 2), (6, 6, 6, 2), (64, 2), (128, 2)]


@pytest.mark.parametrize("is_delta", [False, True])
@pytest.mark.parametrize("cells", [2, 3, 8])
def test_hints_are_those_of_the_format(is_delta: bool, cells: int) -> None:
    hints = both_hints(grid([3, 5, 7, 11], GRID_SHAPES, cells), 3, is_delta)
    assert not hints[0].any()
    assert not is_delta or not hints[1].any()
    assert all(each.any() for each in hints[2:])


@pytest.mark.parametrize(
    "network",
    [
        grid([3, 5, 7, 11], GRID_SHAPES, 8, profile=65536),
        grid([3, 5, 7, 11], GRID_SHAPES, 8, version=2),
        grid([3, 5, 7, 11], GRID_SHAPES, 129),
        grid([], GRID_SHAPES, 8),
        grid(None, GRID_SHAPES, 8),
        grid([True, 0, 4097, -1], GRID_SHAPES, 8),
        grid([4, 4, 4, 4], [(4, 4, 4, 2), (4, 4, 4), (63, 2), (64, 3)], 8),
        # More vertices than are worth a look.
        grid([4096, 4096, 4096], [(64, 2), (64, 2), (64, 2)], 2),
    ],
)
def test_there_are_no_hints_for_what_is_no_grid(network: NetworkInfo) -> None:
    for is_delta in (False, True):
        assert not any(each.any() for each in both_hints(network, 3, is_delta))
