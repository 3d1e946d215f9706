"""The integers of a record to and from bytes (FORMAT.md, "Entropy coding").

One range-coded stream holds all tensors. What it learns while it codes a delta goes on to the next one.
`rangecoder` knows bytes, `mixing` predictions, `model` and `guide` what predicts a weight.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from invcodec.coding import model, rangecoder
from invcodec.coding.mixing import INPUTS
from invcodec.coding.quantize import MAX_LEVEL
from invcodec.errors import DamagedError

CODER = 1
"""Id of this coder in the file (FORMAT.md, coder registry)."""


@dataclass(frozen=True)
class Statistics:
    """What has been learned: adaptive contexts and mixers. Not to be changed."""

    contexts: np.ndarray = field(default_factory=lambda: model.fresh()[0])
    mixers: np.ndarray = field(default_factory=lambda: model.fresh()[1])


@dataclass(frozen=True)
class Known:
    """What is known of a tensor before a delta.

    Attributes:
        before: its integers, int32 in its shape.
        recent: int8 in its shape, the last record's residual, clipped to RECENT_LIMIT; or None where all are 0.
        history: `[P]` uint8: in which of the last eight deltas the place changed, the last in bit 7; or None.
    """

    before: np.ndarray
    recent: np.ndarray | None = None
    history: np.ndarray | None = None


RECENT_LIMIT = 3


class RecordCoder:
    """Codes one record, tensor by tensor: decodes `data`, or encodes where there is none.

    Args:
        statistics: from the record before; left as they are.
        data: all coded bytes of the record.
    """

    def __init__(self, statistics: Statistics, data: bytes | None = None) -> None:
        self._contexts = statistics.contexts.copy()
        self._mixers = statistics.mixers.copy()
        self._work = np.zeros(2 * INPUTS, np.int64)
        self._state, self._data = rangecoder.start(data)
        self._decodes = data is not None

    @property
    def statistics(self) -> Statistics:
        """What has been learned; the coder is not to be used again."""
        return Statistics(self._contexts, self._mixers)

    def changes(self, position: int, changes: bool = False) -> bool:
        """Whether the tensor at a position of the table changes at all: takes it to encode, returns it."""
        self._data, bit = model.code_flag(
            self._state, self._data, self._contexts, self._mixers, self._work, _set_of(position), int(changes)
        )
        return bool(bit)

    def tensor(
        self,
        position: int,
        shape: tuple[int, ...],
        values: np.ndarray | None = None,
        known: Known | None = None,
        hints: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Code one tensor.

        Args:
            position: in the table.
            values: int32 in the tensor's shape, at most twice MAX_LEVEL in magnitude; None to decode.
            known: of a tensor that changes; None at a keyframe.
            hints: see `invcodec.coding.guide`; None: all are 0.

        Returns:
            The values, and `[P]` uint8: 1 at places where any is not 0.

        Raises:
            DamagedError: the bytes cannot have come from an encoder.
        """
        kind, features, dims = model.places(shape)
        count = dims[0] * dims[1] * dims[2]
        if values is None:
            flat = np.zeros(count * features, np.int32)
        else:
            flat = np.ascontiguousarray(values, np.int32).reshape(-1)
            if int(np.abs(flat.astype(np.int64)).max()) > 2 * MAX_LEVEL:
                raise ValueError(f"a value exceeds {2 * MAX_LEVEL}")
        before = np.zeros(flat.size, np.int32) if known is None else known.before.reshape(-1)
        recent, history = (None, None) if known is None else (known.recent, known.history)
        self._data, failed, changed = model.code_values(
            self._state,
            self._data,
            self._contexts,
            self._mixers,
            self._work,
            _set_of(position),
            kind,
            features,
            dims,
            known is not None,
            flat,
            before,
            np.zeros(flat.size, np.int8) if recent is None else recent.reshape(-1),
            np.zeros(count, np.uint8) if history is None else history,
            np.zeros(count, np.uint8) if hints is None else hints,
        )
        if failed:
            raise DamagedError("a coded value is too large")
        return flat.reshape(shape), changed

    def finish(self) -> bytes:
        """The bytes of all that was encoded; of a decoder, nothing.

        Raises:
            DamagedError: there are bytes that nothing was decoded from.
        """
        if self._decodes:
            rangecoder.finish_decoder(self._state, self._data)
            return b""
        return rangecoder.finish_encoder(self._state, self._data)


def _set_of(position: int) -> int:
    return min(position, model.SETS - 1)
