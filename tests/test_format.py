"""FORMAT.md's worked example against the file that it describes, and its tables against the code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from invcodec import limits
from invcodec.coding import entropy

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "FORMAT.md").read_text()


def test_the_bytes_of_the_worked_example_are_those_of_its_file() -> None:
    data = (ROOT / "spec" / "vectors" / "valid" / "grid-ndc" / "input.inv").read_bytes()
    rows = re.findall(r"^\| (\d+) \| `((?:[0-9a-f]{2} ?)+)` \|", TEXT, re.MULTILINE)
    assert len(rows) > 20
    for offset, text in rows:
        wanted = bytes.fromhex(text)
        assert data[int(offset) : int(offset) + len(wanted)] == wanted, offset
    assert f"{len(data)} bytes: a keyframe" in TEXT


def test_the_coded_tensor_of_the_worked_example() -> None:
    coder = entropy.RecordCoder(entropy.Statistics())
    coder.tensor(0, (4,), np.array([0, 2, 0, -1], np.int32))
    assert coder.finish() == bytes.fromhex("0e8e3dff80")


def test_limits_are_those_that_are_checked() -> None:
    for row in (
        f"| payload of a record | 2^{limits.MAX_RECORD_BYTES.bit_length() - 1} bytes |",
        f"| HEAD; a frame header | 2^{limits.MAX_HEAD_BYTES.bit_length() - 1} bytes |",
        f"| INDEX (a larger one does not fit) | 2^{limits.MAX_INDEX_BYTES.bit_length() - 1} bytes |",
        f"| cameras | {limits.MAX_CAMERAS} |",
        f"| networks | {limits.MAX_NETWORKS} |",
        f"| tensors of a network | {limits.MAX_TENSORS} |",
        f"| dimensions of a tensor | {limits.MAX_TENSOR_DIMS} |",
        f"| values of a state, all tensors together | 2^{limits.MAX_WEIGHTS.bit_length() - 1} |",
        f"| image side | {limits.MAX_IMAGE_SIDE} pixels |",
        f"| samples and importance samples of a ray, together | {limits.MAX_SAMPLES_PER_RAY} |",
    ):
        assert row in TEXT, row
    assert f"nested at most {limits.MAX_NESTING} deep" in TEXT
