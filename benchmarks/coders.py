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

from invcodec.coding.chain import StateReader
from invcodec.coding.codec import decode
from invcodec.coding.state import State
from invcodec.container.frame import FrameHead
from invcodec.container.head import Head
from invcodec.field.profile import TensorKey

FPZIP_BITS = 16
"""Precision as in the paper: sign, exponent and 7 bits of mantissa."""
_FPZIP_ERROR = 2.0**-7


@dataclass(frozen=True)
class Setting:
    """DeepCABAC's settings for a tensor.

    Attributes:
        rows: shape of the matrix that the tensor is treated as.
        skip: whether zero rows are signalled by one flag.
        base: index of the reference of its temporal contexts, or None.
        history: whether positions that were ever nonzero have contexts of their own.
        unary: number of flags before the Exp-Golomb remainder of a magnitude.
        scan: 0 row by row, 1 to 4 in blocks of 8, 16, 32, 64.
    """

    rows: tuple[int, ...]
    skip: bool = False
    base: int | None = None
    history: bool = False
    unary: int = 11
    scan: int = 0


class DeepCabac:
    """Finds DeepCABAC's best lossless settings for an integer tensor.

    Args:
        values: int32, 1 to 4 dimensions.
        bases: tensors known to the decoder, any of which temporal contexts may refer to.
        used: bool, positions that were ever nonzero, or None.
    """

    def __init__(self, values: np.ndarray, bases: Sequence[np.ndarray] = (), used: np.ndarray | None = None) -> None:
        self._values = np.ascontiguousarray(values, np.int32)
        self._bases = [np.ascontiguousarray(base, np.int32) for base in bases]
        self._used = None if used is None else np.ascontiguousarray(used, np.int8)

    def best(self) -> tuple[bytes, Setting]:
        """The shortest codeword, verified by decoding it, and its setting: the best tools first, then the best numbers.

        The codeword is the arithmetic code alone, without a unit header or the setting.

        Raises:
            ValueError: it does not decode to the values coded.
        """
        tried = {setting: self._encode(setting) for setting in self._tools()}
        best = min(tried, key=lambda setting: len(tried[setting]))
        tried |= {s: self._encode(s) for s in (replace(best, unary=unary) for unary in (1, 2, 3, 5, 8, 16))}
        best = min(tried, key=lambda setting: len(tried[setting]))
        if self._is_matrix(best):
            tried |= {s: self._encode(s) for s in (replace(best, scan=scan) for scan in (1, 2, 3, 4))}
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
        """Whether the tensor is a matrix; only these have rows, blocks and histories."""
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
    """Bytes of concatenated arrays under zstd -19, as one frame."""
    return len(zstandard.ZstdCompressor(level=19).compress(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)))


def smallest(values: np.ndarray) -> np.ndarray:
    """Convert integers to the smallest signed type that holds them."""
    return values.astype(np.min_scalar_type(-int(np.abs(values).max(initial=0)) - 1))


def fpzip_bytes(weights: np.ndarray) -> int:
    """Bytes of float32 weights under fpzip at `FPZIP_BITS`, as matrices or as rows, whichever is smaller.

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
"""Coders that `measure` compares."""


@dataclass(frozen=True)
class Frame:
    """The contents of a record, and what its decoder knows before it.

    Attributes:
        later: whether it is a delta.
        record: bytes in the file, including framing.
        coded: bytes of the coded tensors alone.
        values: integers by tensor: those of a keyframe, or the residuals of the tensors that change.
        levels, weights: those tensors after the record.
        bases: of a delta, by tensor, the residual of the frame before where it had one, and the integers before.
        used: by tensor, which values any delta since the keyframe has changed.
        decode_seconds: from the coded bytes to a state with the right digest, on one core, several times; of deltas.
    """

    later: bool
    record: int
    coded: int
    values: dict[TensorKey, np.ndarray]
    levels: dict[TensorKey, np.ndarray]
    weights: dict[TensorKey, np.ndarray]
    bases: dict[TensorKey, list[np.ndarray]]
    used: dict[TensorKey, np.ndarray]
    decode_seconds: list[float]


def read_frames(reader: StateReader) -> Iterator[Frame]:
    """Yield a file's frames as coders see them."""
    recent: dict[TensorKey, np.ndarray] = {}
    used: dict[TensorKey, np.ndarray] = {}
    before: State | None = None
    for entry in reader.frames:
        head, coded = reader.frame(entry)
        state = reader.state_at(entry.number)
        alone = entry.is_key or before is None
        keys = [k for k, now in state.levels.items() if alone or (before and (now != before.levels[k]).any())]
        values = {key: state.levels[key] for key in keys}
        bases: dict[TensorKey, list[np.ndarray]] = {}
        times: list[float] = []
        if alone or before is None:
            recent, used = {}, {}
        else:
            values = {key: state.levels[key] - before.levels[key] for key in keys}
            bases = {key: [base[key] for base in (recent, before.levels) if key in base] for key in keys}
            times = _decode_times(reader.head, head, coded, before)
        yield Frame(
            bool(bases),
            entry.length,
            len(coded),
            values,
            {key: state.levels[key] for key in keys},
            {key: value for key, value in state.weights().items() if key in keys},
            bases,
            used,
            times,
        )
        if bases:
            recent, used = values, {**used, **{k: (v != 0) | used.get(k, False) for k, v in values.items()}}
        before = state


def _decode_times(head: Head, frame: FrameHead, coded: bytes, before: State) -> list[float]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    times = []
    for _ in range(4):
        started = perf_counter()
        decode(head, frame, coded, before)
        times.append(perf_counter() - started)
    os.sched_setaffinity(0, cores)
    return times[1:]


def _sizes(frame: Frame) -> dict[str, int]:
    """Bytes of one frame by coder."""
    codewords = [
        DeepCabac(values, frame.bases.get(key, ()), frame.used.get(key)).best()[0]
        for key, values in frame.values.items()
    ]
    flags = zstd([np.packbits(frame.levels[key]) for key in frame.weights if _is_flags(frame.levels[key])])
    weights = [frame.weights[key] for key in frame.weights if not _is_flags(frame.levels[key])]
    return {
        "record": frame.record,
        "ours": frame.coded,
        "deepcabac": sum(map(len, codewords)),
        "zstd": zstd([smallest(values) for values in frame.values.values()]),
        "float16": zstd([each.astype(np.float16) for each in weights]) + flags,
        "fpzip": sum(fpzip_bytes(_matrix(each)) for each in weights) + flags,
        "flags": flags,
    }


def _is_flags(levels: np.ndarray) -> bool:
    """Whether integers are flags, such as the occupancy, which coders of weights do not code as floats."""
    return bool(levels.min() >= 0 and levels.max() <= 1)


def _matrix(tensor: np.ndarray) -> np.ndarray:
    """Reshape to rows of the last dimension, as the paper stacks them."""
    return tensor.reshape(-1, tensor.shape[-1])


def measure(path: Path) -> dict[str, Any]:
    """Re-encode the networks of a file with every coder.

    Sizes other than our own are without any header. Coders of integers get what the records carry, coders of weights
    the same tensors' weights, whole, since they know no frame before. DeepCABAC may refer to the residual of the frame
    before and to the integers before.

    Returns:
        Bytes by coder, as in `CODERS`: `key`, `later` (mean over deltas) and `frame` (mean over all frames, keyframe
        included; ours with all that the file has). Only deltas are stacked. Also bits of a later record per structure
        weight, and milliseconds that decoding one takes (median).
    """
    first: list[dict[str, int]] = []
    later: list[dict[str, int]] = []
    stacks: dict[TensorKey, list[np.ndarray]] = {}
    times: list[float] = []
    with StateReader(path) as reader:
        structure = {(n.name, t.name) for n in reader.head.networks for t in n.tensors if t.group == "structure"}
        counted = 0
        for frame in read_frames(reader):
            # The first frame, a keyframe, has all tensors.
            counted = counted or sum(v.size for k, v in frame.levels.items() if k in structure and not _is_flags(v))
            (later if frame.later else first).append(_sizes(frame))
            if frame.later:
                times += frame.decode_seconds
                for key, levels in frame.levels.items():
                    if not _is_flags(levels):
                        stacks.setdefault(key, []).append(_matrix(frame.weights[key]))
        size = reader.size
    stacked = sum(fpzip_bytes(np.stack(stack)) for stack in stacks.values()) + sum(row["flags"] for row in later)
    frames = len(first) + len(later)
    names = [name for name in CODERS if name in first[0]]
    result: dict[str, Any] = {
        "frames": frames,
        "structure_weights": counted,
        "key": {name: first[0][name] for name in names} | {"fpzip_stacked": None},
        "later": None,
        "frame": {name: sum(row[name] for row in first + later) / frames for name in names}
        | {"record": size / frames, "fpzip_stacked": (sum(row["fpzip"] for row in first) + stacked) / frames},
    }
    if later:
        mean = {name: sum(row[name] for row in later) / len(later) for name in names}
        result["later"] = {**mean, "fpzip_stacked": stacked / len(later)}
        result["bits_per_structure_weight"] = 8 * mean["record"] / counted
        result["decode_ms"] = 1000 * median(times)
    return result
