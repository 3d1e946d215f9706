"""Pictures of OpenEXR: written by its own library, read as sRGB in 8 bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from invcodec.capture.capture import open_capture
from invcodec.capture.exr import describe_exr
from invcodec.capture.image import has_alpha, image_size, read_image
from invcodec.errors import CaptureError

OpenEXR = pytest.importorskip("OpenEXR")


def write(path: Path, channels: dict[str, np.ndarray], **header: Any) -> Path:
    described = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **header}
    with OpenEXR.File(described, channels) as file:
        file.write(str(path))
    return path


def linear(srgb: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values (IEC 61966-2-1), both in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


PICTURE = np.random.default_rng(0).integers(0, 256, (18, 26, 4), dtype=np.uint8)
PICTURE[0, 0, 3] = 0
LIGHT = linear(PICTURE[..., :3] / 255)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("compression", ["NO", "ZIP", "PIZ", "PXR24"])
def test_linear_light_becomes_srgb(kind: type, compression: str, tmp_path: Path) -> None:
    how = getattr(OpenEXR, f"{compression}_COMPRESSION")
    path = write(tmp_path / "a.exr", {"RGB": LIGHT.astype(kind)}, compression=how)
    assert (image_size(path), has_alpha(path)) == ((26, 18), False)
    np.testing.assert_array_equal(read_image(path), PICTURE[..., :3])


def test_alpha_is_premultiplied_and_becomes_straight(tmp_path: Path) -> None:
    alpha = PICTURE[..., 3:] / 255
    path = write(tmp_path / "a.png", {"RGBA": np.concatenate([LIGHT * alpha, alpha], -1).astype(np.float32)})
    assert has_alpha(path)
    found = read_image(path)
    np.testing.assert_array_equal(found[..., 3], PICTURE[..., 3])
    seen = PICTURE[..., 3] > 0
    np.testing.assert_array_equal(found[seen], PICTURE[seen])


def test_what_is_brighter_than_white_or_no_number_is_cut_off(tmp_path: Path) -> None:
    values = np.float32([7, -1, np.inf, -np.inf, np.nan, 0.5])
    path = write(tmp_path / "a.exr", {"RGB": values[None, :, None].repeat(3, 2).repeat(2, 0)})
    assert read_image(path)[0, :, 0].tolist() == [255, 0, 255, 0, 0, 188]


@pytest.mark.parametrize("shift", [(2, 3), (-2, -3), (5, -1)])
def test_data_that_is_not_of_the_whole_picture_lies_where_it_should(shift: tuple[int, int], tmp_path: Path) -> None:
    y, x = shift
    window = (np.int32([x, y]), np.int32([x + 25, y + 17]))
    path = write(
        tmp_path / "a.exr", {"RGB": LIGHT.astype(np.float32)},
        dataWindow=window, displayWindow=(np.int32([0, 0]), np.int32([21, 15])),
    )  # fmt: skip
    expected = np.zeros((60, 60, 3), np.uint8)
    expected[20 + y : 38 + y, 20 + x : 46 + x] = PICTURE[..., :3]
    np.testing.assert_array_equal(read_image(path), expected[20:36, 20:42])


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    grey = LIGHT[..., 0].astype(np.float32)
    depth = write(tmp_path / "depth.exr", {"Z": grey})
    camera = (0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767)
    wide = write(tmp_path / "wide.exr", {"RGB": LIGHT.astype(np.float32)}, chromaticities=camera)
    cut = tmp_path / "cut.exr"
    whole = write(cut, {"RGB": LIGHT.astype(np.float32)}).read_bytes()
    cut.write_bytes(whole[:-400])
    for path, reason in (
        (depth, r"depth\.exr: holds channels Z; expected R, G, B"),
        (wide, r"wide\.exr: its primaries are not those of sRGB"),
        (cut, r"cut\.exr: cannot be read as an image"),
    ):
        with pytest.raises(CaptureError, match=reason):
            read_image(path)


def test_a_picture_that_says_it_is_huge_is_refused_by_its_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.exr", {"RGB": LIGHT.astype(np.float32)})
    data = path.read_bytes()
    for name, reason in (
        ("displayWindow", "displayWindow is 30001x18"),
        ("dataWindow", "cannot be read|dataWindow is"),
    ):
        start = data.index(name.encode() + b"\0box2i\0") + len(name) + 7 + 4
        path.write_bytes(data[: start + 8] + np.int32(30000).tobytes() + data[start + 12 :])
        with pytest.raises(CaptureError, match=reason):
            describe_exr(path)


def test_a_capture_may_be_of_exr(capture: Path, tmp_path: Path) -> None:
    rows = json.loads((capture / "transforms.json").read_text())
    for row in rows["frames"]:
        picture = np.asarray(Image.open(capture / row["file_path"]).convert("RGB"))
        row["file_path"] = str(Path(row["file_path"]).with_suffix(".exr"))
        (tmp_path / row["file_path"]).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / row["file_path"], {"RGB": linear(picture / 255).astype(np.float16)})
    (tmp_path / "transforms.json").write_text(json.dumps(rows))
    for ours, theirs in zip(open_capture(tmp_path).frames(), open_capture(capture).frames(), strict=True):
        np.testing.assert_array_equal(ours.images, theirs.images)
