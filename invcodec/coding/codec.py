"""KEY and DELTA: a frame's state to the coded bytes of its record, and back.

    integers  --  minus the prediction (`prediction`)  --  residuals  --  entropy coded (`coders`)  --  coded bytes

A record is coded in three steps: `predict` its integers, subtract, and hand the residuals to the coder that the
record names. Weights become integers before that (`quantize`); `fit` chooses which changes are worth their bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from invcodec.coding.coder import Residuals
from invcodec.coding.coders import CODER, find_coder
from invcodec.coding.prediction import Prediction, predict
from invcodec.coding.quantize import MAX_LEVEL
from invcodec.coding.rangecoder import jit
from invcodec.coding.state import State, table
from invcodec.container.frame import NO_STATS, FrameHead, Stats
from invcodec.container.head import Head
from invcodec.errors import DamagedError
from invcodec.field.profile import TensorKey
from invcodec.geometry.camera import Camera


def key_frame(state: State, time: int, stats: Stats = NO_STATS, cameras: tuple[Camera, ...] | None = None) -> FrameHead:
    """The header of a KEY record of a state."""
    qps = tuple(state.qps[key] for key in table(state.head))
    return FrameHead(time, None, state.digest(), state.coder, qps, stats, cameras)


def delta_frame(
    state: State, time: int, reference: int, stats: Stats = NO_STATS, cameras: tuple[Camera, ...] | None = None
) -> FrameHead:
    """The header of a DELTA record that leads from the state of frame `reference` to this one."""
    return FrameHead(time, reference, state.digest(), state.coder, None, stats, cameras)


def encode_key(
    head: Head, levels: Mapping[TensorKey, np.ndarray], qps: Mapping[TensorKey, int], coder: int = CODER
) -> tuple[bytes, State]:
    """Code every tensor; returns the coded bytes and the state.

    Args:
        levels: int32 by tensor, in their declared shapes.
        qps: by tensor.
        coder: id of the coder, which the deltas up to the next keyframe use, too.
    """
    prediction = predict(head, None)
    residuals = _residuals(prediction, {key: levels[key] for key in prediction})
    coded, memory = find_coder(coder).encode(head, prediction, residuals, None)
    return coded, State(head, _after(prediction, levels, residuals), dict(qps), coder, memory)


def encode_delta(before: State, levels: Mapping[TensorKey, np.ndarray]) -> tuple[bytes, State]:
    """Code the change from a state to new integers; tensors that are not named become what is predicted.

    `before` is not modified, so several deltas can be tried from one state.
    """
    prediction = predict(before.head, before)
    residuals = _residuals(prediction, levels)
    coded, memory = find_coder(before.coder).encode(before.head, prediction, residuals, before.memory)
    return coded, State(before.head, _after(prediction, levels, residuals), before.qps, before.coder, memory)


def decode(head: Head, frame: FrameHead, coded: bytes, before: State | None) -> State:
    """Apply a record to the state before it (None for a KEY), and check the result against its digest.

    Raises:
        DamagedError: the bytes do not fit the declaration, or the digest differs.
        UnsupportedError: an unknown coder.
    """
    state = apply(head, frame, coded, before)
    if state.digest() != frame.digest:
        raise DamagedError("the decoded state does not match its digest")
    return state


def apply(head: Head, frame: FrameHead, coded: bytes, before: State | None) -> State:
    """As `decode`, but without the digest check."""
    coder = find_coder(frame.coder)
    if before is not None and before.coder != frame.coder:
        raise DamagedError(f"a delta changes the coder from {before.coder} to {frame.coder}; only a keyframe may")
    qps = _qps(head, frame) if before is None else before.qps
    prediction = predict(head, before)
    residuals, memory = coder.decode(head, prediction, coded, None if before is None else before.memory)
    return State(head, _add(prediction, residuals), qps, frame.coder, memory)


def _qps(head: Head, frame: FrameHead) -> dict[TensorKey, int]:
    """The quantisation parameters of a KEY."""
    keys = table(head)
    if frame.qps is None or len(frame.qps) != len(keys):
        raise DamagedError("a keyframe does not give the step of every tensor")
    return dict(zip(keys, frame.qps, strict=True))


def _residuals(prediction: Prediction, levels: Mapping[TensorKey, np.ndarray]) -> Residuals:
    """Differences of integers and their prediction, where there are any."""
    residuals = {}
    for key, base in prediction.items():
        if key in levels and levels[key] is not base:
            residual = levels[key] - base
            if residual.any():
                residuals[key] = residual
    return residuals


def _after(
    prediction: Prediction, levels: Mapping[TensorKey, np.ndarray], residuals: Residuals
) -> dict[TensorKey, np.ndarray]:
    """The integers that `_add` will find."""
    return {key: np.asarray(levels[key], np.int32) if key in residuals else base for key, base in prediction.items()}


def _add(prediction: Prediction, residuals: Residuals) -> dict[TensorKey, np.ndarray]:
    """Integers from their prediction and their residuals.

    Raises:
        DamagedError: a sum exceeds MAX_LEVEL.
    """
    levels = {}
    for key, base in prediction.items():
        levels[key] = base
        if key in residuals:
            levels[key] = np.empty(base.shape, np.int32)
            parts = (np.ascontiguousarray(each, np.int32).reshape(-1) for each in (base, residuals[key]))
            if _sum(*parts, levels[key].reshape(-1)) > MAX_LEVEL:
                raise DamagedError(f"tensor '{key[0]}/{key[1]}': a value exceeds {MAX_LEVEL}")
    return levels


@jit
def _sum(a, b, out):
    """Sum of integers `[N]` int32, wrapping around, into `out`; returns the largest magnitude."""
    most = np.int64(0)
    for i in range(a.shape[0]):
        total = np.int64(a[i]) + b[i]
        out[i] = total
        most = max(most, abs(total))
    return most
