"""Predictions of a frame's integers, to which the residuals of its record are added.

`predict` is the one place where encoder, decoder, rate control and prices take a prediction from. A new tool (motion
compensation, prediction of keyframes) is one more function in this module and one more row of `PREDICTORS`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from invcodec.coding.state import State
from invcodec.container.head import Head
from invcodec.container.records import RecordType
from invcodec.field.profile import TensorKey

Prediction = dict[TensorKey, np.ndarray]
"""Int32 by tensor, every one of the table in its order, in their declared shapes. The arrays must not be modified."""


def zero(head: Head, before: State | None) -> Prediction:
    """Predicts nothing: the residuals are the integers themselves."""
    return {(network.name, t.name): np.zeros(t.shape, np.int32) for network in head.networks for t in network.tensors}


def previous(head: Head, before: State | None) -> Prediction:
    """Predicts that nothing changes. Tensors without a residual share their arrays with the frame before."""
    assert before is not None
    return before.levels


PREDICTORS: dict[RecordType, Callable[[Head, State | None], Prediction]] = {
    RecordType.KEY: zero,
    RecordType.DELTA: previous,
}
"""By type of record, all that a file says of prediction in this draft."""


def predict(head: Head, before: State | None) -> Prediction:
    """Predict the next frame's integers.

    Args:
        before: the state at the frame that a DELTA refers to; None in a KEY.
    """
    return PREDICTORS[RecordType.KEY if before is None else RecordType.DELTA](head, before)
