"""Triton kernels that draw batches on a GPU. Twin: `invcodec.training.steps.HostSteps.draw`."""

from __future__ import annotations

import triton
import triton.language as tl

from invcodec.training.walk import KEY_SHIFT, MULTIPLIERS, ROUND_FACTOR

_M0, _M1, _M2 = (tl.constexpr(m) for m in MULTIPLIERS)
_ROUND_FACTOR = tl.constexpr(ROUND_FACTOR)
_K1, _K2 = tl.constexpr(KEY_SHIFT), tl.constexpr(2 * KEY_SHIFT)


@triton.jit
def visited(visit, count, seed):
    """Index into a list of `count` for each visit; all `[BLOCK]` int64. Twin: `invcodec.training.walk`."""
    key = (visit // count + 1).to(tl.uint64) * _ROUND_FACTOR + seed.to(tl.uint64)
    key ^= key >> 31
    last = (count - 1).to(tl.uint64)
    # All bits up to the highest one of the last index, and at least two.
    mask = last | (last >> 1) | 3
    mask |= mask >> 2
    mask |= mask >> 4
    mask |= mask >> 8
    mask |= mask >> 16
    bits = tl.zeros_like(count)
    for each in tl.static_range(32):
        bits += ((mask >> each) & 1).to(tl.int64)
    half = ((bits + 1) >> 1).to(tl.uint64)
    place = (visit % count).to(tl.uint64)
    outside = place == place
    while tl.max(outside.to(tl.int32), 0) > 0:
        moved = (place * _M0 + key) & mask
        moved ^= moved >> half
        moved = (moved * _M1 + (key >> _K1)) & mask
        moved ^= moved >> half
        moved = (moved * _M2 + (key >> _K2)) & mask
        moved ^= moved >> half
        place = tl.where(outside, moved, place)
        outside = outside & (place > last)
    return place.to(tl.int64)


@triton.jit
def _random(seed, which: tl.constexpr, ray, draws):
    """Random number `which` in [0, 1) for each ray of this step."""
    return tl.rand(seed, which * draws + ray)


@triton.jit
def draw(
    valid, attended, counts, visits, is_attended, rays, colour, ends, gain, offset, backgrounds, seed, control,
    origins, directions, view, target, background, weight, jitter, seen, pixels, camera,
    draws, picked, cameras, attended_weight, jitter_share,
    CHANNELS: tl.constexpr, CORRECTED: tl.constexpr, RANDOM_BACKGROUND: tl.constexpr, CAMERAS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Draw a batch: the first `picked` rays visit attended pixels, the others all pixels.

    Args:
        valid, attended: `[P]` int32, pixel numbers.
        counts, visits: `[2]` int64, how many of each of these are used, and were visited before.
        is_attended: `[P]` uint8. rays: `[P, 9]`, origin, direction and view of each pixel.
        colour: `[P, CHANNELS]` uint8.
        ends: `[C]` int64, the number behind each camera's last pixel. gain, offset: `[C, 3]`, used if CORRECTED.
        backgrounds: `[2, 3]`, lowest and highest, used if RANDOM_BACKGROUND.
        seed: `[1]` int64. control: as in `invcodec.render.gpu_kernels.adam`, for its step number.
        origins to jitter: receive the batch. seen: `[R, 3]`, receives the cameras' colours.
        pixels, camera: `[R]` int64, receive the pixels' numbers and those of their cameras.
        CAMERAS: a power of two that holds them.
    """
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    own = ray < draws
    is_picked = ray < picked
    all_valid, all_attended = tl.load(counts), tl.load(counts + 1)
    own_seed = tl.load(seed)
    state = own_seed + tl.load(control + 3).to(tl.int64)
    visit = tl.where(is_picked, tl.load(visits + 1) + ray, tl.load(visits) + ray - picked)
    count = tl.where(is_picked, all_attended, all_valid)
    place = visited(visit, tl.maximum(count, 1), tl.where(is_picked, -1 - own_seed, own_seed))
    pixel = tl.load(attended + place, mask=own & is_picked, other=0)
    pixel += tl.load(valid + place, mask=own & (ray >= picked), other=0)
    pixel = pixel.to(tl.int64)
    tl.store(pixels + ray, pixel, mask=own)

    number = tl.arange(0, CAMERAS)
    end = tl.load(ends + number, mask=number < cameras, other=2**62)
    index = tl.sum((pixel[:, None] >= end[None, :]).to(tl.int32), 1)
    tl.store(camera + ray, index.to(tl.int64), mask=own)

    rest = draws - picked
    rate = picked / tl.maximum(all_attended, 1).to(tl.float32) + rest / all_valid.to(tl.float32)
    is_noted = (picked > 0) & (tl.load(is_attended + pixel, mask=own, other=0) != 0)
    share = tl.where(is_noted, attended_weight / (all_valid.to(tl.float32) * rate), 1.0 / rest)
    tl.store(weight + ray, share, mask=own)
    tl.store(jitter + ray, 0.5 + jitter_share * (_random(state, 0, ray, draws) - 0.5), mask=own)

    for channel in tl.static_range(3):
        place = 3 * ray + channel
        back = tl.zeros([BLOCK], tl.float32)
        if RANDOM_BACKGROUND:
            lowest = tl.load(backgrounds + channel)
            back = lowest + (tl.load(backgrounds + 3 + channel) - lowest) * _random(state, 1 + channel, ray, draws)
        value = tl.load(colour + CHANNELS * pixel + channel, mask=own, other=0).to(tl.float32) / 255
        if CHANNELS == 4:
            alpha = tl.load(colour + CHANNELS * pixel + 3, mask=own, other=0).to(tl.float32) / 255
            value = value * alpha + (1 - alpha) * back
        tl.store(background + place, back, mask=own)
        tl.store(seen + place, value, mask=own)
        if CORRECTED:
            at = 3 * index + channel
            value = (value - tl.load(offset + at, mask=own, other=0.0)) / tl.load(gain + at, mask=own, other=1.0)
        tl.store(target + place, value, mask=own)
        tl.store(origins + place, tl.load(rays + 9 * pixel + channel, mask=own, other=0.0), mask=own)
        tl.store(directions + place, tl.load(rays + 9 * pixel + 3 + channel, mask=own, other=0.0), mask=own)
        tl.store(view + place, tl.load(rays + 9 * pixel + 6 + channel, mask=own, other=0.0), mask=own)
