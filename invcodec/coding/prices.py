"""The cost of changing a weight, given what the coder has learned: for encoders that weigh bits against quality."""

from __future__ import annotations

from invcodec.coding.coder import Prices, Residuals
from invcodec.coding.coders import find_coder
from invcodec.coding.prediction import predict
from invcodec.coding.state import State
from invcodec.field.profile import TensorKey


def prices(before: State, residuals: Residuals) -> dict[TensorKey, Prices]:
    """Prices of all tensors in a DELTA that follows a state.

    Args:
        residuals: candidates, int32 in their tensors' shapes; tensors that are not named are assumed not to change.
    """
    return find_coder(before.coder).prices(before.head, predict(before.head, before), residuals, before.memory)
