"""The order of layers, as import-linter's contracts in pyproject.toml state it, and what is packaged."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from files import ROOT, SPEC

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()"]
    return subprocess.run([*command, "--no-cache"], cwd=root, capture_output=True, text=True)


def test_imports_keep_to_the_layers() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("invcodec/geometry/camera.py", "from invcodec.render import engine"),
        ("invcodec/capture/video.py", "def later():\n    from invcodec.container.reader import Reader"),
        ("invcodec/coding/fit.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import invcodec.training"),
        ("invcodec/decoding/video.py", "import invcodec.encoding"),
        ("invcodec/field/grid.py", "from invcodec import open"),
        ("invcodec/errors.py", "import invcodec_cli"),
        ("invcodec/loose.py", ""),
    ],
)
def test_violations_of_the_layers_are_found(module: str, line: str, tmp_path: Path) -> None:
    sources = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "invcodec", tmp_path / "invcodec", ignore=sources)
    shutil.copytree(ROOT / "cli", tmp_path / "invcodec_cli", ignore=sources)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / module, "a") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert module.removesuffix(".py").replace("/", ".").rpartition(".")[2] in done.stdout


def test_no_module_is_part_of_an_import_cycle() -> None:
    graph = grimp.build_graph("invcodec", "invcodec_cli", cache_dir=None)
    # Raises CycleError, which names the cycle.
    TopologicalSorter({m: graph.find_modules_directly_imported_by(m) for m in graph.modules}).prepare()


def test_the_reference_decoder_is_independent_of_the_package() -> None:
    tree = ast.parse((SPEC / "reference.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"numpy"}


def test_every_package_is_installed() -> None:
    found = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "invcodec").rglob("*.py")}
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted([*(name.replace("/", ".") for name in found), "invcodec_cli"])
