"""Captures, plans and pieces in stores that fsspec reaches are as good as folders of this machine."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from conftest import Cli
from fsspec.implementations.memory import MemoryFileSystem
from test_segments import settings, small  # noqa: F401

from invcodec.capture.capture import open_capture
from invcodec.errors import CaptureError, UsageError
from invcodec.places import located
from invcodec.segments.cutting import every
from invcodec.segments.encode import encode_in_segments
from invcodec.segments.piece import encode_piece
from invcodec.segments.plan import make_plan
from invcodec.segments.store import Store
from invcodec.synth.write import write_synthetic

FRAMES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places") / "capture"
    write_synthetic(folder, cameras=3, size=(10, 8), frames=FRAMES)
    return folder


@pytest.fixture
def store(folder: Path) -> Iterator[str]:
    """The capture in a store, which begins with nothing else."""
    files = fsspec.filesystem("memory")
    files.put(str(folder), "/bucket/capture", recursive=True)
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of stores that are opened from now on."""
    found: list[str] = []
    original = MemoryFileSystem._open

    def spied(self: Any, path: str, *given: Any, **more: Any) -> Any:
        found.append(path)
        return original(self, path, *given, **more)

    monkeypatch.setattr(MemoryFileSystem, "_open", spied)
    return found


def test_an_encode_from_store_to_store_gives_the_file_of_local_folders(
    folder: Path, store: str, tmp_path: Path
) -> None:
    for name, source, place in (("a", folder, str(tmp_path / "p")), ("b", f"{store}/capture", f"{store}/p")):
        capture = open_capture(source)
        segments = every(capture.numbers, 2)
        encode_in_segments(capture, tmp_path / name, settings(), segments, place)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert Store(f"{store}/p").has("pieces/000002.inv")
    Store(f"{store}/p").remove()
    assert not Store(f"{store}/p").has("plan.json")


def test_a_worker_reads_only_its_frames(store: str, opened: list[str]) -> None:
    capture = open_capture(f"{store}/capture")
    # Of pictures, what is inside cannot be told from what is outside at once: the first ones, and the last.
    assert {Path(path).stem for path in opened if path.endswith(".png")} == {"0000"}
    plan = make_plan(f"{store}/plan", capture, settings(), every(capture.numbers, 2))
    sent = pickle.dumps((plan, capture))
    opened.clear()
    encode_piece(*pickle.loads(sent), 1)
    read = {Path(path).stem for path in opened if path.endswith(".png")}
    assert read == {"0000", "0002", "0003"}


def test_videos_and_arrays_are_read_from_stores(store: str, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "videos", cameras=3, size=(16, 16), frames=4, layout="n3dv")
    fsspec.filesystem("memory").put(str(tmp_path / "videos"), "/bucket/videos", recursive=True)
    captures = open_capture(tmp_path / "videos"), open_capture(f"{store}/videos")
    assert [capture.layout for capture in captures] == ["n3dv", "n3dv"]
    assert captures[0].inventory() == captures[1].inventory()
    pictures = [[frame.images for frame in capture.frames(1, 3)] for capture in captures]
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize("name", ["file:///etc/passwd", "/etc/passwd.png", "../other.png", "memory://x/y.png"])
def test_a_capture_in_a_store_reaches_for_nothing_outside(store: str, name: str) -> None:
    path = located(f"{store}/capture/transforms.json")
    described = json.loads(path.read_text())
    described["frames"][0]["file_path"] = name
    path.write_text(json.dumps(described))
    with pytest.raises(CaptureError, match=r"memory://bucket/capture|lies outside|no such"):
        open_capture(f"{store}/capture")


def test_places_that_cannot_be_reached_are_refused_in_one_line(
    cli: Cli, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.inv"
    for place, words in (
        ("nonsense://x", "nonsense://x: "),
        (f"{store}/nowhere", "no such file or directory"),
    ):
        result = cli("encode", place, out)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert words in result.err

    def refused(*given: Any, **more: Any) -> Any:
        raise RuntimeError("credentials\nare missing")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "info", refused)
        patch.setattr(MemoryFileSystem, "isfile", refused)
        with pytest.raises(UsageError, match=r"memory://bucket/p.*: cannot be reached \(credentials\)"):
            Store(f"{store}/p").has("plan.json")
        result = cli("inspect", f"{store}/capture")
        assert (result.code, result.err.count("\n"), "(credentials)" in result.err) == (2, 1, True)
    monkeypatch.setitem(sys.modules, "upath", None)
    result = cli("inspect", f"{store}/capture")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "pip install 'invcodec[cloud]'" in result.err
    assert not out.exists()


def test_the_command_line_takes_urls(cli: Cli, store: str, small: None, tmp_path: Path) -> None:  # noqa: F811
    plan, out = f"{store}/plan", tmp_path / "out.inv"
    result = cli("segments", "plan", f"{store}/capture", "-o", plan, "--segments", 3)
    assert (result.code, result.out) == (0, f"{plan}: 2 segments, {FRAMES} frames\n"), result.err
    assert cli("segments", "run", plan).out == "segment 0: 2 frames\nsegment 1: 3 frames\n"
    assert cli("segments", "join", plan, "-o", out).code == 0
    assert cli("eval", out, f"{store}/capture").code == 0
    command = ("encode", f"{store}/capture", "--segments", 3, "--pieces", f"{store}/q", tmp_path / "b.inv")
    assert cli(*command).code == 0
    assert (tmp_path / "b.inv").read_bytes() == out.read_bytes()
    assert "--calibrate writes into" in cli("encode", f"{store}/capture", out, "--calibrate").err
