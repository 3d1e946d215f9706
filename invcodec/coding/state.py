"""A frame's networks as named integer tensors: what encoder and decoder both hold, bit for bit."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from invcodec.coding.entropy import CODER, RECENT_LIMIT, Known, RecordCoder, Statistics
from invcodec.coding.guide import Guide, order
from invcodec.coding.quantize import MAX_LEVEL, from_lattice
from invcodec.container.frame import DIGEST_BYTES, NO_STATS, FrameHead, Stats
from invcodec.container.head import Head
from invcodec.errors import DamagedError, UnsupportedError
from invcodec.geometry.camera import Camera

if TYPE_CHECKING:
    from invcodec.container.scan import Record

TensorKey = tuple[str, str]
Coded = dict[TensorKey, tuple[np.ndarray, np.ndarray]]
"""What a record codes of each tensor: a keyframe's integers or a residual, and `[P]` uint8, 1 where a place has any."""


@dataclass(frozen=True)
class State:
    """All tensors of all networks at one frame, and what coder and decoder have learned up to it.

    Attributes:
        head: declares them.
        levels: int32 lattice integers by network and tensor name, in their declared shapes. Not to be changed.
        qps: quantisation parameters. They change only at a keyframe.
        recent: int8, what the last record added, clipped; only tensors that it changed.
        history: uint8 for each place, which of the last records changed it; only tensors that some have.
        statistics: what the coder has learned since the keyframe.
    """

    head: Head
    levels: dict[TensorKey, np.ndarray] = field(default_factory=dict)
    qps: dict[TensorKey, int] = field(default_factory=dict)
    recent: dict[TensorKey, np.ndarray] = field(default_factory=dict)
    history: dict[TensorKey, np.ndarray] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=Statistics)

    def weights(self) -> dict[TensorKey, np.ndarray]:
        """Float32 weights, the same on every machine."""
        return {key: from_lattice(levels, self.qps[key]) for key, levels in self.levels.items()}

    def digest(self) -> bytes:
        """SHA-256 over each tensor's qp (int32) and integers (int32), little-endian, in table order; 8 bytes."""
        total = hashlib.sha256()
        for key in table(self.head):
            total.update(struct.pack("<i", self.qps[key]))
            total.update(np.ascontiguousarray(self.levels[key], "<i4").data)
        return total.digest()[:DIGEST_BYTES]


def table(head: Head) -> list[TensorKey]:
    """Every tensor of every network, in their declared order."""
    return [(network.name, tensor.name) for network in head.networks for tensor in network.tensors]


def key_frame(state: State, time: int, stats: Stats = NO_STATS, cameras: tuple[Camera, ...] | None = None) -> FrameHead:
    """The header of a KEY record of a state."""
    qps = tuple(state.qps[key] for key in table(state.head))
    return FrameHead(time, None, state.digest(), CODER, qps, stats, cameras)


def delta_frame(
    state: State, time: int, reference: int, stats: Stats = NO_STATS, cameras: tuple[Camera, ...] | None = None
) -> FrameHead:
    """The header of a DELTA record that leads from the state of frame `reference` to this one."""
    return FrameHead(time, reference, state.digest(), CODER, None, stats, cameras)


def encode_key(head: Head, levels: Mapping[TensorKey, np.ndarray], qps: Mapping[TensorKey, int]) -> tuple[bytes, State]:
    """Code every tensor on its own; returns the coded bytes and the state."""
    coder = RecordCoder(Statistics())
    _code(head, coder, None, {key: levels[key] for key in table(head)})
    return coder.finish(), State(head, dict(levels), dict(qps))


def encode_delta(before: State, levels: Mapping[TensorKey, np.ndarray]) -> tuple[bytes, State]:
    """Code what changes from a state to new integers; tensors that are not named stay as they are.

    Nothing of `before` is changed, so that one state can be gone on from several times, to choose among them.
    """
    residuals = {}
    for key in table(before.head):
        if key in levels and levels[key] is not before.levels[key]:
            residual = levels[key] - before.levels[key]
            if residual.any():
                residuals[key] = residual
    coder = RecordCoder(before.statistics)
    coded = _code(before.head, coder, before, residuals)
    return coder.finish(), _follow(before, coded, coder.statistics)


def decode(head: Head, frame: FrameHead, coded: bytes, before: State | None) -> State:
    """Apply a record to the state before it (None for a KEY), and prove the result by its digest.

    Raises:
        DamagedError: the bytes do not fit the declaration, or the digest differs.
        UnsupportedError: a coder that is not known here.
    """
    state = apply(head, frame, coded, before)
    if state.digest() != frame.digest:
        raise DamagedError("the decoded state does not match its digest")
    return state


def apply(head: Head, frame: FrameHead, coded: bytes, before: State | None) -> State:
    """As `decode`, whatever the digest says."""
    if frame.coder != CODER:
        raise UnsupportedError(f"coder {frame.coder} needs a newer invcodec")
    coder = RecordCoder(Statistics() if before is None else before.statistics, coded)
    values = _code(head, coder, before, None)
    coder.finish()
    if before is None:
        levels = {key: integers for key, (integers, _) in values.items()}
        state = State(head, levels, dict(zip(table(head), _steps(head, frame), strict=True)))
    else:
        state = _follow(before, values, coder.statistics)
    for key in values:
        if max(int(state.levels[key].max()), -int(state.levels[key].min())) > MAX_LEVEL:
            raise DamagedError(f"tensor '{key[0]}/{key[1]}': a value exceeds {MAX_LEVEL}")
    return state


def _steps(head: Head, frame: FrameHead) -> tuple[int, ...]:
    """The quantisation parameters of a KEY."""
    if frame.qps is None or len(frame.qps) != len(table(head)):
        raise DamagedError("a keyframe does not give the step of every tensor")
    return frame.qps


def _code(head: Head, coder: RecordCoder, before: State | None, values: Mapping[TensorKey, np.ndarray] | None) -> Coded:
    """Walk over all tensors in coding order, decoding if there are no values; returns those that are coded."""
    result = {}
    position = 0
    for network in head.networks:
        guide = Guide(network, before is not None)
        for index in order(network):
            tensor = network.tensors[index]
            key = network.name, tensor.name
            given = None if values is None else values.get(key)
            known = None
            if before is not None:
                known = Known(before.levels[key], before.recent.get(key), before.history.get(key))
            if known is None or coder.changes(position + index, given is not None):
                result[key] = coder.tensor(position + index, tensor.shape, given, known, guide.hints(index))
            guide.learn(index, None if known is None else known.before, *result.get(key, (None, None)))
        position += len(network.tensors)
    return result


def _follow(before: State, coded: Coded, statistics: Statistics) -> State:
    """The state after a delta."""
    history = {key: old >> 1 for key, old in before.history.items()}
    for key, (_, changed) in coded.items():
        history[key] = history.get(key, 0) | changed << 7
    return State(
        before.head,
        before.levels | {key: before.levels[key] + residual for key, (residual, _) in coded.items()},
        before.qps,
        {key: np.clip(r, -RECENT_LIMIT, RECENT_LIMIT).astype(np.int8) for key, (r, _) in coded.items()},
        {key: each for key, each in history.items() if each.any()},
        statistics,
    )


class Follower:
    """Decodes frames in the order in which a scanner finds them.

    Attributes:
        state: of the last good frame, or None.
    """

    def __init__(self) -> None:
        self.state: State | None = None

    def apply(self, head: Head, found: Record) -> State:
        """The state at a frame that was found good.

        Raises:
            DamagedError: the record does not decode, or its digest differs; or one that it builds on did.
            UnsupportedError: an unknown coder.
        """
        assert found.entry is not None
        assert found.frame is not None
        assert found.coded is not None
        is_key = found.entry.reference is None
        before, self.state = self.state, None
        if not is_key and before is None:
            raise DamagedError(
                f"frame {found.entry.number} builds on frame {found.entry.reference}, which is lost",
                offset=found.entry.offset,
                frame=found.entry.number,
            )
        try:
            self.state = decode(head, found.frame, found.coded, None if is_key else before)
        except DamagedError as error:
            raise DamagedError(
                f"frame {found.entry.number}: {error}", offset=found.entry.offset, frame=found.entry.number
            ) from None
        return self.state
