"""A frame's networks as named integer tensors: what encoder and decoder both hold, bit for bit."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from invcodec.coding import entropy
from invcodec.coding.quantize import MAX_LEVEL, from_lattice, step
from invcodec.coding.schema import DIGEST_BYTES, CodedTensor, FrameHead, Head
from invcodec.errors import DamagedError, UnsupportedError

if TYPE_CHECKING:
    from invcodec.coding.scan import Found

TensorKey = tuple[str, str]


@dataclass(frozen=True)
class State:
    """All tensors of all networks at one frame.

    Attributes:
        head: declares them.
        levels: int32 lattice integers by network and tensor name, in their declared shapes. Not to be changed.
        qps: quantisation parameters. They change only at a keyframe.
        recent: residuals that the last record carried; contexts for the next one.
    """

    head: Head
    levels: dict[TensorKey, np.ndarray] = field(default_factory=dict)
    qps: dict[TensorKey, int] = field(default_factory=dict)
    recent: dict[TensorKey, np.ndarray] = field(default_factory=dict)

    def weights(self) -> dict[TensorKey, np.ndarray]:
        """Float32 weights, the same on every machine."""
        return {key: from_lattice(levels, self.qps[key]) for key, levels in self.levels.items()}

    def digest(self) -> bytes:
        """SHA-256 over each tensor's qp (int32) and integers (int32), little-endian, in table order; 16 bytes."""
        total = hashlib.sha256()
        for key in table(self.head):
            total.update(struct.pack("<i", self.qps[key]))
            total.update(np.ascontiguousarray(self.levels[key], "<i4").data)
        return total.digest()[:DIGEST_BYTES]


def table(head: Head) -> list[TensorKey]:
    """Every tensor of every network, in the order in which records code them."""
    return [(network.name, tensor.name) for network in head.networks for tensor in network.tensors]


def encode_key(
    head: Head, levels: Mapping[TensorKey, np.ndarray], qps: Mapping[TensorKey, int]
) -> tuple[list[CodedTensor], list[bytes], State]:
    """Code every tensor on its own; returns the tensor list, the coded bytes, and the state."""
    state = State(head, dict(levels), dict(qps), {})
    return *_encode(head, state.levels, state.qps, State(head)), state


def encode_delta(before: State, levels: Mapping[TensorKey, np.ndarray]) -> tuple[list[CodedTensor], list[bytes], State]:
    """Code what changes from a state to new integers (tensors that are not named stay as they are)."""
    residuals = {}
    for key in table(before.head):
        if key in levels:
            residual = levels[key] - before.levels[key]
            if residual.any():
                residuals[key] = residual
    state = State(
        before.head,
        {**before.levels, **{key: before.levels[key] + r for key, r in residuals.items()}},
        before.qps,
        residuals,
    )
    return *_encode(before.head, residuals, before.qps, before), state


def _encode(
    head: Head, values: Mapping[TensorKey, np.ndarray], qps: Mapping[TensorKey, int], before: State
) -> tuple[list[CodedTensor], list[bytes]]:
    entries, parts = [], []
    for n, network in enumerate(head.networks):
        for t, tensor in enumerate(network.tensors):
            key = (network.name, tensor.name)
            if key in values:
                parts.append(entropy.encode(values[key], before.levels.get(key), before.recent.get(key)))
                entries.append(CodedTensor(n, t, entropy.CODER, qps[key], len(parts[-1])))
    return entries, parts


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
    if before is None and len(frame.tensors) != len(table(head)):
        raise DamagedError("a keyframe does not carry every tensor")
    if sum(entry.length for entry in frame.tensors) != len(coded):
        raise DamagedError("coded tensors do not fill their record exactly")
    base = before or State(head)
    levels, qps, recent = dict(base.levels), dict(base.qps), {}
    position = 0
    for entry in frame.tensors:
        try:
            network = head.networks[entry.network]
            tensor = network.tensors[entry.tensor]
        except IndexError:
            raise DamagedError("a record codes a tensor that the header does not declare") from None
        key = (network.name, tensor.name)
        if entry.coder != entropy.CODER:
            raise UnsupportedError(f"tensor '{network.name}/{tensor.name}': coder {entry.coder} needs a newer invcodec")
        data = coded[position : position + entry.length]
        position += entry.length
        values = entropy.decode(data, tensor.shape, base.levels.get(key), base.recent.get(key))
        if before is None:
            try:
                step(entry.qp)
            except ValueError as error:
                raise DamagedError(f"tensor '{network.name}/{tensor.name}': {error}") from None
            levels[key], qps[key] = values, entry.qp
        else:
            if entry.qp != qps[key]:
                raise DamagedError(f"tensor '{network.name}/{tensor.name}': the step changes outside a keyframe")
            recent[key] = values
            levels[key] = levels[key] + values
        if np.abs(levels[key]).max() > MAX_LEVEL:
            raise DamagedError(f"tensor '{network.name}/{tensor.name}': a value exceeds {MAX_LEVEL}")
    return State(head, levels, qps, recent)


class Follower:
    """Decodes frames in the order in which a scanner finds them.

    Attributes:
        state: of the last good frame, or None.
    """

    def __init__(self) -> None:
        self.state: State | None = None

    def apply(self, head: Head, found: Found) -> State:
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
