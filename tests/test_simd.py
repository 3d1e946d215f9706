"""Vectors in compiled kernels against numpy."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from invcodec.field.kernels.options import kernel
from invcodec.field.kernels.simd import (
    LANES,
    absolute,
    add_pair,
    counting,
    exp,
    floats,
    fma,
    from_bits,
    gather,
    gather_pairs,
    greatest,
    ints,
    lanes_set,
    least,
    load,
    lowest_set,
    signed,
    store,
    take_number,
    total,
    transpose,
    where_above,
)

f32 = np.float32


@kernel
def _arithmetic(x, y, out):
    a, b = load(x, 0, 0), load(y, 0, 0)
    store(out, 0, 0, a + b)
    store(out, 1, 0, a - b)
    store(out, 2, 0, a * b)
    store(out, 3, 0, a / b)
    store(out, 4, 0, fma(a, b, counting()))
    store(out, 5, 0, least(a, b))
    store(out, 6, 0, greatest(a, b))
    store(out, 7, 0, absolute(a))
    store(out, 8, 0, signed(a, b))
    store(out, 9, 0, where_above(a, b, floats(f32(1)), floats(f32(-1))))
    store(out, 10, 0, floats(ints(a)))
    store(out, 11, 0, exp(a))
    return total(a)


def test_floats_are_those_of_numpy() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-20, 20, (2, 1, LANES)).astype(f32)
    out = np.empty((12, LANES), f32)
    assert _arithmetic(x, y, out) == pytest.approx(x.sum(), rel=1e-5)
    a, b = x[0], y[0]
    expected = [
        a + b, a - b, a * b, a / b, a * b + np.arange(LANES), np.minimum(a, b), np.maximum(a, b), np.abs(a),
        np.copysign(np.abs(a), b), np.where(a > b, 1, -1), np.trunc(a), np.exp(a),
    ]  # fmt: skip
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)


@kernel
def _exponentials(x, out):
    for s in range(0, x.shape[1], LANES):
        store(out, 0, s, exp(load(x, 0, s)))


def test_the_exponential_is_right_to_the_rounding_of_float32() -> None:
    x = np.linspace(-86, 86, 64 * LANES, dtype=f32)[None]
    out = np.empty_like(x)
    _exponentials(x, out)
    np.testing.assert_allclose(out, np.exp(x.astype(np.float64)), rtol=1e-6)
    _exponentials(np.full_like(x, -1e9), out)
    assert (out < 1e-37).all()


@kernel
def _whole(x, y, out):
    a, b = ints(load(x, 0, 0)), ints(load(y, 0, 0))
    prime = ints(np.uint32(2654435761))
    store(out, 0, 0, a * prime)
    store(out, 1, 0, (a + b) ^ b)
    store(out, 2, 0, (a - b) & ints(0xFFFF))
    store(out, 3, 0, (a << ints(20)) >> ints(3))
    store(out, 4, 0, least(a, b))
    return total(a), lanes_set(b)


def test_ints_wrap_around_as_unsigned_ones() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 5000, (2, 1, LANES))
    out = np.empty((5, LANES), np.uint32)
    sum_, bits = _whole(x.astype(f32), y.astype(f32), out)
    a, b = x[0].astype(np.uint32), y[0].astype(np.uint32)
    expected = [a * np.uint32(2654435761), (a + b) ^ b, (a - b) & 0xFFFF, (a << 20) >> 3, np.minimum(a, b)]
    np.testing.assert_array_equal(out, expected)
    assert sum_ == x.sum()
    assert bits == sum(int(value & 1) << lane for lane, value in enumerate(y[0]))


@kernel
def _memory(table, words, index, pairs, found, block, turned):
    i = ints(load(index, 0, 0))
    a, b = gather_pairs(table, i)
    store(pairs, 0, 0, a)
    store(pairs, 1, 0, b)
    store(found, 0, 0, gather(words, i))
    add_pair(table, 3, f32(2), f32(10), f32(100))
    transpose(block, 1, 2, turned, 3, 0)
    return lowest_set(np.uint32(40))


def test_memory_is_read_and_written_where_it_should_be() -> None:
    rng = np.random.default_rng(3)
    table, words = rng.random((50, 2), f32), rng.integers(0, 2**32, 50, np.uint32)
    before = table.copy()
    index = rng.integers(0, 50, (1, LANES))
    pairs, found = np.empty((2, LANES), f32), np.empty((1, LANES), np.uint32)
    block = rng.random((LANES + 1, LANES + 5), f32)
    turned = np.zeros((LANES + 3, LANES), f32)
    assert _memory(table, words, index.astype(f32), pairs, found, block, turned) == 3
    np.testing.assert_array_equal(pairs, before[index[0]].T)
    np.testing.assert_array_equal(found, words[index])
    np.testing.assert_array_equal(turned[3:], block[1:, 2 : 2 + LANES].T)
    assert not turned[:3].any()
    before[3] += [20, 200]
    np.testing.assert_allclose(table, before)


@kernel
def _bits(x, out):
    store(out, 0, 0, from_bits(ints(load(x, 0, 0)) << ints(23)))


def test_bits_of_a_float() -> None:
    exponents = np.arange(100, 100 + LANES, dtype=f32)[None]
    out = np.empty_like(exponents)
    _bits(exponents, out)
    np.testing.assert_array_equal(out, 2.0 ** (exponents - 127))


@kernel
def _draw(queue, taken):
    while True:
        number = take_number(queue)
        if number >= len(taken):
            return
        taken[number] += 1


def test_threads_never_take_the_same_number() -> None:
    queue, taken = np.zeros(1, np.int64), np.zeros(200_000, np.int64)
    _draw(np.full(1, 10), taken[:0])
    threads = [threading.Thread(target=_draw, args=(queue, taken)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (taken == 1).all()
