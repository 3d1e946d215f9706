"""States: encoder and decoder agree bit for bit, and a record that does not fit is refused."""

import hashlib
import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from files import a_camera
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from invcodec.coding.quantize import MAX_LEVEL, MAX_QP, step
from invcodec.coding.schema import CodedTensor, FrameHead, Head, NetworkInfo, TensorInfo
from invcodec.coding.state import State, TensorKey, decode, encode_delta, encode_key, table
from invcodec.errors import DamagedError

HEAD = Head(
    Fraction(25),
    Fraction(1, 25),
    (8, 8),
    1,
    None,
    (a_camera("c", 8, 8),),
    (
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


def record(coded: tuple[list[CodedTensor], list[bytes], State], reference: int | None) -> tuple[FrameHead, bytes]:
    tensors, parts, state = coded
    return FrameHead(0, reference, state.digest(), tuple(tensors)), b"".join(parts)


def key_record(seed: int = 0) -> tuple[FrameHead, bytes, State]:
    coded = encode_key(HEAD, some_levels(seed), QPS)
    return *record(coded, None), coded[2]


def delta_record(before: State, levels: Levels) -> tuple[FrameHead, bytes, State]:
    coded = encode_delta(before, levels)
    return *record(coded, 0), coded[2]


def assert_same(a: State, b: State) -> None:
    assert a.qps == b.qps
    for of in ("levels", "recent"):
        left, right = getattr(a, of), getattr(b, of)
        assert left.keys() == right.keys()
        for key in left:
            assert left[key].dtype == right[key].dtype == np.int32
            np.testing.assert_array_equal(left[key], right[key])


elements = st.one_of(st.integers(-3, 3), st.integers(-(MAX_LEVEL // 2), MAX_LEVEL // 2))
all_levels = st.fixed_dictionaries(
    {k: hnp.arrays(np.int32, s, elements=elements, fill=st.just(0)) for k, s in SHAPES.items()}
)
some_tensors = st.sets(st.sampled_from(KEYS))


@given(all_levels, st.lists(st.tuples(all_levels, some_tensors), max_size=4))
@settings(max_examples=60, deadline=None)
def test_decoder_follows_encoder(first: Levels, changes: list[tuple[Levels, set[TensorKey]]]) -> None:
    coded = encode_key(HEAD, first, QPS)
    encoder, decoder = coded[2], decode(HEAD, *record(coded, None), None)
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


def test_a_delta_carries_only_tensors_that_change() -> None:
    *_, state = key_record()
    levels = dict(state.levels)
    levels["late", "w"] = levels["late", "w"] + np.array([0, 0, 1, 0], np.int32)
    frame, _, after = delta_record(state, levels)
    assert [(t.network, t.tensor, t.qp) for t in frame.tensors] == [(1, 0, 0)]
    assert list(after.recent) == [("late", "w")]
    frame, data, after = delta_record(after, {})
    assert (frame.tensors, data, after.recent) == ((), b"", {})


def test_encoding_changes_neither_its_input_nor_the_state_before() -> None:
    levels = some_levels(0)
    copies = {key: value.copy() for key, value in levels.items()}
    *_, state = key_record()
    digest = state.digest()
    _, _, after = encode_delta(state, levels)
    encode_delta(after, some_levels(1))
    decode(HEAD, *delta_record(state, some_levels(2))[:2], state)
    assert state.digest() == digest
    for key in KEYS:
        np.testing.assert_array_equal(levels[key], copies[key])


def test_digest_is_what_the_format_says() -> None:
    *_, state = key_record()
    total = b"".join(
        struct.pack("<i", QPS[key]) + struct.pack(f"<{state.levels[key].size}i", *state.levels[key].flat)
        for key in KEYS
    )
    assert state.digest() == hashlib.sha256(total).digest()[:16]
    assert table(HEAD) == KEYS


def test_digest_changes_with_every_integer_and_every_qp() -> None:
    *_, state = key_record()
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
    *_, state = key_record()
    other = {key: np.asfortranarray(state.levels[key]) for key in reversed(KEYS)}
    assert replace(state, levels=other).digest() == state.digest()
    # A transposed view is coded by its values, too.
    coded = encode_key(HEAD, other, QPS)
    assert_same(decode(HEAD, *record(coded, None), None), state)


def test_weights_are_levels_times_step() -> None:
    *_, state = key_record()
    weights = state.weights()
    assert list(weights) == KEYS
    for key in KEYS:
        assert weights[key].dtype == np.float32
        np.testing.assert_array_equal(weights[key], state.levels[key] * np.float32(step(QPS[key])))


# What is refused


def refused(match: str | None, frame: FrameHead, data: bytes, before: State | None) -> None:
    with pytest.raises(DamagedError, match=match):
        decode(HEAD, frame, data, before)


def test_a_change_of_qp_in_a_delta_is_refused() -> None:
    *_, state = key_record()
    frame, data, after = delta_record(state, some_levels(1))
    for at in range(len(KEYS)):
        tensors = list(frame.tensors)
        tensors[at] = replace(tensors[at], qp=tensors[at].qp + 1)
        # Even with a digest that promises the new qp.
        digest = replace(after, qps={**QPS, KEYS[at]: tensors[at].qp}).digest()
        refused("outside a keyframe", replace(frame, tensors=tuple(tensors), digest=digest), data, state)


def test_a_keyframe_that_lacks_a_tensor_is_refused() -> None:
    frame, data, _ = key_record()
    at = 0
    for index, tensor in enumerate(frame.tensors):
        tensors = frame.tensors[:index] + frame.tensors[index + 1 :]
        refused("every tensor", replace(frame, tensors=tensors), data[:at] + data[at + tensor.length :], None)
        at += tensor.length


@pytest.mark.parametrize(("network", "tensor"), [(1, 1), (2, 0), (0, 2)])
def test_a_tensor_that_is_not_declared_is_refused(network: int, tensor: int) -> None:
    frame, data, state = key_record()
    tensors = (*frame.tensors[:2], replace(frame.tensors[2], network=network, tensor=tensor))
    tensors = tuple(sorted(tensors, key=lambda t: (t.network, t.tensor)))
    refused("does not declare", replace(frame, tensors=tensors), data, None)
    refused("does not declare", FrameHead(0, 0, state.digest(), (CodedTensor(network, tensor, 1, 0, 0),)), b"", state)


@pytest.mark.parametrize("qp", [MAX_QP + 1, -161, 1000, -1000])
def test_a_qp_without_a_step_is_refused(qp: int) -> None:
    frame, data, state = key_record()
    tensors = (replace(frame.tensors[0], qp=qp), *frame.tensors[1:])
    digest = replace(state, qps={**QPS, KEYS[0]: qp}).digest()
    refused(str(qp), replace(frame, tensors=tensors, digest=digest), data, None)


def test_bytes_that_do_not_fill_their_record_are_refused() -> None:
    frame, data, _ = key_record()
    for wrong in (data[:-1], data + b"\1", b""):
        refused("exactly", frame, wrong, None)


def test_a_wrong_digest_is_refused() -> None:
    frame, data, state = key_record()
    refused("digest", replace(frame, digest=bytes(16)), data, None)
    delta, coded, _ = delta_record(state, some_levels(1))
    # On top of another state than the one it was made from.
    *_, other = key_record(5)
    refused(None, delta, coded, other)


def test_integers_that_leave_their_range_are_refused() -> None:
    large = {key: np.full(shape, MAX_LEVEL, np.int32) for key, shape in SHAPES.items()}
    state = encode_key(HEAD, large, QPS)[2]
    beyond = {**large, ("late", "w"): large["late", "w"] + 1}
    refused("exceeds", *delta_record(state, beyond)[:2], state)
    # The largest allowed are fine.
    assert_same(decode(HEAD, *record(encode_key(HEAD, large, QPS), None), None), state)


@given(st.binary(max_size=60), st.lists(st.integers(0, 20), min_size=3, max_size=3))
@settings(max_examples=100, deadline=None)
def test_hostile_keyframes_are_damaged(data: bytes, lengths: list[int]) -> None:
    tensors = tuple(
        CodedTensor(n, t, 1, 0, size) for (n, t), size in zip([(0, 0), (0, 1), (1, 0)], lengths, strict=True)
    )
    refused(None, FrameHead(0, None, bytes(16), tensors), data[: sum(lengths)], None)


def test_a_weight_may_cross_its_whole_range() -> None:
    ends = [{key: np.full(s, sign * MAX_LEVEL, np.int32) for key, s in SHAPES.items()} for sign in (1, -1)]
    state = encode_key(HEAD, ends[0], QPS)[2]
    frame, data, after = delta_record(state, ends[1])
    assert_same(decode(HEAD, frame, data, state), after)
