"""A predictor and a coder that the package does not have: each is one function or class and one row of a table."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import make_vectors

from invcodec.coding import coders, prediction
from invcodec.coding.chain import StateReader
from invcodec.coding.codec import decode, delta_frame, encode_delta, encode_key, key_frame
from invcodec.coding.coder import Coder, Prices, Residuals
from invcodec.coding.fit import fit_change
from invcodec.coding.prediction import Prediction
from invcodec.coding.prices import prices
from invcodec.coding.state import State, table
from invcodec.container.head import Head
from invcodec.container.records import RecordType
from invcodec.container.writer import Writer
from invcodec.editing.edit import cut
from invcodec.errors import DamagedError, UnsupportedError
from invcodec.field.profile import TensorKey

GRID = make_vectors.grid("ndc")
HEAD: Head = make_vectors.header([GRID], make_vectors.cameras("ndc"))
MOVED: TensorKey = ("scene", "grid.0")


def shifted(head: Head, before: State | None) -> Prediction:
    """One level of the grid moves by one vertex along x, and everything else stays: motion, to a toy."""
    assert before is not None
    return before.levels | {MOVED: np.roll(before.levels[MOVED], 1, 0)}


@pytest.fixture
def levels() -> dict[TensorKey, np.ndarray]:
    return make_vectors.levels(HEAD, np.random.default_rng(3))[0]


@pytest.fixture
def qps() -> dict[TensorKey, int]:
    return make_vectors.levels(HEAD, np.random.default_rng(3))[1]


def test_a_further_predictor_takes_part_in_coding_fitting_and_prices(
    monkeypatch: pytest.MonkeyPatch, levels: dict[TensorKey, np.ndarray], qps: dict[TensorKey, int]
) -> None:
    _, before = encode_key(HEAD, levels, qps)
    after = levels | {MOVED: np.roll(levels[MOVED], 1, 0) + (levels[MOVED] % 7 == 0)}
    plain, expected = encode_delta(before, after)
    monkeypatch.setitem(prediction.PREDICTORS, RecordType.DELTA, shifted)
    coded, state = encode_delta(before, after)
    assert len(coded) < 0.7 * len(plain)
    assert state.digest() == expected.digest()
    decoded = decode(HEAD, delta_frame(state, 1, 0), coded, before)
    for key in table(HEAD):
        np.testing.assert_array_equal(decoded.levels[key], after[key])
    # A record that is empty for lack of room leaves what is predicted.
    weights = {MOVED: expected.weights()[MOVED]}
    assert fit_change(before, weights, 0.6, np.inf).coded == coded
    moved = fit_change(before, weights, 0.6, 0)
    np.testing.assert_array_equal(moved.state.levels[MOVED], np.roll(levels[MOVED], 1, 0))
    decode(HEAD, delta_frame(moved.state, 1, 0), moved.coded, before)
    assert prices(before, {}).keys() == set(table(HEAD))
    # A decoder that predicts otherwise notices.
    monkeypatch.undo()
    with pytest.raises(DamagedError):
        decode(HEAD, delta_frame(state, 1, 0), coded, before)


def test_a_keyframe_can_be_predicted(
    monkeypatch: pytest.MonkeyPatch, levels: dict[TensorKey, np.ndarray], qps: dict[TensorKey, int]
) -> None:
    def usual(head: Head, before: State | None) -> Prediction:
        return {key: np.full(levels[key].shape, 3, np.int32) for key in table(head)}

    expected = encode_key(HEAD, levels, qps)[1].digest()
    monkeypatch.setitem(prediction.PREDICTORS, RecordType.KEY, usual)
    coded, state = encode_key(HEAD, levels, qps)
    assert state.digest() == expected
    assert decode(HEAD, key_frame(state, 0), coded, None).digest() == expected


class Deflate(Coder):
    """Residuals of all tensors as int32 under zlib; its memory is the number of records since the keyframe."""

    ID = 200

    def encode(
        self, head: Head, prediction: Prediction, residuals: Residuals, memory: Any | None
    ) -> tuple[bytes, object]:
        arrays = [residuals.get(key, np.zeros_like(base)) for key, base in prediction.items()]
        count = 0 if memory is None else memory + 1
        return bytes([count]) + zlib.compress(b"".join(np.ascontiguousarray(a, "<i4").tobytes() for a in arrays)), count

    def decode(self, head: Head, prediction: Prediction, coded: bytes, memory: Any | None) -> tuple[Residuals, object]:
        count = 0 if memory is None else memory + 1
        assert coded[0] == count
        flat = np.frombuffer(zlib.decompress(coded[1:]), "<i4")
        ends = np.cumsum([base.size for base in prediction.values()])
        parts = np.split(flat, ends[:-1])
        shapes = [base.shape for base in prediction.values()]
        residuals = {
            key: part.reshape(shape) for key, part, shape in zip(prediction, parts, shapes, strict=True) if part.any()
        }
        return residuals, count

    def prices(self, head: Head, prediction: Prediction, residuals: Residuals, memory: Any) -> dict[TensorKey, Prices]:
        return {key: Prices(np.ones(b.shape, np.float32), np.zeros(25, np.float32)) for key, b in prediction.items()}


def test_a_further_coder_writes_files_that_the_reader_reads(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    levels: dict[TensorKey, np.ndarray],
    qps: dict[TensorKey, int],
) -> None:
    monkeypatch.setitem(coders.CODERS, Deflate.ID, Deflate())
    path = tmp_path / "toy.inv"
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        writer = Writer(file, HEAD)
        coded, state = encode_key(HEAD, levels, qps, Deflate.ID)
        writer.frame(0, key_frame(state, 0), coded)
        states = [state]
        for number in (1, 2, 3):
            coded, state = encode_delta(state, {MOVED: state.levels[MOVED] + rng.integers(-1, 2, levels[MOVED].shape)})
            writer.frame(number, delta_frame(state, 40 * number, number - 1), coded)
            states.append(state)
        writer.finish(True)
    with StateReader(path) as reader:
        assert [reader.frame(entry)[0].coder for entry in reader.frames] == [Deflate.ID] * 4
        assert [reader.state_at(n).digest() for n in (3, 0, 2, 1)] == [states[n].digest() for n in (3, 0, 2, 1)]
        assert reader.state_at(3).memory == 3
    assert prices(state, {})[MOVED].of(np.ones(levels[MOVED].shape)).sum() == levels[MOVED].size
    # Frames that have to be re-encoded get the usual coder.
    out = io.BytesIO()
    cut(path, 2, None, out)
    (tmp_path / "cut.inv").write_bytes(out.getvalue())
    with StateReader(tmp_path / "cut.inv") as reader:
        assert [reader.frame(entry)[0].coder for entry in reader.frames] == [coders.CODER] * 2
        assert [reader.state_at(n).digest() for n in (2, 3)] == [states[n].digest() for n in (2, 3)]
    # Without it, the file can be listed and not decoded.
    monkeypatch.undo()
    with StateReader(path) as reader, pytest.raises(UnsupportedError, match="coder 200 needs a newer"):
        reader.state_at(0)


def test_a_coder_changes_only_at_a_keyframe(
    monkeypatch: pytest.MonkeyPatch, levels: dict[TensorKey, np.ndarray], qps: dict[TensorKey, int]
) -> None:
    monkeypatch.setitem(coders.CODERS, Deflate.ID, Deflate())
    _, one = encode_key(HEAD, levels, qps)
    _, other = encode_key(HEAD, levels, qps, Deflate.ID)
    coded, state = encode_delta(other, {})
    with pytest.raises(DamagedError, match="a delta changes the coder from 1 to 200"):
        decode(HEAD, delta_frame(state, 1, 0), coded, one)
