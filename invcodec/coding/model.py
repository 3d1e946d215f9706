"""Context modelling: one walk over a tensor, shared by encoding and decoding so that the two cannot drift apart
(FORMAT.md, "Walk").

The values of one place of a tensor (the features of a table's entry) are coded together: first whether any of them
changes, then each. Cold places, where no change is expected, are coded in blocks, most of which cost next to nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from invcodec.coding.mixing import code_mixed, fresh_contexts, fresh_weights
from invcodec.coding.rangecoder import HALF, code_bit, decodes, has_room, jit

BLOCK = 32
"""Places whose cold ones share a flag."""
MAX_FEATURES = 4
"""If a tensor has several dimensions and the last has at most this many values, these are features of one place."""
RECENT_LIMIT = 3
"""Most that a residual counts in the next record."""
MAX_SIZE_BITS = 25
"""Magnitudes are below 2 to the power of this."""
SETS = 64
"""Sets of contexts: one for each tensor, the last for all further ones."""
HINTS = 16
"""Levels of a hint, see `invcodec.coding.guide`."""
BLOCK_ROOM = 16384
"""Bytes that no block exceeds: 128 values of fewer than 90 bits, at most 12 bits each."""
DONE, NO_ROOM, TOO_LARGE = range(3)
"""How a walk ends: all values are coded; the bytes have less than BLOCK_ROOM left; a magnitude is too large."""

VOLUME, TABLE, MATRIX, VECTOR = range(4)
"""Kinds of tensors by their places: three dimensions; one, of several features; two; one."""

# Families of contexts: where each begins. `_age` has 4 values, sizes in bits up to 16, others as in FORMAT.md.
_SIZES = 16
_CHANGES = 0
_BLOCK_SET = _CHANGES + SETS
_BLOCK_KIND = _BLOCK_SET + SETS * 8 * 2
_PLACE_HINT = _BLOCK_KIND + 4 * 4 * 8
_PLACE_PAST = _PLACE_HINT + SETS * HINTS * 4
_PLACE_HISTORY = _PLACE_PAST + 4 * 8 * 8 * 4
_PLACE_BEFORE = _PLACE_HISTORY + 4 * 32 * 4
_PLACE_FORM = _PLACE_BEFORE + 4 * 8 * HINTS * 2
_FEATURE_SET = _PLACE_FORM + 4 * 64 * 4
_FEATURE_RECENT = _FEATURE_SET + SETS * 16
_FEATURE_HINT = _FEATURE_RECENT + 4 * 4 * 16
_SIGN_SET = _FEATURE_HINT + HINTS * 4 * 16
_SIGN_BEFORE = _SIGN_SET + SETS * 9
_SIGN_NEAR = _SIGN_BEFORE + 4 * 8 * 9
_SIZE_SET = _SIGN_NEAR + SETS * 27
_SIZE_NEAR = _SIZE_SET + SETS * 4 * _SIZES
_SIZE_HINT = _SIZE_NEAR + 4 * 64 * _SIZES
_SIZE_MEAN = _SIZE_HINT + 4 * HINTS * _SIZES
_BITS_SET = _SIZE_MEAN + 4 * 16 * _SIZES
_BITS_MEAN = _BITS_SET + SETS * _SIZES * 4
CONTEXTS = _BITS_MEAN + 4 * 16 * _SIZES * 4

# Mixers: where each group begins, and how many inputs it has.
_MIX_CHANGES = 0
_MIX_BLOCK = 1
_MIX_PLACE = _MIX_BLOCK + 4
_MIX_FEATURE = _MIX_PLACE + 32
_MIX_SIGN = _MIX_FEATURE + 1
_MIX_SIZE = _MIX_SIGN + 4
_MIX_BITS = _MIX_SIZE + 12
MIXERS = _MIX_BITS + 1
_GROUPS = ((1, 1), (4, 2), (32, 5), (1, 3), (4, 3), (12, 4), (1, 2))


def fresh() -> tuple[np.ndarray, np.ndarray]:
    """Initial contexts `[CONTEXTS]` and mixers `[MIXERS, INPUTS + 1]`."""
    contexts = fresh_contexts(CONTEXTS, 1 / 2)
    contexts[_BLOCK_SET:_PLACE_HINT] = fresh_contexts(1, 1 / 4)
    contexts[_PLACE_HINT:_FEATURE_SET] = fresh_contexts(1, 1 / 16)
    weights = [fresh_weights(inputs) for count, inputs in _GROUPS for _ in range(count)]
    return contexts, np.array(weights, np.int32)


def places(shape: tuple[int, ...]) -> tuple[int, int, tuple[int, int, int]]:
    """A tensor's kind, its features at each place, and its places in three dimensions (FORMAT.md, "Places")."""
    features = shape[-1] if len(shape) > 1 and shape[-1] <= MAX_FEATURES else 1
    dims = shape if features == 1 and (len(shape) == 1 or shape[-1] > MAX_FEATURES) else shape[:-1]
    kind = {1: TABLE if len(shape) > 1 else VECTOR, 2: MATRIX}.get(len(dims), VOLUME)
    if len(dims) == 4:
        dims = (dims[0] * dims[1], *dims[2:])
    padded = (1,) * (3 - len(dims)) + tuple(dims)
    return kind, features, (padded[0], padded[1], padded[2])


def estimate(
    contexts: np.ndarray, index: int, history: np.ndarray, hints: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Estimate the cost of values from single contexts, without mixing.

    Args:
        contexts: `[CONTEXTS]`.
        index: of the tensor's set.
        history, hints: `[P]` uint8, of its places.

    Returns:
        `[P]`, bits of a place that changes over one that does not; bits of a nonzero value, sign included, where a
        place has several features; and `[MAX_SIZE_BITS]`, bits of each size of a magnitude over the smallest.
    """
    chance = (contexts.astype(np.float64) / 2**32).clip(2**-16, 1 - 2**-16)
    age = np.digitize(history, (1, 32, 128))
    change = chance[_PLACE_HINT + (index * HINTS + hints.astype(np.int64)) * 4 + age]
    # A cold place changes only in a block that is used.
    cold = (age == 0) & (hints == 0)
    change = np.where(cold, change * chance[_BLOCK_SET + (index * 8 + 7) * 2], change)
    feature = 1 - np.log2(chance[_FEATURE_SET + index * 16])
    more = chance[_SIZE_SET + index * 4 * _SIZES + np.minimum(np.arange(MAX_SIZE_BITS), _SIZES - 1)]
    longer = np.concatenate([[0], np.cumsum(1 - np.log2(more))[:-1]])
    size = longer - np.log2(1 - more) + np.log2(1 - more[0])
    return np.log2((1 - change) / change), float(feature), size.astype(np.float32)


@jit
def _log2(x):
    bits = 0
    while x > 1:
        x >>= 1
        bits += 1
    return bits


_BUCKETS = np.array([0, 1, 2, *(min((x - 1).bit_length() + 1, 7) for x in range(3, 34))], np.int64)
# Places that changed among the last eight, the last two twice, at most 7: of their bits, the last lowest.
_RECENT_PLACES = np.array([min((bits | (bits & 3) << 8).bit_count(), 7) for bits in range(256)], np.int64)


@jit
def _bucket(x):
    """0, 1, 2, 3 to 4, 5 to 8, ... 33 and up: 0 to 7."""
    return _BUCKETS[min(abs(x), 33)]


@jit
def _sign(x):
    return 0 if x == 0 else 1 if x > 0 else 2


def start_walk(kind: int, dims: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Progress of a walk over places, see `code_values`: `[6]`, and the sums of columns, if any; both int64."""
    never = -dims[1] * dims[2] - 1
    return np.array([0, 0, never, 0, 200, 0], np.int64), np.zeros(dims[2] if kind == MATRIX else 1, np.int64)


def warmth(features: int, is_delta: bool, history: np.ndarray, hints: np.ndarray) -> np.ndarray:
    """`[P]` uint8, 0 for places that are cold (FORMAT.md, "Walk"); 0 also behind them, to the end of the last block."""
    warm = np.zeros(-(-len(history) // BLOCK) * BLOCK, np.uint8)
    if is_delta or features > 1:
        np.bitwise_or(history, hints, out=warm[: len(history)])
    else:
        warm[: len(history)] = 1
    return warm


@jit
def code_flag(state, data, contexts, weights, work, index, bit):
    """Code whether the tensor of set `index` changes; the bytes have BLOCK_ROOM."""
    work[0] = _CHANGES + index
    return code_mixed(state, data, contexts, weights, _MIX_CHANGES, work, 1, bit)


@jit
def code_values(
    state, data, contexts, weights, work, progress, column_sums, index, kind, features, dims, is_delta, values, before,
    recent, history, hints, warm, warm_words, changed, latest_residual,
):  # fmt: skip
    """Code the values of a tensor, as far as the bytes have room.

    Args:
        state, data: the range coder's.
        contexts, weights: see `fresh`.
        work: `[INPUTS]` uint32, room.
        progress, column_sums: see `start_walk`; where to continue.
        index: of the tensor's set.
        kind, features, dims: see `places`; `P` is the number of places.
        is_delta: whether `before`, `recent` and `history` mean anything.
        values: `[P * features]` int32; read when encoding, written (from zero) when decoding.
        before: `[P * features]` int32, integers before this record.
        recent: `[P * features]` int8, the last record's residual, at most RECENT_LIMIT in magnitude.
        history: `[P]` uint8, bit 7: the place changed in the last record, bit 6: in the one before, ...
        hints: `[P]` uint8, below HINTS.
        warm: see `warmth`; warm_words: the same as uint64.
        changed: `[P]` uint8, from zero; receives 1 where a place changes.
        latest_residual: `[P * features]` int8, from zero; receives what is `recent` in the next record.

    Returns:
        DONE, NO_ROOM or TOO_LARGE.
    """
    decode = decodes(state)
    count = history.shape[0]
    row = dims[2]
    plane = row * dims[1]
    # Continue after the last block: its end, flag, last place that changed, recent places, mean and row.
    first_start, last, latest, window, mean, row_sum = (
        progress[0], progress[1], progress[2], progress[3], progress[4], progress[5],
    )  # fmt: skip
    for start in range(first_start, count, BLOCK):
        if not has_room(state, data, BLOCK_ROOM):
            progress[0], progress[1], progress[2], progress[3], progress[4], progress[5] = (
                start, last, latest, window, mean, row_sum,
            )  # fmt: skip
            return NO_ROOM
        end = min(start + BLOCK, count)
        cold = 0
        used: Any = 0
        word = start >> 3
        all_cold = (warm_words[word] | warm_words[word + 1] | warm_words[word + 2] | warm_words[word + 3]) == 0
        if all_cold:
            cold = end - start
            if not decode:
                for i in range(start * features, end * features):
                    used |= values[i]
                used = 1 if used != 0 else 0
        else:
            for place in range(start, end):
                if not warm[place]:
                    cold += 1
                    if not decode:
                        for i in range(place * features, (place + 1) * features):
                            used |= values[i] != 0
        if cold > 0:
            near: Any = 0
            if kind == VOLUME and latest + plane >= start:
                for place in range(start, end):
                    if place >= row:
                        near |= changed[place - row]
                    if place >= plane:
                        near |= 2 * changed[place - plane]
            share = min(8 * cold // BLOCK, 7)
            work[0] = _BLOCK_SET + (index * 8 + share) * 2 + last
            work[1] = _BLOCK_KIND + (kind * 4 + near) * 8 + share
            used = code_mixed(state, data, contexts, weights, _MIX_BLOCK + kind, work, 2, used)
            last = used
            if all_cold and not used:
                window = 0
                continue
        x, y = start % row - 1, start % plane - 1
        if kind == MATRIX and latest < start - x - 1:
            row_sum = np.int64(0)
        for place in range(start, end):
            x += 1
            if x == row:
                x = 0
                row_sum = np.int64(0)
            y += 1
            if y == plane:
                y = 0
            if not used and not warm[place]:
                window = (window << 1) & 255
                continue
            past = np.int64(history[place])
            hint = np.int64(hints[place])
            first = place * features
            # Three earlier places nearby, or -1.
            if kind == TABLE:
                near1, near2, near3 = max(place - 1, -1), max(place - 2, -1), max(place - 3, -1)
            else:
                near1 = place - 1 if x > 0 else -1
                near2 = place - row if y >= row else -1
                near3 = place - plane if place >= plane else -1
            direct = 0
            if near1 >= 0:
                direct += changed[near1]
            if near2 >= 0:
                direct += changed[near2]
            if near3 >= 0:
                direct += changed[near3]
            near = 0
            ahead = 0
            form: Any = 0
            if kind == VOLUME:
                near = 2 * direct
                if near2 >= 0:
                    if x > 0:
                        near += changed[near2 - 1]
                    if x < row - 1:
                        near += changed[near2 + 1]
                if near3 >= 0:
                    if x > 0:
                        near += changed[near3 - 1]
                    if x < row - 1:
                        near += changed[near3 + 1]
                if x < row - 1:
                    ahead += history[place + 1] > 0
                if y + row < plane:
                    ahead += history[place + row] > 0
                if place + plane < count:
                    ahead += history[place + plane] > 0
                if features == 1 and is_delta:
                    # How many of the six sides are not zero: those that are coded as they are now.
                    sides = 0
                    if near1 >= 0:
                        sides += before[near1] + values[near1] != 0
                    if near2 >= 0:
                        sides += before[near2] + values[near2] != 0
                    if near3 >= 0:
                        sides += before[near3] + values[near3] != 0
                    if x < row - 1:
                        sides += before[place + 1] != 0
                    if y + row < plane:
                        sides += before[place + row] != 0
                    if place + plane < count:
                        sides += before[place + plane] != 0
                    form = 1 + 2 * sides + (before[place] != 0)
            elif kind == TABLE:
                near = _RECENT_PLACES[window]
                form = hint
                for other in (place - 2, place - 1, place + 1, place + 2):
                    if 0 <= other < count:
                        ahead += history[other] > 0
            else:
                total = np.int64(0)
                for feature in range(features):
                    if near1 >= 0:
                        total += abs(values[near1 * features + feature])
                    if near2 >= 0:
                        total += abs(values[near2 * features + feature])
                near = _bucket(total)
                if kind == MATRIX:
                    across = 4 * row_sum // x if x > 0 else 2
                    down = 4 * column_sums[x] // (place // row) if place >= row else 2
                    form = 8 * _bucket(across) + _bucket(down)
            near = min(near, 7)
            # In all features together.
            nonzero = 0
            most_before = np.int64(0)
            most_recent: Any = 0
            for i in range(first, first + features):
                nonzero |= values[i] != 0
                most_before = max(most_before, abs(np.int64(before[i])))
                most_recent = max(most_recent, abs(np.int64(recent[i])))
            age = 0 if past == 0 else 1 if past < 32 else 2 if past < 128 else 3
            work[0] = _PLACE_HINT + (index * HINTS + hint) * 4 + age
            work[1] = _PLACE_PAST + ((kind * 8 + near) * 8 + ahead) * 4 + age
            work[2] = _PLACE_HISTORY + (kind * 32 + (past >> 3)) * 4 + most_recent
            work[3] = _PLACE_BEFORE + ((kind * 8 + _bucket(most_before)) * HINTS + hint) * 2 + (age > 0)
            work[4] = _PLACE_FORM + (kind * 64 + form) * 4 + direct
            mixer = _MIX_PLACE + ((kind * 2 + (age > 0)) * 2 + (hint > 0)) * 2 + (near > 0)
            nonzero = code_mixed(state, data, contexts, weights, mixer, work, 5, nonzero)
            window = (window << 1 | nonzero) & 255
            if not nonzero:
                continue
            changed[place] = 1
            latest = place
            beside: Any = np.int64(0)
            any_yet = 0
            for feature in range(features):
                i = first + feature
                value = np.int64(values[i])
                was = np.int64(recent[i])
                if features > 1 and (feature < features - 1 or any_yet):
                    known: Any = feature * 4 + min(abs(beside), 3)
                    work[0] = _FEATURE_SET + index * 16 + known
                    work[1] = _FEATURE_RECENT + (abs(was) * 4 + most_recent) * 16 + known
                    work[2] = _FEATURE_HINT + (hint * 4 + age) * 16 + known
                    if not code_mixed(state, data, contexts, weights, _MIX_FEATURE, work, 3, 1 if value != 0 else 0):
                        beside = np.int64(0)
                        continue
                any_yet = 1
                value1 = np.int64(values[near1 * features + feature]) if near1 >= 0 else np.int64(0)
                value2 = np.int64(values[near2 * features + feature]) if near2 >= 0 else np.int64(0)
                value3 = np.int64(values[near3 * features + feature]) if near3 >= 0 else np.int64(0)
                side = _sign(before[i])
                work[0] = _SIGN_SET + (index * 3 + _sign(was)) * 3 + side
                work[1] = _SIGN_BEFORE + ((kind * 8 + _bucket(np.int64(before[i]))) * 3 + side) * 3 + _sign(beside)
                work[2] = _SIGN_NEAR + ((index * 3 + _sign(value1)) * 3 + _sign(value2)) * 3 + _sign(value3)
                negative = code_mixed(state, data, contexts, weights, _MIX_SIGN + kind, work, 3, 1 if value < 0 else 0)
                # The magnitude: the number of bits behind its leading one, then those.
                magnitude = abs(value)
                about = (
                    form if kind == MATRIX else 8 * _bucket(abs(value1) + abs(value2) + abs(value3)) + _bucket(beside)
                )
                scale = min(max(_log2(mean) - 4, 0), 15)
                size = 0
                while True:
                    level = min(size, _SIZES - 1)
                    work[0] = _SIZE_SET + (index * 4 + abs(was)) * _SIZES + level
                    work[1] = _SIZE_NEAR + (kind * 64 + about) * _SIZES + level
                    work[2] = _SIZE_HINT + (kind * HINTS + hint) * _SIZES + level
                    work[3] = _SIZE_MEAN + (kind * 16 + scale) * _SIZES + level
                    mixer = _MIX_SIZE + kind * 3 + min(size, 2)
                    more = 1 if magnitude >> (size + 1) > 0 else 0
                    if not code_mixed(state, data, contexts, weights, mixer, work, 4, more):
                        break
                    size += 1
                    if size >= MAX_SIZE_BITS:
                        return TOO_LARGE
                total = np.int64(1)
                for shift in range(size - 1, -1, -1):
                    bit = magnitude >> shift & 1
                    if total < 4:
                        level = min(size, _SIZES - 1)
                        work[0] = _BITS_SET + (index * _SIZES + level) * 4 + total
                        work[1] = _BITS_MEAN + ((kind * 16 + scale) * _SIZES + level) * 4 + total
                        bit = code_mixed(state, data, contexts, weights, _MIX_BITS, work, 2, bit)
                    else:
                        bit = code_bit(state, data, HALF, bit)
                    total = total << 1 | bit
                beside = -total if negative else total
                if decode:
                    values[i] = beside
                latest_residual[i] = min(max(beside, -RECENT_LIMIT), RECENT_LIMIT)
                mean += (128 * total - mean) >> 4
                if kind == MATRIX:
                    row_sum += total
                    column_sums[x] += total
    return DONE
