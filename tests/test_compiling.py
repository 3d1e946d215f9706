"""Machine code is kept for exactly the sources that it was compiled from."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType

import pytest
from numba import config
from numba.core.dispatcher import Dispatcher

import invcodec
from invcodec import compiling

_PACKAGE = Path(compiling.__file__).parent


def source(module: str) -> str:
    return Path(str(sys.modules[module].__file__)).relative_to(_PACKAGE).as_posix()


def names_of(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from names_of(each)


def names_in_constants(tree: ast.Module) -> set[str]:
    assigned = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    return {name.id for node in assigned for name in ast.walk(node) if isinstance(name, ast.Name)}


def parsed(module: ModuleType) -> ast.Module:
    return ast.parse(Path(str(module.__file__)).read_text())


def imported(tree: ast.Module) -> dict[str, str]:
    """Names that a module imports from this package, with the modules that they come from."""
    return {
        alias.asname or alias.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("invcodec.")
        for alias in node.names
    }


def test_whatever_goes_into_machine_code_is_among_the_sources() -> None:
    for found in pkgutil.walk_packages(invcodec.__path__, "invcodec."):
        if not found.name.endswith("gpu_kernels") and "device_kernels" not in found.name:  # Triton's, for a GPU
            importlib.import_module(found.name)
    kernels = {
        (module.__name__, name): value
        for module in list(sys.modules.values())
        if module.__name__.startswith("invcodec.")
        for name, value in vars(module).items()
        if isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__
    }
    assert len(kernels) > 50
    modules = {module: parsed(sys.modules[module]) for module, _ in kernels}
    ingredients = set(modules)
    for (module, _), kernel in kernels.items():
        origins = imported(modules[module])
        used = {*names_of(kernel.py_func.__code__), *names_in_constants(modules[module])}
        ingredients |= {origins[name] for name in used if name in origins}
        assert compiling._CACHE in Path(kernel.stats.cache_path).parents
    missing = {source(module) for module in ingredients} - set(compiling.SOURCES)
    assert not missing, f"add to SOURCES in invcodec/compiling.py: {sorted(missing)}"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "package"
    for name in compiling.SOURCES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}\n")
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    return folder


def test_sources_that_change_get_a_new_cache_and_the_old_one_goes(package: Path) -> None:
    first = compiling._cache(package)
    assert first is not None
    assert first.parent == package / "__pycache__"
    (first / "kernel.nbc").write_bytes(b"machine code")
    assert compiling._cache(package) == first
    assert (first / "kernel.nbc").exists()
    seen = {first}
    for name in compiling.SOURCES:
        (package / name).write_text("# changed\n")
        seen.add(compiling._cache(package) or Path())
    assert len(seen) == len(compiling.SOURCES) + 1
    assert len(list((package / "__pycache__").iterdir())) == 1


def test_the_cache_is_where_it_can_be_written(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "__pycache__").write_text("not a folder")
    of_user = compiling._cache(package)
    assert of_user is not None
    assert of_user.parent == tmp_path / "users" / "invcodec"
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert compiling._cache(package) is None
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "wanted"))
    wanted = compiling._cache(package)
    assert wanted is not None
    assert wanted.parent == tmp_path / "wanted"
    other = tmp_path / "wanted" / "compiled-of-another-version"
    other.mkdir()
    (package / compiling.SOURCES[0]).write_text("# changed\n")
    # The user's own folder may be shared by other versions: nothing there is removed.
    assert compiling._cache(package) != wanted
    assert (other.exists(), wanted.exists()) == (True, True)
    (package / compiling.SOURCES[0]).unlink()
    assert compiling._cache(package) is None


def test_functions_of_others_are_cached_where_they_were() -> None:
    before = config.CACHE_DIR
    compiling.compiler()(lambda: 0)
    assert before == config.CACHE_DIR
