"""A short run of `make fuzz`: hostile files with valid checksums and hostile captures are read or refused."""

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


@pytest.mark.slow
def test_hostile_captures_are_refused_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(fuzz.VECTORS.parent))
    captures = load("fuzz_captures")
    fuzzer = captures.CaptureFuzzer(tmp_path / "sound")
    assert [captures.attack(path) for path in fuzzer.captures] == ["read"] * 3 + ["filmed"] + ["read"] * 9
    outcomes = set()
    for number in range(100):
        fuzzer.write(number, tmp_path / f"{number}")
        outcomes.add(captures.attack(tmp_path / f"{number}"))
    assert outcomes >= {"read", "CaptureError"}
