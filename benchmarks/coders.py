"""Other coders of the same weights and integers: DeepCABAC, fpzip, and general-purpose compression.

DeepCABAC is that of Fraunhofer's `nncodec` (ISO/IEC 15938-17). Its package asks for an older numpy and for much that
has no part in this, so it is installed alone (`pip install --no-deps nncodec`) and only its compiled coder is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import fpzip
import numpy as np
import zstandard
from nncodec.extensions.deepCABAC import Decoder, Encoder, HdspMode

from invcodec.coding.reader import Reader
from invcodec.coding.schema import FrameHead, Head
from invcodec.coding.state import State, TensorKey, decode

FPZIP_BITS = 16
"""Precision as in the paper: sign, exponent and 7 bits of mantissa."""
_FPZIP_ERROR = 2.0**-7


@dataclass(frozen=True)
class Setting:
    """How DeepCABAC codes a tensor.

    Attributes:
        rows: shape of the matrix that it takes the tensor for.
        skip: whether rows that are zero cost one flag.
        base: reference of its temporal contexts, an index, or None.
        history: whether positions that were ever used have contexts of their own.
        unary: flags before a magnitude's Exp-Golomb rest.
        scan: 0 row by row, 1 to 4 in blocks of 8, 16, 32, 64.
    """

    rows: tuple[int, ...]
    skip: bool = False
    base: int | None = None
    history: bool = False
    unary: int = 11
    scan: int = 0


class DeepCabac:
    """One integer tensor under DeepCABAC's lossless settings.

    Args:
        values: int32, 1 to 4 dimensions.
        bases: tensors that the decoder has, any of which temporal contexts may refer to.
        used: positions that were ever other than zero, bool, or None.
    """

    def __init__(self, values: np.ndarray, bases: Sequence[np.ndarray] = (), used: np.ndarray | None = None) -> None:
        self._values = np.ascontiguousarray(values, np.int32)
        self._bases = [np.ascontiguousarray(base, np.int32) for base in bases]
        self._used = None if used is None else np.ascontiguousarray(used, np.int8)

    def best(self) -> tuple[bytes, Setting]:
        """The shortest codeword, proven by decoding it, and its setting: the best tools, then the best numbers.

        It is the arithmetic codeword alone: no unit header, and nothing that would tell the decoder the setting.

        Raises:
            ValueError: it does not decode to what was coded.
        """
        tried = {setting: self._encode(setting) for setting in self._tools()}
        best = min(tried, key=lambda setting: len(tried[setting]))
        for name, choices in (("unary", (1, 2, 3, 5, 8, 16)), ("scan", (1, 2, 3, 4) if self._is_matrix(best) else ())):
            tried |= {s: self._encode(s) for s in (replace(best, **{name: choice}) for choice in choices)}
            best = min(tried, key=lambda setting: len(tried[setting]))
        data = tried[best]
        if not np.array_equal(self._decode(data, best), self._values):
            raise ValueError(f"DeepCABAC does not give back what it was given, with {best}")
        return data.tobytes(), best

    def _tools(self) -> Iterator[Setting]:
        shape = self._values.shape
        flat = (prod(shape[:-1]), shape[-1])
        for rows in dict.fromkeys([(shape[0], prod(shape[1:])), flat] if len(shape) > 1 else [shape]):
            matrix = self._is_matrix(Setting(rows))
            flags = (False, True) if matrix else (False,)
            past = flags if self._used is not None else (False,)
            for skip, base, history in product(flags, (None, *range(len(self._bases))), past):
                yield Setting(rows, skip, base, history)

    @staticmethod
    def _is_matrix(setting: Setting) -> bool:
        """Rows, blocks and histories are for these alone."""
        return len(setting.rows) > 1 and min(setting.rows) > 1

    def _mode(self, setting: Setting) -> tuple[HdspMode, np.ndarray]:
        if setting.history:
            assert self._used is not None
            return HdspMode.TensorOn, self._used.reshape(setting.rows)
        return HdspMode.TensorOff, np.zeros(2, np.int8)

    # In the calls below: uniform quantisation (0), the second edition's profile with a parent unit (1, 1), no codebook.

    def _encode(self, setting: Setting) -> np.ndarray:
        values = self._values.reshape(setting.rows)
        empty = np.ascontiguousarray(~values.reshape(values.shape[0], -1).any(1), np.int32)
        encoder = Encoder()
        encoder.initCtxModels(setting.unary, 1)
        after = (0, setting.scan, 1, 1, setting.skip, empty, *self._mode(setting), 0, 0)
        if setting.base is None:
            encoder.encodeLayer(values, *after)
        else:
            encoder.encodeLayer2(values, self._bases[setting.base].reshape(setting.rows), *after)
        return encoder.finish()

    def _decode(self, data: np.ndarray, setting: Setting) -> np.ndarray:
        values = np.zeros(setting.rows, np.int32)
        base = [] if setting.base is None else [self._bases[setting.base].reshape(setting.rows)]
        decoder = Decoder()
        decoder.setStream(data)
        decoder.initCtxModels(setting.unary)
        name = "decodeLayer"
        if setting.scan and values.shape[0] > 4 << setting.scan:
            # Every row of blocks is an entry point; this one finds them as it decodes.
            name = "decodeLayerAndCreateEPs"
        decode = getattr(decoder, f"{name}2" if base else name)
        decode(values, *base, 0, setting.scan, 1, 1, *self._mode(setting), 0, 0)
        return values.reshape(self._values.shape)


def zstd(parts: Sequence[np.ndarray]) -> int:
    """Bytes of arrays back to back under zstd -19, as one frame."""
    return len(zstandard.ZstdCompressor(level=19).compress(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)))


def smallest(values: np.ndarray) -> np.ndarray:
    """Integers in the smallest signed type that holds them."""
    return values.astype(np.min_scalar_type(-int(np.abs(values).max(initial=0)) - 1))


def fpzip_bytes(weights: np.ndarray) -> int:
    """Bytes of float32 weights under fpzip at `FPZIP_BITS`, as matrices or as rows, whichever is less.

    Args:
        weights: one frame's, or `[frames, ...]`, flattened to at most 3 dimensions.

    Raises:
        ValueError: the decoded weights are less precise than that.
    """
    sizes = []
    for shape in (weights.shape, (*weights.shape[:-2], -1)):
        array = np.ascontiguousarray(weights.reshape(shape), np.float32)
        data = fpzip.compress(array, precision=FPZIP_BITS)
        back = fpzip.decompress(data).reshape(array.shape)
        if not (np.abs(back - array) <= _FPZIP_ERROR * np.abs(array)).all():
            raise ValueError(f"fpzip at {FPZIP_BITS} bits lost more than it may")
        sizes.append(len(data))
    return min(sizes)


CODERS = {
    "record": "ours, whole record",
    "ours": "ours, coded tensors",
    "deepcabac": "DeepCABAC, the same integers",
    "zstd": "zstd -19, the same integers",
    "float16": "float16 + zstd -19, the weights",
    "fpzip": "fpzip at 16 bits, each frame alone",
    "fpzip_stacked": "fpzip at 16 bits, stacked over frames",
}
"""What `measure` gives for each frame."""


def measure(path: Path) -> dict[str, Any]:
    """Code the networks of a file again with every coder.

    Integers are what a record carries: a keyframe's, or the difference to the frame before, of the tensors that the
    record lists. Weights are those of the same tensors, whole: coders of weights know no frame before. Sizes other than
    ours are without any header. DeepCABAC may refer to the last record's residuals, and to the integers before.

    Returns:
        Bytes by coder, as in `CODERS`: `key`, `later` (mean over frames after the warm-up) and `frame` (mean over all
        frames, keyframe and warm-up included; ours with all that the file has). Only frames after the warm-up are
        stacked. Also bits of a later record per structure weight, and milliseconds that decoding one takes (median).
    """
    with Reader(path) as reader:
        names = [[(network.name, tensor.name) for tensor in network.tensors] for network in reader.head.networks]
        structure = sum(
            prod(t.shape) for network in reader.head.networks for t in network.tensors if t.group == "structure"
        )
        rows: list[dict[str, Any]] = []
        stages: list[str] = []
        stacks: dict[TensorKey, list[np.ndarray]] = {}
        used: dict[TensorKey, np.ndarray] = {}
        recent: dict[TensorKey, np.ndarray] = {}
        times: list[float] = []
        before: State | None = None
        for entry in reader.frames:
            frame, coded = reader.frame(entry)
            state = reader.state_at(entry.number)
            keys = [names[tensor.network][tensor.tensor] for tensor in frame.tensors]
            stages.append(str(frame.stats["stage"]))
            if before is None or entry.kind == "key":
                values = {key: state.levels[key] for key in keys}
                codewords = [DeepCabac(values[key]).best()[0] for key in keys]
                used, recent = {}, {}
            else:
                values = {key: state.levels[key] - before.levels[key] for key in keys}
                codewords = [
                    DeepCabac(
                        values[key], [base[key] for base in (recent, before.levels) if key in base], used.get(key)
                    ).best()[0]
                    for key in keys
                ]
                used |= {key: values[key] != 0 if key not in used else used[key] | (values[key] != 0) for key in keys}
                recent = values
                times += _decode_times(reader.head, frame, coded, before) if stages[-1] not in _FIRST else []
            weights = state.weights()
            if stages[-1] not in _FIRST:
                for key in keys:
                    stacks.setdefault(key, []).append(weights[key])
            rows.append(
                {
                    "record": entry.length,
                    "ours": len(coded),
                    "deepcabac": sum(map(len, codewords)),
                    "zstd": zstd([smallest(values[key]) for key in keys]),
                    "float16": zstd([weights[key].astype(np.float16) for key in keys]),
                    "fpzip": sum(fpzip_bytes(_matrix(weights[key])) for key in keys),
                }
            )
            before = state
        size = reader.size
    later = [row for row, stage in zip(rows, stages, strict=True) if stage not in _FIRST]
    stacked = sum(fpzip_bytes(np.stack([_matrix(w) for w in stack])) for stack in stacks.values())
    first = [row for row, stage in zip(rows, stages, strict=True) if stage in _FIRST]
    whole = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    whole["record"] = size / len(rows)
    whole["fpzip_stacked"] = (sum(row["fpzip"] for row in first) + stacked) / len(rows)
    mean = {name: sum(row[name] for row in later) / len(later) for name in rows[0]} if later else None
    if mean is not None:
        mean["fpzip_stacked"] = stacked / len(later)
    return {
        "frames": len(rows),
        "structure_weights": structure,
        "key": {**rows[0], "fpzip_stacked": None},
        "later": mean,
        "frame": whole,
        "bits_per_structure_weight": None if mean is None else 8 * mean["record"] / structure,
        "decode_ms": 1000 * median(times) if times else None,
    }


_FIRST = ("key", "warmup")
"""Stages of the frames that do not count as later ones."""


def _matrix(tensor: np.ndarray) -> np.ndarray:
    """As the paper stacks them: rows of the last dimension."""
    return tensor.reshape(-1, tensor.shape[-1])


def _decode_times(head: Head, frame: FrameHead, coded: bytes, before: State) -> list[float]:
    """Seconds that a record takes from its bytes to a state with the right digest, on one core, several times."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    if cores:
        os.sched_setaffinity(0, {min(cores)})
    times = []
    for _ in range(4):
        started = perf_counter()
        decode(head, frame, coded, before)
        times.append(perf_counter() - started)
    if cores:
        os.sched_setaffinity(0, cores)
    return times[1:]
