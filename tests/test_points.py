"""Reconstructed points: COLMAP's models are read, those of other worlds are ignored, and damage is reported."""

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invcodec.capture.capture import open_capture
from invcodec.capture.points import read_points
from invcodec.errors import CaptureError
from invcodec.synth.rig import synthetic_rig

RIG = synthetic_rig(5, (40, 30))
POINTS = np.random.default_rng(0).normal(0, 0.5, (200, 3))


def quaternion(rotation):
    """(w, x, y, z) of a rotation: the eigenvector of Bar-Itzhack's matrix, another way than the reader's."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    matrix = np.array([
        [a + e + i, h - f, c - g, d - b],
        [h - f, a - e - i, b + d, c + g],
        [c - g, b + d, e - a - i, f + h],
        [d - b, c + g, f + h, i - a - e],
    ])  # fmt: skip
    return np.linalg.eigh(matrix)[1][:, -1]


def views(rig):
    """COLMAP's rotation and translation of each camera."""
    for camera in rig:
        rotation = (camera.pose[:, :3] * (1, -1, -1)).T
        yield [*quaternion(rotation), *(-rotation @ camera.pose[:, 3])]


def write_model(folder: Path, rig=RIG, points=POINTS, binary=True):
    model = folder / "sparse" / "0"
    model.mkdir(parents=True, exist_ok=True)
    if binary:
        images = struct.pack("<Q", len(rig))
        for number, view in enumerate(views(rig)):
            images += struct.pack("<I7dI", number, *view, 1) + b"a picture.png\0"
            images += struct.pack("<Q2dq", 1, 3.0, 4.0, -1)
        found = struct.pack("<Q", len(points))
        for number, point in enumerate(points):
            track = [number % 5, 7] * (number % 3)
            found += struct.pack("<Q3d3Bd", number, *point, 1, 2, 3, 0.5)
            found += struct.pack(f"<Q{len(track)}i", len(track) // 2, *track)
        (model / "images.bin").write_bytes(images)
        (model / "points3D.bin").write_bytes(found)
        return model / "points3D.bin"
    lines = ["# Image list"]
    for number, view in enumerate(views(rig)):
        lines += [f"{number} {' '.join(map(repr, map(float, view)))} 1 a.png", "3.0 4.0 -1" if number % 2 else ""]
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    rows = [f"{n} {' '.join(map(repr, map(float, p)))} 1 2 3 0.5 0 1" for n, p in enumerate(points)]
    (model / "points3D.txt").write_text("\n".join(["# 3D point list", *rows]) + "\n")
    return model / "points3D.txt"


@pytest.mark.parametrize("binary", [True, False])
def test_points_are_read_back(binary, tmp_path):
    write_model(tmp_path, binary=binary)
    np.testing.assert_array_equal(read_points(tmp_path, RIG), POINTS)


def test_a_capture_without_a_model_has_no_points(tmp_path):
    assert read_points(tmp_path, RIG) is None


@pytest.mark.parametrize("change", ["turned", "scaled", "another camera"])
def test_points_of_another_world_are_ignored(change, tmp_path):
    write_model(tmp_path)
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    poses = {
        "turned": [turn @ camera.pose for camera in RIG],
        "scaled": [camera.pose * (1, 1, 1, 1.5) for camera in RIG],
        "another camera": [*(camera.pose for camera in RIG), RIG[0].pose + np.eye(3, 4, 3)],
    }[change]
    assert read_points(tmp_path, [replace(RIG[0], pose=pose) for pose in poses]) is None


@given(st.integers(0, 10**6), st.sampled_from(["images.bin", "points3D.bin"]), st.booleans())
def test_a_damaged_model_is_one_error_that_names_the_file(tmp_path_factory, at, name, cut):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, points=POINTS[:4])
    path = folder / "sparse" / "0" / name
    data = path.read_bytes()
    path.write_bytes(data[: at % len(data)] if cut else data + bytes(at % 7 + 1))
    with pytest.raises(CaptureError, match=name):
        read_points(folder, RIG)


def test_numbers_that_would_overflow_are_refused(tmp_path):
    write_model(tmp_path, binary=False)
    path = tmp_path / "sparse" / "0" / "images.txt"
    path.write_text(f"1 1e200 0 0 0 0 0 0 1 a.png\n\n{path.read_text()}")
    with pytest.raises(CaptureError, match=r"images\.txt: holds values that are not finite, or too large"):
        read_points(tmp_path, RIG)


@pytest.mark.parametrize("line", ["1", "1 1 0 0 1 a.png", "1 1 0 0 0 0 0 0 1"])
def test_a_line_of_too_few_words_is_damage(line, tmp_path):
    write_model(tmp_path, binary=False)
    path = tmp_path / "sparse" / "0" / "images.txt"
    path.write_text(f"{line}\n\n{path.read_text()}")
    with pytest.raises(CaptureError, match=r"images\.txt: is damaged"):
        read_points(tmp_path, RIG)


@pytest.mark.parametrize("count", [201, 2**40, 2**64 - 1])
def test_more_points_than_a_file_holds_are_damage(count, tmp_path):
    path = write_model(tmp_path)
    path.write_bytes(struct.pack("<Q", count) + path.read_bytes()[8:])
    with pytest.raises(CaptureError, match=r"points3D\.bin: is damaged"):
        read_points(tmp_path, RIG)


@pytest.mark.parametrize("length", [2**40, 2**63, 2**64 - 1])
def test_a_list_longer_than_its_file_is_damage(length, tmp_path):
    path = write_model(tmp_path, points=POINTS[:1])
    path.write_bytes(path.read_bytes()[:-8] + struct.pack("<Q", length))
    with pytest.raises(CaptureError, match=r"points3D\.bin: is damaged"):
        read_points(tmp_path, RIG)


@pytest.mark.parametrize(("binary", "value"), [(True, np.nan), (False, np.inf)])
def test_positions_that_are_not_finite_are_reported(binary, value, tmp_path):
    path = write_model(tmp_path, points=np.append(POINTS, [[0, value, 0]], 0), binary=binary)
    with pytest.raises(CaptureError, match=f"{path.name}: holds values that are not finite"):
        read_points(tmp_path, RIG)


@pytest.mark.parametrize("text", ["1 2 3", "1 a b c", "\xff"])
def test_text_that_is_no_model_is_reported(text, tmp_path):
    path = write_model(tmp_path, binary=False)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CaptureError, match=r"points3D\.txt: is damaged"):
        read_points(tmp_path, RIG)


def test_points_stand_in_for_bounds(cli, capture, tmp_path):
    folder = tmp_path / "capture"
    shutil.copytree(capture, folder)
    file = folder / "transforms.json"
    data = json.loads(file.read_text())
    for row in [*data.get("cameras", []), *data.get("frames", [])]:
        row.pop("near", None)
        row.pop("far", None)
    file.write_text(json.dumps(data))

    def space():
        return json.loads(cli("inspect", folder, "--json").out)["space"]

    assert space()["kind"] == "contract"
    cameras = open_capture(folder).cameras
    write_model(folder, cameras, POINTS)
    assert space()["kind"] == "ndc"
    assert "200 points" in cli("inspect", folder).out
    np.testing.assert_array_equal(open_capture(folder).points, POINTS)
