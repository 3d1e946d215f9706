"""Joined, cut and repaired files hold what they came from, bit for bit."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from files import SPEC, make_vectors

from invcodec.coding.chain import StateReader
from invcodec.editing.edit import concat, cut
from invcodec.editing.verify import repair, verify
from invcodec.encoding.encode import resume
from invcodec.errors import DamagedError, InvError, UsageError

VECTORS = sorted(path.parent for path in SPEC.glob("vectors/*/*/expect.json"))


def long_file() -> Any:
    """Keyframes 0 and 4, cameras that move at frame 2, numbers with a gap."""
    rig = make_vectors.cameras("ndc")
    moved = tuple(replace(camera, near=0.5) for camera in rig)
    made = make_vectors.Maker(make_vectors.header([make_vectors.grid("ndc")], rig), 40)
    made.key(0, 0).delta(1, 40).delta(2, 80, cameras=moved).delta(3, 120)
    return made.key(4, 160).delta(5, 200).delta(8, 320).delta(9, 360)


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "source.inv", long_file().finish())


def content(path: Path) -> dict[int, tuple[Any, bytes, Any]]:
    """Time, digest of the decoded state, and cameras of each frame."""
    with StateReader(path) as reader:
        return {
            e.number: (e.time, reader.state_at(e.number).digest(), reader.cameras_at(e.number)) for e in reader.frames
        }


def verdict(path: Path) -> Any:
    with open(path, "rb") as file:
        return verify(file, path.name)


def test_any_cut_keeps_its_frames_as_they_are(source: Path, tmp_path: Path) -> None:
    before = content(source)
    numbers = list(before)
    for first in range(-1, 10):
        for stop in (first + 1, first + 2, first + 3, 99):
            kept = [n for n in numbers if first <= n < stop]
            out = io.BytesIO()
            if not kept:
                with pytest.raises(UsageError, match="it has frames 0 to 9"):
                    cut(source, first, stop, out)
                continue
            result = cut(source, first, stop, out)
            path = save(tmp_path / "cut.inv", out.getvalue())
            assert content(path) == {n: before[n] for n in kept}
            assert (result.recoded is None) == (kept[0] in (0, 4))
            found = verdict(path)
            assert (found.status, found.lost, len(found.frames)) == ("complete", [], len(kept))


@pytest.mark.parametrize("places", [(1,), (2, 4), (3, 5, 8), (1, 2, 3, 4, 5, 8, 9)])
def test_what_was_cut_can_be_joined_again(source: Path, tmp_path: Path, places: Sequence[int]) -> None:
    parts = []
    for index, (first, stop) in enumerate(zip((0, *places), (*places, 99), strict=True)):
        out = io.BytesIO()
        cut(source, first, stop, out)
        parts.append(save(tmp_path / f"{index}.inv", out.getvalue()))
    out = io.BytesIO()
    concat(parts, out)
    joined = save(tmp_path / "joined.inv", out.getvalue())
    assert content(joined) == content(source)
    assert verdict(joined).status == "complete"


def test_joining_at_a_keyframe_copies_every_record(source: Path, tmp_path: Path) -> None:
    parts = []
    for name, first, stop in (("a", None, 4), ("b", 4, None)):
        out = io.BytesIO()
        assert cut(source, first, stop, out).recoded is None
        parts.append(save(tmp_path / name, out.getvalue()))
    out = io.BytesIO()
    entries = concat(parts, out)
    with StateReader(source) as reader:
        # The second part's first frame has had to say what its cameras are.
        assert [e.length for e in entries if e.number != 4] == [e.length for e in reader.frames if e.number != 4]


def test_cameras_that_moved_do_not_stay_in_the_next_file(tmp_path: Path) -> None:
    rig = make_vectors.cameras("ndc")
    moved = tuple(replace(camera, near=0.5) for camera in rig)
    head = make_vectors.header([make_vectors.grid("ndc")], rig)
    a = save(tmp_path / "a", make_vectors.Maker(head, 1).key(0, 0, cameras=moved).finish())
    b = save(tmp_path / "b", make_vectors.Maker(head, 2).key(1, 40).delta(2, 80).finish())
    out = io.BytesIO()
    concat([a, b], out)
    assert content(save(tmp_path / "c", out.getvalue())) == {**content(a), **content(b)}


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    first = save(tmp_path / "first.inv", make_vectors.simple().finish())
    rig = make_vectors.cameras("ndc")
    grid = make_vectors.grid("ndc")
    later = make_vectors.Maker(make_vectors.header([grid], rig), 1).key(9, 400)
    for name, head in {
        "cameras": make_vectors.header([grid], rig[:1]),
        "networks": make_vectors.header([make_vectors.grid("ndc", samples=13)], rig),
        "background": make_vectors.header([grid], rig, background=None),
        "downscale": make_vectors.header([grid], rig, downscale=1),
    }.items():
        other = save(tmp_path / f"{name}.inv", make_vectors.Maker(head, 1).key(9, 400).finish())
        with pytest.raises(UsageError, match=rf"{name}\.inv: its {name} is not that of"):
            concat([first, other], io.BytesIO())
    same = save(tmp_path / "same.inv", make_vectors.simple().finish())
    with pytest.raises(UsageError, match="does not come after frame 2"):
        concat([first, same], io.BytesIO())
    good = save(tmp_path / "later.inv", later.finish())
    cut_off = save(tmp_path / "short.inv", first.read_bytes()[:-60])
    with pytest.raises(DamagedError, match=r"short\.inv: is truncated .* repair it first"):
        concat([cut_off, good], io.BytesIO())
    # Another encoder's name and tags do not keep files apart.
    tagged = make_vectors.header([grid], rig, tags={}, encoder={"name": "other"})
    concat([first, save(tmp_path / "tagged.inv", make_vectors.Maker(tagged, 1).key(9, 400).finish())], io.BytesIO())


def test_joined_files_claim_no_origin_but_their_common_one(tmp_path: Path) -> None:
    rig, network = make_vectors.cameras("ndc"), make_vectors.grid("ndc")
    paths = []
    for number in range(3):
        # The third comes from the same encode as the second.
        origin = {"frames": [0, 1] if number == 0 else [1, 3], "fingerprint": "a" if number == 0 else "b"}
        notes = {"name": "invcodec", "settings": {"preset": "fast" if number == 0 else "slow"}, "origin": origin}
        head = make_vectors.header([network], rig, encoder=notes)
        made = make_vectors.Maker(head, 1).key(number, 40 * number)
        paths.append(save(tmp_path / f"{number}.inv", made.finish(complete=number < 2)))
    for parts, kept in ((paths, {"name"}), (paths[1:], {"name", "settings", "origin"})):
        out = io.BytesIO()
        concat([str(part) for part in parts], out)
        joined = save(tmp_path / "joined.inv", out.getvalue())
        with StateReader(joined) as reader:
            assert reader.head.encoder.keys() == kept
            assert reader.status == "incomplete"
        if "origin" not in kept:
            with pytest.raises(UsageError, match="cannot be resumed"):
                resume(joined, tmp_path)


def test_a_path_and_a_stream_verify_alike(source: Path, tmp_path: Path) -> None:
    assert verify(source) == verify(str(source)) == verdict(source)
    with pytest.raises(UsageError, match=r"missing\.inv: cannot be read"):
        verify(tmp_path / "missing.inv")


@pytest.mark.parametrize("folder", VECTORS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_verify_and_repair_find_what_is_expected(folder: Path, tmp_path: Path) -> None:
    expected = json.loads((folder / "expect.json").read_text())
    path = folder / "input.inv"
    if expected["refused"] or folder.name == "unknown-coder":
        with pytest.raises(InvError):
            repair(path, io.BytesIO())
        return
    numbers = [frame[0] for frame in expected["frames"]]
    if folder.name not in ("head-late", "first-head-damaged"):
        # In one pass, frames before the first sound header are lost.
        found = verdict(path)
        assert ([e.number for e in found.frames], found.lost) == (numbers, expected["lost"])
        assert found.status == expected["status"]
    out = io.BytesIO()
    if not numbers:
        with pytest.raises(DamagedError, match="no frame can be recovered"):
            repair(path, out)
        return
    assert repair(path, out).lost == expected["lost"]
    repaired = verdict(save(tmp_path / "repaired.inv", out.getvalue()))
    assert [e.number for e in repaired.frames] == numbers
    assert repaired.problems == []
    if expected["lost"] or expected["status"] in ("open", "incomplete"):
        assert repaired.status == "incomplete"
    elif expected["status"] == "complete":
        assert repaired.status == "complete"
    digests = {frame[0]: frame[3] for frame in expected["frames"]}
    with StateReader(tmp_path / "repaired.inv") as reader:
        assert all(reader.state_at(n).digest().hex() == digests[n] for n in numbers)


@pytest.mark.slow
def test_every_flipped_byte_is_found_by_verify(tmp_path: Path) -> None:
    made = make_vectors.two_segments()
    data, places = made.finish(), made.offsets()
    for at in range(len(data)):
        path = save(tmp_path / "flipped.inv", make_vectors.flip(data, at, 1 << at % 8))
        try:
            found = verdict(path)
        except InvError:
            # This is the only copy of the header.
            assert at < places[0]
            continue
        assert found.status == "damaged", at
        # Frames that do not need the byte decode, the others are named.
        hit = max((n for n in range(4) if at >= places[n]), default=None)
        if at >= made.writer.entries[-1].offset + made.writer.entries[-1].length:
            hit = None
        lost = {None: [], 0: [0, 1], 1: [1], 2: [2, 3], 3: [3]}[hit]
        assert found.lost == lost, at
        assert [e.number for e in found.frames] == [n for n in range(4) if n not in lost], at


def test_the_commands(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.inv" for name in "abc")
    assert cli("verify", encoded).out.startswith(f"{encoded}: complete, 3 frames")
    assert cli("cut", encoded, "--frames", ":3", "-o", a).code == 0
    done = cli("cut", encoded, "--frames", "2:", "-o", b)
    assert "re-encoded as a keyframe" in done.err
    assert cli("concat", a, b, "-o", c).code == 2, "frame 2 is in both"
    assert not c.exists()
    assert cli("cut", encoded, "--frames", "3:", "-o", b).code == 2, "exists"
    assert cli("cut", encoded, "--frames", "3:", "-o", b, "-f").code == 0
    assert cli("concat", a, b, "-o", c).code == 0
    assert content(c) == content(encoded)

    c.write_bytes(make_vectors.flip(c.read_bytes(), c.stat().st_size // 4))
    result = cli("verify", c, "--json")
    report = json.loads(result.out)
    assert (result.code, report["sound"], report["state"]) == (3, False, "damaged")
    fixed = tmp_path / "fixed.inv"
    assert cli("repair", c, "-o", fixed).code == 3
    assert cli("verify", fixed).code == 0
    assert json.loads(cli("verify", fixed, "--json").out)["frames"] == report["frames"]
    assert cli("repair", tmp_path / "missing.inv", "-o", fixed, "-f").code == 2
    private = SPEC / "vectors" / "uncommon" / "unknown-profile" / "input.inv"
    assert cli("verify", private).code == 0
    assert cli("info", private).code == 0
    assert cli("decode", private, "--frame", 0, "-o", tmp_path / "v.png").code == 4
