"""Lists of captures: each is encoded once, and none stops the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from test_segments import settings

from invcodec.container.reader import Reader
from invcodec.synth.write import write_synthetic


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch") / "capture"
    write_synthetic(folder, cameras=3, size=(10, 8), frames=3)
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invcodec_cli.encode.resolve_settings", lambda *given, **more: settings())


def listed(path: Path, *items: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_a_bad_capture_does_not_stop_the_others(cli: Cli, capture: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(capture, broken)
    (broken / "transforms.json").unlink()
    out = [str(tmp_path / name) for name in ("a.inv", "b.inv", "c.inv", "d.inv")]
    path = listed(
        tmp_path / "list.jsonl",
        {"capture": str(capture), "output": out[0], "frames": "0:1"},
        {"capture": str(broken), "output": out[1]},
        {"capture": str(capture), "output": out[2], "segments": 2, "motion": False, "holdout": ["cam01"]},
        {"capture": str(tmp_path / "nowhere"), "output": out[3]},
    )
    result = cli("encode", "--batch", path, "--progress", "json")
    assert result.code == 2
    said = [json.loads(line) for line in result.out.splitlines()]
    assert [(each["output"], each["status"]) for each in said] == list(
        zip(out, ("done", "failed", "done", "failed"), strict=True)
    )
    assert [each.get("frames") for each in said] == [1, None, 3, None]
    assert "no such file" in said[3]["error"]
    assert result.err == "2 done, 0 there, 2 failed\n"
    # What is there stays; what was cut short goes on; what failed is tried again.
    whole = Path(out[2]).read_bytes()
    assert cli("cut", out[2], "--frames", "0:2", "-o", out[2] + "x").code == 0
    shutil.copy(capture / "transforms.json", broken)
    again = cli("encode", "--batch", path)
    *ended, failed = again.out.splitlines()
    assert ended == [f"{out[0]}: there", f"{out[1]}: done", f"{out[2]}: there"]
    assert failed.startswith(f"{out[3]}: failed: ")
    assert again.err == "1 done, 2 there, 1 failed\n"
    assert Path(out[2]).read_bytes() == whole
    with Reader(out[1]) as reader:
        assert len(reader.frames) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: "),
        ("[1]", 'line 2: is not an object with "capture" and "output"'),
        ('{"capture": "c"}', 'line 2: is not an object with "capture" and "output"'),
        ('{"capture": "c", "output": "x", "speed": 3}', "line 2: No such option"),
        ('{"capture": "c", "output": "x", "preset": "huge"}', "line 2: Invalid value"),
        ('{"capture": "c", "output": "x", "live": true}', "line 2: --live cannot be in a list"),
        ('{"capture": "c", "output": "a"}', "a is the output of another line"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_encoded(cli: Cli, line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(f'{{"capture": "c", "output": "a"}}\n{line}\n')
    result = cli("encode", "--batch", path)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert words in result.err


def test_a_batch_takes_nothing_else(cli: Cli, tmp_path: Path) -> None:
    path = listed(tmp_path / "list.jsonl")
    for more in (("c", "out.inv"), ("--preset", "fast"), ("--resume",)):
        result = cli("encode", "--batch", path, *more)
        assert (result.code, "takes all from its list; remove" in result.err) == (2, True)
    assert cli("encode", "--batch", tmp_path / "none").code == 2
    assert "Missing argument 'CAPTURE'" in cli("encode").err
