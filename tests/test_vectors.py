"""Both decoders, the package and the one written from FORMAT.md alone, against the conformance vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from files import SPEC, make_vectors, reference

from invcodec.decoding.video import Video
from invcodec.errors import InvError

VECTORS = sorted(path.parent for path in SPEC.glob("vectors/*/*/expect.json"))


def expected(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "expect.json").read_text())


def name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def reference_finds(data: bytes) -> dict[str, Any]:
    """Findings of the reference decoder, in the vectors' terms."""
    try:
        file = reference.read(data)
        states = dict(reference.states(file))
    except reference.Refused as refusal:
        return {"refused": refusal.kind}
    shapes = reference.table(file.head)
    return {
        "refused": None,
        "status": file.status,
        "records": [list(record) for record in file.records],
        "frames": [
            [f.number, f.ticks, f.kind, reference.digest(states[f.number], shapes).hex()]
            for f in file.frames
            if f.number in states
        ],
        "lost": sorted(set(file.lost)),
    }


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """FORMAT.md, "Output"."""
    difference = np.abs(a.astype(int) - b.astype(int))
    return bool((difference <= 1).mean() >= 0.995 and difference.mean() < 0.1)


def test_the_vectors_are_frozen() -> None:
    # If this fails after a deliberate change of the format, `python spec/make_vectors.py --write` makes them anew.
    lines = (SPEC / "vectors" / "SHA256SUMS").read_text().splitlines()
    sums = {line.split("  ")[1]: line.split("  ")[0] for line in lines}
    files = {p.relative_to(SPEC / "vectors").as_posix(): p for p in SPEC.glob("vectors/*/*/*")}
    assert sums.keys() == files.keys()
    for key, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sums[key], key


def test_there_is_a_vector_of_every_kind() -> None:
    outcomes = [expected(folder) for folder in VECTORS]
    assert {outcome["refused"] for outcome in outcomes} == {None, "usage", "damaged", "unsupported", "limit"}
    statuses = {outcome.get("status") for outcome in outcomes if not outcome["refused"]}
    assert statuses == {"complete", "incomplete", "open", "truncated", "damaged"}
    types = {record[0] for outcome in outcomes for record in outcome.get("records", [])}
    assert types >= {1, 2, 3, 4, 5, 128, 200}
    assert all(expected(f)["status"] == "complete" and not expected(f)["lost"] for f in VECTORS if "valid" in f.parts)


def test_writers_still_make_the_same_valid_files(tmp_path: Path) -> None:
    for vector in make_vectors.vectors():
        assert (SPEC / "vectors" / vector.path / "input.inv").read_bytes() == vector.data, vector.path


@pytest.mark.parametrize("folder", VECTORS, ids=name)
def test_the_package_finds_what_is_expected(folder: Path) -> None:
    found = make_vectors.observe((folder / "input.inv").read_bytes())
    assert found == {key: value for key, value in expected(folder).items() if key not in ("intent", "render")}


@pytest.mark.parametrize("folder", VECTORS, ids=name)
def test_the_reference_decoder_finds_what_is_expected(folder: Path) -> None:
    found = reference_finds((folder / "input.inv").read_bytes())
    assert found == {key: value for key, value in expected(folder).items() if key not in ("intent", "render")}


@pytest.mark.parametrize("folder", [f for f in VECTORS if "render" in expected(f)], ids=name)
def test_both_decoders_render_what_is_expected(folder: Path) -> None:
    view = expected(folder)["render"]
    data = (folder / "input.inv").read_bytes()
    file = reference.read(data)
    state = dict(reference.states(file))[view["frame"]]
    cameras = next(frame.cameras for frame in file.frames if frame.number == view["frame"])
    row = next(camera for camera in cameras if camera["name"] == view["camera"])
    if "refused" in view:
        with pytest.raises(InvError) as error:
            Video(folder / "input.inv")
        with pytest.raises(reference.Refused) as refusal:
            reference.render(file, state, row)
        assert make_vectors.CLASSES[type(error.value)] == refusal.value.kind == view["refused"]
        return
    with Video(folder / "input.inv", device="cpu", threads=1) as video:
        package = video[view["frame"]].render(view["camera"]).rgb
    wanted = np.array(view["rgb"], np.uint8)
    assert wanted.std() > 1, "a picture of one colour proves little"
    assert alike(package, wanted)
    assert alike(reference.render(file, state, row)[0], wanted)


@pytest.mark.parametrize("folder", VECTORS, ids=name)
def test_commands_end_with_a_result_or_a_reason(folder: Path, cli: Cli, tmp_path: Path) -> None:
    source, out = folder / "input.inv", tmp_path / "out.inv"
    for command in (
        ("info", source),
        ("info", source, "--json", "--records"),
        ("verify", source),
        ("decode", source, "--frame", 0, "--weights", tmp_path / "weights.safetensors"),
        ("cut", source, "-o", out, "--frames", "1:"),
        ("repair", source, "-o", out, "-f"),
    ):
        done = cli(*command)
        assert done.code in (0, 2, 3, 4, 5), (command, done.err)
        assert bool(done.out + done.err) or not done.code
        assert "bug" not in done.err, command
