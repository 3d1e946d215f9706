"""Keyframes that cannot be learned: tried again, and reported."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli

from invcodec.encoding.encoder import Encoder
from invcodec.encoding.presets import resolve
from invcodec.encoding.report import Progress
from invcodec.errors import InvError, InvWarning
from invcodec.geometry.camera import Camera
from invcodec.synth.rig import synthetic_rig
from invcodec.synth.trace import render
from invcodec.training.frames import FrameTrainer

SIZE = (32, 24)
RIG = synthetic_rig(5, SIZE)
SMALL = {"resolutions": [8, 16, 32, 64], "log2_table": 13, "occupancy": 32, "samples": 48}
NOISE = np.random.default_rng(0).integers(0, 256, (len(RIG), *SIZE[::-1], 3), dtype=np.uint8)


class Counter(Progress):
    """Counts the steps that were taken."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, fraction: float, loss: float, psnr: float) -> None:
        self.steps += 1


def scattered(cameras: list[Camera]) -> list[Camera]:
    """The cameras in random poses."""
    rng = np.random.default_rng(1)
    found = []
    for camera in cameras:
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        axes *= np.linalg.det(axes)
        pose = np.concatenate([axes, rng.normal(size=(3, 1))], 1)
        found.append(replace(camera, pose=pose, near=None, far=None))
    return found


def steps_taken(
    folder: Path, cameras: list[Camera], images: list[np.ndarray] | np.ndarray, *, steps: int = 200, **options: float
) -> int:
    """Encode one frame; returns the steps that it took."""
    settings = resolve("draft", steps=steps, threads=2)
    settings = replace(settings, networks=({**settings.networks[0], "config": SMALL},))
    settings = replace(settings, key=replace(settings.key, rays=1024))
    progress = Counter()
    with Encoder(folder / "out.inv", cameras, settings, progress=progress, force=True) as encoder:
        encoder.push(list(images), time=0, **options)
    return progress.steps


def test_noise_is_tried_twice_and_then_reported(tmp_path: Path) -> None:
    with pytest.warns(InvWarning, match="frame 0 was not learned: its pictures are hardly better than one colour"):
        assert steps_taken(tmp_path, scattered(RIG), NOISE) == 400


def test_a_deadline_leaves_no_time_to_try_again(tmp_path: Path) -> None:
    with pytest.warns(InvWarning, match="no time to try again"):
        assert steps_taken(tmp_path, scattered(RIG), NOISE, seconds=1000.0) == 200


@pytest.mark.parametrize("level", [0, 120, 255])
def test_pictures_of_one_colour_are_no_failure(tmp_path: Path, level: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", InvWarning)
        assert steps_taken(tmp_path, RIG, np.full_like(NOISE, level)) == 200


def test_a_scene_that_is_learned_and_training_that_is_merely_short_are_no_failures(tmp_path: Path) -> None:
    images = [render(camera, "still", 0.0, 1.0) for camera in RIG]
    with warnings.catch_warnings():
        warnings.simplefilter("error", InvWarning)
        assert steps_taken(tmp_path, RIG, images) == 200
        assert steps_taken(tmp_path, RIG, images, steps=3) == 3


def test_a_first_attempt_that_fails_leaves_no_trace_in_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []
    train = FrameTrainer.train

    def diverge(self: FrameTrainer, *arguments: object) -> object:
        trained = yield from train(self, *arguments)  # type: ignore[arg-type]
        attempts.append({key: weight.copy() for key, weight in self.engine.weights().items()})
        if len(attempts) == 1:
            self.engine.load({key: np.full_like(weight, np.nan) for key, weight in attempts[0].items()})
        return trained

    monkeypatch.setattr(FrameTrainer, "train", diverge)
    images = [render(camera, "still", 0.0, 1.0) for camera in RIG]
    with warnings.catch_warnings():
        warnings.simplefilter("error", InvWarning)
        assert steps_taken(tmp_path, RIG, images) == 400
    first, second = attempts
    assert all(np.isfinite(weight).all() for weight in second.values())
    assert any((first[key] != second[key]).any() for key in first)


def test_later_keyframes_go_on_from_the_scene_and_are_never_started_afresh(
    cli: Cli, capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []
    monkeypatch.setattr("invcodec.encoding.encoder.failure", lambda *arguments: judged.append(arguments))
    options = ("--frames", "0:3", "--steps", 2, "--key-every", 1, "--progress", "json")
    result = cli("encode", capture, tmp_path / "out.inv", *options)
    assert [json.loads(line)["steps"] for line in result.err.splitlines()] == [2, 2, 2]
    assert len(judged) == 1


def test_weights_that_stay_infinite_end_the_encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = FrameTrainer.train

    def diverge(self: FrameTrainer, *arguments: object) -> object:
        trained = yield from train(self, *arguments)  # type: ignore[arg-type]
        self.engine.load({key: np.full_like(weight, np.inf) for key, weight in self.engine.weights().items()})
        return trained

    monkeypatch.setattr(FrameTrainer, "train", diverge)
    with pytest.raises(InvError, match="frame 0 was not learned: its weights are not finite"):
        steps_taken(tmp_path, RIG, NOISE, steps=4)


def test_the_command_line_says_so_beside_its_progress(
    cli: Cli, capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invcodec.encoding.encoder.failure", lambda *_: "it is black")
    result = cli("encode", capture, tmp_path / "out.inv", "--frames", "0:1", "--steps", 2, "--progress", "json")
    assert result.code == 0
    warning, report = result.err.splitlines()
    assert warning.startswith("invcodec: frame 0 was not learned: it is black, also at lower learning rates;")
    assert json.loads(report)["steps"] == 4
