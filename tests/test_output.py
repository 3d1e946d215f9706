"""Outputs appear under their names when they are whole; whatever fails, nothing is lost and nothing is left over."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from files import full_disk

from invcodec.errors import InvError, UsageError
from invcodec.output import Output, check_output, written


def listed(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_an_output_has_its_name_only_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "view.png"
    with written(path, force=False) as out:
        out.file.write(b"new")
        assert out.part.suffix == ".png"
        assert listed(tmp_path) == [out.part.name]
    assert (listed(tmp_path), path.read_bytes()) == (["view.png"], b"new")


def test_what_was_there_stays_if_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "view.png"
    path.write_bytes(b"old")
    with suppress(KeyError), written(path, force=True) as out:
        out.file.write(b"new")
        raise KeyError
    assert (listed(tmp_path), path.read_bytes()) == (["view.png"], b"old")


@pytest.mark.parametrize("link", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, link: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not link:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "view.png"
    with Output(path, force=False) as out:
        out.file.write(b"new")
        path.write_bytes(b"appeared")
        with pytest.raises(UsageError, match=r"view\.png: already exists; use -f"):
            out.publish()
    assert (listed(tmp_path), path.read_bytes()) == (["view.png"], b"appeared")
    path.unlink()
    with written(path, force=False) as out:
        out.file.write(b"new")
    assert (listed(tmp_path), path.read_bytes()) == (["view.png"], b"new")


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o660, 0o444])
def test_a_replaced_file_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "view.png"
    path.write_bytes(b"old")
    path.chmod(mode)
    with written(path, force=True) as out:
        # Not even for a moment may others read what is to be private.
        assert out.part.stat().st_mode & 0o777 & ~mode == 0
        out.file.write(b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", mode)


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with written(tmp_path / "view.png", force=True) as out:
            pass
        assert out.target.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "é" * 125 + ".png", "." + "y" * 254, "a." + "z" * 253])
def test_names_may_be_as_long_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    with written(tmp_path / name, force=False) as out:
        out.file.write(b"new")
    assert listed(tmp_path) == [name]


def test_the_name_of_an_unfinished_file_cannot_be_foreseen(tmp_path: Path) -> None:
    names = set()
    for _ in range(20):
        with Output(tmp_path / "film.mp4", force=False) as out:
            names.add(out.part.name)
    assert len(names) == 20
    assert listed(tmp_path) == []


def test_a_file_that_another_writes_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "live.inv"
    with Output(path, force=False) as out:
        out.file.write(b"first")
        out.publish()
        with pytest.raises(UsageError, match=r"live\.inv: is being written by another process"):
            check_output(path, force=True)
    check_output(path, force=True)
    assert path.read_bytes() == b"first"


def test_a_disk_that_takes_a_part_and_then_no_more_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "view.png"
    path.write_bytes(b"old")
    with Output(path, force=True) as out, full_disk(100):
        with pytest.raises(InvError, match=r"view\.png: cannot be written \(File too large\)"):
            out.file.write(bytes(1000))
        assert out.part.stat().st_size == 100
    assert (listed(tmp_path), path.read_bytes()) == (["view.png"], b"old")
