"""Builds the player for browsers into the wheel, unless it is built already; all else is in pyproject.toml."""

import os
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithPlayer(build_py):
    def run(self) -> None:
        if not self.editable_mode and not (ROOT / "invcodec" / "player" / "index.js").exists():
            # Where only the system knows a proxy's certificate.
            node = {"NODE_OPTIONS": "--use-system-ca"}
            for step in (["ci", "--ignore-scripts"], ["run", "build"]):
                subprocess.run(["npm", *step], cwd=ROOT / "player", env=node | os.environ, check=True)
        super().run()


setup(cmdclass={"build_py": BuildWithPlayer})
