"""Computations of the benchmarks, against known answers."""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from files import ROOT, load
from hypothesis import given
from hypothesis import strategies as st

from invcodec.capture.capture import open_capture
from invcodec.metrics import BEST_PSNR
from invcodec.synth.write import write_synthetic

bjontegaard = load("bjontegaard", ROOT / "benchmarks")
common = load("common", ROOT / "benchmarks")
simulcast = load("simulcast", ROOT / "benchmarks")
quality = load("quality", ROOT / "benchmarks")
speed = load("speed", ROOT / "benchmarks")
peers = load("peers", ROOT / "benchmarks")
gpu = load("gpu", ROOT / "benchmarks")

ANCHOR = [(9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)]
TEST = [(9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)]


def test_rate_difference_is_that_of_another_implementation() -> None:
    # The bjontegaard package, 1.3.0, gives this with method="pchip".
    assert bjontegaard.bd_rate(ANCHOR, TEST) == pytest.approx(-0.04417485350589)


@given(st.floats(0.1, 10), st.permutations(ANCHOR))
def test_rate_difference_of_a_scaled_curve_is_the_scale(scale: float, curve: list[tuple[float, float]]) -> None:
    scaled = [(scale * rate, quality) for rate, quality in curve]
    assert bjontegaard.bd_rate(ANCHOR, scaled) == pytest.approx(scale - 1, abs=1e-9)


def test_rate_difference_is_taken_where_both_curves_are() -> None:
    # Rates are 10^(q / 10) and 10^(q / 5 - 3): between 32 and 38 dB the exponents differ by q / 10 - 3, 0.5 on average.
    before = [(10 ** (q / 10), q) for q in (28, 32, 35, 38)]
    after = [(10 ** (q / 5 - 3), q) for q in (32, 33, 36, 39, 42)]
    assert bjontegaard.bd_rate(before, after) == pytest.approx(10**0.5 - 1)
    assert bjontegaard.bd_rate(before, [(1, 40), (2, 41)]) is None


def test_points_that_others_beat_do_not_count() -> None:
    curve = [(100, 30), (200, 29), (200, 33), (150, 30), (400, 36), (300, 32.5)]
    assert bjontegaard.front(curve).tolist() == [[100, 30], [200, 33], [400, 36]]
    assert bjontegaard.rate_at(curve, 31.5) == pytest.approx(100 * math.sqrt(2), rel=0.01)
    assert bjontegaard.rate_at(curve, 33) == pytest.approx(200)
    assert bjontegaard.rate_at(curve, 29.9) is None
    assert bjontegaard.rate_at(curve, 36.1) is None


@pytest.mark.parametrize(
    ("sizes", "frames"),
    [
        ((100, 1, 10, 3), "from 46 frames on"),
        ((100, 1, 10, 1), "never"),
        ((100, 3, 10, 1), "never"),
        ((5, 1, 10, 1), "always"),
        ((5, 2, 10, 1), "up to 6 frames"),
    ],
)
def test_numbers_of_frames_for_which_a_file_is_smaller(sizes: tuple[int, ...], frames: str) -> None:
    assert simulcast.smaller(*sizes) == frames


def test_time_to_a_level_is_that_between_measured_points() -> None:
    curve = [(100, 30), (1, 10), (10, 20)]
    assert speed.time_to(curve, 25) == pytest.approx(10**1.5)
    assert speed.time_to(curve, 20) == pytest.approx(10)
    assert speed.time_to(curve, 30) == pytest.approx(100)
    assert speed.time_to(curve, 30.1) is None
    # Faster than what was measured is not claimed.
    assert speed.time_to(curve, 5) == 1
    assert speed.time_to([], 5) is None


def test_time_to_a_level_is_the_first_where_a_curve_comes_down_again() -> None:
    assert speed.time_to([(1, 10), (10, 20), (100, 12), (1000, 22)], 15) == pytest.approx(10**0.5)


def test_comparison_with_the_published_configuration() -> None:
    def row(seconds: float, decibels: float) -> dict[str, object]:
        return {"key_seconds": seconds, "psnr_by_frame": [decibels, 1.0]}

    parts = {
        "keyframes": {"medium@8": row(10, 28.6), "medium@60": row(62, 33)},
        "paper": {"step": {"seconds": 2.0}, "paper@60": row(70, 18), "paper@600": row(610, 21)},
    }
    found = speed.against_paper(parts, 28.6)
    assert found["seconds_to_level"] == 10
    assert found["extrapolated_speedup"] == pytest.approx(2000)
    assert found["gains"] == {"60": 15}
    assert speed.against_paper({}, 28.6)["extrapolated_speedup"] is None


@pytest.mark.parametrize(("frames", "few"), [(None, "0:3"), ("7:20", "7:10"), (":9", "0:3")])
def test_few_frames_begin_where_all_of_them_do(frames: str | None, few: str) -> None:
    assert speed.few(Namespace(frames=frames), 3).frames == few


def test_rows_name_preset_profile_and_times() -> None:
    arguments = Namespace(downscale=2, frames=None, holdout=["a"])
    rest = ["--downscale", "2", "--holdout", "a"]
    assert quality.options_of("fast", arguments) == ["--preset", "fast", *rest]
    times = ["--steps", "1000000000", "--key-seconds", "60", "--seconds-per-frame", "4"]
    assert quality.options_of("fast:nerf@60/4", arguments) == ["--preset", "fast", "--profile", "nerf", *times, *rest]


def test_results_are_merged_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["speed.py"])
    path = tmp_path / "speed.json"
    common.Results(path, {"capture": "a"}).keep("render", "x", {"ms": 1})
    second = common.Results(path, {"capture": "a"})
    second.keep("render", "x", {"ms": 2})
    second.keep("paper", "y", {"ms": 3})
    parts = json.loads(path.read_text())["parts"]
    assert {part: {row: each["ms"] for row, each in rows.items()} for part, rows in parts.items()} == {
        "render": {"x": 2},
        "paper": {"y": 3},
    }
    with pytest.raises(SystemExit, match="another capture"):
        common.Results(path, {"capture": "b"})


def test_the_table_of_peers_goes_by_contestant_and_time() -> None:
    def row(decibels: float, samples: str) -> dict[str, object]:
        return {"psnr": decibels, "ssim": 0.9, "steps": 7, "rays": 4096, "samples": samples, "instructions": "avx2"}

    lines = peers.table({"medium": {"300": row(31, "384"), "60": row(30, "384")}, "nerfacto": {"60": row(20, "9 + 4")}})
    assert lines.splitlines()[2:] == [
        "| medium | 60 s | 30.00 dB | 0.900 | 7 | 4096 | 384 | avx2 |",
        "| medium | 300 s | 31.00 dB | 0.900 | 7 | 4096 | 384 | avx2 |",
        "| nerfacto | 60 s | 20.00 dB | 0.900 | 7 | 4096 | 9 + 4 | avx2 |",
    ]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--rows", "medium", "tensorf"], "tensorf needs --tensorf"),
        (["--rows", "nerfacto", "--tensorf", "x"], "nerfacto needs --nerfstudio"),
    ],
)
def test_a_peer_needs_its_folder(options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        peers.main(["--data", "anywhere", *options])
    assert complaint in capsys.readouterr().err


def test_peers_get_the_rays_of_every_pixel_and_are_scored_on_those_held_out(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "capture", cameras=4, size=(12, 8), frames=1)
    capture = open_capture(tmp_path / "capture")
    for space in (None, peers.bounded_space(capture)):
        peers.write_rays(tmp_path / "rays.npz", capture, space)
        rays = np.load(tmp_path / "rays.npz")
        assert rays["colours"].shape == rays["origins"].shape == (3 * 96, 3)
        assert rays["shown_directions"].shape == (96, 3)
        camera = capture.cameras[capture.training[1]]
        # A pixel of the second picture, half-way along its ray.
        at = 96 + 3 * 12 + 4
        assert rays["camera"][at] == 1
        along = rays["origins"][at] + 0.5 * rays["directions"][at]
        if space is None:
            np.testing.assert_allclose(camera.project(along[None])[0], [[4.5, 3.5]], atol=1e-3)
        else:
            assert ((along > 0) & (along < 1)).all()
    truth = next(capture.frames()).images[0]
    assert peers.scores(capture, truth.reshape(-1, 3) / 255) == {"psnr": BEST_PSNR, "ssim": pytest.approx(1)}
    assert peers.scores(capture, truth.reshape(-1, 3) / 255 * 0.9)["psnr"] < 40


def test_the_gpu_benchmark_states_targets_beside_its_figures() -> None:
    figures = {"capture": "a", "psnr": 30.0, "ssim": 0.9, "key_seconds": 12.0, "key_bytes": 5000, "size": [8, 6]}
    figures["psnr_moving"] = 25.0
    later = {"frame_seconds_mean": 0.5, "frame_seconds_max": 0.75, "later_bytes_mean": 100, "render_seconds": 0.01}
    table = gpu.tables({"captured": {name: {"row": name, **figures, **later} for name in ("fast", "medium")}})
    fast, medium = table.splitlines()[2:]
    assert "| 30.00 dB (25.00 dB), 0.900 | 12.0 s | 0.50 s, 0.75 s |" in fast
    assert "| 12.0 s (target: 15 s) | 0.50 s, 0.75 s (target: 1 s) |" in medium


def test_the_gpu_benchmark_says_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA GPU"):
        gpu.main(["--data", str(tmp_path)])
