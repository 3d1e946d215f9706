"""Compiled ray marching and compositing for the `grid` profile, forward and backward.

Twins in plain torch: `invcodec.render.composite` and `invcodec.render.reference`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from invcodec.field.grid_layout import DIRECTION_TERMS, MAX_RAW_DENSITY
from invcodec.field.kernels.grid import (
    BLOCK,
    BLOCK_BITS,
    STRIP,
    Layers,
    dense,
    dense_gradient,
    field,
    field_gradient,
    harmonics,
    relu_gradient,
)
from invcodec.field.kernels.options import kernel
from invcodec.field.kernels.simd import (
    LANES,
    absolute,
    counting,
    exp,
    floats,
    fma,
    gather,
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
from invcodec.render.engine import MIN_TRANSMITTANCE

ROUND = 8
"""Samples that a ray takes before the field is evaluated, after which the ray may end."""

f32 = np.float32
_RAW_MAX = f32(MAX_RAW_DENSITY)
_MIN_T = f32(MIN_TRANSMITTANCE)
_BELOW_ONE = f32(1 - 2**-24)
_NEGLIGIBLE = f32(2**-17)
"""Gradients of a sample that are smaller than this share of its ray's weight are dropped: a quarter of all samples,
which hold less than a hundredth of all gradients."""


class Cells(NamedTuple):
    """Which cells of space are occupied, and by what (FORMAT.md, "Compositing").

    Attributes:
        side: cells along each axis.
        occupied: `[words]` uint32, bits from the lowest up: the `side^3` cells of what does not move, z fastest, then
            as many of each part.
        motion: `[P, 12]`, the affine map of each part to where its cells are.
    """

    side: int
    occupied: np.ndarray
    motion: np.ndarray


class Scratch(NamedTuple):
    """Buffers for the samples of one chunk of rays.

    Attributes:
        delta: `[samples]`, step lengths. s: `[samples]`, ray parameters. ray: `[samples]` int32.
        light: `[2, samples]`, optical thickness and transmittance of each sample.
        weight: `[samples]`, compositing weights. after: `[samples]`, transmittance behind each sample.
        x, hidden, out: `[blocks, features, BLOCK]`, the field's activations; `out` has a multiple of LANES of them.
        sample: `[samples, features]`, `out` transposed to sample-major order.
        gradient_hidden: `[hidden, BLOCK]`.
    """

    delta: np.ndarray
    s: np.ndarray
    ray: np.ndarray
    light: np.ndarray
    weight: np.ndarray
    after: np.ndarray
    x: np.ndarray
    hidden: np.ndarray
    out: np.ndarray
    sample: np.ndarray
    gradient_hidden: np.ndarray


@kernel
def march_distance(s):
    """Twin of `invcodec.geometry.contraction.march_distance`."""
    return f32(2) * s if s < f32(0.5) else f32(1) / (f32(2) - f32(2) * s)


@kernel
def contract(x, y, z):
    """Twin of `invcodec.geometry.contraction.contract`."""
    ax, ay, az = abs(x), abs(y), abs(z)
    norm = max(ax, max(ay, az))
    if norm > 1:
        inverse = f32(1) / norm
        far = f32(2) - inverse
        x, y, z = (
            (far if x > 0 else -far) if ax == norm else x * inverse,
            (far if y > 0 else -far) if ay == norm else y * inverse,
            (far if z > 0 else -far) if az == norm else z * inverse,
        )
    return x * f32(0.25) + f32(0.5), y * f32(0.25) + f32(0.5), z * f32(0.25) + f32(0.5)


@kernel
def march_distances(s):
    """`march_distance` of each lane."""
    half, one = floats(f32(0.5)), floats(f32(1))
    s = least(s, floats(_BELOW_ONE))
    return where_above(half, s, s + s, half / (one - s))


@kernel
def contract_lanes(x, y, z):
    """`contract` of each lane."""
    one, half, quarter = floats(f32(1)), floats(f32(0.5)), floats(f32(0.25))
    ax, ay, az = absolute(x), absolute(y), absolute(z)
    norm = greatest(greatest(greatest(ax, ay), az), one)
    inverse = one / norm
    far = floats(f32(2)) - inverse
    x = fma(where_above(norm, ax, x * inverse, signed(far, x)), quarter, half)
    y = fma(where_above(norm, ay, y * inverse, signed(far, y)), quarter, half)
    z = fma(where_above(norm, az, z * inverse, signed(far, z)), quarter, half)
    return x, y, z


@kernel
def _look_up(cells, part, x, y, z):
    """Whether points lie in the unit cube and in an occupied cell of a part (0: of what does not move): bits."""
    size, side = floats(f32(cells.side)), ints(cells.side)
    cell = (ints(_clamp(x) * size) * side + ints(_clamp(y) * size)) * side + ints(_clamp(z) * size)
    cell = cell + ints(part * cells.side * cells.side * cells.side)
    return _where_inside(x, y, z, gather(cells.occupied, cell >> ints(5)) >> (cell & ints(31)))


@kernel
def _clamp(x):
    return least(greatest(x, floats(f32(0))), floats(_BELOW_ONE))


@kernel
def _where_inside(x, y, z, bits):
    """Bits of points in the unit cube; 0 for others."""
    # Points that clamping moves are outside the cube.
    moved = absolute(x - _clamp(x)) + absolute(y - _clamp(y)) + absolute(z - _clamp(z))
    return where_above(moved, floats(f32(0)), ints(0), bits)


@kernel
def _move(row, x, y, z):
    """Points in a part's own position, `row` `[12]` being its motion."""
    half = f32(0.5)
    u, v, w = x - half, y - half, z - half
    return (
        x + (row[0] * u + row[1] * v + row[2] * w + row[3]),
        y + (row[4] * u + row[5] * v + row[6] * w + row[7]),
        z + (row[8] * u + row[9] * v + row[10] * w + row[11]),
    )


@kernel
def _move_lanes(row, x, y, z):
    """`_move` of each lane."""
    half = floats(f32(0.5))
    u, v, w = x - half, y - half, z - half
    a = fma(floats(row[0]), u, fma(floats(row[1]), v, fma(floats(row[2]), w, floats(row[3]))))
    b = fma(floats(row[4]), u, fma(floats(row[5]), v, fma(floats(row[6]), w, floats(row[7]))))
    c = fma(floats(row[8]), u, fma(floats(row[9]), v, fma(floats(row[10]), w, floats(row[11]))))
    return x + a, y + b, z + c


@kernel
def _own_position(cells, x, y, z):
    """Where the field is evaluated for a point: in the own position of the part that it belongs to, if any."""
    for part in range(len(cells.motion)):
        u, v, w = _move(cells.motion[part], x, y, z)
        if u >= 0 and v >= 0 and w >= 0 and u < 1 and v < 1 and w < 1:
            size = f32(cells.side)
            cell = (int(u * size) * cells.side + int(v * size)) * cells.side + int(w * size)
            cell += (part + 1) * cells.side * cells.side * cells.side
            if (cells.occupied[cell >> 5] >> np.uint32(cell & 31)) & np.uint32(1):
                return u, v, w
    return x, y, z


@kernel
def _find_open(o, d, contracted, steps, jitter, cells, is_open):
    """Which steps of each ray lie in an occupied cell: bits of `is_open` `[R, words]`, LANES to a word."""
    width = floats(f32(1) / f32(steps))
    for r in range(o.shape[0]):
        ox, oy, oz = floats(o[r, 0]), floats(o[r, 1]), floats(o[r, 2])
        dx, dy, dz = floats(d[r, 0]), floats(d[r, 1]), floats(d[r, 2])
        for word in range(is_open.shape[1]):
            first = word * LANES
            t = (floats(f32(first) + jitter[r]) + counting()) * width
            if contracted:
                t = march_distances(t)
                x, y, z = contract_lanes(fma(t, dx, ox), fma(t, dy, oy), fma(t, dz, oz))
            else:
                x, y, z = fma(t, dx, ox), fma(t, dy, oy), fma(t, dz, oz)
            bits = lanes_set(_look_up(cells, 0, x, y, z))
            if len(cells.motion):
                inside = lanes_set(_where_inside(x, y, z, ints(1)))
                for part in range(len(cells.motion)):
                    u, v, w = _move_lanes(cells.motion[part], x, y, z)
                    bits |= inside & lanes_set(_look_up(cells, part + 1, u, v, w))
            if first + LANES > steps:
                bits &= np.uint32((1 << (steps - first)) - 1)
            is_open[r, word] = bits


@kernel
def _take_samples(o, d, contracted, steps, jitter, cells, is_open, left, position, scratch, n):
    """Append the next occupied samples of each ray that has light left, ROUND of them at most, to the chunk.

    Clears their bits in `is_open` `[R, words]`. Returns the new number of samples.
    """
    width = f32(1) / f32(steps)
    for r in range(o.shape[0]):
        if left[r] <= _MIN_T:
            continue
        ox, oy, oz = o[r, 0], o[r, 1], o[r, 2]
        dx, dy, dz = d[r, 0], d[r, 1], d[r, 2]
        straight = np.sqrt(dx * dx + dy * dy + dz * dz) * width
        last = n + ROUND
        for word in range(is_open.shape[1]):
            bits = is_open[r, word]
            while bits != 0 and n < last:
                s = (f32(word * LANES + lowest_set(bits)) + jitter[r]) * width
                bits &= bits - np.uint32(1)
                if contracted:
                    t = march_distance(s)
                    x, y, z = contract(ox + t * dx, oy + t * dy, oz + t * dz)
                    scratch.delta[n] = _length(o, d, r, s, width)
                else:
                    x, y, z = ox + s * dx, oy + s * dy, oz + s * dz
                    scratch.delta[n] = straight
                scratch.s[n] = s
                scratch.ray[n] = r
                if len(cells.motion):
                    x, y, z = _own_position(cells, x, y, z)
                # Rounding may differ from that in `_find_open`, so the point may be slightly outside.
                position[0, n] = min(max(x, f32(0)), _BELOW_ONE)
                position[1, n] = min(max(y, f32(0)), _BELOW_ONE)
                position[2, n] = min(max(z, f32(0)), _BELOW_ONE)
                n += 1
            is_open[r, word] = bits
            if n == last:
                break
    return n


@kernel
def _length(o, d, r, s, width):
    """Length in the contracted cube of the step around the ray parameter s."""
    t = march_distance(max(s - f32(0.5) * width, f32(0)))
    x0, y0, z0 = contract(o[r, 0] + t * d[r, 0], o[r, 1] + t * d[r, 1], o[r, 2] + t * d[r, 2])
    t = march_distance(min(s + f32(0.5) * width, f32(1) - f32(0.25) * width))
    x1, y1, z1 = contract(o[r, 0] + t * d[r, 0], o[r, 1] + t * d[r, 1], o[r, 2] + t * d[r, 2])
    return np.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2 + (z1 - z0) ** 2)


@kernel
def _absorb(out, first, end, scratch):
    """Compute `scratch.light` of samples `first` to `end`, multiples of LANES, from the field's output."""
    for i in range(first, end, LANES):
        raw = load(out[i >> BLOCK_BITS], 0, i & (BLOCK - 1))
        density = exp(least(raw, floats(_RAW_MAX)))
        thickness = density * load(scratch.delta.reshape(1, -1), 0, i)
        store(scratch.light, 0, i, thickness)
        store(scratch.light, 1, i, exp(floats(f32(0)) - thickness))


@kernel
def _composite(
    levels, layers, o, d, view, contracted, steps, jitter, cells, position, scratch, sums, left, depth
):  # fmt: skip
    """March and composite a chunk of rays.

    Args:
        cells: of type `Cells`.
        sums: `[features + DIRECTION_TERMS, >= R]`; receives the weighted feature sums and the view's harmonics.
        left: `[R]`; receives the transmittance behind the last sample.
        depth: `[R]`; receives the median depth as ray parameter.

    Returns:
        The number of samples taken; they are in `position` and `scratch`.
    """
    rays = o.shape[0]
    features = layers.density1.shape[0] - 1
    width = scratch.sample.shape[1]
    lit = np.zeros((rays, width), f32)
    is_open = np.empty((rays, (steps + LANES - 1) // LANES), np.uint32)
    _find_open(o, d, contracted, steps, jitter, cells, is_open)
    sums[:] = f32(0)
    for r in range(rays):
        left[r] = f32(1)
        depth[r] = f32(1)
        harmonics(view[r], sums[features:], r)
    n = 0
    while True:
        first = n
        n = _take_samples(o, d, contracted, steps, jitter, cells, is_open, left, position, scratch, n)
        if n == first:
            break
        # The field takes whole strips: some samples are evaluated again, and padding is too.
        start, end = first & -STRIP, (n + STRIP - 1) & -STRIP
        position[:, n:end] = f32(0)
        field(levels, layers, position, start, end - start, scratch.x, scratch.hidden, scratch.out)
        _absorb(scratch.out, start, end, scratch)
        for i in range(start, end, LANES):
            for c in range(0, width, LANES):
                transpose(scratch.out[i >> BLOCK_BITS], c, i & (BLOCK - 1), scratch.sample, i, c)
        for i in range(first, n):
            r = scratch.ray[i]
            before = left[r]
            if before <= _MIN_T:
                scratch.weight[i] = f32(0)
                scratch.after[i] = f32(0)
                continue
            through = scratch.light[1, i]
            weight = before * (f32(1) - through)
            after = before * through
            left[r] = after
            if before >= f32(0.5) and after < f32(0.5):
                depth[r] = scratch.s[i]
            scratch.weight[i] = weight
            scratch.after[i] = after
            for c in range(0, width, LANES):
                store(lit, r, c, fma(floats(weight), load(scratch.sample, i, c), load(lit, r, c)))
    for r in range(rays):
        for c in range(features):
            sums[c, r] = lit[r, 1 + c]
    return n


@kernel
def _decode_colour(layers, sums):
    """The colour network on `[inputs, padded]`: activations of its two hidden layers, and its output."""
    padded = sums.shape[1]
    hidden0 = np.empty((layers.colour0.shape[0], padded), f32)
    hidden1 = np.empty((layers.colour1.shape[0], padded), f32)
    out = np.empty((4, padded), f32)
    dense(layers.colour0, layers.colour0_bias, sums, 0, hidden0, 0, padded, True)
    dense(layers.colour1, layers.colour1_bias, hidden0, 0, hidden1, 0, padded, True)
    dense(layers.colour2, layers.colour2_bias, hidden1, 0, out, 0, padded, False)
    return hidden0, hidden1, out


@kernel
def render_chunks(
    queue, size, levels, layers, o, d, view, contracted, steps, cells, background, position, scratch,
    rgb, opacity, depth,
):  # fmt: skip
    """Render rays `[N, 3]` in chunks of `size`; called on every thread. See `_render_chunk`.

    Args:
        queue: `[1]` int64, number of chunks that some thread has started.
        cells: of type `Cells`.
    """
    while True:
        a = size * take_number(queue)
        if a >= o.shape[0]:
            return
        b = a + size
        _render_chunk(
            levels, layers, o[a:b], d[a:b], view[a:b], contracted, steps, cells, background, position,
            scratch, rgb[a:b], opacity[a:b], depth[a:b],
        )  # fmt: skip


@kernel
def _render_chunk(
    levels, layers, o, d, view, contracted, steps, cells, background, position, scratch, rgb, opacity, depth
):  # fmt: skip
    """Render rays `[R, 3]` at the middle of each step into rgb `[R, 3]`, opacity `[R]` and depth `[R]`."""
    rays = o.shape[0]
    features = layers.density1.shape[0] - 1
    jitter = np.full(rays, f32(0.5))
    padded = (rays + STRIP - 1) & -STRIP
    sums = np.empty((features + DIRECTION_TERMS, padded), f32)
    left = np.empty(rays, f32)
    _composite(levels, layers, o, d, view, contracted, steps, jitter, cells, position, scratch, sums, left, depth)
    _, _, out = _decode_colour(layers, sums)
    for r in range(rays):
        opacity[r] = f32(1) - left[r]
        for c in range(3):
            colour = f32(1) / (f32(1) + np.exp(-(out[c, r] + sums[c, r])))
            rgb[r, c] = opacity[r] * colour + left[r] * background[c]


@kernel
def train_chunks(
    queue, size, levels, layers, o, d, view, contracted, steps, jitter, cells, target, background,
    ray_weight, train_layers, position, scratch, gradient, gradients, cell_weights, rgb, counts, losses,
):  # fmt: skip
    """Losses and gradients of rays `[N, 3]` in chunks of `size`; called on every thread. See `_train_chunk`.

    Args:
        queue: `[1]` int64, number of chunks that some thread has started.
        cells: of type `Cells`.
        position: `[chunks, 3, samples]` and
        gradient: `[chunks, blocks, 2 * levels, BLOCK]` receive samples and gradients of each chunk.
        gradients: `Layers` with the chunk as first axis.
        counts, losses: `[chunks]`; receive what `_train_chunk` returns.
    """
    while True:
        c = take_number(queue)
        a, b = c * size, (c + 1) * size
        if a >= o.shape[0]:
            return
        g = gradients
        own = Layers(
            g.density0[c], g.density0_bias[c], g.density1[c], g.density1_bias[c], g.colour0[c], g.colour0_bias[c],
            g.colour1[c], g.colour1_bias[c], g.colour2[c], g.colour2_bias[c],
        )  # fmt: skip
        counts[c], losses[c] = _train_chunk(
            levels, layers, o[a:b], d[a:b], view[a:b], contracted, steps, jitter[a:b], cells, target[a:b],
            background[a:b], ray_weight[a:b], train_layers, position[c], scratch, gradient[c], own, cell_weights,
            rgb[a:b],
        )  # fmt: skip


@kernel
def _train_chunk(
    levels, layers, o, d, view, contracted, steps, jitter, cells, target, background, ray_weight,
    train_layers, position, scratch, gradient, gradients, cell_weights, rgb,
):  # fmt: skip
    """Loss and gradients of a chunk of rays.

    Args:
        gradient: `[blocks, 2 * levels, BLOCK]`; receives the gradient with respect to the samples' encodings.
        gradients: `Layers` that the gradients of the dense layers are added to, if `train_layers`.
        cell_weights: `[M, M, M]`, raised to the largest compositing weight seen in each cell.
        rgb: `[R, 3]`; receives the colours.

    Returns:
        The number of samples, padded to strips, and the sum over rays of weight times mean squared error.
    """
    rays = o.shape[0]
    features = layers.density1.shape[0] - 1
    padded = (rays + STRIP - 1) & -STRIP
    sums = np.empty((features + DIRECTION_TERMS, padded), f32)
    left = np.empty(rays, f32)
    depth = np.empty(rays, f32)
    n = _composite(levels, layers, o, d, view, contracted, steps, jitter, cells, position, scratch, sums, left, depth)
    hidden0, hidden1, out = _decode_colour(layers, sums)

    loss = 0.0
    g_out = np.zeros((4, padded), f32)
    g_opacity = np.zeros(rays, f32)
    for r in range(rays):
        opacity = f32(1) - left[r]
        share = ray_weight[r] / f32(3)
        for c in range(3):
            colour = f32(1) / (f32(1) + np.exp(-(out[c, r] + sums[c, r])))
            rgb[r, c] = opacity * colour + left[r] * background[r, c]
            error = rgb[r, c] - target[r, c]
            loss += error * error * share
            g = f32(2) * error * share
            g_out[c, r] = g * opacity * colour * (f32(1) - colour)
            g_opacity[r] += g * (colour - background[r, c])

    g_hidden1 = np.empty_like(hidden1)
    g_hidden0 = np.empty_like(hidden0)
    g_sums = np.empty_like(sums)
    dense(layers.colour2.T.copy(), np.zeros(hidden1.shape[0], f32), g_out, 0, g_hidden1, 0, padded, False)
    relu_gradient(g_hidden1, hidden1, padded)
    dense(layers.colour1.T.copy(), np.zeros(hidden0.shape[0], f32), g_hidden1, 0, g_hidden0, 0, padded, False)
    relu_gradient(g_hidden0, hidden0, padded)
    dense(layers.colour0.T.copy(), np.zeros(sums.shape[0], f32), g_hidden0, 0, g_sums, 0, padded, False)
    if train_layers:
        dense_gradient(g_out, hidden1, gradients.colour2, gradients.colour2_bias, padded)
        dense_gradient(g_hidden1, hidden0, gradients.colour1, gradients.colour1_bias, padded)
        dense_gradient(g_hidden0, sums, gradients.colour0, gradients.colour0_bias, padded)
    for c in range(3):
        for r in range(rays):
            g_sums[c, r] += g_out[c, r]

    # Backwards along each ray. With g_i the gradient of what sample i contributes at full weight:
    # dL/d(density_i * delta_i) = after_i * g_i - sum over j > i of weight_j * g_j.
    width = scratch.sample.shape[1]
    g_lit = np.zeros((rays, width), f32)
    largest = np.zeros(rays, f32)
    for r in range(rays):
        for c in range(features):
            g_lit[r, 1 + c] = g_sums[c, r]
            largest[r] = max(largest[r], abs(g_sums[c, r]))
    size = f32(cells.side)
    behind = np.zeros(rays, f32)
    for i in range(n - 1, -1, -1):
        r = scratch.ray[i]
        weight = scratch.weight[i]
        raw = scratch.sample[i, 0]
        products = floats(f32(0))
        for c in range(0, width, LANES):
            own = load(g_lit, r, c)
            products = fma(own, load(scratch.sample, i, c), products)
            store(scratch.sample, i, c, own * floats(weight))
        g = g_opacity[r] + total(products)
        g_raw = f32(0)
        if raw < _RAW_MAX and scratch.after[i] > 0:
            g_raw = scratch.light[0, i] * (scratch.after[i] * g - behind[r])
        scratch.sample[i, 0] = g_raw
        behind[r] += weight * g
        if max(abs(g_raw), weight * largest[r]) < _NEGLIGIBLE * ray_weight[r]:
            # Nothing is looked up again, or added to tables, for a sample without gradient.
            for c in range(0, width, LANES):
                store(scratch.sample, i, c, floats(f32(0)))
        x, y, z = int(position[0, i] * size), int(position[1, i] * size), int(position[2, i] * size)
        cell_weights[x, y, z] = max(cell_weights[x, y, z], weight)
    end = (n + STRIP - 1) & -STRIP
    scratch.sample[n:end] = f32(0)
    for i in range(0, end, LANES):
        for c in range(0, width, LANES):
            transpose(scratch.sample, i, c, scratch.out[i >> BLOCK_BITS], c, i & (BLOCK - 1))
    field_gradient(
        layers,
        gradients,
        train_layers,
        end,
        scratch.x,
        scratch.hidden,
        scratch.out,
        scratch.gradient_hidden,
        gradient,
    )
    return end, loss
