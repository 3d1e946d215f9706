"""Adaptive probabilities of bits: contexts that learn, and mixers that learn how much to trust each of them.

Logistic mixing of adaptive probabilities, as in the PAQ family (Mahoney 2005), in integers alone (FORMAT.md,
"Adaptive bits").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from invcodec.coding.rangecoder import code_bit, jit

INPUTS = 5
"""Most contexts that predict one bit."""
COUNT_BITS = 10
# Unsigned, since indices that cannot be negative are faster.
_COUNT_LIMIT = np.uint32((1 << COUNT_BITS) - 1)
_COUNT_BITS, _LOG_STRETCH = np.uint32(COUNT_BITS), np.uint32(20)
_ONE = 1 << 22
"""A context is one 32-bit word: its probability in units of 1 / _ONE, and below that its count."""
_LEARNING_SHIFT = 17
_MAX_WEIGHT = 1 << 20
_BIAS = 256

# 65536 / (1 + exp(-i / 2)) for i = -16 .. 16.
_LOGISTIC = (
    22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768,
    40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
)  # fmt: skip


def _squash_table() -> np.ndarray:
    """Probability, 16 bits, of each log-odds from -2048 to 2047, in 1/256; linear between every 128th."""
    places = np.arange(4096)
    base, rest = places >> 7, places & 127
    knots = np.array(_LOGISTIC, np.int64)
    return (((128 - rest) * knots[base] + rest * knots[base + 1] + 64) >> 7).astype(np.int32)


_SQUASH = _squash_table()
_STRETCH = np.minimum(np.searchsorted(_SQUASH[1:] >> 4, np.arange(4096)) - 2047, 2047).astype(np.int32)
"""The inverse: the least log-odds whose probability, 12 bits, is not below."""
_RATE = (131072 // (2 * np.arange(1 << COUNT_BITS) + 3)).astype(np.int32)
"""Adaptation rate of a context by its count: about 1 / (count + 1.5), in units of 1 / 65536."""


def fresh_contexts(count: int, probability: float) -> np.ndarray:
    """`[count]` uint32 contexts with an initial probability."""
    return np.full(count, int(probability * _ONE) << COUNT_BITS, np.uint32)


def fresh_weights(inputs: int) -> list[int]:
    """Initial weights of a mixer: equal, slightly more confident than the mean of its inputs; no bias."""
    return [72000 // inputs] * inputs + [0] * (INPUTS + 1 - inputs)


@jit
def code_mixed(state, data, contexts, weights, mixer, work, inputs, bit):
    """Code one bit and adapt to it; returns the bit.

    Args:
        state, data: the range coder's.
        contexts: `[C]` uint32.
        weights: `[M, INPUTS + 1]` int32, of all mixers; the last of each that counts is the bias's.
        mixer: the one to use.
        work: `[INPUTS]` uint32, the contexts' indices.
        inputs: number of contexts.
    """
    total: Any = np.int64(weights[mixer, inputs]) * _BIAS
    for i in range(inputs):
        total += weights[mixer, i] * np.int64(_STRETCH[contexts[work[i]] >> _LOG_STRETCH])
    total = min(max((total + 32768) >> 16, -2047), 2047)
    probability = np.int64(_SQUASH[total + 2048])
    bit = code_bit(state, data, probability, bit)
    error = (bit << 16) - probability
    weights[mixer, inputs] = _learned(weights[mixer, inputs], _BIAS, error)
    target = (_ONE - 1) * bit
    for i in range(inputs):
        word = contexts[work[i]]
        weights[mixer, i] = _learned(weights[mixer, i], np.int64(_STRETCH[word >> _LOG_STRETCH]), error)
        count = word & _COUNT_LIMIT
        chance = np.int64(word >> _COUNT_BITS)
        chance += ((target - chance) * _RATE[count]) >> 16
        contexts[work[i]] = (chance << COUNT_BITS) | min(count + 1, _COUNT_LIMIT)
    return bit


@jit
def _learned(weight, odds, error):
    """A weight after a bit of which its input said `odds`."""
    moved = weight + ((odds * error + (1 << (_LEARNING_SHIFT - 1))) >> _LEARNING_SHIFT)
    return min(max(moved, -_MAX_WEIGHT), _MAX_WEIGHT)
