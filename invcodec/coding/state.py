"""A frame's networks as named integer tensors: what encoder and decoder both hold, bit for bit (FORMAT.md, "State")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from invcodec.coding.quantize import from_lattice
from invcodec.coding.rangecoder import jit
from invcodec.container.frame import DIGEST_BYTES
from invcodec.container.head import Head
from invcodec.field.profile import TensorKey

_EMPTY = 0x9E3779B97F4A7C15
"""Digest of zeros."""


@dataclass(frozen=True)
class State:
    """All tensors of all networks at one frame, and the memory of the coder. Immutable, its arrays included.

    Attributes:
        head: declares the tensors.
        levels: int32 lattice integers by tensor, in their declared shapes and in table order.
        qps: quantisation parameter of each tensor; only a keyframe changes them.
        coder: id of the coder of the last record, see `invcodec.coding.coders`.
        memory: what that coder carries to the next DELTA; opaque to everything else.
    """

    head: Head
    levels: dict[TensorKey, np.ndarray]
    qps: dict[TensorKey, int]
    coder: int
    memory: object

    def weights(self, since: State | None = None) -> dict[TensorKey, np.ndarray]:
        """Float32 weights, bit-identical on every machine.

        Args:
            since: leave out tensors that no record between this other state and this one changes.
        """
        return {
            key: self.weight(key)
            for key, levels in self.levels.items()
            if since is None or levels is not since.levels[key] or self.qps[key] != since.qps[key]
        }

    def weight(self, key: TensorKey) -> np.ndarray:
        """One tensor's weights, as of `weights`."""
        return from_lattice(self.levels[key], self.qps[key])

    def digest(self) -> bytes:
        """The sum of every qp, and of every integer, each multiplied by a number that is its place's own; 8 bytes.

        No number can change alone without changing it (FORMAT.md, "State").
        """
        keys = table(self.head)
        parts = [np.array([self.qps[key] for key in keys]), *(self.levels[key] for key in keys)]
        total, place = _EMPTY, 0
        for part in parts:
            total += int(_weighted_sum(np.ascontiguousarray(part, np.int32).reshape(-1), np.uint64(place)))
            place += part.size
        return (total % 2**64).to_bytes(DIGEST_BYTES, "little")


def table(head: Head) -> list[TensorKey]:
    """Every tensor of every network, in their declared order."""
    return [(network.name, tensor.name) for network in head.networks for tensor in network.tensors]


@jit
def _weighted_sum(integers, first):
    """Sum modulo 2^64 of integers `[N]` int32, weighted by their places, of which the first is `first`."""
    total = np.uint64(0)
    for i in range(integers.shape[0]):
        z = (first + np.uint64(i + 1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
        total += np.uint64(np.int64(integers[i])) * ((z ^ (z >> np.uint64(32))) | np.uint64(1))
    return total
