"""Profile `image`: its layout and mathematics, and single videos from file to picture."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli, Shared
from files import reference, save_video
from PIL import Image
from safetensors.numpy import load_file

from invcodec.capture.capture import open_capture
from invcodec.encoding.capacity import fit
from invcodec.encoding.encoder import Encoder
from invcodec.encoding.presets import resolve
from invcodec.errors import CaptureError, DamagedError, InvError, LimitError
from invcodec.field.image import ImageProfile
from invcodec.field.registry import build, declared
from invcodec.geometry.fitting import choose_space
from invcodec.metrics import psnr
from invcodec.render.networks import networks_from_settings
from invcodec.training.pixels import FramePixels, Views

TINY = {"resolutions": (2, 5), "octaves": 1, "depth": 2, "width": 8, "structure_layers": 1}


def test_the_default_layers_are_inv_s_in_two_dimensions() -> None:
    shapes = {spec.name: spec.shape for spec in ImageProfile().tensors}
    assert shapes["layers.0.weight"] == (256, 2 + 4 * 10)
    assert all(shapes[f"layers.{i}.weight"] == (256, 256) for i in range(1, 8))
    assert shapes["rgb.weight"] == (3, 256)
    assert len(shapes) == 2 * 9


def test_grids_and_the_first_layers_are_structure_and_lead() -> None:
    for spec in ImageProfile(**TINY).tensors:
        assert (spec.group == "structure") == spec.lead == spec.name.startswith(("grid.", "layers.0."))


def test_rebuilt_from_its_configuration() -> None:
    profile = ImageProfile(**TINY)
    again = declared(ImageProfile.id, profile.config, ImageProfile.version)
    assert again.tensors == profile.tensors
    assert (again.flat, again.samples, again.importance) == (True, 1, 0)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"resolutions": [4097]}, LimitError),
        ({"resolutions": [0]}, DamagedError),
        ({"resolutions": 7}, DamagedError),
        ({"resolutions": [1] * 17}, LimitError),
        ({"resolutions": [4096] * 5}, LimitError),
        ({"octaves": 17}, LimitError),
        ({"octaves": -1}, DamagedError),
        ({"depth": 33}, LimitError),
        ({"depth": 0, "structure_layers": 0}, DamagedError),
        ({"structure_layers": 9}, DamagedError),
        ({"width": 10**6}, LimitError),
    ],
)
def test_hostile_configuration_is_refused(wrong: dict[str, object], error: type[InvError]) -> None:
    with pytest.raises(error):
        build("image", wrong)


def test_the_field_against_plain_numpy() -> None:
    profile = ImageProfile(**TINY)
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.5, value.shape) for name, value in profile.initialise(rng).items()}
    # Inside cells, on vertices, and on both borders.
    points = np.concatenate([rng.random((20, 3)), [[0.4, 0.6, 0.1], [0, 0, 0], [1 - 2**-24, 1 - 2**-24, 0]]])

    def look_up(table: np.ndarray, x: float, y: float) -> np.ndarray:
        cells = len(table) - 1
        total = np.zeros(2)
        for i in range(cells + 1):
            for j in range(cells + 1):
                total += max(0, 1 - abs(cells * x - i)) * max(0, 1 - abs(cells * y - j)) * table[i, j]
        return total

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    given = {name: torch.tensor(value) for name, value in weights.items()}
    raw, colours = profile.density(given, torch.tensor(points), torch.tensor(points))
    for (x, y, _), colour in zip(points, colours, strict=True):
        u = 2 * np.array([x, y]) - 1
        hidden = np.concatenate([u, np.sin(u), np.cos(u), *(look_up(weights[f"grid.{i}"], x, y) for i in range(2))])
        for i in range(2):
            hidden = np.maximum(dense(f"layers.{i}", hidden), 0)
        np.testing.assert_allclose(colour, 1 / (1 + np.exp(-dense("rgb", hidden))), rtol=1e-6)
    # In front of one sample, no background is left.
    assert (1 - torch.exp(-profile.activate(raw.float())) == 1).all()
    torch.testing.assert_close(profile.shade({}, colours, torch.ones(23), colours), colours)


@pytest.fixture(scope="session")
def clip(shared: Shared) -> Path:
    """Four frames of 40x24 at 10 per second, in which a bright square moves over a shaded background; a video file."""

    def fill(folder: Path) -> None:
        y, x = np.mgrid[:24, :40]
        frames = []
        for t in range(4):
            picture = np.stack([120 + 80 * np.sin(x / 5 + y / 7), 5 * x + 20, 8 * y + 30], -1).clip(0, 255)
            picture[6:14, 5 + 6 * t : 13 + 6 * t] = 240, 230, 40
            frames.append(picture.astype(np.uint8))
        save_video(folder / "clip.mp4", frames, 10, crf=2)

    return shared("clip", fill) / "clip.mp4"


def test_a_pixel_s_position_is_its_place_in_the_picture(clip: Path) -> None:
    capture = open_capture(clip)
    settings = resolve("draft", profile="image")
    space = choose_space(capture.cameras, kind=settings.space)
    networks = networks_from_settings(fit(settings, capture.cameras, space).networks, space)
    rays = Views(capture.cameras, space).rays(np.arange(24 * 40))
    at = (rays.origins + 0.5 * rays.directions).reshape(24, 40, 3)
    np.testing.assert_allclose(np.diff(at[..., 0], axis=1), at[0, 1, 0] - at[0, 0, 0], rtol=1e-3)
    np.testing.assert_allclose(np.diff(at[..., 1], axis=0), at[1, 0, 1] - at[0, 0, 1], rtol=1e-3)
    np.testing.assert_allclose(at.mean((0, 1)), 0.5, atol=1e-5)
    # It fills the unit square, but for a margin.
    assert 0.95 < np.ptp(at[..., 0]) * 40 / 39 < 1
    assert 0.95 < -np.ptp(at[..., 1]) * 24 / 23 + 2 < 1.05
    assert networks.shown.profile.flat


def test_every_pixel_of_a_picture_is_trained_on() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    chosen = np.array([3, 17])
    assert FramePixels.gather([image], [None], chosen, reserve=False).valid_mask.all()
    assert np.flatnonzero(~FramePixels.gather([image], [None], chosen).valid_mask).tolist() == [3, 17]
    assert FramePixels.gather([image], [None], chosen, reserve=False).validation.tolist() == [3, 17]


def test_a_video_file_from_encode_to_picture(cli: Cli, clip: Path, tmp_path: Path) -> None:
    out, view = tmp_path / "out.inv", tmp_path / "view.png"
    assert cli("encode", clip, out, "--steps", 100, "--key-every", 3, "--threads", 1).code == 0
    info = json.loads(cli("info", out, "--json").out)
    assert [(network["profile"], network["space"]["kind"]) for network in info["networks"]] == [("image", "ndc")]
    assert info["frames"]["count"] == 4
    assert info["frames"]["key"] == 2
    assert cli("verify", out).code == 0
    captured = [frame.images[0] for frame in open_capture(clip).frames()]
    report = json.loads(cli("eval", out, clip, "--json").out)
    assert report["set"] == "training"
    for number in range(4):
        assert cli("decode", out, "--frame", number, "-o", view, "-f").code == 0
        decoded = np.asarray(Image.open(view))
        fidelity = psnr(decoded, captured[number])
        assert fidelity > 25
        assert all(psnr(decoded, other) < fidelity - 5 for i, other in enumerate(captured) if i != number)
        figures = report["frames"][number]["cameras"]["camera"]
        assert figures["psnr"] == pytest.approx(fidelity)
    # Enlarged, it is the same picture: a field between pixels, not pixels.
    assert cli("decode", out, "--frame", 3, "--pose", "camera", "--size", "80x48", "-o", view, "-f").code == 0
    enlarged = np.asarray(Image.open(view)).reshape(24, 2, 40, 2, 3).mean((1, 3))
    assert psnr(enlarged.astype(np.uint8), decoded) > 30
    file = reference.read(out.read_bytes())
    rgb, opacity, _ = reference.render(file, dict(reference.states(file))[3], file.head["cameras"][0])
    assert (np.abs(rgb.astype(int) - decoded) <= 1).mean() >= 0.995
    assert (opacity == 1).all()


def test_the_published_network_warms_up_and_then_moves_structure_alone(cli: Cli, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.inv"
    options = ("--preset", "paper", "--steps", 8, "--warmup", 1, "--frames", "0:3", "--threads", 1)
    assert cli("encode", clip, out, *options).code == 0
    states = []
    for number in range(3):
        weights = tmp_path / f"{number}.safetensors"
        assert cli("decode", out, "--frame", number, "--weights", weights).code == 0
        states.append(load_file(weights))
    moved = [{name for name in states[0] if (a[name] != b[name]).any()} for a, b in pairwise(states)]
    assert {"scene/layers.7.weight", "scene/rgb.weight"} <= moved[0]
    assert {name.split("/")[1].rpartition(".")[0] for name in moved[1]} == {"layers.0", "layers.1", "layers.2"}


def test_an_interrupted_encode_of_a_video_is_continued(cli: Cli, clip: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.inv", tmp_path / "part.inv"
    assert cli("encode", clip, whole, "--steps", 2, "--threads", 1).code == 0
    data = whole.read_bytes()
    second = json.loads(cli("info", whole, "--json", "--records").out)["records"][2]
    part.write_bytes(data[: second["offset"] + 30])
    assert cli("encode", clip, part, "--resume").code == 0
    assert part.read_bytes() == data


def test_what_is_no_single_video_is_refused(cli: Cli, clip: Path, capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.inv"
    text = tmp_path / "notes.txt"
    text.write_text("no video")
    for arguments, part in [
        ((clip, out, "--profile", "grid"), "1 camera(s) to train on, at least 2"),
        ((capture, out, "--profile", "image"), "profile 'image' is for the pictures of one camera"),
        ((clip, out, "--holdout", "camera"), "0 camera(s) left to train on, at least 1"),
        ((clip, out, "--source", "images"), "clip.mp4: is a video"),
        ((clip, out, "--layout", "n3dv"), "clip.mp4: not a directory, which layout 'n3dv' needs"),
        ((capture, out, "--layout", "clip"), "capture: is not a regular file"),
        ((text, out), "notes.txt: cannot be read as a video"),
        ((clip, out, "--frames", "7:9"), "it has frames 0:4"),
    ]:
        for name in ("encode", "inspect"):
            result = cli(name, *(arguments if name == "encode" else (arguments[0], *arguments[2:])))
            assert (result.code, part in result.err, result.err.count("\n")) == (2, True, 1), (arguments, result.err)
    assert not out.exists()


def test_inspect_speaks_of_pictures_and_not_of_a_rig(cli: Cli, clip: Path) -> None:
    shown = cli("inspect", clip, "--preset", "draft", "--threads", 1)
    assert shown.code == 0
    assert "layout clip, videos" in shown.out
    assert "the pictures of one camera" in shown.out
    assert "epipolar" not in shown.out
    assert "clip.mp4  40x24" in " ".join(shown.out.split("\n")).replace("   ", "  ")
    assert json.loads(cli("inspect", clip, "--preset", "draft", "--threads", 1, "--json").out)["flat"] is True


def test_cameras_of_a_rig_do_not_share_a_picture(tmp_path: Path, clip: Path) -> None:
    cameras = open_capture(clip).cameras * 2
    with pytest.raises(CaptureError, match="here are 2 cameras"):
        Encoder(tmp_path / "out.inv", cameras, resolve("draft", profile="image"))
