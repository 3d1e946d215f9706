"""The documentation: its links resolve, its commands are accepted, its Python examples run."""

from __future__ import annotations

import doctest
import re
import shlex
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import click
import invcodec_cli
import pytest
from files import ROOT
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry as stores

import invcodec
from invcodec.encoding import capacity

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
PACKAGES = {path.name for folder in (ROOT, ROOT / "invcodec") for path in folder.iterdir() if path.is_dir()}
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def anchors(page: Path) -> set[str]:
    """Fragments of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> list[str]:
    """Command lines of `invcodec` in indented blocks, without shell comments and pipes."""
    found = set()
    for page in PAGES:
        for line in re.findall(r"^    (?:.*[|\"] ?)?(invcodec [a-z].*)$", page.read_text(), re.MULTILINE):
            found.add(re.split(r' [#|] |" ?$|"$', line)[0].strip())
    return sorted(found)


def examples() -> list[tuple[str, str]]:
    """Python blocks, by page."""
    return [
        (name, block)
        for name, page in zip(NAMES, PAGES, strict=True)
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not fragment or fragment in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:[a-z_]+/)+[\w.-]*)`", page.read_text()):
        if name.split("/")[0] in PACKAGES and not name.endswith("/yours.py"):
            assert (ROOT / name).exists() or (ROOT / "invcodec" / name).exists(), name


@pytest.mark.parametrize("line", commands())
def test_commands_are_accepted(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which stores can be reached depends on what is installed.
    monkeypatch.setitem(stores, "s3", MemoryFileSystem)
    _, name, *arguments = shlex.split(line)
    command = invcodec_cli._commands.get_command(click.Context(invcodec_cli._commands), name)
    assert command is not None
    # Parses and checks options; nothing runs.
    command.make_context(name, arguments)


@pytest.mark.parametrize(("page", "block"), examples())
def test_examples_run(
    page: str, block: str, capture: Path, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "capture").symlink_to(capture)
    if "encode_capture(" not in block:
        (tmp_path / "out.inv").write_bytes(encoded.read_bytes())
    # A preset's steps would take minutes.
    monkeypatch.setattr(invcodec, "resolve", partial(invcodec.resolve, steps=2), raising=False)
    exec(compile(block, page, "exec"), {})


def test_examples_of_docstrings_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    modules = {import_module(f"invcodec.{home}") for home in invcodec._HOMES.values()}
    done = [doctest.testmod(module) for module in modules]
    assert sum(result.attempted for result in done) > 10
    assert not any(result.failed for result in done)


def test_every_public_name_is_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    for name in invcodec.__all__:
        assert f"`{name}" in text or f"invcodec.{name}" in text, name


def test_the_manual_states_the_steps_of_presets() -> None:
    for name, (key, later) in capacity.STEPS.items():
        assert f"| `{name}` | {key:,} steps | {later:,} steps |" in (ROOT / "docs" / "encode.md").read_text()


def test_the_manual_states_capacity() -> None:
    rows = re.findall(
        r"\| (\d+) of (\d+)x(\d+) \| (\d+), from (\d+) to about (\d+) cells \| 2\^(\d+) \| (\d+)\^3 \| (\d+) \|",
        (ROOT / "docs" / "encode.md").read_text(),
    )
    assert len(rows) == 3
    for cameras, width, height, levels, coarsest, finest, log2_table, occupancy, samples in (
        map(int, row) for row in rows
    ):
        config = capacity.grid_config(cameras * width * height, finest)
        assert (len(config["resolutions"]), config["resolutions"][0]) == (levels, coarsest)
        assert (config["log2_table"], config["occupancy"], config["samples"]) == (log2_table, occupancy, samples)


def test_the_map_lists_every_package_and_module_at_the_bottom() -> None:
    listed = set(re.findall(r"`(\w+)`", (ROOT / "ARCHITECTURE.md").read_text().partition("## Life of a frame")[0]))
    found = {path.stem for path in (ROOT / "invcodec").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert {name for name in found if not name.startswith("__")} - listed == {"version"}


def test_extension_points_are_where_the_map_says() -> None:
    table = (ROOT / "ARCHITECTURE.md").read_text().partition("| seam |")[2]
    seams = re.findall(r"`([a-z_.]+\.[A-Z]\w+)`", table)
    assert len(seams) > 8
    for seam in seams:
        resolve_name(f"invcodec.{seam}")
