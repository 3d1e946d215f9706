"""Cuts: another scene gets a keyframe of its own, and neither light nor motion is taken for one."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from PIL import Image

import invcodec
from invcodec.capture.capture import open_capture
from invcodec.encoding.encoder import Encoder
from invcodec.encoding.presets import resolve
from invcodec.geometry.camera import Camera
from invcodec.geometry.fitting import choose_space
from invcodec.synth.rig import synthetic_rig
from invcodec.synth.scene import room_around
from invcodec.synth.trace import render
from invcodec.training.cuts import is_cut
from invcodec.training.pixels import FramePixels, Views

Pictures = list[np.ndarray]

RIG = synthetic_rig(4, (48, 36))
VIEWS = Views(RIG, choose_space(RIG, points=None, transparent=False, kind=None))


def turned(camera: Camera, degrees: float) -> Camera:
    """A camera of the rig that stands elsewhere in the room: as a whole, it has been turned around the world's axis."""
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    return replace(camera, pose=turn @ camera.pose)


def pictures(degrees: float = 0.0, time: float = 0.0, exposure: float = 0.0, rig: list[Camera] = RIG) -> Pictures:
    there = [turned(camera, degrees) for camera in rig]
    room = room_around(there)
    return [render(camera, "moving", time, 1.0, room=room, exposure=exposure) for camera in there]


def pixels(images: Pictures, masks: list[np.ndarray | None] | None = None) -> FramePixels:
    return FramePixels.gather(images, masks or [None] * len(images), VIEWS.validation)


def cut(before: Pictures, now: Pictures) -> bool:
    return is_cut(VIEWS, pixels(now), pixels(before))


SCENE = pictures()
OTHERS = [pictures(degrees) for degrees in (90, 180)]


def test_another_scene_is_a_cut_also_in_other_light() -> None:
    for other in OTHERS:
        assert cut(SCENE, other)
        assert cut(other, SCENE)
        assert cut(SCENE, [(0.5 * image).astype(np.uint8) for image in other])
    assert cut([np.zeros_like(image) for image in SCENE], SCENE), "what comes after black"


def lit(image: np.ndarray, gain: np.ndarray | float) -> np.ndarray:
    return np.clip(image * gain, 0, 255).astype(np.uint8)


ACROSS = np.linspace(0, 1, RIG[0].width)[:, None]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: lit(image, 0.4),
        lambda image: lit(image, 1.6),
        lambda image: lit(image, np.array([1.3, 1.0, 0.6])),
        lambda image: lit(image, 0.3 + ACROSS),
        lambda image: lit(image, 0.3 + 1.2 * np.exp(-(((ACROSS - 0.7) / 0.2) ** 2))),
        lambda image: np.roll(image, 1, axis=1),
        lambda image: image * 0,
    ],
    ids=["darker", "brighter", "white balance", "light from one side", "a spotlight", "shaken", "dark"],
)
def test_light_and_shaking_are_no_cuts(change: Callable[[np.ndarray], np.ndarray]) -> None:
    assert not cut(SCENE, [change(image) for image in SCENE])


def test_a_stop_of_exposure_is_no_cut() -> None:
    for stops in (-1.0, 1.0):
        assert not cut(SCENE, pictures(exposure=stops))


def test_a_large_object_that_moves_fast_is_no_cut() -> None:
    width = RIG[0].width

    def behind(image: np.ndarray, left: int) -> np.ndarray:
        """The picture behind a striped object as wide as a third of it, in other light."""
        covered = lit(image, 0.7)
        covered[:, left : left + width // 3] = np.where(np.arange(width // 3) % 8 < 4, 255, 20)[:, None]
        return covered

    assert not cut([behind(image, 0) for image in SCENE], [behind(image, width // 2) for image in SCENE])
    assert not cut(SCENE, [behind(image, width // 2) for image in SCENE])


def test_noise_is_no_cut_also_where_there_is_hardly_anything_to_see() -> None:
    rng = np.random.default_rng(0)
    for contrast, noise in ((1.0, 8.0), (0.1, 4.0)):
        first, second = (
            [np.clip(contrast * image + rng.normal(40, noise, image.shape), 0, 255).astype(np.uint8) for image in SCENE]
            for _ in range(2)
        )
        assert not cut(first, second)


def test_one_camera_alone_makes_no_cut_and_masked_pixels_do_not_count() -> None:
    assert not cut(SCENE, [OTHERS[0][0], *SCENE[1:]])
    above: list[np.ndarray | None] = [np.arange(36)[:, None] < np.full(48, 12) for _ in SCENE]
    below: list[np.ndarray | None] = [np.arange(36)[:, None] >= np.full(48, 12) for _ in SCENE]
    mixed = [np.concatenate([a[:12], b[12:]]) for a, b in zip(SCENE, OTHERS[0], strict=True)]
    assert not is_cut(VIEWS, pixels(mixed, above), pixels(SCENE, above))
    assert is_cut(VIEWS, pixels(mixed, below), pixels(SCENE, below))


@pytest.fixture
def two_scenes(capture: Path, tmp_path: Path) -> Path:
    """The capture's first two frames, and then two of another part of the room."""
    folder = tmp_path / "two scenes"
    shutil.copytree(capture, folder)
    rig = list(open_capture(capture).cameras)
    for number in (2, 3):
        for camera, image in zip(rig, pictures(90, 0.1 * number, rig=rig), strict=True):
            Image.fromarray(image).save(folder / f"frames/{camera.name}/{number:04d}.png")
    return folder


def events(text: str) -> list[dict[str, object]]:
    return [event for event in map(json.loads, text.splitlines()) if "kind" in event]


OPTIONS = ("--steps", 80, "--threads", 1, "--progress", "json")


def test_a_cut_begins_a_scene_as_good_as_one_encoded_alone(cli: Cli, two_scenes: Path, tmp_path: Path) -> None:
    both, alone = tmp_path / "both.inv", tmp_path / "alone.inv"
    frames = events(cli("encode", two_scenes, both, *OPTIONS).err)
    assert [frame["kind"] for frame in frames] == ["key", "delta", "key", "delta"]
    assert [frame["stage"] for frame in frames] == ["key", "all", "key", "all"]
    after = events(cli("encode", two_scenes, alone, "--frames", "2:4", *OPTIONS).err)
    for frame, expected in zip(frames[2:], after, strict=True):
        assert frame["psnr"] == pytest.approx(expected["psnr"], abs=1)
    # Colours of cameras are learned again, too: nothing of the scene before the cut is left.
    with invcodec.open(both) as first, invcodec.open(alone) as second:
        weights, others = first[2].weights(), second[2].weights()
    assert all((weights[key] == others[key]).all() for key in weights)


def test_a_cut_begins_a_scene_where_each_frame_has_a_deadline(two_scenes: Path) -> None:
    capture = open_capture(two_scenes)
    budgets: list[str] = []

    def seconds(kind: str) -> float:
        budgets.append(kind)
        return 600.0

    with Encoder(io.BytesIO(), capture.cameras, resolve("draft", steps=60, threads=1), fps=capture.fps) as encoder:
        frames = [encoder.push(frame.images, time=frame.time, seconds=seconds) for frame in capture.frames()]
    assert [frame.kind for frame in frames] == budgets == ["key", "delta", "key", "delta"]
    assert frames[2].fidelity.psnr == pytest.approx(frames[0].fidelity.psnr, abs=3)


def test_an_encode_that_is_resumed_at_a_cut_or_after_it_goes_on_as_before(
    cli: Cli, two_scenes: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.inv"
    assert cli("encode", two_scenes, whole, *OPTIONS).code == 0
    with invcodec.open(whole) as video:
        offsets = [frame.entry.offset for frame in video.frames]
    for done in (2, 3):
        part = tmp_path / f"{done}.inv"
        part.write_bytes(whole.read_bytes()[: offsets[done]])
        assert cli("encode", two_scenes, part, "--resume").code == 0
        assert part.read_bytes() == whole.read_bytes()


def test_a_step_of_exposure_gives_no_keyframe(cli: Cli, capture: Path, tmp_path: Path) -> None:
    folder = tmp_path / "darker"
    shutil.copytree(capture, folder)
    for path in folder.glob("frames/*/000[23].png"):
        Image.fromarray(lit(np.asarray(Image.open(path)), 0.5)).save(path)
    frames = events(cli("encode", folder, tmp_path / "out.inv", "--frames", "0:3", *OPTIONS).err)
    assert [frame["kind"] for frame in frames] == ["key", "delta", "delta"]
