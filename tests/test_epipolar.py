"""A calibration is compared with the pictures: a sound one fits, a wrong convention is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invcodec_cli.plots import draw_rig
from PIL import Image
from scenes import wall

from invcodec.capture import epipolar
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import look_at

pytest.importorskip("cv2")
pytest.importorskip("matplotlib")

SIZE = (320, 240)
UP = np.array([0.0, 1.0, 0.1])


def rig(**lens: Any) -> list[Camera]:
    target = np.array([0.1, 0.0, -3.5])
    places = np.array([[-0.6, 0.1, 0.3], [0.0, -0.2, 0.0], [0.5, 0.3, 0.2]])
    return [
        Camera(f"cam{i}", *SIZE, 300.0, 290.0, 163.0, 118.0, look_at(place, target, UP), **lens)
        for i, place in enumerate(places)
    ]


RIG = rig()
PICTURES = [wall(camera) for camera in RIG]


@pytest.mark.parametrize("lens", [{}, {"distortion": (-0.2, 0.05, 0.01, 0.01, 0.02)}, {"fisheye": True}])
def test_a_sound_calibration_fits(lens: dict[str, Any]) -> None:
    cameras = rig(**lens)
    fit = epipolar.check(cameras, [wall(camera) for camera in cameras])
    assert not fit.wrong
    assert fit.error is not None
    assert fit.error < 0.7
    assert len(fit.pairs) == 2
    assert all(pair.matches > 50 and pair.behind < 0.05 for pair in fit.pairs)


FLIP = np.array([1.0, -1.0, -1.0, 1.0])


def inverse(pose: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.vstack([pose, [0, 0, 0, 1]]))[:3]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda pose: pose * FLIP, "y and z axes"),
        (inverse, "world-to-camera instead"),
        (lambda pose: inverse(pose * FLIP), "world-to-camera with OpenCV's axes"),
    ],
)
def test_a_wrong_convention_is_named(mistake: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    fit = epipolar.check([replace(camera, pose=mistake(camera.pose)) for camera in RIG], PICTURES)
    assert fit.wrong
    assert fit.instead is not None
    assert words in fit.instead


def test_pictures_of_other_cameras_do_not_fit() -> None:
    fit = epipolar.check(RIG, [PICTURES[1], PICTURES[2], PICTURES[0]])
    assert fit.wrong


def test_pictures_without_texture_say_nothing() -> None:
    fit = epipolar.check(RIG, [np.full((240, 320, 3), 90, np.uint8)] * 3)
    assert fit == epipolar.Fit((), None, False, None)


def test_neighbours_are_near_and_look_the_same_way() -> None:
    around = [
        replace(RIG[0], name=str(i), pose=look_at(np.array([np.sin(a), 0, np.cos(a)]), np.zeros(3), UP))
        for i, a in enumerate(np.arange(8) * np.pi / 4 + np.array([0, 0.1] * 4))
    ]
    assert epipolar.neighbours(around) == [(0, 7), (1, 2), (3, 4), (5, 6)]


def write(folder: Path, cameras: list[Camera]) -> Path:
    entries = []
    for camera, picture in zip(cameras, PICTURES, strict=True):
        path = folder / camera.name / "0.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        row = {key: value for key, value in camera.to_dict().items() if key in ("fl_x", "fl_y", "cx", "cy")}
        entries.append(row | {"file_path": f"{camera.name}/0.png", "transform_matrix": camera.pose.tolist()})
    (folder / "transforms.json").write_text(json.dumps({"frames": entries}))
    return folder


def test_inspect_checks_and_draws(cli: Any, tmp_path: Path) -> None:
    folder, plot = write(tmp_path / "capture", RIG), tmp_path / "rig.png"
    done = cli("inspect", folder, "--plot", plot)
    assert (done.code, done.err) == (0, "")
    assert "camera-to-world, OpenGL axes" in done.out
    assert "fit the pictures: epipolar error 0." in done.out
    with Image.open(plot) as picture:
        assert picture.size == (1200, 600)
    again = cli("inspect", folder, "--plot", plot)
    assert (again.code, "already exists; use -f" in again.err) == (2, True)


def test_inspect_warns_of_a_wrong_convention(cli: Any, tmp_path: Path) -> None:
    folder = write(tmp_path, [replace(camera, pose=camera.pose * FLIP) for camera in RIG])
    done = cli("inspect", folder)
    assert done.code == 0
    assert "the calibration does not fit the pictures; it would, if the cameras' y and z axes" in done.err
    assert "DO NOT FIT" in done.out
    assert json.loads(cli("inspect", folder, "--json").out)["poses"]["wrong"] is True


def test_a_plot_shows_cameras_and_points(tmp_path: Path) -> None:
    def like(path: Path, colour: tuple[int, int, int]) -> int:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        return int((np.abs(pixels - colour).max(2) < 30).sum())

    blue, orange, grey = (31, 119, 180), (255, 127, 14), (170, 170, 170)
    points = np.random.default_rng(0).normal(0, 1, (500, 3)) - (0, 0, 3)
    plain, marked = tmp_path / "plain.png", tmp_path / "marked.png"
    draw_rig(RIG, None, plain, False)
    # Names are no formulas.
    draw_rig([replace(RIG[0], held_out=True, name="$_{"), *RIG[1:]], points, marked, False)
    assert like(plain, blue) > 100
    assert like(plain, orange) == 0
    assert like(marked, orange) > 10
    assert like(marked, grey) > like(plain, grey) + 500
