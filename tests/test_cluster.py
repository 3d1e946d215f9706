"""Segments on a real cluster of Ray: machines and drivers are killed, disks are full, and the file is the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from files import PATIENCE
from ray.cluster_utils import Cluster
from tasks import MEMORY, hungry, never, on_small_disk, on_two_machines
from test_segments import settings

from invcodec.capture.capture import Capture, open_capture
from invcodec.cluster.ray import RayCluster, Resources, resources, run
from invcodec.encoding.report import FrameReport, Progress
from invcodec.errors import Interrupted, InvError, UsageError
from invcodec.segments.cutting import every
from invcodec.segments.encode import encode_in_segments
from invcodec.segments.plan import make_plan
from invcodec.synth.write import write_synthetic

SEGMENTS = 12
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
NEEDS = Resources(1, 0, MEMORY)


@pytest.fixture(scope="module")
def machines() -> Iterator[Cluster]:
    """Three machines, of which the first only keeps the books."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would have its workers yield to all else on this machine.
    patch.setenv("RAY_worker_niceness", "0")
    # Workers import what the tests have them do.
    patch.setenv("PYTHONPATH", os.path.dirname(__file__))
    head = {**NODE, "num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()
        patch.undo()


@pytest.fixture(scope="module")
def scheduler(machines: Cluster) -> Iterator[RayCluster]:
    with RayCluster(machines.address) as joined:
        yield joined


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    folder = tmp_path_factory.mktemp("cluster") / "capture"
    write_synthetic(folder, cameras=3, size=(10, 8), frames=SEGMENTS)
    return open_capture(folder)


@pytest.fixture(scope="module")
def expected(capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of segments that are encoded one after another."""
    return encoded(capture, tmp_path_factory.mktemp("sequential"))


class Listener(Progress):
    """Counts frames, and calls a function after each."""

    def __init__(self, after: Callable[[int], object] = lambda count: None) -> None:
        self.frames: list[int] = []
        self._after = after

    def frame_done(self, report: FrameReport) -> None:
        self.frames.append(report.number)
        self._after(len(self.frames))


def encoded(capture: Capture, folder: Path, progress: Progress | None = None, **more: Any) -> bytes:
    segments = every(capture.numbers, 1)
    out, place = folder / "out.inv", str(folder / "pieces")
    encode_in_segments(capture, out, settings(), segments, place, progress=progress, **more)
    return out.read_bytes()


def pieces(folder: Path) -> dict[str, int]:
    """The pieces that are done, and when they were."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "pieces" / "pieces").glob("[0-9]*.inv")}


def test_a_machine_that_is_lost_in_the_middle_costs_only_what_it_had_in_work(
    machines: Cluster, scheduler: RayCluster, capture: Capture, expected: bytes, tmp_path: Path
) -> None:
    lost = machines.add_node(**NODE)
    before: dict[str, int] = {}

    def after(count: int) -> None:
        if count == 4:
            machines.remove_node(lost, allow_graceful=False)
            before.update(pieces(tmp_path))

    listener = Listener(after)
    assert encoded(capture, tmp_path, listener, scheduler=scheduler) == expected
    now = pieces(tmp_path)
    assert len(now) == SEGMENTS
    assert len(before) >= 3
    assert {name: now[name] for name in before} == before
    assert len(listener.frames) == len(set(listener.frames))


def test_a_driver_that_was_killed_is_resumed(
    machines: Cluster, scheduler: RayCluster, capture: Capture, expected: bytes, tmp_path: Path
) -> None:
    script = f"""
import os, signal
from pathlib import Path
from test_cluster import Listener, encoded
from invcodec.capture.capture import open_capture
from invcodec.cluster.ray import RayCluster

def after(count):
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)

with RayCluster({machines.address!r}) as scheduler:
    encoded(open_capture({str(capture.folder)!r}), Path({str(tmp_path)!r}), Listener(after), scheduler=scheduler)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = pieces(tmp_path)
    assert len(before) >= 3
    listener = Listener()
    assert encoded(capture, tmp_path, listener, scheduler=scheduler) == expected
    now = pieces(tmp_path)
    assert {name: now[name] for name in before} == before
    assert not {f"{number:06d}.inv" for number in listener.frames}.intersection(before)


def test_ctrl_c_stops_all_machines_and_leaves_what_is_done(
    scheduler: RayCluster, capture: Capture, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invcodec.cluster.ray._STOPPING", PATIENCE)

    def after(count: int) -> None:
        if count == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="of 12 segments are done, and the same command continues"):
        encoded(capture, tmp_path, Listener(after), scheduler=scheduler)
    assert not list((tmp_path / "pieces" / "pieces").glob(".*")), "nothing half-written is left"
    before = pieces(tmp_path)
    assert len(before) >= 3
    assert encoded(capture, tmp_path, scheduler=scheduler) == expected
    assert {name: pieces(tmp_path)[name] for name in before} == before


def test_a_frame_that_cannot_be_read_stops_only_its_segment(
    scheduler: RayCluster, capture: Capture, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "capture"
    shutil.copytree(capture.folder, folder)
    broken = folder / "frames" / "cam01" / "0004.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    monkeypatch.setattr("invcodec_cli.encode.resolve_settings", lambda *given, **more: settings())
    monkeypatch.chdir(tmp_path)
    command = ("encode", "capture", "out.inv", "--segments", 1, "--pieces", "pieces", "--cluster", "local")
    result = cli(*command)
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "segment 4: " in result.err
    assert "0004.png: cannot be read as an image; 11 of 12 segments are done" in result.err
    assert len(pieces(tmp_path)) == SEGMENTS - 1
    assert not (tmp_path / "out.inv").exists()


def test_a_piece_that_one_machine_cannot_write_is_made_on_another(
    scheduler: RayCluster, capture: Capture, tmp_path: Path
) -> None:
    plan = make_plan(str(tmp_path / "pieces"), capture, settings(), every(capture.numbers, 3))
    seen = tmp_path / "seen"
    seen.mkdir()
    done: dict[int, Any] = {}
    assert run(on_small_disk, (seen, plan, capture), [1.0] * 4, NEEDS, done.__setitem__) == {}
    assert sorted(done) == [0, 1, 2, 3]
    assert len(pieces(tmp_path)) == 4
    full = (seen / "full").read_text()
    tried = [path.name.partition("-") for path in seen.glob("*-*")]
    assert all(any(other == index and node != full for other, _, node in tried) for index, _, _ in tried)
    assert not list((tmp_path / "pieces" / "pieces").glob(".*")), "nothing half-written is left"


def test_a_task_without_memory_gets_more_and_one_that_never_ends_well_is_given_up(
    scheduler: RayCluster, tmp_path: Path
) -> None:
    done: dict[int, int] = {}
    assert run(hungry, (tmp_path / "memory",), [1.0], NEEDS, done.__setitem__) == {}
    assert (tmp_path / "memory").read_text().split() == [str(NEEDS.memory), str(2 * NEEDS.memory)]
    failures = run(never, (tmp_path / "never",), [1.0, 2.0, 3.0, 4.0], NEEDS, done.__setitem__)
    assert {index: (type(error), str(error)) for index, error in failures.items()} == {
        1: (InvError, "disk: Input/output error"),
        2: (InvError, "ValueError: a bug"),
    }
    assert done == {0: 0, 3: 3}
    # Three times where it may help, once where it does not.
    assert sorted((tmp_path / "never").read_text().split()) == ["0", "1", "1", "1", "2", "3"]


def test_a_segment_that_no_machine_can_take_is_refused(scheduler: RayCluster, capture: Capture, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"takes 1 GPUs, and no machine .* more than 0; give fewer with --gpus"):
        encoded(capture, tmp_path, scheduler=RayCluster("auto", gpus=1))
    large = resources(capture, settings(), 0.5)
    assert (large.cpus, large.gpus) == (1, 0.5)
    assert large.memory > NEEDS.memory


def test_a_batch_on_a_cluster_does_what_one_here_does(
    scheduler: RayCluster, capture: Capture, tmp_path: Path, cli: Cli
) -> None:
    quick = {"preset": "draft", "steps": 1, "frames": "0:1"}
    items = [
        {"capture": str(capture.folder), "output": str(tmp_path / "a.inv"), **quick},
        {"capture": str(tmp_path / "nowhere"), "output": str(tmp_path / "b.inv")},
    ]
    path = tmp_path / "list.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    result = cli("encode", "--batch", path, "--cluster", "local", "--threads", 1, "--progress", "json")
    said = {item["output"]: item for item in map(json.loads, result.out.splitlines())}
    assert result.code == 2
    assert [said[item["output"]]["status"] for item in items] == ["done", "failed"]
    assert result.err == "1 done, 0 there, 1 failed\n"
    assert "no such file" in said[items[1]["output"]]["error"]
    assert said[items[0]["output"]]["bytes"] == (tmp_path / "a.inv").stat().st_size


def test_what_failed_on_the_only_machine_that_is_left_is_tried_there_again(
    machines: Cluster, scheduler: RayCluster, tmp_path: Path
) -> None:
    done: list[int] = []

    def after(index: int, _: Any) -> None:
        done.append(index)
        if index == 2:
            busy = (tmp_path / "1").read_text()
            machines.remove_node(next(n for n in machines.worker_nodes if n.node_id == busy), allow_graceful=False)

    assert run(on_two_machines, (tmp_path,), [2.0, 3.0, 1.0], NEEDS, after) == {}
    assert sorted(done) == [0, 1, 2]
