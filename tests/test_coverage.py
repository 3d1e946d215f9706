"""What pictures leave empty: alpha that is a border or a matte, masks, and borders of one colour."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from PIL import Image

import invcodec
from invcodec.capture.capture import open_capture
from invcodec.capture.coverage import coverage, plain_border

HEIGHT, WIDTH = 120, 160
Y, X = np.mgrid[:HEIGHT, :WIDTH]
DX, DY = (X - WIDTH / 2 + 0.5) / (WIDTH / 2), (Y - HEIGHT / 2 + 0.5) / (HEIGHT / 2)


FILMED = {
    # Straight edges of what a lens filmed, undistorted: bent inwards, or outwards.
    "pincushion": np.maximum(np.abs(DX), np.abs(DY)) * (1.18 - 0.12 * (DX**2 + DY**2)) <= 1,
    "barrel": np.maximum(np.abs(DX), np.abs(DY)) * (0.85 + 0.15 * (DX**2 + DY**2)) <= 1,
    "letterbox": np.abs(DY) < 0.88,
    "pillarbox": np.abs(DX) < 0.9,
    "circle": DX**2 + DY**2 < 1.5,
    "frame": (np.abs(DX) < 0.97) & (np.abs(DY) < 0.96),
}


def scene(seed: int = 0, darkest: int = 0) -> np.ndarray:
    """A picture `[H, W, 3]` uint8 of coarse and fine texture, with black and white in it."""
    random = np.random.default_rng(seed)
    coarse = np.kron(random.integers(darkest, 256, (8, 10, 3)), np.ones((15, 16, 1)))
    return np.clip(coarse + random.normal(0, 6, (HEIGHT, WIDTH, 1)), 0, 255).astype(np.uint8)


def over(filmed: np.ndarray, picture: np.ndarray, colour: int = 0) -> np.ndarray:
    return np.where(filmed[..., None], picture, np.uint8(colour))


def jpeg(picture: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("store", [np.asarray, jpeg])
@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("kind", FILMED)
def test_borders_of_one_colour_are_found(kind: str, colour: int, store: Callable[[np.ndarray], np.ndarray]) -> None:
    filmed = FILMED[kind]
    assert 0.03 < np.mean(~filmed) < 0.2
    found = plain_border(store(over(filmed, scene(), colour)))
    assert found is not None
    # All of it, and little more.
    assert np.mean(found[~filmed]) > (0.999 if store is np.asarray else 0.9)
    assert np.mean(found[filmed]) < 0.12


GRADUAL = np.clip(255 * (1.35 - np.hypot(DX, DY)), 0, 255)[..., None].repeat(3, -1).astype(np.uint8)
PLAIN = {
    "no border": scene(),
    "all black": np.zeros((HEIGHT, WIDTH, 3), np.uint8),
    "night sky": over(DY > -0.7, scene(darkest=60)),
    "white sky": over(DY > -0.7 + 0.1 * DX, scene(darkest=60), 255),
    "dark floor and wall": over((DY < 0.8) & (DX < 0.85), scene(darkest=60)),
    "vignette": GRADUAL,
    "object before black": over(DX**2 + DY**2 < 0.8, scene(darkest=60)),
    "cushions": over((np.abs(DX) < 0.9) | (np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.3), scene()),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_what_belongs_to_the_scene_is_no_border(kind: str) -> None:
    assert plain_border(PLAIN[kind]) is None


def test_alpha_is_a_border_or_a_background() -> None:
    person = (np.hypot(DX, DY + 0.5) < 0.3) | ((np.abs(DX) < 0.5) & (DY > -0.1))
    for filmed in FILMED.values():
        found = coverage("alpha", [[filmed, filmed], [np.ones_like(filmed)] * 2])
        assert (found.told_by, found.empty) == ("alpha", "border")
        assert found.share == pytest.approx(np.mean(~filmed) / 2)
        # What changes is not what a lens left empty.
        assert coverage("alpha", [[filmed, np.roll(filmed, (9, 9), (0, 1))]]).empty == "background"
    assert coverage("alpha", [[person, person]]).empty == "background"
    assert coverage("alpha", [[FILMED["barrel"]] * 2, [person] * 2]).empty == "background"
    # A hole in the middle, and a scene that has not begun.
    assert coverage("alpha", [[np.hypot(DX, DY) > 0.2] * 2]).empty == "background"
    assert coverage("alpha", [[np.zeros_like(person)] * 2]).empty == "background"
    assert coverage("alpha", [[np.ones_like(person)] * 2]).empty == "nothing"


def with_alpha(folder: Path, filmed: np.ndarray, names: str = "*", value: int = 0) -> Path:
    """A capture of three cameras and two frames whose pictures are RGBA, with this alpha outside what was filmed."""
    frames = []
    for index, camera in enumerate(("left", "middle", "right")):
        (folder / camera).mkdir(parents=True)
        for number in range(2):
            alpha = np.where(filmed, 255, value).astype(np.uint8)
            picture = np.dstack([over(filmed, scene(index), 0), alpha])
            Image.fromarray(picture).save(folder / camera / f"{number}.png")
            pose = np.eye(4)
            pose[0, 3] = index
            row = {"file_path": f"{camera}/{number}.png", "frame_index": number, "transform_matrix": pose.tolist()}
            frames.append(row)
    (folder / "transforms.json").write_text(json.dumps({"fl_x": 200, "frames": frames}))
    return folder


def test_alpha_of_a_border_is_a_mask(tmp_path: Path) -> None:
    filmed = FILMED["barrel"]
    folder = with_alpha(tmp_path, filmed)
    capture = open_capture(folder)
    assert (capture.alpha, capture.transparent) == ("mask", False)
    for frame in capture.frames():
        for index, (image, mask) in enumerate(zip(frame.images, frame.masks, strict=True)):
            np.testing.assert_array_equal(image, over(filmed, scene(index)))
            assert not mask[~filmed].any()
            assert mask[filmed].all() or mask[filmed].mean() > 0.9
    # Shrunk, a pixel counts if all that it is made of was filmed.
    small = next(open_capture(folder, downscale=2).frames())
    whole = filmed.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).all((1, 3))
    assert small.images[0].shape == (HEIGHT // 2, WIDTH // 2, 3)
    assert not small.masks[0][~whole].any()


def test_what_alpha_means_can_be_said(tmp_path: Path) -> None:
    filmed = FILMED["barrel"]
    folder = with_alpha(tmp_path, filmed)
    matte = open_capture(folder, alpha="matte")
    frame = next(matte.frames())
    assert matte.transparent
    assert frame.masks == [None] * 3
    np.testing.assert_array_equal(frame.images[0][..., 3], np.where(filmed, 255, 0))
    frame = next(open_capture(folder, alpha="ignore").frames())
    assert frame.masks == [None] * 3
    np.testing.assert_array_equal(frame.images[0], over(filmed, scene(0)))


def test_opaque_alpha_is_no_background(tmp_path: Path) -> None:
    capture = open_capture(with_alpha(tmp_path, FILMED["frame"], value=255))
    assert capture.coverage.empty == "nothing"
    assert not capture.transparent
    assert next(capture.frames()).images[0].shape == (HEIGHT, WIDTH, 3)


def test_masks_are_a_matte_if_that_is_said(tmp_path: Path) -> None:
    folder = with_alpha(tmp_path, FILMED["frame"], value=255)
    for path in folder.glob("*/*.png"):
        Image.open(path).convert("RGB").save(path)
    grey = np.clip(255 * (1.2 - np.hypot(DX, DY)), 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(folder / "mask.png")
    data = json.loads((folder / "transforms.json").read_text())
    for row in data["frames"]:
        row["mask_path"] = "mask.png"
    (folder / "transforms.json").write_text(json.dumps(data))
    capture = open_capture(folder)
    assert (capture.alpha, capture.coverage.told_by, capture.coverage.empty) == ("mask", "masks", "background")
    np.testing.assert_array_equal(next(capture.frames()).masks[0], grey >= 128)
    matte = next(open_capture(folder, alpha="matte").frames())
    np.testing.assert_array_equal(matte.images[0][..., 3], grey)
    assert matte.masks == [None] * 3
    assert next(open_capture(folder, alpha="ignore").frames()).masks == [None] * 3


def test_a_plain_border_is_left_out_at_any_size(tmp_path: Path) -> None:
    filmed = FILMED["frame"]
    folder = with_alpha(tmp_path, filmed)
    for path in folder.glob("*/*.png"):
        Image.open(path).convert("RGB").save(path)
    for downscale in (1, 3):
        capture = open_capture(folder, downscale=downscale)
        assert all(border is not None for border in capture.borders)
        frames = list(capture.frames())
        for frame in frames:
            for mask in frame.masks:
                assert mask.shape == (HEIGHT // downscale, WIDTH // downscale)
                assert not mask[0].any()
                assert mask[HEIGHT // downscale // 2].mean() > 0.85
    assert next(open_capture(folder, alpha="ignore").frames()).masks == [None] * 3


@pytest.fixture
def bordered(capture: Path, tmp_path: Path) -> Path:
    """The shared capture, with alpha that leaves two columns on each side empty."""
    folder = tmp_path / "bordered"
    shutil.copytree(capture, folder)
    for path in folder.glob("frames/*/*.png"):
        picture = np.asarray(Image.open(path).convert("RGBA")).copy()
        picture[:, :2] = picture[:, -2:] = 0
        Image.fromarray(picture).save(path)
    return folder


def test_inspect_says_what_is_empty(cli: Cli, bordered: Path) -> None:
    found = json.loads(cli("inspect", bordered, "--json").out)
    assert (found["alpha"], found["coverage"]["told_by"], found["coverage"]["empty"]) == ("mask", "alpha", "border")
    assert found["coverage"]["share"] == pytest.approx(0.1)
    assert not found["transparent"]
    text = cli("inspect", bordered).out
    assert "alpha leaves a border, 10.0%: left out of training (--alpha matte" in text
    assert found["space"] == json.loads(cli("inspect", bordered, "--alpha", "ignore", "--json").out)["space"]
    said = json.loads(cli("inspect", bordered, "--alpha", "matte", "--json").out)
    assert said["space"]["kind"] == "box"
    assert "a transparent background (--alpha mask" in cli("inspect", bordered, "--alpha", "matte").out


def test_a_file_remembers_what_alpha_means(cli: Cli, bordered: Path, tmp_path: Path) -> None:
    measured = {}
    for alpha in ("mask", "ignore"):
        out = tmp_path / f"{alpha}.inv"
        chosen = ("--alpha", alpha) if alpha == "ignore" else ()
        assert cli("encode", bordered, out, *chosen, "--frames", "0:1", "--steps", 4, "--threads", 1).code == 0
        measured[alpha] = json.loads(cli("eval", out, bordered, "--validation", "--json").out)["validation"][0]
        # With other pixels, the encoder's own measurement would come out otherwise.
        assert measured[alpha]["psnr"] == pytest.approx(measured[alpha]["stored"], abs=0.01)
    assert measured["mask"] != measured["ignore"]


@pytest.mark.parametrize("alpha", ["matte", "ignore"])
def test_a_resumed_encode_goes_on_with_what_alpha_meant(cli: Cli, bordered: Path, tmp_path: Path, alpha: str) -> None:
    whole, part = tmp_path / "whole.inv", tmp_path / "part.inv"
    options = ("--alpha", alpha, "--frames", "0:2", "--steps", 4, "--threads", 1)
    assert cli("encode", bordered, whole, *options).code == 0
    with invcodec.open(whole) as video:
        part.write_bytes(whole.read_bytes()[: video.frames[1].entry.offset])
    assert cli("encode", bordered, part, "--resume").code == 0
    assert part.read_bytes() == whole.read_bytes()


def test_large_pictures_have_borders_to_the_pixel_or_little_more() -> None:
    picture = np.kron(scene(darkest=60), np.ones((20, 20, 1), np.uint8))
    height, width = picture.shape[:2]
    picture[:201] = picture[-199:] = 0
    found = plain_border(picture)
    assert found is not None
    assert found.shape == (height, width)
    assert found[:201].all()
    assert found[-199:].all()
    assert not found[220:-220].any()


def test_a_matte_needs_alpha_or_masks(cli: Cli, capture: Path, tmp_path: Path) -> None:
    result = cli("encode", capture, tmp_path / "out.inv", "--alpha", "matte")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "no alpha and no masks" in result.err
    assert not (tmp_path / "out.inv").exists()
