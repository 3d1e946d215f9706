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
from invcodec.geometry.convention import LLFF, OPENCV, OPENCV_INVERTED, OPENGL, Convention, conventions
from invcodec.geometry.rig import look_at

cv2 = pytest.importorskip("cv2")
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
MANY = [
    *RIG,
    *(
        replace(RIG[0], name=f"cam{3 + i}", pose=look_at(np.array(place), np.array([0.1, 0.0, -3.5]), UP))
        for i, place in enumerate([[-0.5, 0.4, 0.1], [0.6, -0.3, 0.0], [0.1, 0.5, 0.0]])
    ),
]
MANY_PICTURES = [wall(camera) for camera in MANY]
PICTURES = MANY_PICTURES[: len(RIG)]


def measured(
    cameras: list[Camera],
    pictures: list[np.ndarray],
    *,
    masks: list[np.ndarray | None] | None = None,
    convention: Convention = OPENGL,
) -> epipolar.Fit:
    return epipolar.measure(cv2, cameras, pictures, masks or [None] * len(cameras), convention)


@pytest.mark.parametrize("lens", [{}, {"distortion": (-0.2, 0.05, 0.01, 0.01, 0.02)}, {"fisheye": True}])
def test_a_sound_calibration_fits(lens: dict[str, Any]) -> None:
    cameras = rig(**lens)
    fit = measured(cameras, [wall(camera) for camera in cameras])
    assert not fit.wrong
    assert fit.error is not None
    assert fit.error < 0.7
    assert len(fit.pairs) == 2
    assert all(pair.matches > 50 and pair.behind < 0.05 for pair in fit.pairs)


FLIP = np.array([1.0, -1.0, -1.0, 1.0])
SWAP = np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])


def inverse(pose: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.vstack([pose, [0, 0, 0, 1]]))[:3]


def swapped(pose: np.ndarray) -> np.ndarray:
    """With y and z swapped in the world and in the camera, as programs do whose worlds are left-handed."""
    return np.column_stack([SWAP @ pose[:, :3] @ SWAP, SWAP @ pose[:, 3]])


MISTAKES: list[tuple[Callable[[np.ndarray], np.ndarray], str]] = [
    (lambda pose: pose * FLIP, "camera-to-world, OpenCV axes (x right, y down, z forward)"),
    (inverse, "world-to-camera, OpenGL axes (x right, y up, z backward)"),
    (lambda pose: inverse(pose * FLIP), "world-to-camera, OpenCV axes (x right, y down, z forward)"),
    (swapped, "camera-to-world, axes (x right, y backward, z up), in a left-handed world"),
]


@pytest.mark.parametrize(("mistake", "words"), MISTAKES)
def test_a_wrong_convention_is_named(mistake: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    fit = measured([replace(camera, pose=mistake(camera.pose)) for camera in MANY], MANY_PICTURES)
    assert (fit.wrong, fit.instead) == (True, words)


def test_a_convention_is_named_by_what_the_file_holds() -> None:
    # Camera-to-world matrices in a file of which the reader expects the reverse.
    mistaken = [replace(camera, pose=inverse(camera.pose * FLIP) * FLIP) for camera in RIG]
    fit = measured(mistaken, PICTURES, convention=OPENCV_INVERTED)
    assert fit.instead == "camera-to-world, OpenCV axes (x right, y down, z forward)"


def test_a_small_error_is_wrong_if_another_convention_has_hardly_any() -> None:
    # A shallow arc.
    arc = [np.array([3 * np.sin(angle), 0, 3 * np.cos(angle) - 3]) for angle in np.radians([-6, 0, 7])]
    target, up = np.array([0, 0, -3.0]), np.array([0, 1.0, 0])
    cameras = [replace(RIG[0], name=str(i), pose=look_at(place, target, up)) for i, place in enumerate(arc)]
    pictures = [wall(camera) for camera in cameras]
    assert not measured(cameras, pictures).wrong
    fit = measured([replace(camera, pose=inverse(camera.pose)) for camera in cameras], pictures)
    assert fit.error is not None
    assert fit.error < 0.01 * SIZE[0]
    assert all(pair.behind < 0.5 for pair in fit.pairs)
    assert (fit.wrong, fit.instead) == (True, str(Convention(inverted=True)))


def test_what_is_too_far_to_have_parallax_is_not_behind_a_camera() -> None:
    # A millimetre apart, and turned by a tenth of a degree at random: which side the walls are on cannot be seen.
    rng = np.random.default_rng(0)
    cameras = [
        replace(RIG[0], name=str(i), pose=look_at(rng.normal(0, 0.001, 3), np.array([0.0, 0, -3.5]), UP))
        for i in range(6)
    ]
    fit = measured(cameras, [wall(camera) for camera in cameras])
    assert fit.pairs
    assert (fit.wrong, fit.instead) == (False, None)


def test_what_is_masked_is_not_compared() -> None:
    # The same label is glued onto all pictures, and shows more than they do.
    label = np.random.default_rng(3).integers(0, 256, (60, 80), dtype=np.uint8)
    label = cv2.resize(label, (320, 240), interpolation=cv2.INTER_CUBIC)[:100]
    pictures = [picture.copy() for picture in PICTURES]
    mask = np.ones((240, 320), bool)
    mask[:100] = False
    for picture in pictures:
        picture[:100] = label[..., None]
    bare, masked = (measured(RIG, pictures, masks=[each] * 3).error for each in (None, mask))
    assert bare is not None
    assert masked is not None
    assert masked < 0.7 < 1.5 < bare


def test_points_that_nothing_explains_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any) -> None:
        raise cv2.error("Assertion failed: !model.empty()")

    monkeypatch.setattr(cv2, "findFundamentalMat", failing)
    assert measured(RIG, PICTURES) == epipolar.Fit((), None, False, None)


@pytest.mark.parametrize("convention", [OPENGL, OPENCV, OPENCV_INVERTED, LLFF, *list(conventions())[::7]], ids=str)
def test_matrices_of_all_conventions_are_poses(convention: Convention) -> None:
    pose = RIG[0].pose
    matrix = convention.matrix(pose)
    assert np.linalg.det(matrix[:, :3]) == pytest.approx(1)
    assert convention.pose(matrix) == pytest.approx(pose)


def test_conventions_are_what_their_names_say() -> None:
    right, up, back, centre = RIG[0].pose.T
    assert np.array_equal(OPENGL.matrix(RIG[0].pose), RIG[0].pose)
    assert np.allclose(OPENCV.matrix(RIG[0].pose).T, [right, -up, -back, centre])
    assert np.allclose(LLFF.matrix(RIG[0].pose).T, [-up, right, back, centre])
    # The camera is in the origin of its own coordinates.
    assert OPENCV_INVERTED.matrix(RIG[0].pose) @ [*centre, 1] == pytest.approx(0)
    assert OPENCV_INVERTED.matrix(RIG[0].pose) @ [*(centre - back), 1] == pytest.approx([0, 0, 1])
    every = list(conventions())
    assert len(every) == len(set(every)) == 96
    assert every[0] == OPENGL


def test_pictures_of_other_cameras_do_not_fit() -> None:
    fit = measured(RIG, [PICTURES[1], PICTURES[2], PICTURES[0]])
    assert (fit.wrong, fit.instead) == (True, None)


def test_cameras_in_one_place_see_the_same() -> None:
    # As in a calibration that has one pose for all.
    fit = measured([replace(camera, pose=RIG[0].pose) for camera in RIG], PICTURES)
    assert (fit.wrong, fit.instead) == (True, None)
    turned = [look_at(RIG[0].pose[:, 3], np.array([x, 0.1, -3.5]), UP) for x in (-0.4, 0.0, 0.5)]
    cameras = [replace(camera, pose=pose) for camera, pose in zip(RIG, turned, strict=True)]
    fit = measured(cameras, [wall(camera) for camera in cameras])
    assert fit.error is not None
    assert (fit.wrong, fit.error < 0.7) == (False, True)


def test_lenses_that_are_wrong_are_not_taken_for_a_convention() -> None:
    # Pictures that were undistorted and resized, with the calibration that they had before.
    bent = [
        replace(c, distortion=(-0.3 * i, 0.05), fy=c.fy * (1 + 0.3 * i), cy=c.cy - 20 * i) for i, c in enumerate(RIG)
    ]
    for count in (2, 3):
        fit = measured(bent[:count], PICTURES[:count])
        assert (fit.wrong, fit.instead) == (True, None)


def test_pictures_without_texture_say_nothing() -> None:
    fit = measured(RIG, [np.full((240, 320, 3), 90, np.uint8)] * 3)
    assert fit == epipolar.Fit((), None, False, None)


def test_neighbours_are_near_and_look_the_same_way() -> None:
    around = [
        replace(RIG[0], name=str(i), pose=look_at(np.array([np.sin(a), 0, np.cos(a)]), np.zeros(3), UP))
        for i, a in enumerate(np.arange(8) * np.pi / 4 + np.array([0, 0.1] * 4))
    ]
    assert epipolar.neighbours(around) == [(0, 7), (1, 2), (3, 4), (5, 6)]


def write(folder: Path, cameras: list[Camera]) -> Path:
    entries = []
    for camera, picture in zip(cameras, MANY_PICTURES, strict=False):
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


def mistaken(folder: Path, mistake: Callable[[np.ndarray], np.ndarray], rig: list[Camera] = MANY) -> Path:
    return write(folder, [replace(camera, pose=mistake(camera.pose)) for camera in rig])


@pytest.mark.parametrize(("mistake", "words"), MISTAKES)
def test_a_wrong_convention_is_refused_before_training(
    cli: Any, tmp_path: Path, mistake: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    folder, out = mistaken(tmp_path / "capture", mistake), tmp_path / "out.inv"
    done = cli("encode", folder, out, "--threads", 1)
    assert done.code == 2
    assert f"{folder}: the poses do not fit the pictures (epipolar error " in done.err
    assert f" as {OPENGL}; as {words} they would: convert them" in done.err
    assert not out.exists()
    # The interpretation is shown nevertheless, for the mistake to be found.
    shown = cli("inspect", folder, "--threads", 1)
    assert (shown.code, shown.err) == (2, done.err)
    assert "DO NOT FIT" in shown.out
    assert json.loads(cli("inspect", folder, "--threads", 1, "--json").out)["poses"]["instead"] == words


def test_what_is_not_certain_is_a_warning(cli: Any, tmp_path: Path) -> None:
    quick = ("--preset", "draft", "--steps", 1, "--downscale", 2, "--threads", 1, "--progress", "none")
    folder = write(tmp_path / "capture", RIG)
    done = cli("encode", folder, tmp_path / "sound.inv", *quick)
    assert (done.code, done.err) == (0, "")
    # One pair of cameras may be mistaken.
    pair = mistaken(tmp_path / "pair", MISTAKES[0][0], RIG[:2])
    done = cli("encode", pair, tmp_path / "pair.inv", *quick)
    assert (done.code, "they would: convert them" in done.err) == (0, True)
    # No convention explains pictures of other cameras.
    (folder / "cam0").rename(folder / "cam")
    (folder / "cam2").rename(folder / "cam0")
    (folder / "cam").rename(folder / "cam2")
    done = cli("encode", folder, tmp_path / "moved.inv", *quick)
    assert (done.code, "lenses are those of other cameras or pictures: calibrate again" in done.err) == (0, True)


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
