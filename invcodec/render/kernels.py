"""Compiled ray marching and compositing for the `grid` profile, forward and backward.

Twins in plain torch: `invcodec.render.composite` and `invcodec.render.reference`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from invcodec.field.grid import DIRECTION_TERMS, MAX_RAW_DENSITY
from invcodec.field.kernels.grid import (
    BLOCK,
    BLOCK_BITS,
    dense,
    dense_gradient,
    field,
    field_gradient,
    harmonics,
    relu_gradient,
)
from invcodec.field.kernels.options import kernel

MIN_TRANSMITTANCE = 1e-3
"""A ray ends where less light than this is left (FORMAT.md, "Compositing")."""

ROUND = 8
"""Samples that a ray takes before the field is evaluated and the ray may end."""

f32 = np.float32
_RAW_MAX = f32(MAX_RAW_DENSITY)
_MIN_T = f32(MIN_TRANSMITTANCE)


class Scratch(NamedTuple):
    """Room for the samples of one chunk of rays.

    Attributes:
        delta: `[samples]`, step lengths. s: `[samples]`, ray parameters. ray: `[samples]` int32.
        weight: `[samples]`, compositing weights. after: `[samples]`, transmittance behind each sample.
        x, hidden, out: `[blocks, features, BLOCK]`, the field's activations.
        gradient_hidden: `[hidden, BLOCK]`.
    """

    delta: np.ndarray
    s: np.ndarray
    ray: np.ndarray
    weight: np.ndarray
    after: np.ndarray
    x: np.ndarray
    hidden: np.ndarray
    out: np.ndarray
    gradient_hidden: np.ndarray


@kernel
def _tau(s):
    return f32(2) * s if s < f32(0.5) else f32(1) / (f32(2) - f32(2) * s)


@kernel
def _contract(x, y, z):
    """All of space into the unit cube, the inner cube [-1, 1]^3 into its middle half."""
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
def _take_samples(o, d, r, contracted, cursor, steps, jitter, occupancy, position, scratch, n):
    """Append up to ROUND occupied samples of ray r to the chunk; returns the new number of samples."""
    cells = f32(occupancy.shape[0])
    width = f32(1) / f32(steps)
    ox, oy, oz = o[r, 0], o[r, 1], o[r, 2]
    dx, dy, dz = d[r, 0], d[r, 1], d[r, 2]
    straight = np.sqrt(dx * dx + dy * dy + dz * dz) * width
    i = cursor[r]
    taken = 0
    while i < steps and taken < ROUND:
        s = (f32(i) + jitter) * width
        i += 1
        if contracted:
            t = _tau(s)
            x, y, z = _contract(ox + t * dx, oy + t * dy, oz + t * dz)
        else:
            x, y, z = ox + s * dx, oy + s * dy, oz + s * dz
        if not (0 <= x < 1 and 0 <= y < 1 and 0 <= z < 1):
            continue
        if occupancy[int(x * cells), int(y * cells), int(z * cells)] == 0:
            continue
        length = straight
        if contracted:
            t = _tau(max(s - f32(0.5) * width, f32(0)))
            x0, y0, z0 = _contract(ox + t * dx, oy + t * dy, oz + t * dz)
            t = _tau(min(s + f32(0.5) * width, f32(1) - f32(0.25) * width))
            x1, y1, z1 = _contract(ox + t * dx, oy + t * dy, oz + t * dz)
            length = np.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2 + (z1 - z0) ** 2)
        position[0, n] = x
        position[1, n] = y
        position[2, n] = z
        scratch.delta[n] = length
        scratch.s[n] = s
        scratch.ray[n] = r
        n += 1
        taken += 1
    cursor[r] = i
    return n


@kernel
def _composite(levels, layers, o, d, view, contracted, steps, jitter, occupancy, position, scratch, sums, left, depth):
    """March and composite a chunk of rays.

    Args:
        sums: `[features + DIRECTION_TERMS, R]`; receives the weighted feature sums and the view's harmonics.
        left: `[R]`; receives the transmittance behind the last sample.
        depth: `[R]`; receives the median depth as ray parameter.

    Returns:
        The number of samples taken; they are in `position` and `scratch`.
    """
    rays = o.shape[0]
    features = scratch.out.shape[1] - 1
    cursor = np.zeros(rays, np.int32)
    sums[:features] = f32(0)
    for r in range(rays):
        left[r] = f32(1)
        depth[r] = f32(1)
        harmonics(view[r], sums[features:], r)
    n = 0
    while True:
        first = n
        for r in range(rays):
            if cursor[r] < steps and left[r] > _MIN_T:
                n = _take_samples(o, d, r, contracted, cursor, steps, jitter[r], occupancy, position, scratch, n)
        if n == first:
            return n
        field(levels, layers, position, first, n - first, scratch.x, scratch.hidden, scratch.out)
        for i in range(first, n):
            r = scratch.ray[i]
            block = i >> BLOCK_BITS
            column = i & (BLOCK - 1)
            before = left[r]
            if before <= _MIN_T:
                scratch.weight[i] = f32(0)
                scratch.after[i] = f32(0)
                continue
            through = np.exp(-np.exp(min(scratch.out[block, 0, column], _RAW_MAX)) * scratch.delta[i])
            weight = before * (f32(1) - through)
            after = before * through
            left[r] = after
            if before >= f32(0.5) and after < f32(0.5):
                depth[r] = scratch.s[i]
            scratch.weight[i] = weight
            scratch.after[i] = after
            for c in range(features):
                sums[c, r] += weight * scratch.out[block, c + 1, column]


@kernel
def render_chunk(
    levels,
    layers,
    o,
    d,
    view,
    contracted,
    steps,
    occupancy,
    background,
    position,
    scratch,
    rgb,
    opacity,
    depth,
):
    """Render rays `[R, 3]` at the middle of each step into rgb `[R, 3]`, opacity `[R]` and depth `[R]`."""
    rays = o.shape[0]
    features = scratch.out.shape[1] - 1
    jitter = np.full(rays, f32(0.5))
    sums = np.empty((features + DIRECTION_TERMS, rays), f32)
    left = np.empty(rays, f32)
    _composite(levels, layers, o, d, view, contracted, steps, jitter, occupancy, position, scratch, sums, left, depth)
    hidden0 = np.empty((layers.colour0.shape[0], rays), f32)
    hidden1 = np.empty((layers.colour1.shape[0], rays), f32)
    out = np.empty((4, rays), f32)
    dense(layers.colour0, layers.colour0_bias, sums, 0, hidden0, 0, rays, True)
    dense(layers.colour1, layers.colour1_bias, hidden0, 0, hidden1, 0, rays, True)
    dense(layers.colour2, layers.colour2_bias, hidden1, 0, out, 0, rays, False)
    for r in range(rays):
        opacity[r] = f32(1) - left[r]
        for c in range(3):
            colour = f32(1) / (f32(1) + np.exp(-(out[c, r] + sums[c, r])))
            rgb[r, c] = opacity[r] * colour + left[r] * background[c]


@kernel
def train_chunk(
    levels, layers, o, d, view, contracted, steps, jitter, occupancy, target, background, ray_weight,
    train_layers, position, scratch, gradient, gradients, cell_weights, rgb,
):  # fmt: skip
    """Loss and gradients of a chunk of rays.

    Args:
        gradient: `[blocks, 2 * levels, BLOCK]`; receives the gradient with respect to the samples' encodings.
        gradients: `Layers` that the gradients of the dense layers are added to, if `train_layers`.
        cell_weights: `[M, M, M]`, raised to the largest compositing weight seen in each cell.
        rgb: `[R, 3]`; receives the colours.

    Returns:
        The number of samples, and the sum over rays of weight times mean squared error.
    """
    rays = o.shape[0]
    features = scratch.out.shape[1] - 1
    sums = np.empty((features + DIRECTION_TERMS, rays), f32)
    left = np.empty(rays, f32)
    depth = np.empty(rays, f32)
    n = _composite(
        levels, layers, o, d, view, contracted, steps, jitter, occupancy, position, scratch, sums, left, depth
    )
    hidden0 = np.empty((layers.colour0.shape[0], rays), f32)
    hidden1 = np.empty((layers.colour1.shape[0], rays), f32)
    out = np.empty((4, rays), f32)
    dense(layers.colour0, layers.colour0_bias, sums, 0, hidden0, 0, rays, True)
    dense(layers.colour1, layers.colour1_bias, hidden0, 0, hidden1, 0, rays, True)
    dense(layers.colour2, layers.colour2_bias, hidden1, 0, out, 0, rays, False)

    loss = 0.0
    g_out = np.zeros((4, rays), f32)
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
    dense(layers.colour2.T.copy(), np.zeros(hidden1.shape[0], f32), g_out, 0, g_hidden1, 0, rays, False)
    relu_gradient(g_hidden1, hidden1, rays)
    dense(layers.colour1.T.copy(), np.zeros(hidden0.shape[0], f32), g_hidden1, 0, g_hidden0, 0, rays, False)
    relu_gradient(g_hidden0, hidden0, rays)
    dense(layers.colour0.T.copy(), np.zeros(sums.shape[0], f32), g_hidden0, 0, g_sums, 0, rays, False)
    if train_layers:
        dense_gradient(g_out, hidden1, gradients.colour2, gradients.colour2_bias, rays)
        dense_gradient(g_hidden1, hidden0, gradients.colour1, gradients.colour1_bias, rays)
        dense_gradient(g_hidden0, sums, gradients.colour0, gradients.colour0_bias, rays)
    for c in range(3):
        for r in range(rays):
            g_sums[c, r] += g_out[c, r]

    # Back along each ray. With g_i the gradient of what sample i would contribute at full weight:
    # dL/d(density_i * delta_i) = after_i * g_i - sum over j > i of weight_j * g_j.
    cells = f32(occupancy.shape[0])
    behind = np.zeros(rays, f32)
    for i in range(n - 1, -1, -1):
        r = scratch.ray[i]
        block = i >> BLOCK_BITS
        column = i & (BLOCK - 1)
        weight = scratch.weight[i]
        g = g_opacity[r]
        for c in range(features):
            g += scratch.out[block, c + 1, column] * g_sums[c, r]
            scratch.out[block, c + 1, column] = weight * g_sums[c, r]
        raw = scratch.out[block, 0, column]
        g_raw = f32(0)
        if raw < _RAW_MAX and scratch.after[i] > 0:
            g_raw = np.exp(raw) * scratch.delta[i] * (scratch.after[i] * g - behind[r])
        scratch.out[block, 0, column] = g_raw
        behind[r] += weight * g
        x, y, z = int(position[0, i] * cells), int(position[1, i] * cells), int(position[2, i] * cells)
        cell_weights[x, y, z] = max(cell_weights[x, y, z], weight)
    field_gradient(
        layers,
        gradients,
        train_layers,
        n,
        scratch.x,
        scratch.hidden,
        scratch.out,
        scratch.gradient_hidden,
        gradient,
    )
    return n, loss
