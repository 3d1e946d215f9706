"""Compiled inner loops of the `grid` profile. Twins in plain torch: `invcodec.field.grid.GridProfile`.

Samples lie in blocks of `BLOCK`: an array of features is `[blocks, features, BLOCK]`, so that one block of all
features is contiguous, stays in the first-level cache, and every inner loop runs along samples with unit stride.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from invcodec.field.grid import DIRECTION_TERMS, HASH_PRIMES
from invcodec.field.kernels.options import kernel

BLOCK = 128
BLOCK_BITS = 7

f32 = np.float32
_PRIME_Y = np.uint32(HASH_PRIMES[1])
_PRIME_Z = np.uint32(HASH_PRIMES[2])
_ONE = np.uint32(1)


class Levels(NamedTuple):
    """The grid's tables, end to end.

    Attributes:
        table: `[entries, 2]` float32, all levels.
        offsets: `[levels + 1]` int64, first entry of each level.
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
    """Weights `[out, in]` and biases `[out]` of the five dense layers; gradients take the same form.

    `colour.2` has a fourth, unused row: kernels take outputs in pairs and inputs in fours.
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
    """`y[:, y0:y0+n] = act(weight @ x[:, x0:x0+n] + bias)`; outputs are even, inputs a multiple of 4."""
    rows, columns = weight.shape
    for j in range(0, rows, 2):
        ya = y[j, y0 : y0 + n]
        yb = y[j + 1, y0 : y0 + n]
        ba = bias[j]
        bb = bias[j + 1]
        for s in range(n):
            ya[s] = ba
            yb[s] = bb
        for k in range(0, columns, 4):
            a0, a1, a2, a3 = weight[j, k], weight[j, k + 1], weight[j, k + 2], weight[j, k + 3]
            b0, b1, b2, b3 = (
                weight[j + 1, k],
                weight[j + 1, k + 1],
                weight[j + 1, k + 2],
                weight[j + 1, k + 3],
            )
            xa = x[k, x0 : x0 + n]
            xb = x[k + 1, x0 : x0 + n]
            xc = x[k + 2, x0 : x0 + n]
            xd = x[k + 3, x0 : x0 + n]
            for s in range(n):
                p0, p1, p2, p3 = xa[s], xb[s], xc[s], xd[s]
                ya[s] += a0 * p0 + a1 * p1 + a2 * p2 + a3 * p3
                yb[s] += b0 * p0 + b1 * p1 + b2 * p2 + b3 * p3
        if relu:
            for s in range(n):
                ya[s] = max(ya[s], f32(0))
                yb[s] = max(yb[s], f32(0))


@kernel
def dense_gradient(g, x, weight, bias, n):
    """`weight += g[:, :n] @ x[:, :n].T` and `bias += g[:, :n].sum(1)`."""
    rows, columns = weight.shape
    for j in range(0, rows, 2):
        ga = g[j, :n]
        gb = g[j + 1, :n]
        ta = f32(0)
        tb = f32(0)
        for s in range(n):
            ta += ga[s]
            tb += gb[s]
        bias[j] += ta
        bias[j + 1] += tb
        for k in range(0, columns, 2):
            xa = x[k, :n]
            xb = x[k + 1, :n]
            taa = f32(0)
            tab = f32(0)
            tba = f32(0)
            tbb = f32(0)
            for s in range(n):
                p, q, u, v = ga[s], gb[s], xa[s], xb[s]
                taa += p * u
                tab += p * v
                tba += q * u
                tbb += q * v
            weight[j, k] += taa
            weight[j, k + 1] += tab
            weight[j + 1, k] += tba
            weight[j + 1, k + 1] += tbb


@kernel
def relu_gradient(g, y, n):
    """Zero g `[features, BLOCK]` where the activation y is not positive."""
    for j in range(y.shape[0]):
        gj = g[j, :n]
        yj = y[j, :n]
        for s in range(n):
            gj[s] = gj[s] if yj[s] > 0 else f32(0)


@kernel
def encode(levels, position, p0, n, x, x0):
    """Trilinear look-up of `position[:, p0:p0+n]` (`[3, samples]`) into `x[:, x0:x0+n]` (`[2 * levels, BLOCK]`)."""
    table = levels.table
    mask = levels.mask
    for level in range(levels.resolutions.shape[0]):
        r = levels.resolutions[level]
        offset = levels.offsets[level]
        scale = f32(r)
        side = np.uint32(r + 1)
        xa = x[2 * level]
        xb = x[2 * level + 1]
        for s in range(n):
            px = position[0, p0 + s] * scale
            py = position[1, p0 + s] * scale
            pz = position[2, p0 + s] * scale
            ix = np.uint32(min(int(px), r - 1))
            iy = np.uint32(min(int(py), r - 1))
            iz = np.uint32(min(int(pz), r - 1))
            fx = px - f32(ix)
            fy = py - f32(iy)
            fz = pz - f32(iz)
            if levels.hashed[level]:
                x1 = ix + _ONE
                y0 = iy * _PRIME_Y
                y1 = y0 + _PRIME_Y
                z0 = iz * _PRIME_Z
                z1 = z0 + _PRIME_Z
                i0 = (ix ^ y0 ^ z0) & mask
                i1 = (ix ^ y0 ^ z1) & mask
                i2 = (ix ^ y1 ^ z0) & mask
                i3 = (ix ^ y1 ^ z1) & mask
                i4 = (x1 ^ y0 ^ z0) & mask
                i5 = (x1 ^ y0 ^ z1) & mask
                i6 = (x1 ^ y1 ^ z0) & mask
                i7 = (x1 ^ y1 ^ z1) & mask
            else:
                i0 = (ix * side + iy) * side + iz
                i1 = i0 + _ONE
                i2 = i0 + side
                i3 = i2 + _ONE
                i4 = i0 + side * side
                i5 = i4 + _ONE
                i6 = i4 + side
                i7 = i6 + _ONE
            gx = f32(1) - fx
            gy = f32(1) - fy
            gz = f32(1) - fz
            w0 = gx * gy * gz
            w1 = gx * gy * fz
            w2 = gx * fy * gz
            w3 = gx * fy * fz
            w4 = fx * gy * gz
            w5 = fx * gy * fz
            w6 = fx * fy * gz
            w7 = fx * fy * fz
            j0 = offset + np.int64(i0)
            j1 = offset + np.int64(i1)
            j2 = offset + np.int64(i2)
            j3 = offset + np.int64(i3)
            j4 = offset + np.int64(i4)
            j5 = offset + np.int64(i5)
            j6 = offset + np.int64(i6)
            j7 = offset + np.int64(i7)
            xa[x0 + s] = (
                w0 * table[j0, 0] + w1 * table[j1, 0] + w2 * table[j2, 0] + w3 * table[j3, 0]
                + w4 * table[j4, 0] + w5 * table[j5, 0] + w6 * table[j6, 0] + w7 * table[j7, 0]
            )  # fmt: skip
            xb[x0 + s] = (
                w0 * table[j0, 1] + w1 * table[j1, 1] + w2 * table[j2, 1] + w3 * table[j3, 1]
                + w4 * table[j4, 1] + w5 * table[j5, 1] + w6 * table[j6, 1] + w7 * table[j7, 1]
            )  # fmt: skip


@kernel
def scatter(levels, level, position, gradient, n, out):
    """Adjoint of `encode` for one level: add to `out` `[entries of the level, 2]`.

    Args:
        position: `[3, samples]`.
        gradient: `[blocks, 2 * levels, BLOCK]`, with respect to the encoding of the first n samples.
    """
    r = levels.resolutions[level]
    hashed = levels.hashed[level]
    scale = f32(r)
    side = np.uint32(r + 1)
    for s in range(n):
        a = gradient[s >> BLOCK_BITS, 2 * level, s & (BLOCK - 1)]
        b = gradient[s >> BLOCK_BITS, 2 * level + 1, s & (BLOCK - 1)]
        if a == 0 and b == 0:
            continue
        px = position[0, s] * scale
        py = position[1, s] * scale
        pz = position[2, s] * scale
        ix = np.uint32(min(int(px), r - 1))
        iy = np.uint32(min(int(py), r - 1))
        iz = np.uint32(min(int(pz), r - 1))
        fx = px - f32(ix)
        fy = py - f32(iy)
        fz = pz - f32(iz)
        for corner in range(8):
            cx = np.uint32(corner >> 2)
            cy = np.uint32((corner >> 1) & 1)
            cz = np.uint32(corner & 1)
            if hashed:
                i = ((ix + cx) ^ ((iy + cy) * _PRIME_Y) ^ ((iz + cz) * _PRIME_Z)) & levels.mask
            else:
                i = ((ix + cx) * side + iy + cy) * side + iz + cz
            w = (fx if cx else f32(1) - fx) * (fy if cy else f32(1) - fy) * (fz if cz else f32(1) - fz)
            j = np.int64(i)
            out[j, 0] += w * a
            out[j, 1] += w * b


@kernel
def field(levels, layers, position, first, n, x, hidden, out):
    """Encoding and density network for samples `first` to `first + n`.

    Args:
        position: `[3, samples]`.
        x, hidden, out: `[blocks, features, BLOCK]`; written. Row 0 of out is the raw density.
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
    """Back through the density network.

    Args:
        out: `[blocks, 1 + features, BLOCK]`, holding the gradient with respect to itself.
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
    out[0, column] = f32(0.28209479)
    out[1, column] = f32(-0.48860251) * y
    out[2, column] = f32(0.48860251) * z
    out[3, column] = f32(-0.48860251) * x
    out[4, column] = f32(1.09254843) * x * y
    out[5, column] = f32(-1.09254843) * y * z
    out[6, column] = f32(0.94617470) * z * z - f32(0.31539157)
    out[7, column] = f32(-1.09254843) * x * z
    out[8, column] = f32(0.54627422) * (x * x - y * y)


@kernel
def adam(value, gradient, first, second, reference, rate, step, price):
    """Adam where a gradient arrived, then the proximal step of an L1 price on the change; all `[n]`, in place.

    A value without gradient is left alone, moments included: most entries of a table see no ray in a step.
    The threshold is scaled like the step itself, so that a change which does not earn its price goes to zero.
    """
    b1 = f32(0.9)
    b2 = f32(0.99)
    c1 = f32(1) / (f32(1) - b1**step)
    c2 = f32(1) / (f32(1) - b2**step)
    for i in range(value.shape[0]):
        g = gradient[i]
        if g == 0:
            continue
        gradient[i] = f32(0)
        m = b1 * first[i] + (f32(1) - b1) * g
        v = b2 * second[i] + (f32(1) - b2) * g * g
        first[i] = m
        second[i] = v
        size = rate / (np.sqrt(v * c2) + f32(1e-15))
        new = value[i] - size * m * c1
        if price > 0:
            change = new - reference[i]
            threshold = size * price
            if change > threshold:
                change -= threshold
            elif change < -threshold:
                change += threshold
            else:
                change = f32(0)
            new = reference[i] + change
        value[i] = new


assert DIRECTION_TERMS == 9
