"""Compiled inner loops of the `grid` profile. Twins in plain torch: `invcodec.field.grid.GridProfile`.

Samples lie in blocks of `BLOCK`: an array of features is `[blocks, features, BLOCK]`, so that one block of all
features is contiguous, stays in the L1 cache, and every inner loop runs along samples with unit stride. Numbers of
samples are padded to multiples of `STRIP`, so no loop has a remainder; padding gets no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from invcodec.field.grid import GridProfile
from invcodec.field.grid_layout import DIRECTION_TERMS, HARMONICS, HASH_PRIMES
from invcodec.field.kernels.options import kernel
from invcodec.field.kernels.simd import (
    LANES,
    absolute,
    add_pair,
    floats,
    fma,
    gather_pairs,
    greatest,
    ints,
    lanes_set,
    least,
    load,
    root,
    signed,
    store,
    take_number,
    total,
    where_above,
)

OUTPUTS = 4
"""Outputs that a dense layer computes at a time; their number is padded to a multiple."""
BLOCK = 128
BLOCK_BITS = 7
STRIP = 2 * LANES
"""Samples that a dense layer takes at a time: enough independent sums to hide the latency of each."""

f32 = np.float32
_LOWEST = np.finfo(f32).min
_PRIME_Y = np.uint32(HASH_PRIMES[1])
_PRIME_Z = np.uint32(HASH_PRIMES[2])
_H0, _H1, _H2, _H3, _H4, _H5 = (f32(each) for each in HARMONICS)
_BETA1, _BETA2 = (f32(each) for each in GridProfile.recipe.betas)
_EPSILON = f32(GridProfile.recipe.epsilon)


class Levels(NamedTuple):
    """Tables of all levels, concatenated.

    Attributes:
        table: `[entries, 2]` float32, all levels.
        offsets: `[levels + 1]` int64, first entry of each level, and one past the last.
        resolutions: `[levels]` int64.
        hashed: `[levels]` bool.
        mask: entries of a hashed level, minus one.
    """

    table: np.ndarray
    offsets: np.ndarray
    resolutions: np.ndarray
    hashed: np.ndarray
    mask: np.uint32


class Layers(NamedTuple):
    """Weights `[out, in]` and biases `[out]` of the five dense layers, or their gradients.

    `colour.2` has a fourth, unused row, see `OUTPUTS`.
    """

    density0: np.ndarray
    density0_bias: np.ndarray
    density1: np.ndarray
    density1_bias: np.ndarray
    colour0: np.ndarray
    colour0_bias: np.ndarray
    colour1: np.ndarray
    colour1_bias: np.ndarray
    colour2: np.ndarray
    colour2_bias: np.ndarray


@kernel
def dense(weight, bias, x, x0, y, y0, n, relu):
    """`y[:, y0:y0+n] = act(weight @ x[:, x0:x0+n] + bias)`; outputs are a multiple of 4, n is one of STRIP."""
    rows, columns = weight.shape
    low = floats(f32(0) if relu else _LOWEST)
    for s in range(0, n, STRIP):
        left, right = x0 + s, x0 + s + LANES
        for j in range(0, rows, 4):
            a0 = b0 = floats(bias[j])
            a1 = b1 = floats(bias[j + 1])
            a2 = b2 = floats(bias[j + 2])
            a3 = b3 = floats(bias[j + 3])
            for k in range(columns):
                a = load(x, k, left)
                b = load(x, k, right)
                w = floats(weight[j, k])
                a0, b0 = fma(w, a, a0), fma(w, b, b0)
                w = floats(weight[j + 1, k])
                a1, b1 = fma(w, a, a1), fma(w, b, b1)
                w = floats(weight[j + 2, k])
                a2, b2 = fma(w, a, a2), fma(w, b, b2)
                w = floats(weight[j + 3, k])
                a3, b3 = fma(w, a, a3), fma(w, b, b3)
            left_out, right_out = y0 + s, y0 + s + LANES
            store(y, j, left_out, greatest(a0, low))
            store(y, j, right_out, greatest(b0, low))
            store(y, j + 1, left_out, greatest(a1, low))
            store(y, j + 1, right_out, greatest(b1, low))
            store(y, j + 2, left_out, greatest(a2, low))
            store(y, j + 2, right_out, greatest(b2, low))
            store(y, j + 3, left_out, greatest(a3, low))
            store(y, j + 3, right_out, greatest(b3, low))


@kernel
def dense_gradient(g, x, weight, bias, n):
    """`weight += g[:, :n] @ x[:, :n].T` and `bias += g[:, :n].sum(1)`; outputs are a multiple of 4, inputs of 2."""
    rows, columns = weight.shape
    zero = floats(f32(0))
    for j in range(0, rows, 4):
        b0 = b1 = b2 = b3 = zero
        for s in range(0, n, LANES):
            b0 = b0 + load(g, j, s)
            b1 = b1 + load(g, j + 1, s)
            b2 = b2 + load(g, j + 2, s)
            b3 = b3 + load(g, j + 3, s)
        bias[j] += total(b0)
        bias[j + 1] += total(b1)
        bias[j + 2] += total(b2)
        bias[j + 3] += total(b3)
        for k in range(0, columns, 2):
            p0 = p1 = p2 = p3 = q0 = q1 = q2 = q3 = zero
            for s in range(0, n, LANES):
                p, q = load(x, k, s), load(x, k + 1, s)
                a = load(g, j, s)
                p0, q0 = fma(a, p, p0), fma(a, q, q0)
                a = load(g, j + 1, s)
                p1, q1 = fma(a, p, p1), fma(a, q, q1)
                a = load(g, j + 2, s)
                p2, q2 = fma(a, p, p2), fma(a, q, q2)
                a = load(g, j + 3, s)
                p3, q3 = fma(a, p, p3), fma(a, q, q3)
            weight[j, k] += total(p0)
            weight[j, k + 1] += total(q0)
            weight[j + 1, k] += total(p1)
            weight[j + 1, k + 1] += total(q1)
            weight[j + 2, k] += total(p2)
            weight[j + 2, k + 1] += total(q2)
            weight[j + 3, k] += total(p3)
            weight[j + 3, k + 1] += total(q3)


@kernel
def relu_gradient(g, y, n):
    """Zero g `[features, BLOCK]` where the activation y is not positive."""
    zero = floats(f32(0))
    for j in range(y.shape[0]):
        for s in range(0, n, LANES):
            store(g, j, s, where_above(load(y, j, s), zero, load(g, j, s), zero))


@kernel
def _corners(levels, level, position, p):
    """The eight vertices around each of LANES samples from p on: their entries within the level, and their weights.

    Order: z changes fastest, x slowest.
    """
    r = levels.resolutions[level]
    one = floats(f32(1))
    scale, last = floats(f32(r)), ints(r - 1)
    px, py, pz = load(position, 0, p) * scale, load(position, 1, p) * scale, load(position, 2, p) * scale
    x0, y0, z0 = least(ints(px), last), least(ints(py), last), least(ints(pz), last)
    fx, fy, fz = px - floats(x0), py - floats(y0), pz - floats(z0)
    gx, gy, gz = one - fx, one - fy, one - fz
    x1 = x0 + ints(1)
    if levels.hashed[level]:
        mask, prime_y, prime_z = ints(levels.mask), ints(_PRIME_Y), ints(_PRIME_Z)
        y0, z0 = y0 * prime_y, z0 * prime_z
        y1, z1 = y0 + prime_y, z0 + prime_z
        a, b, c, d = y0 ^ z0, y0 ^ z1, y1 ^ z0, y1 ^ z1
        i0, i1, i2, i3 = (x0 ^ a) & mask, (x0 ^ b) & mask, (x0 ^ c) & mask, (x0 ^ d) & mask
        i4, i5, i6, i7 = (x1 ^ a) & mask, (x1 ^ b) & mask, (x1 ^ c) & mask, (x1 ^ d) & mask
    else:
        side = ints(r + 1)
        i0, i4 = (x0 * side + y0) * side + z0, (x1 * side + y0) * side + z0
        i2, i6 = i0 + side, i4 + side
        i1, i3, i5, i7 = i0 + ints(1), i2 + ints(1), i4 + ints(1), i6 + ints(1)
    a, b, c, d = gy * gz, gy * fz, fy * gz, fy * fz
    weights = (gx * a, gx * b, gx * c, gx * d, fx * a, fx * b, fx * c, fx * d)
    return (i0, i1, i2, i3, i4, i5, i6, i7), weights


@kernel
def encode(levels, position, p0, n, x, x0):
    """Trilinear lookup of `position[:, p0:p0+n]` (`[3, samples]`) into `x[:, x0:x0+n]` (`[2 * levels, BLOCK]`)."""
    for level in range(levels.resolutions.shape[0]):
        table = levels.table[levels.offsets[level] :]
        for s in range(0, n, LANES):
            (i0, i1, i2, i3, i4, i5, i6, i7), (w0, w1, w2, w3, w4, w5, w6, w7) = _corners(
                levels, level, position, p0 + s
            )
            u, v = gather_pairs(table, i0)
            a, b = w0 * u, w0 * v
            u, v = gather_pairs(table, i1)
            a, b = fma(w1, u, a), fma(w1, v, b)
            u, v = gather_pairs(table, i2)
            a, b = fma(w2, u, a), fma(w2, v, b)
            u, v = gather_pairs(table, i3)
            a, b = fma(w3, u, a), fma(w3, v, b)
            u, v = gather_pairs(table, i4)
            a, b = fma(w4, u, a), fma(w4, v, b)
            u, v = gather_pairs(table, i5)
            a, b = fma(w5, u, a), fma(w5, v, b)
            u, v = gather_pairs(table, i6)
            a, b = fma(w6, u, a), fma(w6, v, b)
            u, v = gather_pairs(table, i7)
            a, b = fma(w7, u, a), fma(w7, v, b)
            store(x, 2 * level, x0 + s, a)
            store(x, 2 * level + 1, x0 + s, b)


@kernel
def _scatter(levels, level, position, gradient, n, out, entries, weights):
    """Adjoint of `encode` for one level: add to `out` `[entries of the level, 2]`.

    Args:
        position: `[3, samples]`.
        gradient: `[blocks, 2 * levels, BLOCK]`, with respect to the encoding of the first n samples.
        entries, weights: `[8, LANES]` uint32 and float32, scratch for the vertices of LANES samples.
    """
    for s in range(0, n, LANES):
        (i0, i1, i2, i3, i4, i5, i6, i7), (w0, w1, w2, w3, w4, w5, w6, w7) = _corners(levels, level, position, s)
        store(entries, 0, 0, i0)
        store(entries, 1, 0, i1)
        store(entries, 2, 0, i2)
        store(entries, 3, 0, i3)
        store(entries, 4, 0, i4)
        store(entries, 5, 0, i5)
        store(entries, 6, 0, i6)
        store(entries, 7, 0, i7)
        store(weights, 0, 0, w0)
        store(weights, 1, 0, w1)
        store(weights, 2, 0, w2)
        store(weights, 3, 0, w3)
        store(weights, 4, 0, w4)
        store(weights, 5, 0, w5)
        store(weights, 6, 0, w6)
        store(weights, 7, 0, w7)
        block = gradient[s >> BLOCK_BITS]
        column = s & (BLOCK - 1)
        for lane in range(LANES):
            a, b = block[2 * level, column + lane], block[2 * level + 1, column + lane]
            if a == 0 and b == 0:
                continue
            for corner in range(8):
                add_pair(out, entries[corner, lane], weights[corner, lane], a, b)


@kernel
def update_levels(queue, levels, position, gradient, counts, sums, first, second, reference, rate, step, price):
    """Sum the tables' gradients over all chunks and take an optimiser step, level by level; called on every thread.

    Args:
        queue: `[1]` int64, number of levels that some thread has started.
        position: `[chunks, 3, samples]`.
        gradient: `[chunks, blocks, 2 * levels, BLOCK]`.
        counts: `[chunks]`, samples of each.
        sums: `[entries, 2]`, zero before and after.
        first, second, reference: `[entries, 2]`, as in `adam`.
    """
    entries = np.empty((8, LANES), np.uint32)
    weights = np.empty((8, LANES), f32)
    while True:
        # Hashed levels take longest, so they come first.
        level = levels.resolutions.shape[0] - 1 - take_number(queue)
        if level < 0:
            return
        a, b = levels.offsets[level], levels.offsets[level + 1]
        own = sums[a:b]
        for chunk in range(counts.shape[0]):
            _scatter(levels, level, position[chunk], gradient[chunk], counts[chunk], own, entries, weights)
        adam(
            levels.table[a:b].reshape(-1), own.reshape(-1), first[a:b].reshape(-1), second[a:b].reshape(-1),
            reference[a:b].reshape(-1), rate, step, price,
        )  # fmt: skip


@kernel
def field(levels, layers, position, first, n, x, hidden, out):
    """Encoding and density network for samples `first` to `first + n`, both multiples of STRIP.

    Args:
        position: `[3, samples]`.
        x, hidden, out: `[blocks, features, BLOCK]`; receive encoding and activations. Row 0 of out is the raw density.
    """
    end = first + n
    while first < end:
        block = first >> BLOCK_BITS
        column = first & (BLOCK - 1)
        count = min(BLOCK - column, end - first)
        encode(levels, position, first, count, x[block], column)
        dense(layers.density0, layers.density0_bias, x[block], column, hidden[block], column, count, True)
        dense(layers.density1, layers.density1_bias, hidden[block], column, out[block], column, count, False)
        first += count


@kernel
def field_gradient(layers, gradients, train_layers, n, x, hidden, out, scratch, gradient):
    """Backward pass through the density network.

    Args:
        out: `[blocks, 1 + features, BLOCK]`, gradients with respect to the network's output.
        scratch: `[hidden, BLOCK]`.
        gradient: `[blocks, 2 * levels, BLOCK]`; receives the gradient with respect to the encoding.
    """
    weight1 = layers.density1.T.copy()
    weight0 = layers.density0.T.copy()
    zero_hidden = np.zeros(hidden.shape[1], f32)
    zero_x = np.zeros(x.shape[1], f32)
    first = 0
    while first < n:
        block = first >> BLOCK_BITS
        count = min(BLOCK, n - first)
        dense(weight1, zero_hidden, out[block], 0, scratch, 0, count, False)
        relu_gradient(scratch, hidden[block], count)
        if train_layers:
            dense_gradient(out[block], hidden[block], gradients.density1, gradients.density1_bias, count)
            dense_gradient(scratch, x[block], gradients.density0, gradients.density0_bias, count)
        dense(weight0, zero_x, scratch, 0, gradient[block], 0, count, False)
        first += count


@kernel
def harmonics(view, out, column):
    """Real spherical harmonics of degree 0 to 2 of the unit vector `view` `[3]` into `out[:, column]`."""
    x, y, z = view[0], view[1], view[2]
    out[0, column] = _H0
    out[1, column] = -_H1 * y
    out[2, column] = _H1 * z
    out[3, column] = -_H1 * x
    out[4, column] = _H2 * x * y
    out[5, column] = -_H2 * y * z
    out[6, column] = _H3 * z * z - _H4
    out[7, column] = -_H2 * x * z
    out[8, column] = _H5 * (x * x - y * y)


@kernel
def adam(value, gradient, first, second, reference, rate, step, price):
    """Adam where a gradient arrived, then the proximal step of an L1 price on the change; all `[n]`, in place.

    Values without gradient keep their moments too: in one step, most table entries receive none. The threshold is
    scaled like the step, so a change that does not earn its price goes to zero.
    """
    c1 = f32(1) / (f32(1) - _BETA1**step)
    c2 = f32(1) / (f32(1) - _BETA2**step)
    whole = value.shape[0] & -LANES
    _adam_lanes(
        value.reshape(1, -1), gradient.reshape(1, -1), first.reshape(1, -1), second.reshape(1, -1),
        reference.reshape(1, -1), whole, rate, c1, c2, price,
    )  # fmt: skip
    for i in range(whole, value.shape[0]):
        g = gradient[i]
        if g == 0:
            continue
        gradient[i] = f32(0)
        m = _BETA1 * first[i] + (f32(1) - _BETA1) * g
        v = _BETA2 * second[i] + (f32(1) - _BETA2) * g * g
        first[i] = m
        second[i] = v
        size = rate / (np.sqrt(v * c2) + _EPSILON)
        change = value[i] - size * m * c1 - reference[i]
        value[i] = reference[i] + np.copysign(max(abs(change) - size * price, f32(0)), change)


@kernel
def _adam_lanes(value, gradient, first, second, reference, n, rate, c1, c2, price):
    """`adam` for the first n values, a multiple of LANES; arrays are `[1, values]`."""
    zero, none, some = floats(f32(0)), ints(0), ints(1)
    b1, r1 = floats(_BETA1), floats(f32(1) - _BETA1)
    b2, r2 = floats(_BETA2), floats(f32(1) - _BETA2)
    rates, prices, floor = floats(rate), floats(price), floats(_EPSILON)
    correct1, correct2 = floats(c1), floats(c2)
    for i in range(0, n, LANES):
        g = load(gradient, 0, i)
        size = absolute(g)
        if lanes_set(where_above(size, zero, some, none)) == 0:
            continue
        store(gradient, 0, i, zero)
        old, m, v, base = load(value, 0, i), load(first, 0, i), load(second, 0, i), load(reference, 0, i)
        new_m, new_v = fma(b1, m, r1 * g), fma(b2, v, r2 * g * g)
        rate_here = rates / (root(new_v * correct2) + floor)
        change = old - rate_here * new_m * correct1 - base
        new = base + signed(greatest(absolute(change) - rate_here * prices, zero), change)
        store(first, 0, i, where_above(size, zero, new_m, m))
        store(second, 0, i, where_above(size, zero, new_v, v))
        store(value, 0, i, where_above(size, zero, new, old))


assert DIRECTION_TERMS == 9
