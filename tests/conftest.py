"""A tiny capture and its encoding, made once through the command line, and a fixture that runs commands.

Workers of pytest-xdist share the capture, the encoding, compiled kernels and everything else made by `shared`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from files import SPEC
from hypothesis import settings
from invcodec_cli import main
from playing import Player

# Triton reads this on import: without a GPU its kernels are interpreted.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# The same examples in every run, without a deadline: results do not depend on chance or on the machine's speed.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@dataclass(frozen=True)
class Result:
    """Exit code and output of a command."""

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


Shared = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Makes a folder by name: the first worker to ask fills it, the others wait until it is complete."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


def command(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def _capture(shared: Shared) -> Path:
    size = ("--cameras", 7, "--size", "40x30", "--frames", 4)
    return shared("tiny", lambda folder: command("synth", folder / "capture", *size, "--scene", "moving")) / "capture"


def _encoded(shared: Shared) -> Path:
    capture, options = _capture(shared), ("--frames", "1:4", "--steps", 250, "--key-every", 2, "--threads", 2)
    return shared("encoded", lambda folder: command("encode", capture, folder / "out.inv", *options)) / "out.inv"


def _verified(shared: Shared) -> Path:
    return shared("verified", lambda _: command("verify", SPEC / "vectors/valid/long-chain/input.inv"))


@pytest.fixture(scope="session")
def capture(shared: Shared) -> Path:
    """Six cameras, four frames; cam00 is marked as test. Do not modify."""
    return _capture(shared)


@pytest.fixture(scope="session")
def encoded(shared: Shared) -> Path:
    """The capture's first three frames, encoded as frames 1 to 3. Do not modify."""
    return _encoded(shared)


@pytest.fixture(scope="session")
def player() -> Iterator[Player]:
    """Opens files in the page of a browser, which is started for the first of them."""
    player = Player()
    yield player
    player.close()


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What encodes remember of a machine's speed stays out of the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _compiled(shared: Shared, _cache: None) -> None:
    """Compile the slowest kernels before parallel workers run tests, each in one of them; numba caches them."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return
    makers = [_encoded, _verified]
    first = int(worker.removeprefix("gw")) % len(makers)
    for make in makers[first:] + makers[:first]:
        make(shared)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI only tests that need a GPU may be skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and os.environ.get("CI"):
        skipped = [report.longrepr[2] for report in reporter.stats.get("skipped", [])]
        if wrong := [reason for reason in skipped if "CUDA" not in reason]:
            reporter.write_line(f"\nskipped, which CI does not allow: {', '.join(wrong)}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("INVCODEC_")]:
        monkeypatch.delenv(name)
