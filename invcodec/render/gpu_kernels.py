"""The `grid` profile on a GPU, in Triton: rays to pixels in one kernel, and rays to gradients in another.

A program processes a block of rays with samples, activations and gradients in registers. Nothing is stored per sample:
the backward pass marches forward once more, as the sum over the samples behind one is the whole ray's sum, known from
the first pass, minus the part before it. Memory thus does not grow with the number of samples, and the host need not
know it.

Tiles are `[rays, width]`, with widths padded to powers of two by zero weights. Column 0 of the density network's output
is the raw density; features, and the colours they are added to, are in columns from 1 on throughout.

Twins: `invcodec.render.kernels` in numba, `invcodec.render.composite` and `invcodec.field.grid` in plain torch.
"""

from __future__ import annotations

import triton
import triton.language as tl

from invcodec.field.grid_layout import DIRECTION_TERMS, HARMONICS, HASH_PRIMES, MAX_RAW_DENSITY
from invcodec.render.engine import MIN_TRANSMITTANCE

WORD = tl.constexpr(32)
"""Steps of a ray whose occupancy one word holds, from the lowest bit up."""

_MIN_T = tl.constexpr(MIN_TRANSMITTANCE)
_RAW_MAX = tl.constexpr(MAX_RAW_DENSITY)
_BELOW_ONE = tl.constexpr(1 - 2**-24)
_PRIME_Y = tl.constexpr(HASH_PRIMES[1])
_PRIME_Z = tl.constexpr(HASH_PRIMES[2])
_TERMS = tl.constexpr(DIRECTION_TERMS)
_H0, _H1, _H2, _H3, _H4, _H5 = (tl.constexpr(each) for each in HARMONICS)
_COLUMNS = tl.constexpr(16)
"""Width of a tile of harmonics."""
_REFILLS = tl.constexpr(4)
"""Words that a ray may read to find its next open step; if all are empty, it sits out one sample."""


@triton.jit
def _vector(pointer, ray, valid):
    """Coordinates `[rays]` of row `ray` of an array `[N, 3]`."""
    return (
        tl.load(pointer + 3 * ray, mask=valid, other=0.0),
        tl.load(pointer + 3 * ray + 1, mask=valid, other=0.0),
        tl.load(pointer + 3 * ray + 2, mask=valid, other=0.0),
    )


@triton.jit
def _fold(x, norm, inverse):
    far = 2 - inverse
    return tl.where(tl.abs(x) >= norm, tl.where(x < 0, -far, far), x * inverse) * 0.25 + 0.5


@triton.jit
def _position(ox, oy, oz, dx, dy, dz, s, CONTRACTED: tl.constexpr):
    """Point of the unit cube at the ray parameter s (FORMAT.md, "Sampling")."""
    if CONTRACTED:
        s = tl.minimum(s, _BELOW_ONE)
        t = tl.where(s < 0.5, 2 * s, 0.5 / (1 - s))
        x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
        norm = tl.maximum(tl.maximum(tl.maximum(tl.abs(x), tl.abs(y)), tl.abs(z)), 1.0)
        inverse = 1 / norm
        x, y, z = _fold(x, norm, inverse), _fold(y, norm, inverse), _fold(z, norm, inverse)
    else:
        x, y, z = ox + s * dx, oy + s * dy, oz + s * dz
    return x, y, z


@triton.jit
def _length(ox, oy, oz, dx, dy, dz, s, width, CONTRACTED: tl.constexpr):
    """Length in the unit cube of the step of `width` around s."""
    if CONTRACTED:
        low = tl.maximum(s - 0.5 * width, 0.0)
        high = tl.minimum(s + 0.5 * width, 1 - 0.25 * width)
        ax, ay, az = _position(ox, oy, oz, dx, dy, dz, low, CONTRACTED)
        bx, by, bz = _position(ox, oy, oz, dx, dy, dz, high, CONTRACTED)
        x, y, z = bx - ax, by - ay, bz - az
        length = tl.sqrt(x * x + y * y + z * z)
    else:
        length = tl.sqrt(dx * dx + dy * dy + dz * dz) * width
    return length


@triton.jit
def _cell(x, y, z, CELLS: tl.constexpr):
    """Number of the occupancy cell around a point of the unit cube."""
    last = CELLS - 1
    cx = tl.minimum((x * CELLS).to(tl.int32), last)
    cy = tl.minimum((y * CELLS).to(tl.int32), last)
    cz = tl.minimum((z * CELLS).to(tl.int32), last)
    return (cx * CELLS + cy) * CELLS + cz


@triton.jit
def _inside(x, y, z):
    return (x >= 0) & (x < 1) & (y >= 0) & (y < 1) & (z >= 0) & (z < 1)


@triton.jit
def _own_position(x, y, z, used, occupied, motion, CELLS: tl.constexpr, PARTS: tl.constexpr):
    """Where the field is evaluated for points in `used`, and for which of them the cell there is occupied.

    Args:
        occupied: `[CELLS^3]` uint8, see `invcodec.render.engine.owners`. motion: `[PARTS, 12]`.
    """
    free = used & _inside(x, y, z)
    own = tl.load(occupied + _cell(x, y, z, CELLS), mask=free, other=0)
    taken = own == 1
    px, py, pz = x, y, z
    for part in range(PARTS):
        row = motion + 12 * part
        u, v, w = x - 0.5, y - 0.5, z - 0.5
        a = x + (tl.load(row) * u + tl.load(row + 1) * v + tl.load(row + 2) * w + tl.load(row + 3))
        b = y + (tl.load(row + 4) * u + tl.load(row + 5) * v + tl.load(row + 6) * w + tl.load(row + 7))
        c = z + (tl.load(row + 8) * u + tl.load(row + 9) * v + tl.load(row + 10) * w + tl.load(row + 11))
        belongs = free & _inside(a, b, c)
        belongs = belongs & (tl.load(occupied + _cell(a, b, c, CELLS), mask=belongs, other=0) == part + 2)
        px, py, pz = tl.where(belongs, a, px), tl.where(belongs, b, py), tl.where(belongs, c, pz)
        taken = taken | belongs
        free = free & (belongs == 0)
    return px, py, pz, taken


@triton.jit(do_not_specialize=["rays"])
def find_open(
    origins, directions, jitter, occupied, motion, opened, rays, steps,
    CELLS: tl.constexpr, PARTS: tl.constexpr, CONTRACTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Find the steps of each ray that lie in an occupied cell.

    Args:
        origins, directions: `[R, 3]`. jitter: `[R]`. occupied, motion: see `_own_position`.
        opened: `[R, words]` int32; receives bits, WORD steps to a word. The grid is (blocks of rays, words).
    """
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    word = tl.program_id(1)
    valid = ray < rays
    ox, oy, oz = _vector(origins, ray, valid)
    dx, dy, dz = _vector(directions, ray, valid)
    lane = tl.arange(0, WORD)
    step = word * WORD + lane
    s = (step[None, :] + tl.load(jitter + ray, mask=valid, other=0.0)[:, None]) / steps
    x, y, z = _position(
        ox[:, None], oy[:, None], oz[:, None], dx[:, None], dy[:, None], dz[:, None], s, CONTRACTED
    )  # fmt: skip
    valid_step = valid[:, None] & (step < steps)[None, :]
    _, _, _, taken = _own_position(x, y, z, valid_step, occupied, motion, CELLS, PARTS)
    bit = tl.full([BLOCK, WORD], 1, tl.int32) << lane[None, :]
    tl.store(opened + ray * tl.num_programs(1) + word, tl.sum(tl.where(taken, bit, 0), 1), mask=valid)


@triton.jit
def _next_step(opened, row, word, bits, words, going):
    """The next open step of each ray in `going`, whether one was found, and the new `word` and `bits`."""
    for _ in tl.static_range(_REFILLS):
        refill = going & (bits == 0) & (word < words)
        bits = tl.load(opened + row * words + word, mask=refill, other=0) | bits
        word = word + refill.to(tl.int32)
    lowest = bits & -bits
    # The exponent of a power of two.
    number = (lowest.to(tl.uint32, bitcast=True).to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127
    found = going & (bits != 0)
    return (word - 1) * WORD + number, found, word, bits ^ lowest


@triton.jit
def _next_sample(
    opened, row, word, bits, words, going, jitter, width, ox, oy, oz, dx, dy, dz, occupied, motion,
    CELLS: tl.constexpr, PARTS: tl.constexpr, CONTRACTED: tl.constexpr,
):  # fmt: skip
    """Ray parameter, own position and length of each ray's next open step; otherwise as `_next_step`."""
    step, found, word, bits = _next_step(opened, row, word, bits, words, going)
    s = (step + jitter) * width
    x, y, z = _position(ox, oy, oz, dx, dy, dz, s, CONTRACTED)
    if PARTS:
        x, y, z, _ = _own_position(x, y, z, found, occupied, motion, CELLS, PARTS)
    return s, x, y, z, _length(ox, oy, oz, dx, dy, dz, s, width, CONTRACTED), found, word, bits


@triton.jit
def _corners(x0, y0, z0, fx, fy, fz, resolution, hashed, mask):
    """Entries within their levels and trilinear weights of the eight vertices around points, `[BLOCK, LEVELS, 8]`."""
    corner = tl.arange(0, 8)[None, None, :]
    i, j, k = corner >> 2, (corner >> 1) & 1, corner & 1
    x, y, z = x0[:, :, None] + i, y0[:, :, None] + j, z0[:, :, None] + k
    side = (resolution + 1)[:, :, None]
    ux, uy, uz = x.to(tl.uint32), y.to(tl.uint32) * _PRIME_Y, z.to(tl.uint32) * _PRIME_Z
    entry = tl.where(hashed[:, :, None], ((ux ^ uy ^ uz) & mask).to(tl.int32), (x * side + y) * side + z)
    wx = tl.where(i != 0, fx[:, :, None], 1 - fx[:, :, None])
    wy = tl.where(j != 0, fy[:, :, None], 1 - fy[:, :, None])
    wz = tl.where(k != 0, fz[:, :, None], 1 - fz[:, :, None])
    return entry, wx * wy * wz


@triton.jit
def _vertices(x, y, z, resolution):
    """Lowest vertex of the cells of points `[rays]` in levels `[1, LEVELS]`, and the points' positions in the cells."""
    size = resolution.to(tl.float32)
    px = tl.minimum(tl.maximum(x, 0.0), _BELOW_ONE)[:, None] * size
    py = tl.minimum(tl.maximum(y, 0.0), _BELOW_ONE)[:, None] * size
    pz = tl.minimum(tl.maximum(z, 0.0), _BELOW_ONE)[:, None] * size
    x0 = tl.minimum(px.to(tl.int32), resolution - 1)
    y0 = tl.minimum(py.to(tl.int32), resolution - 1)
    z0 = tl.minimum(pz.to(tl.int32), resolution - 1)
    return x0, y0, z0, px - x0, py - y0, pz - z0


@triton.jit
def _level_table(levels, count, LEVELS: tl.constexpr):
    """Resolution, first entry and whether it is hashed of each level, `[1, LEVELS]`, from `[3, levels]` int32."""
    level = tl.arange(0, LEVELS)
    known = level < count
    resolution = tl.load(levels + level, mask=known, other=1)
    first = tl.load(levels + count + level, mask=known, other=0)
    hashed = tl.load(levels + 2 * count + level, mask=known, other=0)
    return resolution[None, :], first[None, :], (hashed != 0)[None, :], known[None, :]


@triton.jit
def _encode(
    table, x, y, z, found, resolution, first, hashed, known, mask, BLOCK: tl.constexpr, LEVELS: tl.constexpr,
    HALF: tl.constexpr,
):  # fmt: skip
    """Trilinear lookup in every level: `[BLOCK, 2 * LEVELS]`.

    Args:
        table: `[entries]`; two float16 in an int32 if HALF, else two float32 in an int64, so that one load reads both.
    """
    x0, y0, z0, fx, fy, fz = _vertices(x, y, z, resolution)
    read = found[:, None] & known
    # All eight vertices in one load: separate loads would wait for each other.
    entry, weight = _corners(x0, y0, z0, fx, fy, fz, resolution, hashed, mask)
    both = tl.load(table + (first[:, :, None] + entry), mask=read[:, :, None], other=0)
    if HALF:
        u = both.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        v = (both >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    else:
        u = both.to(tl.int32).to(tl.float32, bitcast=True)
        v = (both >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    a, b = tl.sum(weight * u, 2), tl.sum(weight * v, 2)
    return tl.reshape(tl.join(a, b), [BLOCK, 2 * LEVELS])


@triton.jit
def _scatter(
    gradient, g, x, y, z, found, resolution, first, hashed, known, mask, BLOCK: tl.constexpr, LEVELS: tl.constexpr
):  # fmt: skip
    """Adjoint of `_encode`: add to `gradient` `[entries, 2]`."""
    x0, y0, z0, fx, fy, fz = _vertices(x, y, z, resolution)
    entry, weight = _corners(x0, y0, z0, fx, fy, fz, resolution, hashed, mask)
    place = 2 * (first[:, :, None] + entry)[:, :, :, None] + tl.arange(0, 2)[None, None, None, :]
    share = weight[:, :, :, None] * tl.reshape(g, [BLOCK, LEVELS, 2])[:, :, None, :]
    tl.atomic_add(gradient + place, share, mask=(found[:, None] & known)[:, :, None, None], sem="relaxed")


@triton.jit
def _places(
    stride: tl.constexpr, inputs: tl.constexpr, outputs: tl.constexpr, skip_in: tl.constexpr,
    skip_out: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    """Addresses of weights `[outputs, stride]` for a tile `[IN, OUT]`, past `skip_in` rows and `skip_out` columns."""
    k = tl.arange(0, IN)[:, None] - skip_in
    n = tl.arange(0, OUT)[None, :] - skip_out
    return n * stride + k, (k >= 0) & (k < inputs) & (n >= 0) & (n < outputs)


@triton.jit
def _weights(
    pointer, stride: tl.constexpr, inputs: tl.constexpr, outputs: tl.constexpr, skip_in: tl.constexpr,
    skip_out: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    place, valid = _places(stride, inputs, outputs, skip_in, skip_out, IN, OUT)
    return tl.load(pointer + place, mask=valid, other=0.0)


@triton.jit
def _add_weights(
    pointer, tile, stride: tl.constexpr, inputs: tl.constexpr, outputs: tl.constexpr, skip_in: tl.constexpr,
    skip_out: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    place, valid = _places(stride, inputs, outputs, skip_in, skip_out, IN, OUT)
    tl.atomic_add(pointer + place, tile, mask=valid, sem="relaxed")


@triton.jit
def _bias(pointer, outputs: tl.constexpr, skip: tl.constexpr, OUT: tl.constexpr):
    n = tl.arange(0, OUT) - skip
    return tl.load(pointer + n, mask=(n >= 0) & (n < outputs), other=0.0)[None, :]


@triton.jit
def _add_bias(pointer, g, outputs: tl.constexpr, skip: tl.constexpr, OUT: tl.constexpr):
    n = tl.arange(0, OUT) - skip
    tl.atomic_add(pointer + n, tl.sum(g, 0), mask=(n >= 0) & (n < outputs), sem="relaxed")


@triton.jit
def _harmonics(x, y, z, BLOCK: tl.constexpr):
    """Real spherical harmonics of degree 0 to 2 of unit vectors: `[BLOCK, 16]`, 9 columns of it used."""
    k = tl.arange(0, _COLUMNS)[None, :]
    x, y, z = x[:, None], y[:, None], z[:, None]
    out = tl.where(k == 0, tl.full([BLOCK, _COLUMNS], _H0, tl.float32), 0.0)
    out = tl.where(k == 1, -_H1 * y, out)
    out = tl.where(k == 2, _H1 * z, out)
    out = tl.where(k == 3, -_H1 * x, out)
    out = tl.where(k == 4, _H2 * x * y, out)
    out = tl.where(k == 5, -_H2 * y * z, out)
    out = tl.where(k == 6, _H3 * z * z - _H4, out)
    out = tl.where(k == 7, -_H2 * x * z, out)
    return tl.where(k == 8, _H5 * (x * x - y * y), out)


@triton.jit
def _density_layers(
    dense, ENCODED: tl.constexpr, HIDDEN: tl.constexpr, FEATURES: tl.constexpr, LEVELS: tl.constexpr, H: tl.constexpr,
    OUT: tl.constexpr,
):  # fmt: skip
    """Tiles of the density network, which is at the beginning of `dense`."""
    second = dense + HIDDEN * (ENCODED + 1)
    w0 = _weights(dense, ENCODED, ENCODED, HIDDEN, 0, 0, 2 * LEVELS, H)
    b0 = _bias(dense + HIDDEN * ENCODED, HIDDEN, 0, H)
    w1 = _weights(second, HIDDEN, HIDDEN, 1 + FEATURES, 0, 0, H, OUT)
    b1 = _bias(second + (1 + FEATURES) * HIDDEN, 1 + FEATURES, 0, OUT)
    return w0, b0, w1, b1


@triton.jit
def _colour_layers(dense, FEATURES: tl.constexpr, COLOUR: tl.constexpr, C: tl.constexpr, OUT: tl.constexpr):
    """Tiles of the colour network, which begins at `dense`; its first layer in two parts, for features and view."""
    second = dense + COLOUR * (FEATURES + _TERMS + 1)
    third = second + COLOUR * (COLOUR + 1)
    w0 = _weights(dense, FEATURES + _TERMS, FEATURES, COLOUR, 1, 0, OUT, C)
    w0_view = _weights(dense + FEATURES, FEATURES + _TERMS, _TERMS, COLOUR, 0, 0, _COLUMNS, C)
    b0 = _bias(dense + COLOUR * (FEATURES + _TERMS), COLOUR, 0, C)
    w1 = _weights(second, COLOUR, COLOUR, COLOUR, 0, 0, C, C)
    b1 = _bias(second + COLOUR * COLOUR, COLOUR, 0, C)
    w2 = _weights(third, COLOUR, COLOUR, 3, 0, 1, C, OUT)
    b2 = _bias(third + 3 * COLOUR, 3, 1, OUT)
    return w0, w0_view, b0, w1, b1, w2, b2


@triton.jit
def _add_density_layers(
    dense, w0, b0, w1, b1, ENCODED: tl.constexpr, HIDDEN: tl.constexpr, FEATURES: tl.constexpr, LEVELS: tl.constexpr,
    H: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    """Add gradients of the tiles of `_density_layers`; those of biases are still per ray, `[rays, width]`."""
    second = dense + HIDDEN * (ENCODED + 1)
    _add_weights(dense, w0, ENCODED, ENCODED, HIDDEN, 0, 0, 2 * LEVELS, H)
    _add_bias(dense + HIDDEN * ENCODED, b0, HIDDEN, 0, H)
    _add_weights(second, w1, HIDDEN, HIDDEN, 1 + FEATURES, 0, 0, H, OUT)
    _add_bias(second + (1 + FEATURES) * HIDDEN, b1, 1 + FEATURES, 0, OUT)


@triton.jit
def _add_colour_layers(
    dense, w0, w0_view, b0, w1, b1, w2, b2, FEATURES: tl.constexpr, COLOUR: tl.constexpr, C: tl.constexpr,
    OUT: tl.constexpr,
):  # fmt: skip
    """Add gradients of the tiles of `_colour_layers`; those of biases are still per ray, `[rays, width]`."""
    second = dense + COLOUR * (FEATURES + _TERMS + 1)
    third = second + COLOUR * (COLOUR + 1)
    _add_weights(dense, w0, FEATURES + _TERMS, FEATURES, COLOUR, 1, 0, OUT, C)
    _add_weights(dense + FEATURES, w0_view, FEATURES + _TERMS, _TERMS, COLOUR, 0, 0, _COLUMNS, C)
    _add_bias(dense + COLOUR * (FEATURES + _TERMS), b0, COLOUR, 0, C)
    _add_weights(second, w1, COLOUR, COLOUR, COLOUR, 0, 0, C, C)
    _add_bias(second + COLOUR * COLOUR, b1, COLOUR, 0, C)
    _add_weights(third, w2, COLOUR, COLOUR, 3, 0, 1, C, OUT)
    _add_bias(third + 3 * COLOUR, b2, 3, 1, OUT)


@triton.jit
def _field(
    table, x, y, z, found, resolution, first, hashed, known, mask, w0, b0, w1, b1,
    BLOCK: tl.constexpr, LEVELS: tl.constexpr, TRAINING: tl.constexpr,
):  # fmt: skip
    """Encoding `[BLOCK, 2 * LEVELS]`, hidden layer `[BLOCK, H]` and output `[BLOCK, OUT]` at points."""
    # Tensor cores multiply with 11 bits, which is enough for training. Pictures must agree with those of the CPU: for
    # them each factor is split into three parts, which is nearly float32.
    PRECISION: tl.constexpr = "tf32" if TRAINING else "tf32x3"
    encoded = _encode(table, x, y, z, found, resolution, first, hashed, known, mask, BLOCK, LEVELS, TRAINING)
    hidden = tl.maximum(tl.dot(encoded, w0, input_precision=PRECISION) + b0, 0.0)
    return encoded, hidden, tl.dot(hidden, w1, input_precision=PRECISION) + b1


@triton.jit
def _light(out, length, found, left):
    """A sample's raw density and optical thickness, and the light left behind it; all `[rays]`."""
    column = tl.arange(0, out.shape[1])[None, :]
    raw = tl.sum(tl.where(column == 0, out, 0.0), 1)
    thickness = tl.where(found, tl.exp(tl.minimum(raw, _RAW_MAX)) * length, 0.0)
    return raw, thickness, left * tl.exp(-thickness)


@triton.jit
def _march(
    table, ray, valid, ox, oy, oz, dx, dy, dz, jitter, opened, words, steps, resolution, first, hashed, known, mask,
    w0, b0, w1, b1, occupied, motion,
    CELLS: tl.constexpr, PARTS: tl.constexpr, CONTRACTED: tl.constexpr, LEVELS: tl.constexpr, OUT: tl.constexpr,
    BLOCK: tl.constexpr, TRAINING: tl.constexpr,
):  # fmt: skip
    """Composite rays: light left `[rays]`, weighted sums of the output `[rays, OUT]`, median depth `[rays]`."""
    width = 1.0 / steps
    left = tl.full([BLOCK], 1.0, tl.float32)
    median = tl.full([BLOCK], 1.0, tl.float32)
    sums = tl.zeros([BLOCK, OUT], tl.float32)
    word = tl.zeros([BLOCK], tl.int32)
    bits = tl.zeros([BLOCK], tl.int32)
    going = valid
    while tl.max(going.to(tl.int32), 0) > 0:
        s, x, y, z, length, found, word, bits = _next_sample(
            opened, ray, word, bits, words, going, jitter, width, ox, oy, oz, dx, dy, dz, occupied, motion, CELLS,
            PARTS, CONTRACTED
        )  # fmt: skip
        _, _, out = _field(
            table, x, y, z, found, resolution, first, hashed, known, mask, w0, b0, w1, b1, BLOCK, LEVELS, TRAINING
        )  # fmt: skip
        _, _, after = _light(out, length, found, left)
        sums += (left - after)[:, None] * out
        median = tl.where((left >= 0.5) & (after < 0.5), s, median)
        left = after
        going = going & (left > _MIN_T) & ((bits != 0) | (word < words))
    return left, sums, median


@triton.jit
def _shade(sums, harmonics, w0, w0_view, b0, w1, b1, w2, b2, TRAINING: tl.constexpr):
    """Hidden layers of the colour network, `[rays, C]` each, and colours `[rays, OUT]`."""
    PRECISION: tl.constexpr = "tf32" if TRAINING else "tf32x3"
    hidden0 = tl.dot(sums, w0, input_precision=PRECISION) + b0
    hidden0 = tl.maximum(hidden0 + tl.dot(harmonics, w0_view, input_precision=PRECISION), 0.0)
    hidden1 = tl.maximum(tl.dot(hidden0, w1, input_precision=PRECISION) + b1, 0.0)
    logit = sums + tl.dot(hidden1, w2, input_precision=PRECISION) + b2
    return hidden0, hidden1, 1 / (1 + tl.exp(-logit))


@triton.jit
def field_density(
    points, density, count, levels, level_count, mask, table, dense,
    ENCODED: tl.constexpr, HIDDEN: tl.constexpr, FEATURES: tl.constexpr, LEVELS: tl.constexpr, H: tl.constexpr,
    OUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Density `[N]` at points `[N, 3]` of the unit cube; for the rest see `render`."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = number < count
    x, y, z = _vector(points, number, valid)
    resolution, first, hashed, known = _level_table(levels, level_count, LEVELS)
    w0, b0, w1, b1 = _density_layers(dense, ENCODED, HIDDEN, FEATURES, LEVELS, H, OUT)
    _, _, out = _field(
        table, x, y, z, valid, resolution, first, hashed, known, mask, w0, b0, w1, b1, BLOCK, LEVELS, False
    )  # fmt: skip
    ones = tl.full([BLOCK], 1.0, tl.float32)
    _, thickness, _ = _light(out, ones, valid, ones)
    tl.store(density + number, thickness, mask=valid)


@triton.jit(do_not_specialize=["rays"])
def render(
    origins, directions, view, background, opened, words, rays, steps, levels, level_count, mask, table, dense,
    occupied, motion, rgb, opacity, depth,
    CELLS: tl.constexpr, PARTS: tl.constexpr, CONTRACTED: tl.constexpr, ENCODED: tl.constexpr, HIDDEN: tl.constexpr,
    FEATURES: tl.constexpr, COLOUR: tl.constexpr, LEVELS: tl.constexpr, H: tl.constexpr, OUT: tl.constexpr,
    C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rays `[R, 3]`, sampled at the middle of each step, to rgb `[R, 3]`, opacity `[R]` and median depth `[R]`.

    Args:
        background: `[3]`. opened: `[R, words]`, of `find_open`.
        levels: `[3, level_count]`, see `_level_table`. mask: entries of a hashed level, minus one.
        table: `[entries]`, see `_encode`. dense: weights and biases of all layers, in the profile's order.
        occupied, motion: see `_own_position`.
        LEVELS, H, OUT, C: powers of two not less than the number of levels and 8, and than the widths HIDDEN,
            1 + FEATURES and COLOUR and 16.
    """
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = ray < rays
    ox, oy, oz = _vector(origins, ray, valid)
    dx, dy, dz = _vector(directions, ray, valid)
    vx, vy, vz = _vector(view, ray, valid)
    resolution, first, hashed, known = _level_table(levels, level_count, LEVELS)
    w0, b0, w1, b1 = _density_layers(dense, ENCODED, HIDDEN, FEATURES, LEVELS, H, OUT)
    left, sums, median = _march(
        table, ray, valid, ox, oy, oz, dx, dy, dz, 0.5, opened, words, steps, resolution, first, hashed, known, mask,
        w0, b0, w1, b1, occupied, motion, CELLS, PARTS, CONTRACTED, LEVELS, OUT, BLOCK, False,
    )  # fmt: skip
    DENSITY_SIZE: tl.constexpr = HIDDEN * (ENCODED + 1) + (1 + FEATURES) * (HIDDEN + 1)
    c0, c0_view, d0, c1, d1, c2, d2 = _colour_layers(dense + DENSITY_SIZE, FEATURES, COLOUR, C, OUT)
    _, _, colour = _shade(sums, _harmonics(vx, vy, vz, BLOCK), c0, c0_view, d0, c1, d1, c2, d2, False)
    channel = tl.arange(0, OUT)[None, :] - 1
    shown = (channel >= 0) & (channel < 3)
    back = tl.load(background + channel, mask=shown, other=0.0)
    value = (1 - left)[:, None] * colour + left[:, None] * back
    tl.store(rgb + 3 * ray[:, None] + channel, value, mask=shown & valid[:, None])
    tl.store(opacity + ray, 1 - left, mask=valid)
    tl.store(depth + ray, median, mask=valid)


@triton.jit(do_not_specialize=["rays"])
def train(
    origins, directions, view, target, background, weight, jitter, opened, words, rays, steps, levels, level_count,
    mask, table, dense, occupied, motion, table_gradient, dense_gradient, cell_weights, rgb, error,
    CELLS: tl.constexpr, PARTS: tl.constexpr, CONTRACTED: tl.constexpr, ENCODED: tl.constexpr, HIDDEN: tl.constexpr,
    FEATURES: tl.constexpr, COLOUR: tl.constexpr, LEVELS: tl.constexpr, H: tl.constexpr, OUT: tl.constexpr,
    C: tl.constexpr, DENSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of the rays' weighted squared error; for arguments not listed see `render`.

    Args:
        target, background: `[R, 3]`. weight, jitter: `[R]`.
        table_gradient, dense_gradient: incremented, the latter if DENSE.
        cell_weights: `[CELLS^3]` float32, raised to the largest compositing weight seen in each cell.
        rgb: `[R, 3]`, receives the colours. error: `[R]`, receives their mean squared error.
    """
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = ray < rays
    ox, oy, oz = _vector(origins, ray, valid)
    dx, dy, dz = _vector(directions, ray, valid)
    vx, vy, vz = _vector(view, ray, valid)
    own_jitter = tl.load(jitter + ray, mask=valid, other=0.5)
    resolution, first, hashed, known = _level_table(levels, level_count, LEVELS)
    w0, b0, w1, b1 = _density_layers(dense, ENCODED, HIDDEN, FEATURES, LEVELS, H, OUT)
    left, sums, _ = _march(
        table, ray, valid, ox, oy, oz, dx, dy, dz, own_jitter, opened, words, steps, resolution, first, hashed, known,
        mask, w0, b0, w1, b1, occupied, motion, CELLS, PARTS, CONTRACTED, LEVELS, OUT, BLOCK, True,
    )  # fmt: skip
    DENSITY_SIZE: tl.constexpr = HIDDEN * (ENCODED + 1) + (1 + FEATURES) * (HIDDEN + 1)
    c0, c0_view, d0, c1, d1, c2, d2 = _colour_layers(dense + DENSITY_SIZE, FEATURES, COLOUR, C, OUT)
    harmonics = _harmonics(vx, vy, vz, BLOCK)
    hidden0, hidden1, colour = _shade(sums, harmonics, c0, c0_view, d0, c1, d1, c2, d2, True)

    channel = tl.arange(0, OUT)[None, :] - 1
    shown = (channel >= 0) & (channel < 3) & valid[:, None]
    place = 3 * ray[:, None] + channel
    back = tl.load(background + place, mask=shown, other=0.0)
    opaque = (1 - left)[:, None]
    value = opaque * colour + left[:, None] * back
    wrong = tl.where(shown, value - tl.load(target + place, mask=shown, other=0.0), 0.0)
    tl.store(rgb + place, value, mask=shown)
    tl.store(error + ray, tl.sum(wrong * wrong, 1) / 3, mask=valid)

    g = 2 * wrong * (tl.load(weight + ray, mask=valid, other=0.0) / 3)[:, None]
    g_logit = g * opaque * colour * (1 - colour)
    g_opacity = tl.sum(g * (colour - back), 1)
    g_hidden1 = tl.where(hidden1 > 0, tl.dot(g_logit, tl.trans(c2)), 0.0)
    g_hidden0 = tl.where(hidden0 > 0, tl.dot(g_hidden1, tl.trans(c1)), 0.0)
    # The colour network has no weights for column 0, the density, so that its gradient is zero here.
    g_sums = g_logit + tl.dot(g_hidden0, tl.trans(c0))
    if DENSE:
        _add_colour_layers(
            dense_gradient + DENSITY_SIZE, tl.dot(tl.trans(sums), g_hidden0),
            tl.dot(tl.trans(harmonics), g_hidden0), g_hidden0, tl.dot(tl.trans(hidden0), g_hidden1), g_hidden1,
            tl.dot(tl.trans(hidden1), g_logit), g_logit, FEATURES, COLOUR, C, OUT,
        )  # fmt: skip

    # Once more along each ray. With g_i the gradient of what sample i contributes at full weight:
    # dL/d(density_i * length_i) = after_i * g_i - sum over j > i of weight_j * g_j.
    behind = g_opacity * (1 - left) + tl.sum(g_sums * sums, 1)
    g_w0 = tl.zeros([2 * LEVELS, H], tl.float32)
    g_w1 = tl.zeros([H, OUT], tl.float32)
    g_b0 = tl.zeros([BLOCK, H], tl.float32)
    g_b1 = tl.zeros([BLOCK, OUT], tl.float32)
    width = 1.0 / steps
    left = tl.full([BLOCK], 1.0, tl.float32)
    word = tl.zeros([BLOCK], tl.int32)
    bits = tl.zeros([BLOCK], tl.int32)
    going = valid
    while tl.max(going.to(tl.int32), 0) > 0:
        _, x, y, z, length, found, word, bits = _next_sample(
            opened, ray, word, bits, words, going, own_jitter, width, ox, oy, oz, dx, dy, dz, occupied, motion, CELLS,
            PARTS, CONTRACTED
        )  # fmt: skip
        encoded, hidden, out = _field(
            table, x, y, z, found, resolution, first, hashed, known, mask, w0, b0, w1, b1, BLOCK, LEVELS, True
        )  # fmt: skip
        raw, thickness, after = _light(out, length, found, left)
        contributed = left - after
        left = after
        going = going & (left > _MIN_T) & ((bits != 0) | (word < words))
        g_sample = g_opacity + tl.sum(g_sums * out, 1)
        behind -= contributed * g_sample
        g_raw = tl.where((raw < _RAW_MAX) & (after > 0), thickness * (after * g_sample - behind), 0.0)
        g_out = tl.where(channel == -1, g_raw[:, None], contributed[:, None] * g_sums)
        g_hidden = tl.where(hidden > 0, tl.dot(g_out, tl.trans(w1)), 0.0)
        g_encoded = tl.dot(g_hidden, tl.trans(w0))
        _scatter(table_gradient, g_encoded, x, y, z, found, resolution, first, hashed, known, mask, BLOCK, LEVELS)
        cell = _cell(tl.maximum(x, 0.0), tl.maximum(y, 0.0), tl.maximum(z, 0.0), CELLS)
        tl.atomic_max(cell_weights + cell, contributed, mask=found, sem="relaxed")
        if DENSE:
            g_w1 += tl.dot(tl.trans(hidden), g_out)
            g_w0 += tl.dot(tl.trans(encoded), g_hidden)
            g_b1 += g_out
            g_b0 += g_hidden
    if DENSE:
        _add_density_layers(dense_gradient, g_w0, g_b0, g_w1, g_b1, ENCODED, HIDDEN, FEATURES, LEVELS, H, OUT)


@triton.jit
def adam(
    value, gradient, first, second, reference, steps, packed, control, rate_at, count, BETA1: tl.constexpr,
    BETA2: tl.constexpr, EPSILON: tl.constexpr, TABLE: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adam where a gradient arrived, then the proximal step of an L1 price on the change; all `[N]`, in place.

    The gradient is zero afterwards. Twin: `invcodec.field.kernels.grid.adam`.

    Args:
        control: `[4]` float32: learning rate of the tables, of the dense layers, price, and number of this step.
        rate_at: index of the learning rate in it.
        reference: the values that the price counts from.
        steps: lattice steps per unit of change that have the price; STEPS in its place if TABLE.
        packed: used if TABLE: `[N / 2]` int32, which receives the new values as pairs of float16.
    """
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = number < count
    g = tl.load(gradient + number, mask=valid, other=0.0)
    old = tl.load(value + number, mask=valid, other=0.0)
    old_first = tl.load(first + number, mask=valid, other=0.0)
    old_second = tl.load(second + number, mask=valid, other=0.0)
    rate = tl.load(control + rate_at)
    step = tl.load(control + 3)
    correct1 = 1 / (1 - tl.exp2(step * tl.log2(tl.full([1], BETA1, tl.float32))))
    correct2 = 1 / (1 - tl.exp2(step * tl.log2(tl.full([1], BETA2, tl.float32))))
    new_first = BETA1 * old_first + (1 - BETA1) * g
    new_second = BETA2 * old_second + (1 - BETA2) * g * g
    size = rate / (tl.sqrt(new_second * correct2) + EPSILON)
    new = old - size * new_first * correct1
    price = tl.load(control + 2)
    if TABLE:
        price *= STEPS
    else:
        price *= tl.load(steps + number, mask=valid, other=0.0)
    # The threshold is scaled like the step, so a change that does not earn its price goes to zero.
    origin = tl.load(reference + number, mask=valid, other=0.0)
    change = new - origin
    new = origin + tl.maximum(change - size * price, 0.0) + tl.minimum(change + size * price, 0.0)
    met = valid & (g != 0)
    tl.store(value + number, new, mask=met)
    tl.store(first + number, new_first, mask=met)
    tl.store(second + number, new_second, mask=met)
    tl.store(gradient + number, tl.zeros([BLOCK], tl.float32), mask=met)
    if TABLE:
        a, b = tl.split(tl.reshape(tl.where(met, new, old), [BLOCK // 2, 2]))
        low = a.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
        high = b.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) << 16
        pair = tl.program_id(0) * (BLOCK // 2) + tl.arange(0, BLOCK // 2)
        tl.store(packed + pair, low | high, mask=2 * pair < count)
