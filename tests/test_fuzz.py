"""A short run of `make fuzz`: hostile files with valid checksums either decode or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from files import load

fuzz = load("fuzz")


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_hostile_files_are_refused_or_decoded(first: int, tmp_path: Path) -> None:
    fuzzer = fuzz.Fuzzer()
    outcomes = {fuzz.attack(fuzzer.make(number), tmp_path) for number in range(first, first + 100)}
    # Inputs get past the checksums.
    assert outcomes >= {"decoded", "DamagedError"}
