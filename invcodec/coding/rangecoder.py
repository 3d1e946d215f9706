"""Bits to and from bytes: an adaptive binary range coder (FORMAT.md, "Bits").

It deals in probabilities and bytes only, not in what the bits mean. Its state is an int64 array that compiled functions
pass on.
"""

from __future__ import annotations

import numpy as np

from invcodec.compiling import compiler
from invcodec.errors import DamagedError

# Without the runtime of numba, nothing counts references to arrays, which took most of the time of a bit. In return
# these functions cannot allocate.
jit = compiler(nogil=True, boundscheck=False, error_model="numpy", _nrt=False)

PROBABILITY_BITS = 16
HALF = 1 << (PROBABILITY_BITS - 1)

# Slots of a coder's state.
_LOW, _RANGE, _CACHE, _PENDING, _POSITION, _CODE, _DECODES = range(7)
_SLOTS = 7
_TOP = 1 << 24
_MASK32 = 0xFFFFFFFF


def start(data: bytes | None) -> tuple[np.ndarray, np.ndarray]:
    """The state and bytes of a decoder of `data`, or of an encoder if it is None."""
    state = np.zeros(_SLOTS, np.int64)
    state[_RANGE] = _MASK32
    if data is None:
        state[_CACHE] = -1
        return state, np.empty(1 << 16, np.uint8)
    state[_DECODES] = 1
    source = np.frombuffer(bytearray(data), np.uint8)
    for _ in range(4):
        state[_CODE] = (state[_CODE] << 8) | _next_byte(state, source)
    return state, source


def finish_encoder(state: np.ndarray, data: np.ndarray) -> bytes:
    """The coded bytes. Decoders read 0 past the end, so trailing zeros are dropped."""
    data = reserve(state, data, 8)
    for _ in range(5):
        _shift_low(state, data)
    return data[: state[_POSITION]].tobytes().rstrip(b"\0")


def finish_decoder(state: np.ndarray, data: np.ndarray) -> None:
    """Check that the encoding is canonical: no bytes left over, and no trailing zero byte.

    Raises:
        DamagedError
    """
    if len(data) > state[_POSITION] or (len(data) and data[-1] == 0):
        raise DamagedError("the coded values are longer than what they code")


@jit
def decodes(state):
    return state[_DECODES] == 1


@jit
def has_room(state, data, count):
    """Whether the bytes have room for `count` more; those of a decoder always do."""
    return state[_DECODES] == 1 or state[_POSITION] + state[_PENDING] + count <= data.shape[0]


def reserve(state: np.ndarray, data: np.ndarray, count: int) -> np.ndarray:
    """The bytes, reallocated if they have no room for `count` more."""
    if has_room(state, data, count):
        return data
    larger = np.empty(2 * (state[_POSITION] + state[_PENDING] + count), np.uint8)
    larger[: state[_POSITION]] = data[: state[_POSITION]]
    return larger


@jit
def _shift_low(state, data):
    """Output the top byte of `low`, propagating a carry through pending bytes."""
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


@jit
def _next_byte(state, data):
    position = state[_POSITION]
    state[_POSITION] = position + 1
    return np.int64(data[position]) if position < data.shape[0] else np.int64(0)


@jit
def code_bit(state, data, probability, bit):
    """Code one bit whose probability of being 1 is `probability / 2^PROBABILITY_BITS`; returns the bit."""
    width = state[_RANGE]
    bound = (width >> PROBABILITY_BITS) * probability
    if state[_DECODES]:
        code = state[_CODE]
        bit = 1 if code < bound else 0
        if not bit:
            code -= bound
        width = bound if bit else width - bound
        while width < _TOP:
            width = (width << 8) & _MASK32
            code = ((code << 8) | _next_byte(state, data)) & _MASK32
        state[_CODE] = code
    else:
        if not bit:
            state[_LOW] += bound
        width = bound if bit else width - bound
        while width < _TOP:
            width = (width << 8) & _MASK32
            _shift_low(state, data)
    state[_RANGE] = width
    return bit
