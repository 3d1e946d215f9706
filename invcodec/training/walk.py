"""The order in which pixels are visited: every pixel once per round, each round in a different order.

That gains about 0.2 dB and 3 % of a keyframe's bytes over drawing pixels independently (benchmarks/WAYS.md). The
order is computed, not stored: a pseudo-random bijection of the n-bit integers maps the number of a visit to an index,
and is applied again while that lies past the end of the list (cycle walking, Black and Rogaway 2002).
"""

from __future__ import annotations

import numpy as np

from invcodec.field.kernels.options import kernel

MULTIPLIERS = (2654435761, 2246822507, 3266489917)
"""Odd, so that multiplying by them is a bijection of the integers of any number of bits: Knuth's of multiplicative
hashing, and two of MurmurHash3's finaliser and xxHash."""
ROUND_FACTOR = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio; turns the number of a round into its key."""
KEY_SHIFT = 13
"""Shift of the key from one multiplier to the next."""

u64 = np.uint64
_M0, _M1, _M2 = (u64(m) for m in MULTIPLIERS)
_ROUND_FACTOR = u64(ROUND_FACTOR)
_K0, _K1, _K2, _KEY_FOLD = u64(0), u64(KEY_SHIFT), u64(2 * KEY_SHIFT), u64(31)
_ONE = u64(1)


def index_bits(count: int) -> int:
    """Bits of the integers that the indices of a list are shuffled among."""
    return max((count - 1).bit_length(), 2)


def walk(numbers: np.ndarray, seed: int, first: int, visits: int) -> np.ndarray:
    """Entries of `numbers` `[N]` for the visits `first`, `first + 1`, ...: `[visits]`. Twin: `device_kernels.visited`.

    Args:
        seed: of 64 bits; the orders of two that are complements have nothing in common.
    """
    out = np.empty(visits, numbers.dtype)
    _walk(numbers, u64(seed & 0xFFFFFFFFFFFFFFFF), u64(first), u64(index_bits(len(numbers))), out)
    return out


@kernel
def _walk(numbers, seed, first, bits, out):
    count = u64(len(numbers))
    mask = (_ONE << bits) - _ONE
    half = (bits + _ONE) >> _ONE
    for i in range(len(out)):
        visit = first + u64(i)
        key = (visit // count + _ONE) * _ROUND_FACTOR + seed
        key ^= key >> _KEY_FOLD
        place = visit % count
        # An index past the end is shuffled again until it falls within the list.
        while True:
            place = (place * _M0 + (key >> _K0)) & mask
            place ^= place >> half
            place = (place * _M1 + (key >> _K1)) & mask
            place ^= place >> half
            place = (place * _M2 + (key >> _K2)) & mask
            place ^= place >> half
            if place < count:
                break
        out[i] = numbers[np.int64(place)]
