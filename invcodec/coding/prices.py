"""What it costs to change a weight, as the coder stands: for encoders that weigh bits against quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from invcodec.coding import model
from invcodec.coding.guide import Guide, order
from invcodec.coding.state import State, TensorKey


@dataclass(frozen=True)
class Prices:
    """Estimates for one tensor.

    Attributes:
        nonzero: float32 in the tensor's shape, bits that a residual of 1 or -1 costs more than one of 0.
        size: float32 `[25]`, bits that a magnitude of 2^e to 2^(e+1) - 1 costs more than one of 1.
    """

    nonzero: np.ndarray
    size: np.ndarray

    def of(self, residual: np.ndarray) -> np.ndarray:
        """Bits of each value of a residual of the tensor's shape, over those of a 0."""
        magnitude = np.abs(residual)
        exponent = np.maximum(np.frexp(magnitude)[1] - 1, 0)
        return np.where(magnitude > 0, self.nonzero + self.size[exponent], 0)


def prices(before: State, residuals: Mapping[TensorKey, np.ndarray]) -> dict[TensorKey, Prices]:
    """Prices of all tensors.

    A place's price follows from its history, and from the candidates on coarser levels of its grid. It is for each
    value on its own: a second feature of one place comes cheaper than it says.

    Args:
        residuals: candidates, int32 in their tensors' shapes; tensors that are not named are taken not to change.
    """
    result = {}
    position = 0
    for network in before.head.networks:
        guide = Guide(network, True)
        for index in order(network):
            tensor = network.tensors[index]
            key = network.name, tensor.name
            _, features, dims = model.places(tensor.shape)
            count = dims[0] * dims[1] * dims[2]
            hints = guide.hints(index)
            place, value, size = model.estimate(
                before.statistics.contexts,
                min(position + index, model.SETS - 1),
                before.history.get(key, np.zeros(count, np.uint8)),
                np.zeros(count, np.uint8) if hints is None else hints,
            )
            nonzero = np.repeat(place, features) + (value if features > 1 else 1.0)
            result[key] = Prices(nonzero.astype(np.float32).reshape(tensor.shape), size)
            residual = residuals.get(key)
            changed = None
            if residual is not None:
                changed = (residual.reshape(count, features) != 0).any(1).astype(np.uint8)
            guide.learn(index, before.levels[key], residual, changed)
        position += len(network.tensors)
    return result
