"""A tiny capture and its encoding, made once through the command line, and a way to run that."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from invcodec_cli import main

# Read when Triton is imported: where there is no GPU, its kernels are interpreted.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# The same examples every time: a run that fails can be run again.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@dataclass(frozen=True)
class Result:
    """What a command line gave."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs `invcodec` with some arguments in this process."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cameras, four frames; cam00 is marked as test. Not to be changed."""
    folder = tmp_path_factory.mktemp("tiny") / "capture"
    arguments = ["synth", folder, "--cameras", "7", "--size", "40x30", "--frames", "4", "--scene", "moving"]
    assert main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture(scope="session")
def encoded(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The capture's first three frames, encoded as frames 1 to 3. Not to be changed."""
    path = tmp_path_factory.mktemp("encoded") / "out.inv"
    arguments = ["encode", capture, path, "--frames", "1:4", "--steps", "250", "--key-every", "2", "--threads", "2"]
    assert main([str(argument) for argument in arguments]) == 0
    return path


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("INVCODEC_")]:
        monkeypatch.delenv(name)
