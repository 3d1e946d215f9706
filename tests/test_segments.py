"""Encodes in segments: the same file whoever makes which piece, when, and how often."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from PIL import Image

from invcodec.capture.capture import Capture, open_capture
from invcodec.coding.chain import StateReader
from invcodec.container.reader import Reader
from invcodec.encoding.encode import encode_capture
from invcodec.encoding.encoder import Encoder
from invcodec.encoding.presets import resolve
from invcodec.encoding.rate import Target
from invcodec.encoding.report import Progress
from invcodec.encoding.settings import Settings
from invcodec.errors import CaptureError, Interrupted, UsageError
from invcodec.render import camera_colour
from invcodec.segments.cutting import at_cuts, every
from invcodec.segments.encode import encode_in_segments
from invcodec.segments.join import join, outcomes
from invcodec.segments.piece import encode_piece, is_done, measure, piece_name
from invcodec.segments.plan import Plan, make_plan
from invcodec.segments.store import Store
from invcodec.synth.write import write_synthetic

FRAMES = 8
PROGRAM = [sys.executable, "-c", "import sys; from invcodec_cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    folder = tmp_path_factory.mktemp("segments") / "capture"
    write_synthetic(folder, cameras=3, size=(10, 8), frames=FRAMES)
    return open_capture(folder)


def settings(steps: int = 3, **options: Any) -> Settings:
    """Of a network that is trained in no time."""
    quick = resolve("draft", steps=steps, threads=1, **options)
    config = {"resolutions": [3, 5], "log2_table": 8, "occupancy": 4, "samples": 8}
    return replace(quick, networks=({**quick.networks[0], "config": config},))


def planned(capture: Capture, place: Path, frames: int = 3, **options: Any) -> Plan:
    return make_plan(str(place), capture, settings(**options), every(capture.numbers, frames))


def joined(plan: Plan, path: Path) -> Path:
    with path.open("wb") as file:
        join(plan, file)
    return path


def digests(path: Path) -> dict[int, bytes]:
    with StateReader(path) as reader:
        return {entry.number: reader.state_at(entry.number).digest() for entry in reader.frames}


def test_segments_of_frames_make_up_the_capture() -> None:
    assert every(range(5, 12), 3) == [range(5, 8), range(8, 11), range(11, 12)]
    assert every(range(2), 60) == [range(2)]


def test_pieces_in_any_order_and_place_give_the_same_file_as_one_after_another(
    capture: Capture, tmp_path: Path
) -> None:
    segments = every(capture.numbers, 3)
    encode_in_segments(capture, tmp_path / "one.inv", settings(), segments, str(tmp_path / "a"))
    # Another plan of the same capture, in a place that fsspec reaches.
    plan = make_plan(f"file://{tmp_path}/b", capture, settings(), segments)
    for index in (2, 0, 1):
        again = Plan.load(plan.store.place)
        encode_piece(again, again.open_capture(), index)
    assert joined(plan, tmp_path / "two.inv").read_bytes() == (tmp_path / "one.inv").read_bytes()
    with Reader(tmp_path / "one.inv") as reader:
        assert [entry.number for entry in reader.frames if entry.is_key] == [0, 3, 6]
        assert reader.status == "complete"


def test_a_piece_says_what_it_was_made_from(capture: Capture, tmp_path: Path) -> None:
    plan = planned(capture, tmp_path / "plan", seed=5)
    encode_piece(plan, capture, 1)
    with Reader(tmp_path / "plan" / piece_name(1)) as reader:
        notes = reader.head.encoder
    assert notes["segment"] == {"plan": plan.digest, "frames": [3, 6], "budget": None}
    assert notes["settings"]["seed"] == 5
    assert notes["origin"]["fingerprint"] == capture.fingerprint()


def test_the_first_segment_is_what_an_encode_in_one_pass_begins_with(capture: Capture, tmp_path: Path) -> None:
    encode_capture(capture, tmp_path / "whole.inv", settings())
    plan = planned(capture, tmp_path / "plan")
    encode_piece(plan, capture, 0)
    whole = digests(tmp_path / "whole.inv")
    assert digests(tmp_path / "plan" / piece_name(0)) == {number: whole[number] for number in range(3)}


def test_later_segments_start_from_the_first_frame_and_keep_its_colours(capture: Capture, tmp_path: Path) -> None:
    # Colours are fitted every 32 steps.
    plan = planned(capture, tmp_path / "plan", steps=40)
    reports = encode_piece(plan, capture, 1)
    assert [report.stage for report in reports] == ["refresh", "all", "all"]
    colours = []
    for path in (tmp_path / "plan" / "base.inv", tmp_path / "plan" / piece_name(1)):
        with StateReader(path) as reader:
            _, colour = camera_colour.split(reader.head, reader.state_at(reader.frames[-1].number).weights())
            assert colour is not None
            colours.append(colour.gain)
    np.testing.assert_array_equal(*colours)
    assert (colours[0] != 1).any()


def test_what_is_done_is_not_done_again_unless_it_is_damaged(
    capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(capture, tmp_path / "plan")
    for index in range(3):
        encode_piece(plan, capture, index)
    whole = joined(plan, tmp_path / "whole.inv").read_bytes()
    pushed: list[Any] = []
    push = Encoder.push
    monkeypatch.setattr(
        Encoder, "push", lambda *given, **more: (pushed.append(more["number"]), push(*given, **more))[1]
    )
    piece = tmp_path / "plan" / piece_name(1)
    for damaged in (piece.read_bytes()[:-9], b"", b"\0" + piece.read_bytes()[1:]):
        piece.write_bytes(damaged)
        assert not is_done(plan, 1)
        encode_in_segments(capture, tmp_path / "out.inv", settings(), plan.segments, plan.store.place, force=True)
        assert (tmp_path / "out.inv").read_bytes() == whole
    assert pushed == [3, 4, 5] * 3
    assert is_done(plan, 1)


def test_a_piece_of_another_plan_is_not_taken(capture: Capture, tmp_path: Path) -> None:
    plan, other = planned(capture, tmp_path / "plan"), planned(capture, tmp_path / "other", seed=1)
    for index in range(3):
        encode_piece(other, capture, index)
    shutil.copytree(tmp_path / "other" / "pieces", tmp_path / "plan" / "pieces")
    assert not is_done(plan, 1)
    with pytest.raises(UsageError, match=r"segment 0: .* is not of this plan"):
        joined(plan, tmp_path / "out.inv")


def test_a_join_names_what_is_missing(capture: Capture, tmp_path: Path) -> None:
    plan = planned(capture, tmp_path / "plan")
    encode_piece(plan, capture, 1)
    with pytest.raises(UsageError, match=r"2 of 3 segments are not done: 0, 2; 'invcodec segments run'"):
        joined(plan, tmp_path / "out.inv")
    with pytest.raises(UsageError, match="has segments 0 to 2, and none 3"):
        encode_piece(plan, capture, 3)


def test_a_plan_is_kept_and_another_one_is_refused(capture: Capture, tmp_path: Path) -> None:
    place = tmp_path / "plan"
    digest = planned(capture, place).digest
    before = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    assert planned(capture, place).digest == digest
    assert {path: path.stat().st_mtime_ns for path in place.iterdir()} == before
    with pytest.raises(UsageError, match=r"holds another plan \(its settings differ in seed\)"):
        planned(capture, place, seed=9)
    with pytest.raises(UsageError, match=r"another plan \(its segments differ\)"):
        planned(capture, place, 4)
    with pytest.raises(UsageError, match=r"another plan \(its capture differs in frames"):
        planned(open_capture(capture.folder, frames=(0, 6)), place)


@pytest.mark.parametrize("damage", ["{", "[]", '{"schema": 99}', "\xff", '{"schema": 1, "origin": {}}'])
def test_a_file_that_is_no_plan_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(damage, encoding="latin1")
    with pytest.raises(UsageError, match="is not a plan of this version"):
        Plan.load(str(tmp_path))
    with pytest.raises(UsageError, match="no such file; 'invcodec segments plan' makes it"):
        Plan.load(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "segments", [[], [[0, 8], [8, 8]], [[0, 4], [5, 8]], [[0, 4]], [[4, 8], [0, 4]], [[0, 9]], [[0, 10**40]]]
)
def test_segments_that_do_not_make_up_the_frames_are_refused(
    segments: list[list[int]], capture: Capture, tmp_path: Path
) -> None:
    planned(capture, tmp_path)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"segments": segments}))
    with pytest.raises(UsageError, match="segments do not make up its frames"):
        Plan.load(str(tmp_path))


def test_a_changed_capture_or_base_is_refused(capture: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    shutil.copytree(capture.folder, folder)
    plan = planned(open_capture(folder), tmp_path / "plan")
    last = folder / "frames" / "cam01" / f"{FRAMES - 1:04d}.png"
    Image.new("RGB", (10, 8)).save(last)
    with pytest.raises(UsageError, match=r"is not the capture that .* was planned for"):
        plan.open_capture()
    # The plan is not bound to where the capture was.
    moved = tmp_path / "moved"
    shutil.copytree(capture.folder, moved)
    assert plan.open_capture(str(moved)).numbers == range(FRAMES)
    base = tmp_path / "plan" / "base.inv"
    base.write_bytes(base.read_bytes()[:-1] + b"?")
    with pytest.raises(UsageError, match="is not the one that the plan was made with"):
        encode_piece(plan, plan.open_capture(str(moved)), 1)


def test_a_plan_reads_files_outside_the_capture_if_it_was_opened_so(capture: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "linked"
    folder.mkdir()
    for path in capture.folder.iterdir():
        (folder / path.name).symlink_to(path)
    plan = planned(open_capture(folder, outside=True), tmp_path / "plan")
    assert plan.open_capture().numbers == range(FRAMES)


def test_a_frame_that_cannot_be_read_leaves_no_piece(capture: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    shutil.copytree(capture.folder, folder)
    broken = folder / "frames" / "cam01" / "0004.png"
    broken.write_bytes(broken.read_bytes()[:60])
    opened = open_capture(folder)
    plan = planned(opened, tmp_path / "plan")
    with pytest.raises(CaptureError, match=r"0004\.png: cannot be read"):
        encode_piece(plan, opened, 1)
    assert list((tmp_path / "plan" / "pieces").iterdir()) == []
    assert len(encode_piece(plan, opened, 2)) == 2


class _Interrupt(Progress):
    """Ctrl-C at the start of a frame."""

    def __init__(self, number: int) -> None:
        self.number = number

    def frame_started(self, number: int, stage: str) -> None:
        if number == self.number:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("number", "done"), [(0, None), (1, 0), (4, 1), (6, 2)])
def test_an_interrupted_encode_goes_on_with_the_next_segment(
    number: int, done: int | None, capture: Capture, tmp_path: Path
) -> None:
    def encode(progress: Progress | None) -> None:
        segments = every(capture.numbers, 3)
        place = str(tmp_path / "pieces")
        encode_in_segments(capture, tmp_path / "out.inv", settings(), segments, place, progress=progress)

    words = "nothing was written" if done is None else f"{done} of 3 segments are done, and the same command continues"
    with pytest.raises(Interrupted, match=words):
        encode(_Interrupt(number))
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert len([name for name in left if name[0].isdigit()]) == (done or 0)
    assert not [name for name in left if "part" in name or name == "out.inv"]
    encode(None)
    encode_in_segments(capture, tmp_path / "whole.inv", settings(), every(capture.numbers, 3), str(tmp_path / "other"))
    assert (tmp_path / "out.inv").read_bytes() == (tmp_path / "whole.inv").read_bytes()


def test_segments_begin_at_cuts(capture: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    shutil.copytree(capture.folder, folder)
    for path in folder.glob("frames/*/*.png"):
        if int(path.stem) >= 5:
            noise = np.random.default_rng(int(path.parent.name[3:])).integers(0, 256, (8, 10, 3))
            Image.fromarray(noise.astype(np.uint8)).save(path)
    opened = open_capture(folder)
    assert at_cuts(opened, settings()) == [range(5), range(5, FRAMES)]
    assert at_cuts(capture, settings()) == [range(FRAMES)]
    plan = make_plan(str(tmp_path / "plan"), opened, settings(), at_cuts(opened, settings()))
    # Another scene is learned from nothing.
    assert encode_piece(plan, opened, 1)[0].stage == "key"


def test_a_target_size_is_shared_out_and_held(capture: Capture, tmp_path: Path) -> None:
    target = Target(size=9000)
    plan = planned(capture, tmp_path / "plan", target=target)
    with pytest.raises(UsageError, match=r"segment 0 is not measured.* 'invcodec segments measure'"):
        encode_piece(plan, capture, 1)
    found = [measure(plan, capture, index) for index in range(3)]
    assert [measure(plan, capture, index) for index in range(3)] == found
    with plan.opened_base() as base:
        budgets = [plan.segment(index, base.head, found).budget for index in range(3)]
    assert all(budgets)
    for index in range(3):
        encode_piece(plan, capture, index)
    path = joined(plan, tmp_path / "out.inv")
    assert path.stat().st_size <= 9000
    with Reader(path) as reader:
        taken = [sum(e.length for e in reader.frames if e.number in numbers) for numbers in plan.segments]
    assert all(size <= budget for size, budget in zip(taken, budgets, strict=True) if budget)
    assert [(each.name, each.met) for each in outcomes(plan, str(path))] == [("size", True)]
    with pytest.raises(UsageError, match="cannot hold 8 frames"):
        planned(capture, tmp_path / "less", target=Target(size=500))


def test_a_bit_rate_is_held_across_seams(capture: Capture, tmp_path: Path) -> None:
    told: list[Any] = []

    class Listener(Progress):
        def target_done(self, outcome: Any) -> None:
            told.append((outcome.name, outcome.met))

    options = {"target": Target(bitrate=60_000)}
    segments = every(capture.numbers, 3)
    place = str(tmp_path / "plan")
    encode_in_segments(capture, tmp_path / "out.inv", settings(**options), segments, place, progress=Listener())
    assert told == [("bitrate", True)]


def test_a_quality_is_reached_by_every_segment_with_the_bytes_that_it_takes(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "capture", cameras=5, size=(24, 18), frames=4)
    capture = open_capture(tmp_path / "capture")
    segments = every(capture.numbers, 2)
    found = {}
    for psnr in (None, 20.0, 45.0):
        told: list[Any] = []

        class Listener(Progress):
            def target_done(self, outcome: Any) -> None:
                told.append(outcome)  # noqa: B023

        out, options = tmp_path / f"{psnr}.inv", settings(60, target=Target(psnr=psnr))
        encode_in_segments(capture, out, options, segments, f"{out}.pieces", progress=Listener())
        with Reader(out) as reader:
            rows = [(entry.length, reader.stats_at(entry.number).fidelity.weighted) for entry in reader.frames]
        assert [(outcome.name, outcome.met) for outcome in told] == ([] if psnr is None else [("psnr", psnr == 20)])
        found[psnr] = [np.array([rows[number] for number in numbers]) for numbers in segments]
    for free, low, high in zip(found[None], found[20.0], found[45.0], strict=True):
        assert low[:, 1].mean() > 20
        assert low[:, 0].sum() < free[:, 0].sum() < high[:, 0].sum()


def test_a_store_shows_files_only_as_a_whole(tmp_path: Path) -> None:
    for store in (Store(str(tmp_path / "plain")), Store(f"file://{tmp_path}/remote")):
        with suppress(ZeroDivisionError), store.writing("a/b.bin") as file:
            file.write(b"half")
            raise ZeroDivisionError
        assert not store.has("a/b.bin")
        for content in (b"first", b"second"):
            with store.writing("a/b.bin") as file:
                file.write(content)
            with store.opened("a/b.bin") as path:
                assert path.read_bytes() == content
        assert [path.name for path in Path(store.place.removeprefix("file://")).rglob("*.*")] == ["b.bin"]
        store.remove()
        assert not store.has("a/b.bin")
    with pytest.raises(UsageError, match="nonsense://x"):
        Store("nonsense://x")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process train a small network, whatever their options."""
    for module in ("segments", "encode"):
        monkeypatch.setattr(f"invcodec_cli.{module}.resolve_settings", lambda *given, **more: settings())


def test_the_command_line_plans_runs_and_joins(cli: Cli, small: None, capture: Capture, tmp_path: Path) -> None:
    plan, out = tmp_path / "plan", tmp_path / "out.inv"
    result = cli("segments", "plan", capture.folder, "-o", plan, "--segments", 4)
    assert (result.code, result.out) == (0, f"{plan}: 2 segments, 8 frames\n")
    missing = cli("segments", "join", plan, "-o", out)
    assert (missing.code, out.exists(), missing.err.count("\n")) == (2, False, 1)
    # Two processes at once, for the same segment.
    both = [
        subprocess.Popen([*PROGRAM, "segments", "run", plan, "--index", "1"], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert {process.communicate()[0] for process in both} <= {"segment 1: 4 frames\n", "segment 1: was done\n"}
    assert [process.returncode for process in both] == [0, 0]
    assert [path.name for path in (plan / "pieces").iterdir()] == ["000001.inv"]
    assert cli("segments", "run", plan, "--index", 2).code == 2
    assert cli("segments", "run", plan).out == "segment 0: 3 frames\nsegment 1: was done\n"
    assert cli("segments", "join", plan, "-o", out).code == 0
    in_one = tmp_path / "in-one.inv"
    assert cli("encode", capture.folder, in_one, "--segments", 4).code == 0
    assert in_one.read_bytes() == out.read_bytes()
    assert not in_one.with_name("in-one.inv.segments").exists()


def test_the_command_line_reports_frames_of_all_segments(
    cli: Cli, small: None, capture: Capture, tmp_path: Path
) -> None:
    out = tmp_path / "out.inv"
    result = cli("encode", capture.folder, out, "--segments", 3, "--progress", "json")
    assert result.code == 0
    lines = [json.loads(line) for line in result.err.splitlines()]
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert [line["kind"] for line in lines] == ["key", "delta", "delta"] * 2 + ["key", "delta"]
    assert cli("encode", capture.folder, out, "--segments", 3).code == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--segments", "0"), "neither a number of frames nor 'cuts'"),
        (("--segments", "60", "--live"), "--live cannot wait for"),
        (("--segments", "60", "--serve", "8080"), "--serve cannot wait for"),
        (("--pieces", "there"), "--pieces requires --segments"),
        (("--segments", "60", "--resume"), "remove --segments"),
    ],
)
def test_options_that_do_not_go_with_segments(
    cli: Cli, capture: Capture, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    result = cli("encode", capture.folder, tmp_path / "out.inv", *options)
    assert (result.code, words in result.err, result.err.count("\n")) == (2, True, 1)


def test_a_folder_with_other_things_in_it_is_left_alone(
    cli: Cli, small: None, capture: Capture, tmp_path: Path
) -> None:
    path, folder = tmp_path / "out.inv", tmp_path / "out.inv.segments"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    command = ("encode", capture.folder, path, "--segments", 4)
    result = cli(*command)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"{folder}: holds 'notes.txt', which no encode put there" in result.err
    assert [each.name for each in folder.iterdir()] == ["notes.txt"]
    # What a killed process left is no other thing.
    (folder / "notes.txt").rename(folder / ".base.0123456789abcdef.part.inv")
    assert cli(*command).code == 0
    assert not folder.exists()
