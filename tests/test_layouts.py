"""Calibration files of other tools: each is written from a known rig by rules of its own, and read back."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from invcodec.capture.capture import open_capture
from invcodec.capture.layouts.registry import load
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera
from invcodec.names import LAYOUTS
from invcodec.synth.rig import synthetic_rig

RIG = [
    replace(camera, near=None, far=None, held_out=False, cx=camera.cx + index, cy=camera.cy - index)
    for index, camera in enumerate(synthetic_rig(3, (40, 30)))
]
POINTS = np.random.default_rng(0).normal(0, 0.3, (20, 3))
BENT = (0.05, -0.02, 0.003, -0.002, 0.01)


def pictures(folder: Path, rig: list[Camera] = RIG, below: str = "images", factor: int = 1) -> None:
    for camera in rig:
        for number in (0, 1):
            path = folder / below / camera.name / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (camera.width // factor, camera.height // factor)).save(path)


def w2c(camera: Camera) -> tuple[Rotation, np.ndarray]:
    """World-to-camera with OpenCV's axes."""
    matrix = np.vstack([camera.pose, [0, 0, 0, 1]]) @ np.diag([1, -1, -1, 1])
    inverse = np.linalg.inv(matrix)
    return Rotation.from_matrix(inverse[:3, :3]), inverse[:3, 3]


def rows(matrix: Any) -> str:
    return ", ".join(repr(float(value)) for value in np.ravel(matrix))


def intrinsics(camera: Camera, corner: float = -0.5) -> np.ndarray:
    return np.array([[camera.fx, 0, camera.cx + corner], [0, camera.fy, camera.cy + corner], [0, 0, 1]])


def assert_same(folder: Path, rig: list[Camera], **options: Any) -> None:
    """All cameras are read as they were written: they see points at the same places."""
    found = open_capture(folder, **options).cameras
    assert [camera.name for camera in found] == [camera.name for camera in rig]
    for one, other in zip(found, rig, strict=True):
        assert (one.width, one.height, one.fisheye) == (other.width, other.height, other.fisheye)
        np.testing.assert_allclose(one.project(POINTS)[0], other.project(POINTS)[0], atol=1e-6)
        np.testing.assert_allclose(one.pose, other.pose, atol=1e-9)


# COLMAP


def colmap(
    folder: Path,
    rig: list[Camera],
    model: str,
    parameters: Callable[[Camera], list[float]],
    binary: bool,
    name: str = "{}.png",
) -> Path:
    models = ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV", "FOV"]
    models += ["SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE", "RAD_TAN_THIN_PRISM_FISHEYE"]
    target = folder / "sparse" / "0"
    target.mkdir(parents=True)
    lenses, images = [struct.pack("<Q", len(rig))], [struct.pack("<Q", len(rig))]
    text = ["# Camera list"], ["# Image list"]
    for number, camera in enumerate(rig, 7):
        values = parameters(camera)
        lenses.append(struct.pack("<IiQQ", number, models.index(model), camera.width, camera.height))
        lenses.append(struct.pack(f"<{len(values)}d", *values))
        rotation, translation = w2c(camera)
        view = [*np.roll(rotation.as_quat(), 1), *translation]
        images.append(struct.pack("<I7dI", number, *view, number) + name.format(camera.name).encode() + b"\0")
        images.append(struct.pack("<Q", 0))
        text[0].append(f"{number} {model} {camera.width} {camera.height} {' '.join(map(repr, map(float, values)))}")
        text[1].extend([f"{number} {' '.join(map(repr, map(float, view)))} {number} {name.format(camera.name)}", ""])
    if binary:
        (target / "cameras.bin").write_bytes(b"".join(lenses))
        (target / "images.bin").write_bytes(b"".join(images))
    else:
        (target / "cameras.txt").write_text("\n".join(text[0]) + "\n")
        (target / "images.txt").write_text("\n".join(text[1]) + "\n")
    return target


def ordinary(camera: Camera) -> list[float]:
    return [camera.fx, camera.fy, camera.cx, camera.cy]


MODELS: dict[str, tuple[Callable[[Camera], list[float]], tuple[float, ...], bool]] = {
    "SIMPLE_PINHOLE": (lambda c: [c.fx, c.cx, c.cy], (), False),
    "PINHOLE": (ordinary, (), False),
    "SIMPLE_RADIAL": (lambda c: [c.fx, c.cx, c.cy, 0.1], (0.1,), False),
    "RADIAL": (lambda c: [c.fx, c.cx, c.cy, 0.1, 0.02], (0.1, 0.02), False),
    "OPENCV": (lambda c: [*ordinary(c), 0.1, 0.02, 0.003, 0.004], (0.1, 0.02, 0.003, 0.004), False),
    "OPENCV_FISHEYE": (lambda c: [*ordinary(c), 0.1, 0.02, 0.03, 0.04], (0.1, 0.02, 0, 0, 0.03, 0.04), True),
    "FULL_OPENCV": (
        lambda c: [*ordinary(c), 0.1, 0.02, 0.003, 0.004, 0.05, 0.06, 0.07, 0.08],
        (0.1, 0.02, 0.003, 0.004, 0.05, 0.06, 0.07, 0.08),
        False,
    ),
    "SIMPLE_RADIAL_FISHEYE": (lambda c: [c.fx, c.cx, c.cy, 0.1], (0.1,), True),
    "RADIAL_FISHEYE": (lambda c: [c.fx, c.cx, c.cy, 0.1, 0.02], (0.1, 0.02), True),
    "THIN_PRISM_FISHEYE": (
        lambda c: [*ordinary(c), 0.1, 0.02, 0.003, 0.004, 0.05, 0.06, 0.007, 0.008],
        (0.1, 0.02, 0.003, 0.004, 0.05, 0.06, 0, 0, 0.007, 0, 0.008),
        True,
    ),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("binary", [True, False])
def test_every_camera_model_of_colmap(model: str, binary: bool, tmp_path: Path) -> None:
    parameters, distortion, fisheye = MODELS[model]
    rig = [replace(camera, distortion=distortion, fisheye=fisheye) for camera in RIG]
    if "fy" not in parameters.__code__.co_names and parameters is not ordinary:
        rig = [replace(camera, fy=camera.fx) for camera in rig]
    colmap(tmp_path, rig, model, parameters, binary)
    pictures(tmp_path, rig)
    assert_same(tmp_path, rig)


@pytest.mark.parametrize("model", ["FOV", "RAD_TAN_THIN_PRISM_FISHEYE"])
@pytest.mark.parametrize("binary", [True, False])
def test_camera_models_that_are_not_supported_are_named(model: str, binary: bool, tmp_path: Path) -> None:
    colmap(tmp_path, RIG, model, lambda c: [*ordinary(c), 0.1], binary)
    pictures(tmp_path)
    with pytest.raises(CaptureError, match=r"cameras\.(bin|txt).*(FOV|number 11|RAD_TAN).*undistort"):
        open_capture(tmp_path)


def test_pictures_at_a_fraction_of_the_models_size(tmp_path: Path) -> None:
    colmap(tmp_path, RIG, "PINHOLE", ordinary, True)
    pictures(tmp_path, factor=2)
    assert_same(tmp_path, [camera.scaled(20, 15) for camera in RIG])


@pytest.mark.parametrize("name", ["{}/0000.png", "frames/{}/0000.jpg", "{}.JPG"])
def test_a_picture_of_a_model_belongs_to_the_camera_of_its_folder(name: str, tmp_path: Path) -> None:
    colmap(tmp_path, RIG, "PINHOLE", ordinary, True, name)
    pictures(tmp_path)
    assert_same(tmp_path, RIG)


def test_a_model_of_several_frames_has_still_cameras(tmp_path: Path) -> None:
    twice = [*RIG, RIG[0]]
    target = colmap(tmp_path, twice, "PINHOLE", ordinary, False, "{}/0000.png")
    pictures(tmp_path)
    assert_same(tmp_path, RIG)
    path = target / "images.txt"
    words = path.read_text().splitlines()
    moved = words[-2].split() if words[-1] == "" else words[-1].split()
    moved[5] = "9.0"
    path.write_text("\n".join([*words[:-2], " ".join(moved), ""]) + "\n")
    with pytest.raises(CaptureError, match=r"images\.txt: camera 'cam00' moves"):
        open_capture(tmp_path)


def test_models_that_are_wrong_name_their_file(tmp_path: Path) -> None:
    target = colmap(tmp_path, RIG, "PINHOLE", ordinary, True)
    pictures(tmp_path)
    lenses = target / "cameras.bin"
    good = lenses.read_bytes()
    lenses.write_bytes(good[:-3])
    with pytest.raises(CaptureError, match=r"cameras\.bin: is damaged"):
        open_capture(tmp_path)
    lenses.write_bytes(struct.pack("<Q", 2**60) + good[8:])
    with pytest.raises(CaptureError, match=r"cameras\.bin: is damaged"):
        open_capture(tmp_path)
    lenses.write_bytes(good[:-32] + struct.pack("<4d", np.nan, 1, 1, 1))
    with pytest.raises(CaptureError, match=r"cameras\.bin: holds values that are not finite"):
        open_capture(tmp_path)
    for focal, words in ((1e300, "not finite, or too large"), (0.0, "must be positive"), (-5.0, "must be positive")):
        lenses.write_bytes(good[:-32] + struct.pack("<4d", focal, 1, 1, 1))
        with pytest.raises(CaptureError, match=rf"cameras\.bin: .*{words}"):
            open_capture(tmp_path)
    lenses.write_bytes(struct.pack("<Q", 0))
    with pytest.raises(CaptureError, match=r"cameras\.bin: has no lens 7"):
        open_capture(tmp_path)


def test_cameras_without_pictures_are_named(tmp_path: Path) -> None:
    colmap(tmp_path, RIG, "PINHOLE", ordinary, True)
    with pytest.raises(CaptureError, match=r"images\.bin: its cameras \(cam00, .*expected NAME.mp4"):
        open_capture(tmp_path)
    pictures(tmp_path, RIG[:2])
    with pytest.raises(CaptureError, match=r"images, camera 'cam02' has none"):
        open_capture(tmp_path)


@pytest.mark.parametrize("name", ["..", ".", "a/../..", "/etc"])
def test_names_of_cameras_do_not_lead_out_of_the_capture(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    colmap(folder, RIG, "PINHOLE", ordinary, True, name + "/{}.png")
    pictures(tmp_path, below=".")
    with pytest.raises(CaptureError):
        open_capture(folder)


def test_pixels_that_a_lens_cannot_see_are_masked(tmp_path: Path) -> None:
    # Up to 86 degrees from the axis, 12 pixels.
    rig = [replace(camera, fx=8.0, fy=8.0, cx=20.0, cy=15.0, fisheye=True) for camera in RIG]
    colmap(tmp_path, rig, "OPENCV_FISHEYE", lambda c: [*ordinary(c), 0, 0, 0, 0], True)
    pictures(tmp_path, rig)
    y, x = np.mgrid[:30, :40] + 0.5
    for downscale in (1, 2):
        masks = next(open_capture(tmp_path, downscale=downscale).frames()).masks
        for mask in masks:
            assert mask is not None
            distance = np.hypot(x - 20, y - 15)[: 30 // downscale, : 40 // downscale]
            if downscale == 1:
                assert mask[distance < 11.9].all()
                assert not mask[distance > 12.6].any()
            assert 0.3 < mask.mean() < 0.45
    pinhole = tmp_path / "pinhole"
    colmap(pinhole, RIG, "PINHOLE", ordinary, True)
    pictures(pinhole)
    assert next(open_capture(pinhole).frames()).masks == [None] * 3


# OpenCV's FileStorage


def opencv(
    folder: Path, rig: list[Camera], *, rodrigues: bool = False, distortion: str = "D_", size: bool = True
) -> None:
    def matrix(name: str, value: Any) -> str:
        value = np.atleast_2d(value)
        height, width = value.shape
        return f"{name}: !!opencv-matrix\n   rows: {height}\n   cols: {width}\n   dt: d\n   data: [ {rows(value)} ]\n"

    names = "%YAML:1.0\n---\nnames:\n" + "".join(f'   - "{camera.name}"\n' for camera in rig)
    lenses, poses = [names], [names]
    for camera in rig:
        rotation, translation = w2c(camera)
        lenses.append(matrix(f"K_{camera.name}", intrinsics(camera)))
        lenses.append(matrix(f"{distortion}{camera.name}", np.array(BENT)[:, None]))
        if size:
            lenses.append(f"H_{camera.name}: {camera.height}.\nW_{camera.name}: {camera.width}.\n")
        poses.append(matrix(f"R_{camera.name}", rotation.as_rotvec()[:, None]))
        if not rodrigues:
            poses.append(matrix(f"Rot_{camera.name}", rotation.as_matrix()))
        poses.append(matrix(f"T_{camera.name}", translation[:, None]))
    folder.mkdir(exist_ok=True)
    (folder / "intri.yml").write_text("".join(lenses))
    (folder / "extri.yml").write_text("".join(poses))


BENT_RIG = [replace(camera, distortion=BENT) for camera in RIG]


@pytest.mark.parametrize(
    "form", [{}, {"rodrigues": True}, {"distortion": "dist_"}, {"size": False}, {"rodrigues": True, "size": False}]
)
def test_matrices_of_opencv(form: dict[str, Any], tmp_path: Path) -> None:
    opencv(tmp_path, BENT_RIG, **form)
    pictures(tmp_path)
    assert_same(tmp_path, BENT_RIG)


def test_opencvs_own_reader_agrees(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    opencv(tmp_path, BENT_RIG)
    storage = cv2.FileStorage(str(tmp_path / "intri.yml"), cv2.FILE_STORAGE_READ)
    np.testing.assert_allclose(storage.getNode("K_cam01").mat(), intrinsics(RIG[1]), rtol=1e-12)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("extri.yml", "T_cam01", "X_cam01", r"extri\.yml: camera 'cam01': has no 'T_cam01'"),
        ("intri.yml", "K_cam02", "X_cam02", r"intri\.yml: camera 'cam02': has no 'K_cam02'"),
        ("intri.yml", "rows: 3", "rows: 4", r"intri\.yml: is not valid YAML .*4x3 with 9 values"),
        ("intri.yml", "rows: 3", "rows: 1000000000", r"intri\.yml: is not valid YAML .*1000000000x3 with 9 values"),
        ("intri.yml", "%YAML:1.0\n---\n", "[" * 5000, r"intri\.yml: is not valid YAML"),
        ("intri.yml", "0.05,", ".nan,", r"intri\.yml: camera 'cam00': 'D_cam00' is not a list of numbers"),
        ("intri.yml", "%YAML:1.0\n---\n", "!!python/object/apply:os.getcwd []\n", r"intri\.yml: is not valid YAML"),
    ],
)
def test_matrices_of_opencv_that_are_wrong(file: str, old: str, new: str, words: str, tmp_path: Path) -> None:
    opencv(tmp_path, RIG)
    pictures(tmp_path)
    path = tmp_path / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CaptureError, match=words):
        open_capture(tmp_path)


# aniposelib


def anipose(rig: list[Camera], *, caliscope: bool = False, scale: float = 1.0) -> str:
    tables = []
    for index, camera in enumerate(rig):
        rotation, translation = w2c(camera)
        turn = rotation.as_matrix().tolist() if caliscope else rotation.as_rotvec().tolist()
        bent = [camera.distortion[i] for i in (0, 1, 4, 5)] if camera.fisheye else list(camera.distortion)
        name = "" if caliscope else f'name = "{camera.name}"\n'
        tables.append(f"[cameras.{index}]\n" if caliscope else f"[cam_{index}]\n{name}")
        tables.append(f"size = [{camera.width}.0, {camera.height}.0]\nmatrix = {intrinsics(camera).tolist()}\n")
        tables.append(f"distortions = {[*map(float, bent)]}\nrotation = {turn}\n")
        tables.append(f"translation = {(translation * scale).tolist()}\nfisheye = {str(camera.fisheye).lower()}\n")
    return "".join(tables) + "[metadata]\nadjusted = false\nerror = 0.2\n"


FISHEYE = [replace(camera, distortion=(0.1, 0.02, 0.0, 0.0, 0.03, 0.04), fisheye=True) for camera in RIG]


@pytest.mark.parametrize("rig", [BENT_RIG, FISHEYE])
def test_cameras_of_aniposelib(rig: list[Camera], tmp_path: Path) -> None:
    (tmp_path / "Config.toml").write_text("[project]\nframe_rate = 60\n")
    (tmp_path / "calibration.toml").write_text(anipose(rig))
    pictures(tmp_path)
    assert_same(tmp_path, rig)


def test_cameras_of_caliscope_are_called_by_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "camera_array.toml").write_text(anipose(BENT_RIG, caliscope=True))
    rig = [replace(camera, name=f"cam_{index}") for index, camera in enumerate(BENT_RIG)]
    pictures(tmp_path, rig)
    assert_same(tmp_path, rig)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("translation = [", "translation = [1.0, ", r"\[cam_0\]: 'translation' has 4 numbers, expected 3"),
        ("size = [40.0", "size = [nan", r"\[cam_0\]: 'size' holds values that are not finite"),
        ("[metadata]", "[cam_0]", r"calib\.toml: is not valid TOML"),
        ("cam01", "cam00", "two cameras have the same name"),
    ],
)
def test_cameras_of_aniposelib_that_are_wrong(old: str, new: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "calib.toml").write_text(anipose(RIG).replace(old, new, 1))
    pictures(tmp_path)
    with pytest.raises(CaptureError, match=words):
        open_capture(tmp_path)


# nerfstudio's variants


def matrix(camera: Camera) -> list[list[float]]:
    return [*camera.pose.tolist(), [0.0, 0.0, 0.0, 1.0]]


def per_frame(folder: Path, rig: list[Camera] = RIG) -> None:
    for number in (0, 1):
        inside = folder / str(number)
        rows = []
        for camera in rig:
            row = {"file_path": f"images/{camera.name}.png", "transform_matrix": matrix(camera)}
            path = inside / row["file_path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (camera.width, camera.height), (number, 0, 0)).save(path)
            rows.append({**row, "w": camera.width, "h": camera.height, "K": intrinsics(camera, 0).tolist()})
        (inside / "transforms.json").write_text(json.dumps({"fps": 25, "frames": rows}))


def test_a_transforms_file_for_each_frame(tmp_path: Path) -> None:
    per_frame(tmp_path)
    assert_same(tmp_path, RIG)
    capture = open_capture(tmp_path)
    assert (capture.layout, capture.fps, capture.available) == ("transforms_per_frame", 25, range(2))
    assert [frame.images[1][0, 0, 0] for frame in capture.frames()] == [0, 1]


def test_transforms_of_frames_that_are_wrong(tmp_path: Path) -> None:
    per_frame(tmp_path)
    path = tmp_path / "1" / "transforms.json"
    data = json.loads(path.read_text())
    cases = [
        (lambda rows: rows[:2], "'cam02' has only 1 of the frames 0:2"),
        (lambda rows: [{**rows[0], "K": [1, 2]}, *rows[1:]], r"'cam00': 'K' has 2 numbers, expected 9"),
        (lambda rows: [{**rows[0], "transform_matrix": EYE}, *rows[1:]], r"'cam00' moves"),
        (lambda rows: [{}, *rows], "has no 'file_path'"),
    ]
    for edit, words in cases:
        path.write_text(json.dumps({**data, "frames": edit(data["frames"])}))
        with pytest.raises(CaptureError, match=words):
            open_capture(tmp_path)
    (tmp_path / "01").mkdir()
    (tmp_path / "01" / "transforms.json").write_text("{}")
    with pytest.raises(CaptureError, match="is frame 1, as"):
        open_capture(tmp_path)


EYE = np.eye(4).tolist()


def dnerf(folder: Path, rig: list[Camera], path: str = "./{split}/r_{n:03d}") -> None:
    """All but the first camera in `train`."""
    count = 0
    for split, cameras in (("train", rig[1:]), ("test", rig[:1])):
        rows = []
        for time in (0.0, 1.0):
            for camera in cameras:
                name = path.format(split=split, n=count, camera=camera.name)
                count += 1
                file = folder / f"{name}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (camera.width, camera.height)).save(file)
                rows.append({"file_path": name, "time": time, "transform_matrix": matrix(camera)})
        angle = 2 * np.arctan(rig[0].width / 2 / rig[0].fx)
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": rows}))


CENTRED = [replace(camera, fy=camera.fx, cx=20.0, cy=15.0) for camera in RIG]


def test_images_from_one_place_are_of_one_camera(tmp_path: Path) -> None:
    dnerf(tmp_path / "named", CENTRED, "{camera}/{n}")
    assert_same(tmp_path / "named", [*CENTRED[1:], CENTRED[0]])
    dnerf(tmp_path / "split", CENTRED)
    capture = open_capture(tmp_path / "split")
    assert [(c.name, c.held_out) for c in capture.cameras] == [("r_000", False), ("r_001", False), ("r_004", True)]
    assert capture.available == range(2)


def test_one_moving_camera_is_refused(tmp_path: Path) -> None:
    dnerf(tmp_path, CENTRED)
    path = tmp_path / "transforms_train.json"
    data = json.loads(path.read_text())
    for number, row in enumerate(data["frames"]):
        row["time"] = number / 4
        row["transform_matrix"][0][3] += number
    path.write_text(json.dumps(data))
    (tmp_path / "transforms_test.json").unlink()
    with pytest.raises(CaptureError, match=r"transforms_train\.json: every image is from another place"):
        open_capture(tmp_path)


def test_the_fourth_coefficient_of_nerfstudio_is_not_taken_for_opencvs(tmp_path: Path) -> None:
    per_frame(tmp_path)
    path = tmp_path / "0" / "transforms.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "camera_model": "OPENCV", "k4": 0.1}))
    with pytest.raises(CaptureError, match="'camera_model' is 'OPENCV', expected FULL_OPENCV"):
        open_capture(tmp_path)


# Rigs of other tools


def c2w(camera: Camera) -> tuple[Rotation, np.ndarray]:
    """Camera-to-world with OpenCV's axes."""
    return Rotation.from_matrix(camera.pose[:, :3] * (1, -1, -1)), camera.pose[:, 3]


def kalibr(folder: Path, rig: list[Camera]) -> str:
    lines = []
    before = np.eye(4)
    for index, camera in enumerate(rig):
        rotation, translation = w2c(camera)
        now = np.eye(4)
        now[:3, :3], now[:3, 3] = rotation.as_matrix(), translation
        bent = [camera.distortion[i] for i in ((0, 1, 4, 5) if camera.fisheye else (0, 1, 2, 3))]
        k = intrinsics(camera)
        lines += [f"cam{index}:", "  camera_model: pinhole"]
        lines += [f"  distortion_model: {'equidistant' if camera.fisheye else 'radtan'}"]
        lines += [f"  distortion_coeffs: [{rows(bent)}]", f"  resolution: [{camera.width}, {camera.height}]"]
        lines += [f"  intrinsics: [{rows([k[0, 0], k[1, 1], k[0, 2], k[1, 2]])}]"]
        if index:
            step = now @ np.linalg.inv(before)
            lines += ["  T_cn_cnm1:", *(f"  - [{rows(row)}]" for row in step)]
        before = now
    return "\n".join(lines) + "\n"


def relative(rig: list[Camera]) -> list[Camera]:
    """The rig in the axes of its first camera, where Kalibr has its world; cameras by number."""
    first = np.vstack([rig[0].pose @ np.diag([1, -1, -1, 1]), [0, 0, 0, 1]])
    return [
        replace(camera, name=f"cam{index}", pose=(np.linalg.inv(first) @ np.vstack([camera.pose, [0, 0, 0, 1]]))[:3])
        for index, camera in enumerate(rig)
    ]


@pytest.mark.parametrize("rig", [[replace(camera, distortion=BENT[:4]) for camera in RIG], FISHEYE])
def test_a_chain_of_kalibr(rig: list[Camera], tmp_path: Path) -> None:
    (tmp_path / "log-camchain.yaml").write_text(kalibr(tmp_path, rig))
    pictures(tmp_path, relative(rig))
    assert_same(tmp_path, relative(rig))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("T_cn_cnm1", "T_cam_imu", "cam1: has no 'T_cn_cnm1'"),
        ("cam1:", "cam9:", "has cam9, but no cam1|has cam2, but no cam1"),
        ("pinhole", "omni", "cam0: omni with radtan is not supported"),
        ("  - [", "  - [9, ", "cam1: 'T_cn_cnm1'"),
    ],
)
def test_chains_that_are_broken(old: str, new: str, words: str, tmp_path: Path) -> None:
    rig = [replace(camera, distortion=BENT[:4]) for camera in RIG]
    (tmp_path / "camchain.yaml").write_text(kalibr(tmp_path, rig).replace(old, new, 1))
    pictures(tmp_path, relative(rig))
    with pytest.raises(CaptureError, match=words):
        open_capture(tmp_path)


def actorshq(rig: list[Camera]) -> str:
    lines = ["name,w,h,rx,ry,rz,tx,ty,tz,fx,fy,px,py"]
    for camera in rig:
        rotation, centre = c2w(camera)
        w, h = camera.width, camera.height
        lens = [camera.fx / w, camera.fy / h, camera.cx / w, camera.cy / h]
        lines.append(f"{camera.name},{w},{h},{rows(rotation.as_rotvec())},{rows(centre)},{rows(lens)}")
    return "\n".join(lines) + "\n"


def test_a_calibration_of_actorshq(tmp_path: Path) -> None:
    path = tmp_path / "calibration.csv"
    path.write_text(actorshq(RIG))
    pictures(tmp_path, below="rgbs")
    assert_same(tmp_path, RIG)
    good = path.read_text()
    for old, new, words in [
        ("px,", "pz,", "has no column 'px'"),
        ("cam01,40", "cam01,forty", "camera 'cam01': 'w' is not a list of numbers"),
        ("cam01,40", "cam01,", "line 3 has no value"),
        ("cam02,40", "cam01,40", "two cameras have the same name"),
        ("cam02,40", "cam02,nan", "'cam02': 'w' holds values that are not finite"),
    ]:
        path.write_text(good.replace(old, new, 1))
        with pytest.raises(CaptureError, match=words):
            open_capture(tmp_path)


def test_a_table_of_realitycapture(tmp_path: Path) -> None:
    lines = ["#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"]
    rig = [replace(camera, fy=camera.fx, distortion=BENT) for camera in RIG]
    for camera in rig:
        # R = Rz(-heading) Rx(pitch) Ry(roll) of OpenGL axes.
        yaw, pitch, roll = Rotation.from_matrix(camera.pose[:, :3]).as_euler("ZXY", degrees=True)
        lens = np.array([camera.fx, camera.cx - 20, camera.cy - 15]) / 40 * 36
        k1, k2, t1, t2, k3 = BENT
        values = [*camera.pose[:, 3], -yaw, pitch, roll, *lens, k1, k2, k3, 0, t1, t2]
        lines.append(f"{camera.name}.png,{rows(values)}")
    path = tmp_path / "cameras.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(CaptureError, match=r"cameras\.csv: camera 'cam00' has no pictures"):
        open_capture(tmp_path)
    pictures(tmp_path, rig)
    assert_same(tmp_path, rig)
    path.write_text(path.read_text().replace(",pitch,", ",tilt,"))
    with pytest.raises(CaptureError, match="has no column 'pitch'"):
        open_capture(tmp_path)


@pytest.mark.parametrize("fisheye", [True, False])
def test_models_of_immersive_light_fields(fisheye: bool, tmp_path: Path) -> None:
    bent = (0.05, -0.02) if fisheye else (0.05, -0.02, 0.0, 0.0, 0.01)
    rig = [replace(camera, fy=camera.fx, fisheye=fisheye, distortion=bent) for camera in RIG]
    data = [
        {
            "name": camera.name,
            "width": camera.width,
            "height": camera.height,
            "position": camera.pose[:, 3].tolist(),
            "orientation": w2c(camera)[0].as_rotvec().tolist(),
            "focal_length": camera.fx,
            "principal_point": [camera.cx, camera.cy],
            "radial_distortion": [0.05, -0.02] if fisheye else [0.05, -0.02, 0.01],
            "projection_type": "fisheye" if fisheye else "perspective",
        }
        for camera in rig
    ]
    path = tmp_path / "models.json"
    path.write_text(json.dumps(data))
    pictures(tmp_path, rig)
    assert_same(tmp_path, rig)
    for change, words in [
        ({"orientation": [1, 2]}, "'orientation' has 2 numbers"),
        ({"projection_type": "orthographic"}, "'projection_type' is 'orthographic'"),
        ({"focal_length": -1}, "focal lengths must be positive"),
        ({"position": None}, "has no 'position'"),
    ]:
        path.write_text(json.dumps([data[0], {**data[1], **change}, data[2]]))
        with pytest.raises(CaptureError, match=rf"models\.json: camera 'cam01': {words}"):
            open_capture(tmp_path)


def technicolor(folder: Path, rig: list[Camera]) -> Path:
    lines = ["focal cx cy aspect skew qw qx qy qz tx ty tz"]
    for index, camera in enumerate(rig):
        rotation, translation = w2c(camera)
        lens = [camera.fx, camera.cx, camera.cy, camera.fy / camera.fx, 0]
        numbers = [*lens, *np.roll(rotation.as_quat(), 1), *translation]
        lines.append(" ".join(repr(float(value)) for value in numbers))
        for frame in (1, 2):
            image = Image.new("RGB", (camera.width, camera.height))
            image.save(folder / f"Painter_undist_{frame:05d}_{index:02d}.png")
    path = folder / "cameras_parameters.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_parameters_of_technicolor(tmp_path: Path) -> None:
    path = technicolor(tmp_path, RIG)
    assert_same(tmp_path, RIG)
    assert open_capture(tmp_path).available == range(1, 3)
    good = path.read_text()
    for text, words in [
        (good.rsplit("\n", 2)[0], "has 2 cameras, but there are pictures of camera 2"),
        (good.replace(" ", " x", 13), "is not valid table of numbers"),
        (good.rstrip() + " 7\n", "camera 2: 'row' has 13 numbers, expected 12"),
        (good + good.splitlines()[-1], "no pictures of camera 3"),
    ]:
        path.write_text(text)
        with pytest.raises(CaptureError, match=words):
            open_capture(tmp_path)


def metashape(rig: list[Camera], fisheye: bool = False) -> str:
    """Cameras in a component whose transform turns, scales and moves."""
    turn, scale, shift = Rotation.from_rotvec([0.3, -0.5, 0.2]), 2.5, np.array([1.0, -2.0, 0.5])
    sensors, cameras = [], []
    for index, camera in enumerate(rig):
        rotation, centre = c2w(camera)
        inner = np.eye(4)
        inner[:3, :3] = (turn.inv() * rotation).as_matrix()
        inner[:3, 3] = turn.inv().apply(centre - shift) / scale
        k1, k2, p1, p2, k3 = BENT
        numbers = {"f": camera.fy, "cx": camera.cx - 20, "cy": camera.cy - 15, "b1": camera.fx - camera.fy}
        numbers |= {"k1": k1, "k2": k2, "k3": k3, "p1": p2, "p2": p1}
        inside = "".join(f"<{key}>{value!r}</{key}>" for key, value in numbers.items())
        kind = "fisheye" if fisheye else "frame"
        sensors.append(
            f'<sensor id="{index}" type="{kind}"><resolution width="40" height="30"/>'
            f'<calibration type="{kind}" class="initial"><f>1</f></calibration>'
            f'<calibration type="{kind}" class="adjusted"><resolution width="40" height="30"/>{inside}</calibration>'
            "</sensor>"
        )
        cameras.append(
            f'<camera id="{index}" sensor_id="{index}" component_id="0" label="{camera.name}.png">'
            f"<transform>{rows(inner).replace(',', '')}</transform></camera>"
        )
    place = f"<rotation>{rows(turn.as_matrix()).replace(',', '')}</rotation>"
    place += f"<translation>{rows(shift).replace(',', '')}</translation><scale>{scale}</scale>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<document version="2.0.0"><chunk label="Chunk 1">'
        f"<sensors>{''.join(sensors)}</sensors>"
        f'<components><component id="0"><transform>{place}</transform></component></components>'
        f'<cameras><group id="0">{"".join(cameras)}</group>'
        '<camera id="9" sensor_id="0" label="not aligned.png"/></cameras></chunk></document>\n'
    )


@pytest.mark.parametrize("fisheye", [True, False])
def test_cameras_of_metashape(fisheye: bool, tmp_path: Path) -> None:
    rig = [replace(camera, distortion=BENT, fisheye=fisheye) for camera in RIG]
    (tmp_path / "cameras.xml").write_text(metashape(rig, fisheye))
    pictures(tmp_path, rig)
    assert_same(tmp_path, rig)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('sensor_id="1"', 'sensor_id="8"', "camera 'cam01.png': its sensor 8 is not among"),
        ("<f>", "<g>", r"is not valid XML"),
        ("</k3>", "</k3><k4>0.1</k4>", "k4, p3 and p4 are not supported"),
        ("<document", '<!DOCTYPE a [<!ENTITY b "c">]><document', "defines its own document type"),
        ("<rotation>", "<rotation>1 ", "component 0: 'rotation' has 10 numbers, expected 9"),
        ("<scale>2.5", "<scale>inf", "component 0: 'scale' holds values that are not finite"),
    ],
)
def test_cameras_of_metashape_that_are_wrong(old: str, new: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "cameras.xml").write_text(metashape(RIG).replace(old, new, 1))
    pictures(tmp_path)
    with pytest.raises(CaptureError, match=rf"cameras\.xml: .*{words}|cameras\.xml: {words}"):
        open_capture(tmp_path)


def test_a_calibration_of_qualisys(tmp_path: Path) -> None:
    rig = [replace(camera, distortion=BENT) for camera in RIG]
    entries = []
    for camera in rig:
        k = intrinsics(camera) * 64
        turn = " ".join(f'r{i + 1}{j + 1}="{camera.pose[j, i]!r}"' for i in range(3) for j in range(3))
        x, y, z = (float(value) for value in camera.pose[:, 3])
        k1, k2, p1, p2, k3 = BENT
        entries.append(
            f'<camera serial="{camera.name}"><fov_video left="0" top="0" right="39" bottom="29"/>'
            f'<transform {turn} x="{x!r}" y="{y!r}" z="{z!r}"/>'
            f'<intrinsic focalLengthU="{k[0, 0]!r}" focalLengthV="{k[1, 1]!r}" centerPointU="{k[0, 2]!r}" '
            f'centerPointV="{k[1, 2]!r}" radialDistortion1="{k1}" radialDistortion2="{k2}" radialDistortion3="{k3}" '
            f'tangentalDistortion1="{p1}" tangentalDistortion2="{p2}"/></camera>'
        )
    text = f"<?xml version='1.0'?>\n<calibration><cameras>{''.join(entries)}</cameras></calibration>"
    text = text.replace("np.float64(", "").replace(')"', '"')
    (tmp_path / "Calib.qca.txt").write_text(text)
    pictures(tmp_path)
    assert_same(tmp_path, rig)
    (tmp_path / "Calib.qca.txt").write_text(text.replace("<intrinsic", "<lens", 1))
    with pytest.raises(CaptureError, match=r"Calib\.qca\.txt: camera 'cam00': has no <intrinsic>"):
        open_capture(tmp_path)


def doubled(text: str) -> str:
    """Before `text`, a list of 2^30 numbers by the name of `bomb`."""
    lists = [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30)]
    return "\n".join(["a0: &a0 [1, 1]", *lists, "bomb: &bomb [*a29]", text])


COLUMNS = ",".join(map(str, range(100_000)))


@pytest.mark.parametrize(
    ("name", "write", "old", "new", "words"),
    [
        ("camchain.yaml", kalibr, "cam0:", doubled("cam0:"), r"is not valid YAML \(\*a0 stands for values"),
        ("camchain.yaml", kalibr, "cam0:", "x: &x [*x]\ncam0:", r"is not valid YAML \(\*x stands for values"),
        ("camchain.yaml", kalibr, "cam0:", "x: " + "[" * 9 + "]" * 9 + "\ncam0:", "too deep in each other"),
        ("camchain.yaml", kalibr, "cam0:", "x: [" + "1," * 300_000 + "]\ncam0:", "too many values"),
        ("camchain.yaml", kalibr, "radtan", "[radtan]", r"cam0: pinhole with \['radtan'\] is not supported"),
        ("camchain.yaml", kalibr, "radtan", "0x" + "f" * 5000, "cam0: pinhole with 0xff"),
        ("camchain.yaml", kalibr, "[40, 30]", "[" + "1:" * 50_000 + "1, 30]", "'resolution' is not a list of numbers"),
        ("c.toml", lambda _, rig: anipose(rig), "name", ".".join("a" * 9) + " = 1\nname", "more than 8 parts"),
        ("c.toml", lambda _, rig: anipose(rig), "name", "{'a' . \"=\"." + ".b" * 9, "more than 8 parts"),
        ("c.toml", lambda _, rig: anipose(rig), '"cam00"', "0x" + "f" * 5000, r"its cameras \(cam_0, cam01"),
        ("c.toml", lambda _, rig: anipose(rig), '"cam00"', f'"{"n" * 5000}"', r"its cameras \(nnn"),
        ("c.toml", lambda _, rig: anipose(rig), "translation", "\n" * 100_000 + "translation =", "not valid TOML"),
        ("calibration.csv", lambda _, rig: actorshq(rig), "py\n", f"py,{COLUMNS}\n" + "a\n" * 9999, "line 2 has no"),
        ("calibration.csv", lambda _, rig: actorshq(rig * 400), "?", "?", "more than 1024 cameras"),
        ("x.xml", lambda _, rig: metashape(rig), "UTF-8", "none", r"its cameras \(cam00, .* have no pictures"),
    ],
)
def test_calibrations_that_would_take_much_time_or_memory(
    name: str, write: Callable[..., str], old: str, new: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    rig = [replace(camera, distortion=BENT[:4]) for camera in RIG]
    path.write_text(write(tmp_path, rig).replace(old, new, 1))
    with pytest.raises(CaptureError, match=rf"{re.escape(name)}: .*{words}"):
        open_capture(tmp_path)


def test_sizes_of_colmap_that_are_no_number_of_pixels(tmp_path: Path) -> None:
    path = colmap(tmp_path, RIG, "PINHOLE", ordinary, False) / "cameras.txt"
    pictures(tmp_path)
    good = path.read_text()
    for size in ("9" * 400, "nan", "9" * 5000):
        path.write_text(good.replace(" 40 ", f" {size} ", 1))
        with pytest.raises(CaptureError, match=r"cameras\.txt: is damaged"):
            open_capture(tmp_path)


NAMES = [
    "transforms.json",
    "models.json",
    "camchain.yaml",
    "calibration.csv",
    "cameras_parameters.txt",
    "x.csv",
    "x.toml",
]


@pytest.mark.parametrize("name", NAMES)
def test_what_describes_a_capture_is_a_regular_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(CaptureError, match=r"is not a regular file|no capture recognised"):
        open_capture(tmp_path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(CaptureError, match=r"is not a regular file|no capture recognised"):
        open_capture(tmp_path)


def test_what_describes_a_capture_is_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    pictures(folder)
    colmap(tmp_path, RIG, "PINHOLE", ordinary, True)
    (folder / "sparse").symlink_to(tmp_path / "sparse")
    with pytest.raises(CaptureError, match=r"cameras\.bin: lies outside the capture's folder.*--outside allows"):
        open_capture(folder)
    assert_same(folder, RIG, outside=True)
    (folder / "sparse").unlink()
    (tmp_path / "elsewhere.csv").write_text(actorshq(RIG))
    (folder / "calibration.csv").symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(CaptureError, match=r"calibration\.csv: lies outside"):
        open_capture(folder)
    # Within the folder, links are as good as files.
    (folder / "calibration.csv").unlink()
    (folder / "here.txt").write_text(actorshq(RIG))
    (folder / "calibration.csv").symlink_to("here.txt")
    assert_same(folder, RIG)
    # Points, too.
    model = tmp_path / "sparse" / "0"
    (model / "points3D.bin").write_bytes(struct.pack("<Q", 0))
    (folder / "sparse").symlink_to(tmp_path / "sparse")
    with pytest.raises(CaptureError, match=r"images\.bin: lies outside"):
        open_capture(folder, layout="actorshq")


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_says_how_it_takes_poses_and_what_it_lacks(name: str, tmp_path: Path) -> None:
    layout = load(name)
    assert (layout.convention is None) == (name == "clip")
    assert not layout.files(tmp_path)
    with pytest.raises(CaptureError, match=re.escape(str(tmp_path))):
        layout.read(tmp_path, None)
