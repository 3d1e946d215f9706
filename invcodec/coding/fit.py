"""Records that fit a byte budget: the smallest changes of a delta are left out, a keyframe is made coarser.

A change that is left out is not lost: the next frame is coded against the decoder's state, and may send it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from invcodec.coding.codec import encode_delta
from invcodec.coding.coders import CODER
from invcodec.coding.prediction import predict
from invcodec.coding.quantize import MAX_LEVEL, from_lattice, step
from invcodec.coding.state import State, table
from invcodec.container.frame import DIGEST_BYTES, FrameHead, Stats
from invcodec.container.head import Head
from invcodec.container.writer import record_bytes
from invcodec.field.profile import TensorKey

DEAD_ZONE = 0.6
"""Default of the smallest change that is sent, in lattice steps: slightly above plain rounding, which is 0.5."""
_PARTS = 8
"""Dead zones are decided in eighths of a step, on integers."""
_QUALITY_HALVINGS = 6

MOST_STATS = Stats("lead", 2**32 - 1, 10_000, 10_000, 1000, 2**53)
"""The statistics that take most bytes."""


@dataclass(frozen=True)
class Fitted:
    """A record that fits its budget.

    Attributes:
        coded: its coded bytes.
        state: the state after it.
        needed: number of bytes that it would have coded without a limit.
    """

    coded: bytes
    state: State
    needed: int


def largest_empty_delta(head: Head) -> int:
    """Upper bound in bytes of the record of a frame that changes nothing, which spends up to 16 bits on each tensor."""
    frame = FrameHead(2**53, 2**62, bytes(DIGEST_BYTES), CODER, None, MOST_STATS)
    return record_bytes(frame, b"") + 2 * len(table(head)) + 8


def fit_change(
    before: State,
    weights: Mapping[TensorKey, np.ndarray],
    dead_zone: float,
    room: float,
    exact: Collection[TensorKey] = (),
) -> Fitted:
    """Code the change from a state to new weights, on the state's lattice, in at most `room` bytes.

    The dead zone is raised as far as needed, so the smallest changes, which matter least, are dropped first. Tensors
    that are `exact` are sent or dropped as a whole, after all others. If even that does not fit, the record changes
    nothing, whatever its size.

    Args:
        weights: float32 by tensor; tensors that are not named become what is predicted.
        dead_zone: smallest change that is sent if there is room, in lattice steps (0.5 is plain rounding).
        room: bytes.
        exact: tensors that hold integers.
    """
    prediction = predict(before.head, before)
    changes = {key: _eighths(value, prediction[key], before.qps[key]) for key, value in weights.items()}

    def attempt(least: float, send_exact: bool) -> tuple[bytes, State]:
        """Code the changes of at least `least` eighths of a step."""
        levels = {}
        for key, change in changes.items():
            if key not in exact:
                levels[key] = _moved(prediction[key], change, least)
            elif send_exact:
                levels[key] = _moved(prediction[key], change, _PARTS * dead_zone)
        return encode_delta(before, levels)

    least = _PARTS * dead_zone
    best = attempt(least, True)
    needed = len(best[0])
    if needed <= room:
        return Fitted(*best, needed)
    most = max((int(np.abs(change).max()) for key, change in changes.items() if key not in exact), default=0) + 1
    for send_exact in (True, False):
        best = attempt(most, send_exact)
        if len(best[0]) <= room:
            low, high = int(least), most
            while high - low > 1:
                middle = (low + high) // 2
                tried = attempt(middle, send_exact)
                if len(tried[0]) <= room:
                    high, best = middle, tried
                else:
                    low = middle
            break
    return Fitted(*best, needed)


def _eighths(weights: np.ndarray, levels: np.ndarray, qp: int) -> np.ndarray:
    """Changes from lattice integers to weights in eighths of a step, int32; at most from one end to the other."""
    change = _PARTS * (weights.astype(np.float64) - from_lattice(levels, qp)) / step(qp)
    most = _PARTS * 2 * MAX_LEVEL
    return np.rint(np.clip(change, -most, most)).astype(np.int32)


def _moved(levels: np.ndarray, change: np.ndarray, least: float) -> np.ndarray:
    """Integers after a change in eighths of a step; elements smaller than `least` are dropped."""
    size = np.abs(change)
    sent = np.sign(change) * np.where(size < least, 0, np.maximum((size + _PARTS // 2) // _PARTS, 1))
    return np.clip(levels + sent, -MAX_LEVEL, MAX_LEVEL)


def fit_key(attempt: Callable[[float], tuple[bytes, State]], quality: float, room: float) -> Fitted:
    """Code a keyframe in at most `room` bytes: at the highest quality up to `quality` at which it fits, else at 0.

    Args:
        attempt: codes the keyframe at a quality.
    """
    best = attempt(quality)
    needed = len(best[0])
    if needed > room:
        low, high = 0.0, quality
        best = attempt(low)
        for _ in range(_QUALITY_HALVINGS if len(best[0]) <= room else 0):
            middle = (low + high) / 2
            tried = attempt(middle)
            if len(tried[0]) <= room:
                low, best = middle, tried
            else:
                high = middle
    return Fitted(*best, needed)
