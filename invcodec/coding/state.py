"""A frame's networks as named integer tensors: what encoder and decoder both hold, bit for bit (FORMAT.md, "State")."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from invcodec.coding.quantize import from_lattice
from invcodec.container.frame import DIGEST_BYTES
from invcodec.container.head import Head
from invcodec.field.profile import TensorKey


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

    def weights(self) -> dict[TensorKey, np.ndarray]:
        """Float32 weights, bit-identical on every machine."""
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
