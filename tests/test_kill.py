"""An encoder that is killed at any moment leaves a file that holds all finished frames and can be continued."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from invcodec.capture.capture import open_capture
from invcodec.editing.verify import verify
from invcodec.encoding.encode import encode_capture, resume
from invcodec.encoding.presets import resolve
from invcodec.encoding.settings import Settings
from invcodec.errors import UsageError
from invcodec.synth.write import write_synthetic

FRAMES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kill") / "capture"
    write_synthetic(path, cameras=4, size=(20, 16), frames=FRAMES)
    return path


def settings() -> Settings:
    quick = resolve("draft", steps=10, threads=1, key_every=4)
    config = {"resolutions": [4, 9], "log2_table": 9, "occupancy": 8, "samples": 16}
    return replace(quick, networks=({**quick.networks[0], "config": config},))


def encode_and_die(folder: Path, path: Path, size: int, seconds: float) -> None:
    """Encode in a process of its own, which is killed a little after the file has reached a size."""
    child = os.fork()
    if child == 0:
        try:
            encode_capture(open_capture(folder), path, settings())
        finally:
            os._exit(0)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if path.exists() and path.stat().st_size >= size:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_encoder_leaves_what_it_finished(folder: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    whole = tmp_path / "whole.inv"
    encode_capture(open_capture(folder), whole, settings())
    with open(whole, "rb") as file:
        ends = [0, *(entry.offset + entry.length for entry in verify(file, whole.name).frames)]
    assert len(ends) == FRAMES + 1
    for finished, size in enumerate(ends):
        path = tmp_path / f"{finished}.inv"
        encode_and_die(folder, path, size, rng.uniform(0, 0.05))
        with open(path, "rb") as file:
            found = verify(file, path.name)
        # Every record is flushed when it is finished, so nothing but the last one can be cut off.
        assert found.status in ("open", "truncated", "complete")
        assert found.lost == []
        assert [e.number for e in found.frames] == list(range(len(found.frames)))
        assert len(found.frames) >= finished
        if found.status == "complete":
            with pytest.raises(UsageError, match="nothing to resume"):
                resume(path, folder)
        else:
            resume(path, folder)
        with open(path, "rb") as file:
            again = verify(file, path.name)
        assert (again.status, len(again.frames)) == ("complete", FRAMES)
