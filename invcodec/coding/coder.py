"""The interface of an entropy coder: residuals to and from the bytes of a record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from invcodec.coding.prediction import Prediction
from invcodec.container.head import Head
from invcodec.field.profile import TensorKey

Residuals = Mapping[TensorKey, np.ndarray]
"""Int32 by tensor, in their declared shapes. Tensors that are not named have a residual of 0."""


@dataclass(frozen=True)
class Prices:
    """Estimated costs of changing one tensor.

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


class Coder(ABC):
    """Codes the residuals of a whole record.

    A coder object holds nothing. What it carries from record to record is its *memory*, an immutable object of a kind
    of its own that a `State` keeps: encoding several candidates from one state needs no copy.
    """

    @abstractmethod
    def encode(
        self, head: Head, prediction: Prediction, residuals: Residuals, memory: Any | None
    ) -> tuple[bytes, object]:
        """Code a record.

        Args:
            prediction: what the residuals are added to.
            memory: of the record before; None in a KEY.

        Returns:
            The coded bytes, and the memory for the next DELTA.
        """

    @abstractmethod
    def decode(self, head: Head, prediction: Prediction, coded: bytes, memory: Any | None) -> tuple[Residuals, object]:
        """Inverse of `encode`.

        Raises:
            DamagedError: no encoder can have made these bytes.
        """

    @abstractmethod
    def prices(self, head: Head, prediction: Prediction, residuals: Residuals, memory: Any) -> dict[TensorKey, Prices]:
        """Prices of all tensors in a DELTA, given candidates for its residuals."""
