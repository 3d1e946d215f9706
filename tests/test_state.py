"""States: encoder and decoder agree bit for bit, and a record that does not fit is refused."""

import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from files import a_camera
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from invcodec.coding.codec import decode, delta_frame, encode_delta, encode_key, key_frame
from invcodec.coding.entropy import Memory
from invcodec.coding.quantize import MAX_LEVEL, step
from invcodec.coding.state import State, table
from invcodec.container.frame import FrameHead
from invcodec.container.head import Head, NetworkInfo, TensorInfo
from invcodec.errors import DamagedError, UnsupportedError
from invcodec.field.profile import TensorKey

HEAD = Head(
    frame_rate=Fraction(25),
    time_base=Fraction(1, 25),
    source_size=(8, 8),
    downscale=1,
    background=None,
    cameras=(a_camera("c", 8, 8),),
    networks=(
        NetworkInfo(
            "main",
            "scene",
            1,
            "mlp",
            0,
            {},
            {},
            (TensorInfo("w", (3, 5), "structure"), TensorInfo("v", (2, 2, 3, 2), "structure")),
        ),
        NetworkInfo("late", "fine", 1, "mlp", 0, {}, {}, (TensorInfo("w", (4,), "colour"),)),
    ),
)
KEYS = [("main", "w"), ("main", "v"), ("late", "w")]
SHAPES = dict(zip(KEYS, [(3, 5), (2, 2, 3, 2), (4,)], strict=True))
QPS = dict(zip(KEYS, [-16, 3, 0], strict=True))

Levels = dict[TensorKey, np.ndarray]


def some_levels(seed: int) -> Levels:
    rng = np.random.default_rng(seed)
    return {key: rng.integers(-20, 20, shape).astype(np.int32) for key, shape in SHAPES.items()}


def key_record(levels: Levels) -> tuple[FrameHead, bytes, State]:
    coded, state = encode_key(HEAD, levels, QPS)
    return key_frame(state, 0), coded, state


def delta_record(before: State, levels: Levels) -> tuple[FrameHead, bytes, State]:
    coded, state = encode_delta(before, levels)
    return delta_frame(state, 1, 0), coded, state


def memory_of(state: State) -> Memory:
    assert isinstance(state.memory, Memory)
    return state.memory


def assert_same(a: State, b: State) -> None:
    assert a.qps == b.qps
    one, other = memory_of(a), memory_of(b)
    for left, right, kind in (
        (a.levels, b.levels, np.int32),
        (one.recent, other.recent, np.int8),
        (one.history, other.history, np.uint8),
    ):
        assert left.keys() == right.keys()
        for key in left:
            assert left[key].dtype == right[key].dtype == kind
            np.testing.assert_array_equal(left[key], right[key])
    np.testing.assert_array_equal(one.statistics.contexts, other.statistics.contexts)
    np.testing.assert_array_equal(one.statistics.mixers, other.statistics.mixers)


elements = st.one_of(st.integers(-3, 3), st.integers(-(MAX_LEVEL // 2), MAX_LEVEL // 2))
all_levels = st.fixed_dictionaries(
    {k: hnp.arrays(np.int32, s, elements=elements, fill=st.just(0)) for k, s in SHAPES.items()}
)
some_tensors = st.sets(st.sampled_from(KEYS))


@given(all_levels, st.lists(st.tuples(all_levels, some_tensors), max_size=4))
@settings(max_examples=60, deadline=None)
def test_decoder_follows_encoder(first: Levels, changes: list[tuple[Levels, set[TensorKey]]]) -> None:
    frame, data, encoder = key_record(first)
    decoder = decode(HEAD, frame, data, None)
    assert_same(encoder, decoder)
    expected = first
    for levels, named in changes:
        # Tensors that are not named stay as they are.
        levels = {key: levels[key] for key in named}
        expected = {**expected, **levels}
        frame, data, encoder = delta_record(encoder, levels)
        decoder = decode(HEAD, frame, data, decoder)
        assert_same(encoder, decoder)
        for key in KEYS:
            np.testing.assert_array_equal(decoder.levels[key], expected[key])


def test_a_delta_remembers_what_changed() -> None:
    *_, state = key_record(some_levels(0))
    assert (memory_of(state).recent, memory_of(state).history) == ({}, {})
    levels = dict(state.levels)
    levels["late", "w"] = levels["late", "w"] + np.array([0, 0, 9, 0], np.int32)
    _, changed, state = delta_record(state, levels)
    assert list(memory_of(state).recent) == list(memory_of(state).history) == [("late", "w")]
    assert memory_of(state).recent["late", "w"].tolist() == [0, 0, 3, 0]
    for age in range(8):
        assert memory_of(state).history["late", "w"].tolist() == [0, 0, 128 >> age, 0]
        _, data, state = delta_record(state, {})
        assert memory_of(state).recent == {}
        # Nothing costs next to nothing.
        assert len(data) < len(changed)
    assert memory_of(state).history == {}


def test_several_deltas_can_follow_one_state() -> None:
    *_, state = key_record(some_levels(0))
    *_, state = delta_record(state, some_levels(1))
    first = delta_record(state, some_levels(2))
    delta_record(state, some_levels(3))
    again = delta_record(state, some_levels(2))
    assert first[1] == again[1]
    assert_same(first[2], again[2])


def test_what_was_learned_makes_later_deltas_smaller() -> None:
    rng = np.random.default_rng(4)
    levels = {key: np.zeros((40, 5) if key == KEYS[0] else s, np.int32) for key, s in SHAPES.items()}
    networks = (
        replace(HEAD.networks[0], tensors=(TensorInfo("w", (40, 5), "structure"), HEAD.networks[0].tensors[1])),
    )
    _, state = encode_key(replace(HEAD, networks=networks + HEAD.networks[1:]), levels, QPS)
    sizes = []
    change = 37 * (rng.random((40, 5)) < 0.2)
    for _ in range(6):
        coded, state = encode_delta(state, {KEYS[0]: state.levels[KEYS[0]] + change.astype(np.int32)})
        sizes.append(len(coded))
    assert sizes[-1] < 0.5 * sizes[0]


def test_encoding_changes_neither_its_input_nor_the_state_before() -> None:
    levels = some_levels(0)
    copies = {key: value.copy() for key, value in levels.items()}
    *_, state = key_record(some_levels(0))
    digest = state.digest()
    _, after = encode_delta(state, levels)
    encode_delta(after, some_levels(1))
    decode(HEAD, *delta_record(state, some_levels(2))[:2], state)
    assert state.digest() == digest
    for key in KEYS:
        np.testing.assert_array_equal(levels[key], copies[key])


def slow_digest(numbers: list[int]) -> bytes:
    total = 0x9E3779B97F4A7C15
    for n, number in enumerate(numbers, 1):
        z = n * 0x9E3779B97F4A7C15 % 2**64
        z = (z ^ z >> 32) * 0xD6E8FEB86659FD93 % 2**64
        total += number * ((z ^ z >> 32) | 1)
    return struct.pack("<Q", total % 2**64)


def test_digest_is_what_the_format_says() -> None:
    *_, state = key_record(some_levels(0))
    numbers = [QPS[key] for key in KEYS] + [int(q) for key in KEYS for q in state.levels[key].flat]
    assert state.digest() == slow_digest(numbers)
    assert table(HEAD) == KEYS


def test_digest_of_a_sum_is_the_sum_of_digests() -> None:
    one, other = some_levels(0), some_levels(1)
    *_, state = key_record(one)
    residual = replace(state, levels=other, qps=dict.fromkeys(KEYS, 0))
    after = replace(state, levels={key: one[key] + other[key] for key in KEYS})
    empty = replace(residual, levels={key: 0 * one[key] for key in KEYS})
    sums = [int.from_bytes(each.digest(), "little") for each in (state, residual, after, empty)]
    assert (sums[0] + sums[1] - sums[2] - sums[3]) % 2**64 == 0


def test_digest_changes_with_every_integer_and_every_qp() -> None:
    *_, state = key_record(some_levels(0))
    seen = {state.digest()}
    count = 1
    for key in KEYS:
        for index in range(state.levels[key].size):
            for change in (1, -1, 1 << 23):
                levels = state.levels[key].copy()
                levels.flat[index] += change
                seen.add(replace(state, levels={**state.levels, key: levels}).digest())
                count += 1
        seen.add(replace(state, qps={**QPS, key: QPS[key] + 1}).digest())
        count += 1
    assert len(seen) == count


def test_digest_does_not_depend_on_memory_layout_or_dictionary_order() -> None:
    *_, state = key_record(some_levels(0))
    other = {key: np.asfortranarray(state.levels[key]) for key in reversed(KEYS)}
    assert replace(state, levels=other).digest() == state.digest()
    # A transposed view is coded by its values, too.
    frame, data, _ = key_record(other)
    assert_same(decode(HEAD, frame, data, None), state)


def test_weights_are_levels_times_step() -> None:
    *_, state = key_record(some_levels(0))
    weights = state.weights()
    assert list(weights) == KEYS
    for key in KEYS:
        assert weights[key].dtype == np.float32
        np.testing.assert_array_equal(weights[key], state.levels[key] * np.float32(step(QPS[key])))


# What is refused


def refused(match: str | None, frame: FrameHead, data: bytes, before: State | None) -> None:
    with pytest.raises(DamagedError, match=match):
        decode(HEAD, frame, data, before)


def test_a_keyframe_that_lacks_a_step_is_refused() -> None:
    frame, data, _ = key_record(some_levels(0))
    for qps in ((), (0, 0), (0, 0, 0, 0), None):
        refused("every tensor", replace(frame, qps=qps), data, None)


def test_another_coder_is_not_supported() -> None:
    frame, data, _ = key_record(some_levels(0))
    with pytest.raises(UnsupportedError, match="coder 2"):
        decode(HEAD, replace(frame, coder=2), data, None)


def test_bytes_that_do_not_fill_their_record_are_refused() -> None:
    frame, data, _ = key_record(some_levels(0))
    for wrong in (data[:-1], data + b"\1" * 9, data + b"\0", b""):
        refused(None, frame, wrong, None)


def test_a_wrong_digest_is_refused() -> None:
    frame, data, state = key_record(some_levels(0))
    refused("digest", replace(frame, digest=bytes(8)), data, None)
    delta, coded, _ = delta_record(state, some_levels(1))
    # On top of another state than the one it was made from.
    *_, other = key_record(some_levels(5))
    refused(None, delta, coded, other)


def test_integers_that_leave_their_range_are_refused() -> None:
    large = {key: np.full(shape, MAX_LEVEL, np.int32) for key, shape in SHAPES.items()}
    frame, data, state = key_record(large)
    beyond = {**large, ("late", "w"): large["late", "w"] + 1}
    refused("exceeds", *delta_record(state, beyond)[:2], state)
    # The largest allowed are fine.
    assert_same(decode(HEAD, frame, data, None), state)


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_hostile_records_are_damaged(data: bytes) -> None:
    refused(None, FrameHead(0, None, bytes(8), 1, (0, 0, 0)), data, None)
    *_, state = key_record(some_levels(0))
    refused(None, FrameHead(1, 0, bytes(8), 1, None), data, state)


def test_a_weight_may_cross_its_whole_range() -> None:
    ends = [{key: np.full(s, sign * MAX_LEVEL, np.int32) for key, s in SHAPES.items()} for sign in (1, -1)]
    *_, state = key_record(ends[0])
    frame, data, after = delta_record(state, ends[1])
    assert_same(decode(HEAD, frame, data, state), after)
