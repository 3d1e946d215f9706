"""Calibration files of other tools: each is written from a known rig by rules of its own, and read back."""

from __future__ import annotations

import json
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
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera
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
        ("intri.yml", "0.05,", ".nan,", r"intri\.yml: camera 'cam00': 'D_cam00' holds values that are not finite"),
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
        (lambda rows: rows[:2], r"1/transforms\.json: has no image of camera 'cam02'"),
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
