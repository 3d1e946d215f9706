"""Integers to and from bytes: a context model over integer tensors, and an adaptive binary range coder.

The two are separate: `_Coder` functions know probabilities and bytes, `_code` knows tensors and contexts, and
runs the same walk for encoding and decoding, so that the two cannot drift apart. Everything is integer arithmetic
(FORMAT.md, "Entropy coding").
"""

from __future__ import annotations

import numpy as np
from numba import njit

from invcodec.coding.quantize import MAX_LEVEL
from invcodec.compiling import CACHE
from invcodec.errors import DamagedError

_jit = njit(cache=CACHE, nogil=True, boundscheck=False)

CODER = 1
"""Id of this coder in the file (FORMAT.md, coder registry)."""

BLOCK = 64
"""Values that one skip flag covers, in the tensor's flat order."""

PROBABILITY_BITS = 15
FAST_RATE, SLOW_RATE = 4, 7
"""Two estimates of each probability, averaged: one follows quickly, one remembers."""

UNARY_LIMIT = 14
"""Magnitudes above 1 are coded in unary up to this many more, then as an Exp-Golomb number."""
_MAX_PREFIX = 25
_BLOCK_ROOM = 8192
"""Bytes that no block can exceed: 64 values of at most 41 adaptive bits, at most 15 bits each, and 24 plain bits."""
_LEVELS = 8
"""Buckets of the neighbourhood's magnitude."""

# Layout of the context array: first context of each kind.
_ZERO = 0
_SIGN = _ZERO + _LEVELS * 9
_UNARY = _SIGN + 9
_PREFIX = _UNARY + _LEVELS * UNARY_LIMIT
_SKIP = _PREFIX + _MAX_PREFIX
_CONTEXTS = _SKIP + 6

# Slots of a coder's int64 state.
_LOW, _RANGE, _CACHE, _PENDING, _POSITION, _CODE, _FAILED = range(7)
_TOP = 1 << 24
_MASK32 = 0xFFFFFFFF


@_jit
def _shift_low(state, data):
    """Move the top byte of `low` out, propagating a carry through the bytes that wait for one."""
    low = state[_LOW]
    if low < 0xFF000000 or low > _MASK32:
        carry = low >> 32
        if state[_CACHE] >= 0:
            data[state[_POSITION]] = (state[_CACHE] + carry) & 0xFF
            state[_POSITION] += 1
        while state[_PENDING] > 0:
            data[state[_POSITION]] = (0xFF + carry) & 0xFF
            state[_POSITION] += 1
            state[_PENDING] -= 1
        state[_CACHE] = (low >> 24) & 0xFF
    else:
        state[_PENDING] += 1
    state[_LOW] = (low << 8) & _MASK32


@_jit
def _next_byte(state, data):
    position = state[_POSITION]
    state[_POSITION] = position + 1
    return np.int64(data[position]) if position < data.shape[0] else np.int64(0)


@_jit
def _code_bit(state, data, decode, probability, bit):
    """Code one bit whose probability of being 1 is `probability / 2^PROBABILITY_BITS`; returns the bit."""
    bound = (state[_RANGE] >> PROBABILITY_BITS) * probability
    if decode:
        bit = 1 if state[_CODE] < bound else 0
    if bit:
        state[_RANGE] = bound
    else:
        if decode:
            state[_CODE] -= bound
        else:
            state[_LOW] += bound
        state[_RANGE] -= bound
    while state[_RANGE] < _TOP:
        state[_RANGE] = (state[_RANGE] << 8) & _MASK32
        if decode:
            state[_CODE] = ((state[_CODE] << 8) | _next_byte(state, data)) & _MASK32
        else:
            _shift_low(state, data)
    return bit


@_jit
def _code_adaptive(state, data, decode, contexts, context, bit):
    """Code one bit with an adaptive probability, and adapt it."""
    fast = contexts[context, 0]
    slow = contexts[context, 1]
    probability = (fast + slow) >> 2
    probability = min(max(probability, 1), (1 << PROBABILITY_BITS) - 1)
    bit = _code_bit(state, data, decode, probability, bit)
    if bit:
        contexts[context, 0] = fast + ((65536 - fast) >> FAST_RATE)
        contexts[context, 1] = slow + ((65536 - slow) >> SLOW_RATE)
    else:
        contexts[context, 0] = fast - (fast >> FAST_RATE)
        contexts[context, 1] = slow - (slow >> SLOW_RATE)
    return bit


@_jit
def _bucket(magnitude):
    """Magnitude of the neighbourhood, 0 and up, to one of `_LEVELS` buckets."""
    if magnitude < 4:
        return magnitude
    if magnitude < 7:
        return 4
    if magnitude < 12:
        return 5
    if magnitude < 24:
        return 6
    return 7


@_jit
def _three(value):
    return min(abs(value), 2)


@_jit
def _code(state, data, decode, values, shape, before, recent):
    """Walk over all values, coding each in its context.

    Args:
        values: `[n]` int32; read when encoding, written (from zero) when decoding.
        shape: `[4]` int64, the tensor's shape padded with leading ones.
        before: `[n]` int32, the tensor's integers before this record, or `[0]`.
        recent: `[n]` int32, the residual that the tensor had in the record before, or `[0]`.
    """
    n = values.shape[0]
    has_before = before.shape[0] > 0
    has_recent = recent.shape[0] > 0
    contexts = np.full((_CONTEXTS, 2), 32768, np.int64)
    stride1 = shape[3]
    stride2 = stride1 * shape[2]
    stride3 = stride2 * shape[1]
    last_block = 0
    for start in range(0, n, BLOCK):
        end = min(start + BLOCK, n)
        used = 0
        moved = 0
        if not decode and state[_POSITION] + state[_PENDING] + _BLOCK_ROOM > data.shape[0]:
            state[_FAILED] = 1
            return
        if not decode:
            for i in range(start, end):
                used |= values[i] != 0
        if has_recent:
            for i in range(start, end):
                moved |= recent[i] != 0
        used = _code_adaptive(state, data, decode, contexts, _SKIP + last_block + 2 * (moved + has_recent), used)
        last_block = used
        if not used:
            continue
        for i in range(start, end):
            a = abs(values[i - 1]) if i % stride1 else 0
            b = abs(values[i - stride1]) if i % stride2 >= stride1 else 0
            c = abs(values[i - stride2]) if i % stride3 >= stride2 else 0
            d = abs(values[i - stride3]) if i >= stride3 else 0
            bucket = _bucket(min(a + b + c + d, 64) if shape[0] > 1 or shape[1] > 1 else min(2 * (a + b), 64))
            history = 0
            if has_recent:
                history = _three(recent[i])
            was = 0
            if has_before:
                was = _three(before[i])
            value = values[i]
            nonzero = _code_adaptive(
                state,
                data,
                decode,
                contexts,
                _ZERO + (bucket * 3 + history) * 3 + was,
                1 if value != 0 else 0,
            )
            if not nonzero:
                continue
            side = 0
            if has_before and before[i] != 0:
                side = 1 if before[i] > 0 else 2
            trend = 0
            if has_recent and recent[i] != 0:
                trend = 1 if recent[i] > 0 else 2
            negative = _code_adaptive(state, data, decode, contexts, _SIGN + side * 3 + trend, 1 if value < 0 else 0)
            magnitude = np.int64(abs(value))
            level = np.int64(1)
            while level <= UNARY_LIMIT:
                more = _code_adaptive(
                    state,
                    data,
                    decode,
                    contexts,
                    _UNARY + bucket * UNARY_LIMIT + level - 1,
                    1 if magnitude > level else 0,
                )
                if not more:
                    break
                level += 1
            if level > UNARY_LIMIT:
                # Exp-Golomb of what is left: bits of (rest + 1), their number in unary.
                rest = magnitude - UNARY_LIMIT
                bits = 0
                if not decode:
                    while (rest >> (bits + 1)) > 0:
                        bits += 1
                count = 0
                while count < _MAX_PREFIX:
                    more = _code_adaptive(state, data, decode, contexts, _PREFIX + count, 1 if count < bits else 0)
                    if not more:
                        break
                    count += 1
                if count >= _MAX_PREFIX:
                    state[_FAILED] = 1
                    return
                total = np.int64(1)
                for shift in range(count - 1, -1, -1):
                    bit = _code_bit(state, data, decode, 1 << (PROBABILITY_BITS - 1), (rest >> shift) & 1)
                    total = (total << 1) | bit
                level = total + UNARY_LIMIT
            if decode:
                values[i] = -level if negative else level


def _padded(shape: tuple[int, ...]) -> np.ndarray:
    return np.array((1,) * (4 - len(shape)) + tuple(shape), np.int64)


def _flat(values: np.ndarray | None) -> np.ndarray:
    return np.empty(0, np.int32) if values is None else np.ascontiguousarray(values, np.int32).reshape(-1)


def encode(values: np.ndarray, before: np.ndarray | None = None, recent: np.ndarray | None = None) -> bytes:
    """Code an integer tensor of 1 to 4 dimensions.

    Args:
        values: int32, at most twice MAX_LEVEL in magnitude. A residual, or a keyframe's integers.
        before: the tensor's integers before this record (same shape), or None at a keyframe.
        recent: the tensor's residual in the record before (same shape), or None if it had none.
    """
    flat = _flat(values)
    if flat.size and int(np.abs(flat.astype(np.int64)).max()) > 2 * MAX_LEVEL:
        raise ValueError(f"a value exceeds {2 * MAX_LEVEL}")
    room = 2 * flat.size + 2 * _BLOCK_ROOM
    while True:
        data = np.zeros(room, np.uint8)
        state = np.zeros(8, np.int64)
        state[_RANGE] = _MASK32
        state[_CACHE] = -1
        _code(state, data, False, flat, _padded(values.shape), _flat(before), _flat(recent))
        if not state[_FAILED]:
            break
        room *= 2
    for _ in range(5):
        _shift_low(state, data)
    # The first byte out of `low` is 0 unless a carry reached it, which cannot happen; trailing zeros are implied.
    return data[: state[_POSITION]].tobytes().rstrip(b"\0")


def decode(
    data: bytes, shape: tuple[int, ...], before: np.ndarray | None = None, recent: np.ndarray | None = None
) -> np.ndarray:
    """Inverse of `encode`: int32 of the given shape.

    Raises:
        DamagedError: the bytes cannot have come from `encode`.
    """
    values = np.zeros(int(np.prod(shape, dtype=np.int64)), np.int32)
    source = np.frombuffer(bytearray(data), np.uint8)
    state = np.zeros(8, np.int64)
    state[_RANGE] = _MASK32
    for _ in range(4):
        state[_CODE] = (state[_CODE] << 8) | _next_byte(state, source)
    _code(state, source, True, values, _padded(shape), _flat(before), _flat(recent))
    # The encoder leaves zero bytes at the end out: there is one spelling of a tensor.
    if state[_FAILED] or len(data) > state[_POSITION] or data.endswith(b"\0"):
        raise DamagedError("a coded tensor does not decode: its bytes do not fit its shape")
    return values.reshape(shape)
