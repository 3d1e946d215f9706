"""Reading and writing video and image files."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from files import full_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from invcodec.capture.video import VideoInfo, area_downscale, image_size, probe, read_image, read_video
from invcodec.errors import CaptureError, InvError
from invcodec.mp4 import write_video

SIZE = (18, 26)
COUNT = 12


def picture(number: int) -> np.ndarray:
    """A smooth picture, different for each number."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / 10
    waves = [np.sin(x + number), np.cos(y - 1.7 * number), np.sin(x + y + 2.3 * number)]
    return np.rint(127.5 + 100 * np.stack(waves, -1)).astype(np.uint8)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "waves.mp4"
    assert write_video(path, (picture(n) for n in range(COUNT)), Fraction(25, 2)) == COUNT
    return path


def nearest(image: np.ndarray) -> int:
    errors = [np.abs(image.astype(float) - picture(n)).mean() for n in range(COUNT)]
    assert min(errors) < 4
    return int(np.argmin(errors))


def test_a_video_reads_back_as_it_was_written(video: Path) -> None:
    info = probe(video)
    assert info == VideoInfo(SIZE[1], SIZE[0], Fraction(25, 2), COUNT)
    images = list(read_video(video, 0, info))
    assert [image.shape for image in images] == [(*SIZE, 3)] * COUNT
    assert [nearest(image) for image in images] == list(range(COUNT))


@pytest.mark.parametrize("first", [1, 5, COUNT - 1])
def test_a_video_reads_from_a_later_frame_on(video: Path, first: int) -> None:
    assert [nearest(image) for image in read_video(video, first, probe(video))] == list(range(first, COUNT))


def test_reading_a_video_can_stop_early(video: Path) -> None:
    reader = read_video(video, 3, probe(video))
    assert isinstance(reader, Iterator)
    assert nearest(next(reader)) == 3
    reader.close()
    assert list(reader) == []


def test_a_video_that_ends_early_says_where(video: Path) -> None:
    reader = read_video(video, COUNT - 2, VideoInfo(SIZE[1], SIZE[0], Fraction(25, 2), COUNT + 3))
    with pytest.raises(CaptureError, match=rf"waves\.mp4: ends after frame {COUNT - 1}, expected {COUNT + 3} frames"):
        list(reader)


def test_the_rate_of_ntsc_video_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "ntsc.mp4"
    write_video(path, (picture(n) for n in range(3)), Fraction(30000, 1001))
    assert probe(path).fps == Fraction(30000, 1001)


def test_late_frames_of_film_rate_video_are_found(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    count, first = 3200, 3150
    bits = 1 << np.arange(16)[:, None, None]
    write_video(
        path, ((np.broadcast_to((n & bits > 0) * 255, (16, 16, 3))).astype(np.uint8) for n in range(count)),
        Fraction(24000, 1001), crf=30,
    )  # fmt: skip
    reader = read_video(path, first, probe(path))
    image = next(reader)
    reader.close()
    assert int(((image.mean((1, 2)) > 128) * bits.ravel()).sum()) == first


def test_colour_is_kept_at_full_resolution(tmp_path: Path) -> None:
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    stripes[:, 1::2, 2] = 255
    path = tmp_path / "stripes.mp4"
    write_video(path, [stripes], Fraction(10), crf=4)
    # With subsampled chroma, every pixel would turn purple.
    assert np.abs(next(read_video(path, 0, probe(path))).astype(float) - stripes).mean() < 12


def test_odd_sizes_are_not_padded(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    write_video(path, [np.full((17, 23, 3), 90, np.uint8)], Fraction(10))
    info = probe(path)
    assert (info.width, info.height, info.frames) == (23, 17, 1)
    assert next(read_video(path, 0, info)).shape == (17, 23, 3)


def test_no_frames_make_no_video(tmp_path: Path) -> None:
    assert write_video(tmp_path / "none.mp4", [], Fraction(10)) == 0
    assert not (tmp_path / "none.mp4").exists()


def test_a_short_video_into_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvError, match=r"some\.mp4: the video cannot be written"):
        write_video(tmp_path / "missing" / "some.mp4", [picture(0)], Fraction(10))


def test_a_long_video_into_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    frames = (np.zeros((400, 400, 3), np.uint8) for _ in range(40))
    with pytest.raises(InvError, match=r"some\.mp4: the video cannot be written"):
        write_video(tmp_path / "missing" / "some.mp4", frames, Fraction(10))


def test_a_full_disk_is_an_error_that_names_the_video(tmp_path: Path) -> None:
    with pytest.raises(InvError, match=r"film\.mp4: the video cannot be written"), full_disk(1000):
        write_video(tmp_path / "x.mp4", (picture(n) for n in range(9)), Fraction(10), name="film.mp4")


def test_files_that_are_no_videos_are_named(video: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"gone\.mp4: no such video"):
        probe(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:-600])
    for name in ("text", "empty", "cut"):
        with pytest.raises(CaptureError, match=rf"{name}\.mp4: cannot be read as a video"):
            probe(tmp_path / f"{name}.mp4")


def test_pictures_of_every_kind(tmp_path: Path) -> None:
    rgba = np.arange(4 * 5 * 4, dtype=np.uint8).reshape(4, 5, 4)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(rgba[..., :3].copy()).save(tmp_path / "rgb.png")
    Image.fromarray(rgba[..., 0].copy()).save(tmp_path / "grey.png")
    Image.fromarray(rgba[..., 0] > 30).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), rgba)
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png"), rgba[..., :3])
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), rgba[..., [0, 0, 0]])
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[..., 1], 255 * (rgba[..., 0] > 30))
    # A palette with a transparent entry.
    palette = Image.fromarray(np.eye(4, dtype=np.uint8), mode="P")
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.save(tmp_path / "palette.png", transparency=1)
    expected = np.where(np.eye(4, dtype=bool)[..., None], [200, 100, 50, 0], [10, 20, 30, 255])
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), expected)


def test_files_that_are_no_pictures_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    (tmp_path / "text.png").write_text("not a picture")
    for read in (read_image, image_size):
        with pytest.raises(CaptureError, match=r"gone\.png: no such image"):
            read(tmp_path / "gone.png")
        with pytest.raises(CaptureError, match=r"text\.png: cannot be read as an image"):
            read(tmp_path / "text.png")
    with pytest.raises(CaptureError, match=r"cut\.png: cannot be read as an image"):
        read_image(tmp_path / "cut.png")
    # The header is intact, and nothing else is read.
    assert image_size(tmp_path / "cut.png") == (30, 20)


def slow_downscale(image: np.ndarray, factor: int) -> np.ndarray:
    height, width, channels = image.shape
    out = np.zeros((height // factor, width // factor, channels))
    for y in range(height // factor):
        for x in range(width // factor):
            total = np.zeros(channels)
            weight = 0
            for v in range(factor):
                for u in range(factor):
                    pixel = image[y * factor + v, x * factor + u].astype(int)
                    alpha = pixel[3] if channels == 4 else 1
                    total[:3] += alpha * pixel[:3]
                    weight += alpha
            out[y, x, :3] = total[:3] / weight if weight else 0
            if channels == 4:
                out[y, x, 3] = weight / factor**2
    return out


@given(st.integers(1, 4), st.integers(4, 13), st.integers(4, 13), st.sampled_from([3, 4]), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_area_downscale_against_slow_twin(factor: int, height: int, width: int, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if channels == 4:
        image[..., 3] *= rng.random((height, width)) < 0.5
    out = area_downscale(image, factor)
    assert out.dtype == np.uint8
    if factor == 1:
        np.testing.assert_array_equal(out, image)
    else:
        assert np.abs(out - slow_downscale(image, factor)).max(initial=0) <= 0.5 + 1e-3


def test_colours_behind_full_transparency_do_not_bleed() -> None:
    image = np.full((2, 2, 4), (0, 255, 0, 0), np.uint8)
    image[0, 0] = (200, 10, 20, 255)
    np.testing.assert_array_equal(area_downscale(image, 2), [[[200, 10, 20, 64]]])
