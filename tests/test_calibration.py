"""How fast the machine is: measured, remembered, and never in the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Cli
from invcodec_cli.progress import TimeLeft
from invcodec_cli.values import network_text

from invcodec.encoding import calibration, capacity
from invcodec.encoding.calibration import Speed, Stopwatch, calibrated, remember, remembered
from invcodec.encoding.capacity import fit
from invcodec.encoding.presets import resolve
from invcodec.encoding.report import Estimate, FrameReport
from invcodec.field.grid import GridProfile
from invcodec.geometry.fitting import choose_space
from invcodec.metrics import Fidelity
from invcodec.synth.rig import synthetic_rig

RIG = synthetic_rig(4, (20, 16))
SPACE = choose_space(RIG)
SETTINGS = fit(resolve(threads=1), RIG, SPACE)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, which does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_speed_is_remembered_for_this_work_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(SETTINGS, "key", Speed(0.25, 2))
    assert remembered(SETTINGS, "key") == Speed(0.25, 2)
    # A budget changes nothing about what a step takes.
    assert remembered(fit(resolve("slow", threads=1), RIG, SPACE), "key") == Speed(0.25, 2)
    assert remembered(SETTINGS, "delta") is None
    assert remembered(replace(SETTINGS, threads=2), "key") is None
    for other in ({"rays": 77}, {"samples": 77}):
        assert remembered(replace(SETTINGS, key=replace(SETTINGS.key, **other)), "key") is None  # type: ignore[arg-type]
    assert remembered(fit(resolve(threads=1, profile="nerf"), RIG, SPACE), "key") is None
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+sse2")
    assert remembered(SETTINGS, "key") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b'{"step": "fast"}', b'{"step": -1}', b'{"step": NaN}', b'{"x": 1}', b"\xff"]
)
def test_what_is_broken_is_forgotten_and_replaced(folder: Path, content: bytes) -> None:
    remember(SETTINGS, "key", Speed(1))
    (path,) = folder.rglob("*.json")
    path.write_bytes(content)
    assert remembered(SETTINGS, "key") is None
    remember(SETTINGS, "key", Speed(2))
    assert remembered(SETTINGS, "key") == Speed(2)
    assert list(path.parent.iterdir()) == [path], "nothing is left beside it"


def test_without_a_place_to_keep_it_nothing_fails(folder: Path) -> None:
    folder.write_text("not a folder")
    remember(SETTINGS, "key", Speed(1))
    assert remembered(SETTINGS, "key") is None
    assert folder.read_text() == "not a folder"


def test_a_stopwatch_remembers_means_once_they_tell_something() -> None:
    watch = Stopwatch(SETTINGS)
    watch.add("delta", 10, 2.0, 1.0)
    assert remembered(SETTINGS, "delta") is None
    watch.add("delta", 30, 4.0, 3.0)
    assert remembered(SETTINGS, "delta") == Speed(6 / 40, 2)
    assert remembered(SETTINGS, "key") is None


def test_what_is_not_remembered_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_CALIBRATION_SECONDS", 0.0)
    remember(SETTINGS, "delta", Speed(7.0))
    found = calibrated(SETTINGS, RIG, SPACE)
    assert found["key"].step > 0
    assert found["delta"] == Speed(7.0)

    def fail(*_: object) -> Speed:
        raise AssertionError("is remembered")

    monkeypatch.setattr(calibration, "measure", fail)
    assert calibrated(SETTINGS, RIG, SPACE) == found


def test_an_encode_teaches_inspect_how_long_it_takes(
    cli: Cli, capture: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(capacity.STEPS, "medium", (24, 16))
    assert cli("encode", capture, tmp_path / "a.inv", "--frames", "0:3").code == 0
    assert len(list(folder.rglob("*.json"))) == 2

    def fail(*_: object) -> Speed:
        raise AssertionError("is remembered")

    monkeypatch.setattr(calibration, "measure", fail)
    for path in folder.rglob("*.json"):
        path.write_text(json.dumps({"step": 0.5, "rest": 2.0}))
    found = json.loads(cli("inspect", capture, "--json", "--frames", "0:3").out)["encode"]
    assert (found["key_seconds"], found["later_seconds"], found["seconds"]) == (14, 10, 34)
    rays = found["training"]["key"]["rays"]
    assert found["training"]["later"] == {"rays": rays, "steps": 16, "seconds": None}
    training = f"24 steps of {rays} rays, then 16 steps a frame"
    network = network_text("grid", found["networks"][0]["config"])
    text = cli("inspect", capture, "--frames", "0:3").out
    assert "time      about 34 s on this machine: keyframe 14 s, then 10 s a frame at most (an estimate)" in text
    assert f"encode    preset medium: {training}" in text
    assert f"network   scene: {network}" in text
    described = cli("info", tmp_path / "a.inv").out
    assert f"training  {training}" in described
    assert network in described


def test_networks_are_described_in_one_line() -> None:
    config = dict(GridProfile(resolutions=[12, 30, 79, 205], log2_table=15, occupancy=64, samples=96).config)
    assert network_text("grid", config) == (
        "4 levels of 12 to 205 cells, tables of 2^15, widths 32, 15, 32, occupancy 64^3, 96 samples a ray"
    )
    assert network_text("nerf", {"depth": 5, "width": 128}) == "depth 5, width 128"


def report(stage: str, seconds: float) -> FrameReport:
    return FrameReport(0, "delta", stage, 0, seconds, 1, 0.0, Fidelity(0.0), 1)  # type: ignore[arg-type]


def test_time_left_goes_from_the_estimate_to_what_is_seen() -> None:
    left = TimeLeft()
    left.frames, left.stage, left.estimate = 5, "key", Estimate(100, 10, 0.1, 5, 1)
    assert left.now(0.0, 0) == 100 + 4 * 10
    assert left.now(0.05, 30) == 70 + 4 * 10
    assert left.now(0.5, 80) == 80 + 4 * 10
    left.frame_done(report("key", 160))
    left.stage = "all"
    assert left.now(0.0, 1) == 9 + 3 * 10
    left.frame_done(report("all", 20))
    assert left.now(0.0, 0) == 20 + 2 * 20


def test_time_left_without_an_estimate_comes_from_the_first_steps() -> None:
    left = TimeLeft()
    left.frames, left.stage = 3, "key"
    assert left.now(0.0, 1) is None
    left.estimate = Estimate(None, None, 0.1, 3, 1)
    assert left.now(0.0, 1) is None
    assert left.now(0.01, 2) == pytest.approx(198 + 2 * 20)
