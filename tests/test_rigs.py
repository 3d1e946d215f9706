"""Captures of every kind: rings and domes, long and wide lenses, any scale, dark and bright, without depth bounds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli

import invcodec
from invcodec import srgb
from invcodec.capture.capture import open_capture
from invcodec.encoding.encoder import Encoder
from invcodec.encoding.presets import resolve
from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera
from invcodec.names import RIG_KINDS, RigKind
from invcodec.synth.rig import FOCAL_LENGTH, scaled, synthetic_rig
from invcodec.synth.scene import objects_at, room_around
from invcodec.synth.trace import render, trace
from invcodec.synth.write import write_synthetic

SIZE = (64, 48)
STEPS, RAYS = 150, 1024

CASES: dict[str, tuple[dict[str, Any], float]] = {
    "arc, no bounds": ({"count": 8, "bounds": False}, 0.85),
    "ring": ({"count": 12, "kind": "ring"}, 0.55),
    "ring, no bounds": ({"count": 12, "kind": "ring", "bounds": False}, 0.55),
    "dark macro ring": (
        {"count": 12, "kind": "ring", "focal_length": 3, "scale": 0.0225, "exposure": -4, "bounds": False},
        0.65,
    ),
    "wide ring": ({"count": 12, "kind": "ring", "focal_length": 0.5, "bounds": False}, 0.5),
    "stadium dome": ({"count": 12, "kind": "dome", "scale": 16, "bounds": False}, 0.4),
    "telecentric arc": ({"count": 8, "focal_length": 17}, 0.85),
    "telecentric arc, no bounds": ({"count": 8, "focal_length": 17, "bounds": False}, 0.5),
    "telecentric ring, no bounds": ({"count": 12, "kind": "ring", "focal_length": 17, "bounds": False}, 0.4),
    "dark arc": ({"count": 10, "exposure": -4}, 0.75),
    "bright arc": ({"count": 10, "exposure": 2}, 0.4),
    "little overlap": ({"count": 12, "overlap": 0.2}, 0.85),
    "one camera far away": ({"count": 10, "outlier": 8, "bounds": False}, 0.85),
}
"""For each capture its options, and the least share of the held-out picture's variance that has to be explained."""


def taken(
    count: int, *, scale: float = 1.0, exposure: float = 0.0, bounds: bool = True, **options: Any
) -> tuple[list[Camera], list[np.ndarray]]:
    """Cameras and their images."""
    rig = synthetic_rig(count, SIZE, **options)
    room = room_around(rig)
    images = [render(camera, "still", 0.0, 1.0, room=room, exposure=exposure) for camera in rig]
    cameras = [scaled(camera, scale) for camera in rig]
    return cameras if bounds else [replace(camera, near=None, far=None) for camera in cameras], images


def explained(picture: np.ndarray, shown: np.ndarray) -> float:
    """Share of the variance of a picture `[H, W, 3]` that another explains; 0 for the best constant colour."""
    error = ((picture.astype(float) - shown) ** 2).sum()
    return 1 - error / ((picture - picture.mean((0, 1))) ** 2).sum()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("error::invcodec.errors.InvWarning")
def test_a_view_between_the_cameras_is_learned(name: str, tmp_path: Path) -> None:
    options, floor = CASES[name]
    cameras, images = taken(**options)
    settings = resolve("medium", steps=STEPS, threads=2)
    settings = replace(settings, key=replace(settings.key, rays=RAYS))
    with Encoder(tmp_path / "out.inv", cameras, settings) as encoder:
        encoder.push(images, time=0)
    with invcodec.open(tmp_path / "out.inv") as video:
        shown = video[0].render("cam00").rgb
    assert explained(images[0], shown) > floor


@pytest.mark.parametrize("focal_length", [0.5, FOCAL_LENGTH, 17])
@pytest.mark.parametrize("kind", RIG_KINDS)
def test_bounds_hold_what_a_rig_sees_and_all_of_it_is_lit(kind: RigKind, focal_length: float) -> None:
    rig = synthetic_rig(7, (16, 12), kind, focal_length=focal_length, overlap=0.5, outlier=3)
    room = room_around(rig)
    assert [camera.held_out for camera in rig] == [True] + 6 * [False]
    for camera in rig:
        assert camera.near is not None
        assert camera.far is not None
        for time in (0.0, 0.45):
            depth = trace(objects_at("changing", time, 0.9, room), *camera.rays())[1]
            assert camera.near < depth.min()
            assert depth.max() < camera.far
        assert render(camera, "still", 0.0, 1.0, room=room).mean((0, 1)).min() > 30


def test_a_ring_and_a_dome_go_all_around_and_an_arc_stays_in_front() -> None:
    focus = np.array([0.0, -0.15, -0.2])
    for kind, fronts in (("arc", 1.0), ("ring", 0.5), ("dome", 0.5)):
        rig = synthetic_rig(21, (16, 12), kind)  # type: ignore[arg-type]
        away = np.stack([camera.pose[:, 3] for camera in rig]) - focus
        assert np.mean(away[:, 2] > 0) == pytest.approx(fronts, abs=0.1)
        np.testing.assert_allclose(np.linalg.norm(away, axis=1), 3.1)
    elevation = np.degrees(np.arcsin(away[:, 1] / 3.1))
    assert elevation.min() < 12
    assert elevation.max() > 65


def test_long_lenses_show_the_target_as_large_from_farther_away() -> None:
    corner = np.array([[0.6, -0.15, -0.2]])
    near, far = (synthetic_rig(3, SIZE, focal_length=length)[0] for length in (2.0, 20.0))
    (at_near, near_depth), (at_far, far_depth) = near.project(corner), far.project(corner)
    assert far_depth == pytest.approx(10 * near_depth)
    np.testing.assert_allclose(at_near, at_far, atol=0.2)


def test_little_overlap_leaves_that_share_of_pictures_that_turn_in_opposite_directions() -> None:
    # Cameras 1 and 2 of a ring turn to the left and to the right, so they see the target on the other side.
    rig = synthetic_rig(3, SIZE, "ring", overlap=0.25)
    left, right = (camera.project(np.array([[0.0, -0.15, -0.2]]))[0][0, 0] / SIZE[0] for camera in rig[1:])
    assert left - right == pytest.approx(0.75, abs=0.06)
    assert left + right == pytest.approx(1)


def test_scale_changes_calibration_and_not_pictures() -> None:
    (usual, pictures), (small, same) = (taken(3, scale=scale) for scale in (1.0, 0.05))
    np.testing.assert_array_equal(pictures, same)
    for large, little in zip(usual, small, strict=True):
        np.testing.assert_allclose(little.pose[:, 3], 0.05 * large.pose[:, 3])
        assert little.far == pytest.approx(0.05 * (large.far or 0))


def test_exposure_is_in_stops_of_light() -> None:
    camera = synthetic_rig(3, (16, 12))[0]
    dark, darker = (render(camera, "still", 0.0, 1.0, exposure=stops) / 255 for stops in (-1, -2))
    linear = [srgb.to_linear(image) for image in (dark, darker)]
    np.testing.assert_allclose(linear[0], 2 * linear[1], atol=0.01)


def test_synth_makes_such_captures(cli: Cli, tmp_path: Path) -> None:
    options = ("--rig", "ring", "--cameras", 4, "--size", "16x12", "--frames", 1, "--focal-length", 3, "--scale", 0.02)
    assert cli("synth", tmp_path / "macro", *options, "--exposure", -4, "--outlier", 2, "--no-bounds").code == 0
    capture = open_capture(tmp_path / "macro")
    distance = [np.linalg.norm(camera.pose[:, 3]) for camera in capture.cameras]
    assert distance[0] == pytest.approx(0.17, rel=0.05)
    assert distance[-1] == pytest.approx(2 * distance[0], rel=0.1)
    assert capture.cameras[0].fx == pytest.approx(48)
    assert "near" not in json.loads((tmp_path / "macro/transforms.json").read_text())["cameras"][0]
    image = next(iter(capture.frames())).images[1]
    assert 5 < image.mean() < 60


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--rig", "spiral"), "'spiral' is not one of"),
        (("--focal-length", 0), "not in the range"),
        (("--overlap", 2), "not in the range"),
        (("--outlier", 0.5), "not in the range"),
        (("--scale", 0), "not in the range"),
        (("--exposure", 20), "not in the range"),
        (("--layout", "n3dv", "--no-bounds"), "layout 'n3dv' always has depth bounds"),
    ],
)
def test_impossible_options_are_refused(cli: Cli, tmp_path: Path, option: tuple[object, ...], message: str) -> None:
    result = cli("synth", tmp_path / "out", *option)
    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_rig_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown rig 'spiral'; choose from arc, ring, dome"):
        write_synthetic(tmp_path / "out", rig="spiral")  # type: ignore[arg-type]
