"""Coder 1: all tensors of a record in one range-coded stream (FORMAT.md, "Entropy coding").

The layers below it: `guide` (coding order and hints), `model` (the contexts of every bit of a tensor), `mixing`
(adaptive probabilities) and `rangecoder` (bits to bytes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from invcodec.coding import model, rangecoder
from invcodec.coding.coder import Coder, Prices, Residuals
from invcodec.coding.guide import coding_order
from invcodec.coding.mixing import INPUTS
from invcodec.coding.prediction import Prediction
from invcodec.coding.quantize import MAX_LEVEL
from invcodec.container.head import Head
from invcodec.errors import DamagedError
from invcodec.field.profile import TensorKey


@dataclass(frozen=True)
class Statistics:
    """Adaptive contexts `[CONTEXTS]` and mixers `[MIXERS, INPUTS + 1]`, see `model.fresh`. Immutable."""

    contexts: np.ndarray = field(default_factory=lambda: model.fresh()[0])
    mixers: np.ndarray = field(default_factory=lambda: model.fresh()[1])


@dataclass(frozen=True)
class Known:
    """Context of a tensor in a DELTA, known before it is coded.

    Attributes:
        before: its predicted integers, int32 in its shape.
        recent: its residual in the last record, int8 in its shape, clipped to `model.RECENT_LIMIT`; None: all are 0.
        history: `[P]` uint8, in which of the last eight deltas each place changed, the last in bit 7; None: all are 0.
    """

    before: np.ndarray
    recent: np.ndarray | None = None
    history: np.ndarray | None = None


@dataclass(frozen=True)
class Coded:
    """A tensor that has been coded.

    Attributes:
        values: int32 in its shape.
        recent: the same, int8 and clipped to `model.RECENT_LIMIT`.
        changed: `[P]` uint8, 1 at places where any value is not 0.
    """

    values: np.ndarray
    recent: np.ndarray
    changed: np.ndarray


class RecordCoder:
    """Codes one record, tensor by tensor: decodes `data`, or encodes if it is None.

    Args:
        statistics: of the record before; they are copied.
        data: all coded bytes of the record.
    """

    def __init__(self, statistics: Statistics, data: bytes | None = None) -> None:
        self._contexts = statistics.contexts.copy()
        self._mixers = statistics.mixers.copy()
        self._work = np.zeros(INPUTS, np.uint32)
        self._state, self._data = rangecoder.start(data)
        self._decodes = data is not None

    @property
    def statistics(self) -> Statistics:
        """The statistics after this record; the coder must not be used again."""
        return Statistics(self._contexts, self._mixers)

    def changes(self, position: int, changes: bool = False) -> bool:
        """Code whether the tensor at a position of the table changes; returns it. `changes` is for encoding only."""
        self._data = rangecoder.reserve(self._state, self._data, model.BLOCK_ROOM)
        bit = model.code_flag(
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
    ) -> Coded:
        """Code one tensor.

        Args:
            position: in the table.
            values: int32 in the tensor's shape, at most twice MAX_LEVEL in magnitude, to encode; None: all are 0.
            known: its context in a DELTA; None in a KEY.
            hints: see `invcodec.coding.guide`; None: all are 0.

        Raises:
            DamagedError: no encoder can have made these bytes.
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
        history = np.zeros(count, np.uint8) if history is None else history
        hints = np.zeros(count, np.uint8) if hints is None else hints
        coded = Coded(flat.reshape(shape), np.zeros(shape, np.int8), np.zeros(count, np.uint8))
        walk = model.start_walk(kind, dims)
        warm = model.warmth(features, known is not None, history, hints)
        end = model.NO_ROOM
        while end == model.NO_ROOM:
            self._data = rangecoder.reserve(self._state, self._data, model.BLOCK_ROOM)
            end = model.code_values(
                self._state,
                self._data,
                self._contexts,
                self._mixers,
                self._work,
                *walk,
                _set_of(position),
                kind,
                features,
                dims,
                known is not None,
                flat,
                before,
                np.zeros(flat.size, np.int8) if recent is None else recent.reshape(-1),
                history,
                hints,
                warm,
                warm.view(np.uint64),
                coded.changed,
                coded.recent.reshape(-1),
            )
        if end == model.TOO_LARGE:
            raise DamagedError("a coded value is too large")
        return coded

    def finish(self) -> bytes:
        """End the record; returns the encoded bytes, or none from a decoder.

        Raises:
            DamagedError: bytes are left over.
        """
        if self._decodes:
            rangecoder.finish_decoder(self._state, self._data)
            return b""
        return rangecoder.finish_encoder(self._state, self._data)


def _set_of(position: int) -> int:
    return min(position, model.SETS - 1)


@dataclass(frozen=True)
class Memory:
    """Memory of coder 1 from one DELTA to the next (FORMAT.md, "State"); after a KEY it is fresh. Immutable.

    Attributes:
        recent: int8 by tensor, the last record's residuals, clipped to `model.RECENT_LIMIT`; only of tensors that it
            changed.
        history: `[P]` uint8 by tensor, in which of the last eight records each place changed; only tensors with any.
        statistics: learned since the keyframe.
    """

    recent: Mapping[TensorKey, np.ndarray] = field(default_factory=dict)
    history: Mapping[TensorKey, np.ndarray] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=Statistics)

    def after(self, coded: Mapping[TensorKey, Coded], statistics: Statistics) -> Memory:
        """The memory after a DELTA that coded these tensors."""
        history = {key: old >> 1 for key, old in self.history.items()}
        for key, each in coded.items():
            history[key] = history.get(key, 0) | each.changed << 7
        return Memory(
            {key: each.recent for key, each in coded.items()},
            {key: each for key, each in history.items() if each.any()},
            statistics,
        )


class MixingCoder(Coder):
    """Context mixing and an adaptive binary range coder."""

    def encode(
        self, head: Head, prediction: Prediction, residuals: Residuals, memory: Memory | None
    ) -> tuple[bytes, Memory]:
        coder = RecordCoder(Statistics() if memory is None else memory.statistics)
        _, after = _code(coder, head, prediction, residuals, memory)
        return coder.finish(), after

    def decode(
        self, head: Head, prediction: Prediction, coded: bytes, memory: Memory | None
    ) -> tuple[Residuals, Memory]:
        coder = RecordCoder(Statistics() if memory is None else memory.statistics, coded)
        residuals, after = _code(coder, head, prediction, {}, memory)
        coder.finish()
        return residuals, after

    def prices(
        self, head: Head, prediction: Prediction, residuals: Residuals, memory: Memory
    ) -> dict[TensorKey, Prices]:
        """See `Coder.prices`. A place's price follows from its history, and from the candidates on coarser levels of
        its grid. Every value is priced alone: further features of one place cost less.
        """
        result = {}
        for unit in coding_order(head, is_delta=True):
            _, features, dims = model.places(unit.shape)
            count = dims[0] * dims[1] * dims[2]
            hints = unit.hints()
            place, value, size = model.estimate(
                memory.statistics.contexts,
                _set_of(unit.position),
                memory.history.get(unit.key, np.zeros(count, np.uint8)),
                np.zeros(count, np.uint8) if hints is None else hints,
            )
            nonzero = np.repeat(place, features) + (value if features > 1 else 1.0)
            result[unit.key] = Prices(nonzero.astype(np.float32).reshape(unit.shape), size)
            residual = residuals.get(unit.key)
            changed = None
            if residual is not None:
                changed = (residual.reshape(count, features) != 0).any(1).astype(np.uint8)
            unit.learn(prediction[unit.key], residual, changed)
        return result


def _code(
    coder: RecordCoder, head: Head, prediction: Prediction, residuals: Residuals, memory: Memory | None
) -> tuple[dict[TensorKey, np.ndarray], Memory]:
    """Encode or decode a record; returns the residuals of the tensors that it codes, and the memory after it."""
    coded: dict[TensorKey, Coded] = {}
    for unit in coding_order(head, is_delta=memory is not None):
        key = unit.key
        given = residuals.get(key)
        known = None
        if memory is not None:
            known = Known(prediction[key], memory.recent.get(key), memory.history.get(key))
        if known is None or coder.changes(unit.position, given is not None):
            coded[key] = each = coder.tensor(unit.position, unit.shape, given, known, unit.hints())
            unit.learn(prediction[key], each.values, each.changed)
        else:
            unit.learn(prediction[key], None, None)
    after = Memory() if memory is None else memory.after(coded, coder.statistics)
    return {key: each.values for key, each in coded.items()}, after
