"""The player, the decoder that runs in browsers: its own tests, and the conformance vectors."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

from files import PATIENCE, ROOT

BUILT = ROOT / "player" / "build"
ENVIRONMENT = os.environ | {"PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])}


def node(*arguments: str | Path) -> str:
    """What a program for Node prints."""
    done = subprocess.run(
        ["node", *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, cwd=BUILT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_player_passes_its_own_tests() -> None:
    tests = sorted(BUILT.glob("*.test.js"))
    assert tests, "the player is not built: make player"
    node("--test", *tests)
