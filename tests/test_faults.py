"""Every call that changes a file may fail, from any one on: no finished frame is lost, and nothing is left behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from files import make_vectors
from invcodec_cli import main

from invcodec import output
from invcodec.container.reader import Reader
from invcodec.container.records import MAGIC, RecordType, pack_record
from invcodec.editing.verify import verify
from invcodec.encoding.live import _Pace
from invcodec.encoding.recording import Recording
from invcodec.output import WritableFile
from invcodec.synth.write import write_synthetic

TRAINING = ("--preset", "draft", "--steps", "2", "--threads", "1", "--progress", "none")
LIVE = ("--live", "--key-seconds", "600", "--seconds-per-frame", "600")
OLD = b"precious"


class Disk:
    """A disk on which call number `first` that changes a file fails.

    Args:
        broken: so do all later calls; otherwise it is full, and only writes fail.

    Attributes:
        failed: whether any call has failed.
        frames: frame records that were written.
    """

    def __init__(self, first: int, *, broken: bool) -> None:
        self.code = errno.EIO if broken else errno.ENOSPC
        self._first, self._broken = first, broken
        self._count = self.frames = 0
        self.failed = False

    def fails(self, name: str) -> bool:
        if not self._broken and name != "write":
            return False
        self._count += 1
        self.failed = self.failed or self._count > self._first
        return self._count > self._first


def install(disk: Disk, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Put outputs in a folder on this disk."""

    def error() -> OSError:
        return OSError(disk.code, os.strerror(disk.code))

    def failing(name: str, holder: Any, partly: Callable[..., Any] | None = None) -> None:
        original = getattr(holder, name)

        def call(*arguments: Any, **options: Any) -> Any:
            first = arguments[0]
            path = first._path if isinstance(first, WritableFile) else Path(first)
            idle = (name == "open" and not arguments[1] & os.O_CREAT) or (name == "close" and first.closed)
            if path.parent == folder and not idle and disk.fails(name):
                if partly is not None:
                    partly(original, *arguments)
                raise first.failure(os.strerror(disk.code)) if isinstance(first, WritableFile) else error()
            result = original(*arguments, **options)
            if name == "write" and arguments[1][4] in (2, 3):
                disk.frames += 1
            return result

        patch.setattr(holder, name, call)

    failing("write", WritableFile, lambda write, file, data: write(file, bytes(data[: len(data) // 2])))
    failing("truncate", WritableFile)
    failing("close", WritableFile, lambda close, file: close(file))
    for name in ("open", "link", "replace", "chmod"):
        failing(name, output.os)


def check(path: Path, disk: Disk, *, stream: bool) -> None:
    """The old file, or one that holds all finished frames if they are published as they come; and nothing else."""
    assert [entry.name for entry in path.parent.iterdir()] in ([path.name], [])
    if not path.exists() or path.read_bytes() == OLD:
        # Only a keyframe that could not be published is lost.
        assert disk.frames <= 1 or not stream
        return
    assert stream, "the old file was replaced"
    found = verify(path)
    assert [number for number in found.lost if number < disk.frames] == []
    assert found.status in ("open", "incomplete", "complete", *(["truncated"] if disk.code == errno.EIO else []))
    assert len(found.frames) == disk.frames


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "capture"
    write_synthetic(path, cameras=3, size=(12, 8), frames=2)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "source.inv"
    path.write_bytes(make_vectors.two_segments().finish())
    return path


COMMANDS: dict[str, Callable[[Path, Path, Path], tuple[Any, ...]]] = {
    "encode": lambda tiny, source, out: ("encode", tiny, out, *TRAINING),
    "live": lambda tiny, source, out: ("encode", tiny, out, *LIVE, *TRAINING),
    "cut": lambda tiny, source, out: ("cut", source, "-o", out, "--frames", "1:"),
    "concat": lambda tiny, source, out: ("concat", source, "-o", out),
    "repair": lambda tiny, source, out: ("repair", source, "-o", out),
    "transcode": lambda tiny, source, out: ("transcode", source, "-o", out, "--quality", "30"),
    "picture": lambda tiny, source, out: ("decode", source, "--frame", "0", "--pose", "cam01", "-o", out),
    "weights": lambda tiny, source, out: ("decode", source, "--frame", "0", "--weights", out),
}
SUFFIXES = {"picture": ".png", "weights": ".safetensors"}


def unrehearsed(source: object, settings: object, pace: _Pace) -> _Pace:
    """In place of a rehearsal, on which nothing depends but the time that frames are trained for."""
    for kind in ("key", "delta"):
        pace.observe(kind, 1.0, 0.1)
    return pace


CASES = [(name, force, broken) for name in COMMANDS for force in (False, True) for broken in (False, True)]
# Training takes its time.
CASES = [case for case in CASES if case[0] not in ("encode", "live") or case[1:] in ((True, False), (False, True))]
CASES.remove(("live", True, False))


@pytest.mark.parametrize(("name", "force", "broken"), CASES)
def test_a_failing_disk_loses_nothing_and_is_named(
    cli: Cli,
    tiny: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    force: bool,
    broken: bool,
) -> None:
    monkeypatch.setattr("invcodec.encoding.live._rehearse", unrehearsed)
    path = tmp_path / f"out{SUFFIXES.get(name, '.inv')}"
    command = (*COMMANDS[name](tiny, source, path), *(["-f"] if force else []))
    for first in range(40):
        path.unlink(missing_ok=True)
        if force:
            path.write_bytes(OLD)
        disk = Disk(first, broken=broken)
        with pytest.MonkeyPatch.context() as patch:
            install(disk, tmp_path, patch)
            result = cli(*command)
        if not disk.failed:
            assert result.code == 0
            assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
            return
        assert (result.code, result.err.count("\n")) == (1, 1), result
        assert f"{path}: cannot be written ({os.strerror(disk.code)})" in result.err
        check(path, disk, stream=name in ("encode", "live"))
    pytest.fail("it never succeeds")


def other_notes(encoder: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """An encoder's notes in which one value is another."""
    key, *rest = place
    return {**encoder, key: other_notes(encoder[key], tuple(rest), value) if rest else value}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((place, value) for place in (("settings",), ("origin",)) for value in (None, 5, [], {}, "x")),
        *(
            (("origin", key), 5)
            for key in ("layout", "source", "downscale", "holdout", "alpha", "frames", "fingerprint")
        ),
        (("origin", "frames"), ["a", "b"]),
        (("origin", "holdout"), [5]),
        (("origin", "downscale"), -1),
        (("origin", "alpha"), "beta"),
        (("settings", "networks"), []),
        (("settings", "networks"), [5]),
        (("settings", "key"), None),
        (("settings", "device"), "abacus"),
        (("settings", "threads"), "many"),
        (("settings", "space"), "torus"),
        (("settings", "seed"), -1),
        (("settings", "colour_correction"), False),
        (("settings", "networks"), [{}]),
    ],
)
def test_a_file_whose_settings_are_unsound_is_not_resumed_and_stays_as_it_is(
    cli: Cli, tiny: Path, begun: bytes, tmp_path: Path, place: tuple[str, ...], value: Any
) -> None:
    path = tmp_path / "out.inv"
    path.write_bytes(begun)
    with Reader(path) as reader:
        notes = other_notes(dict(reader.head.encoder), place, value)
        head = replace(reader.head, encoder=notes)
        end = reader.head_end
    data = MAGIC + pack_record(RecordType.HEAD, 0, head.to_bytes()) + begun[end:]
    path.write_bytes(data)
    result = cli("encode", tiny, path, "--resume", "--progress", "none")
    assert (result.code, result.err.count("\n")) in ((2, 1), (1, 1)), result
    assert "bug" not in result.err
    assert path.read_bytes() == data


@pytest.fixture(scope="module")
def begun(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file whose encode stopped after its first frame."""
    path = tmp_path_factory.mktemp("faults") / "begun.inv"
    assert main(["encode", str(tiny), str(path), *TRAINING]) == 0
    with Reader(path) as reader:
        return path.read_bytes()[: reader.frames[0].end]


def test_a_file_is_resumed_by_one_process_at_a_time(cli: Cli, tiny: Path, begun: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.inv"
    path.write_bytes(begun)
    with Recording.resume(path):
        for command in (("--resume",), ("-f", *TRAINING)):
            result = cli("encode", tiny, path, *command)
            assert (result.code, result.err) == (
                2,
                f"invcodec: {path}: is being written by another process; wait until that has ended\n",
            )
            assert path.read_bytes() == begun
    assert cli("encode", tiny, path, "--resume", "--progress", "none").code == 0
    found = verify(path)
    assert (found.status, len(found.frames)) == ("complete", 2)
