"""Reading and writing video and image files."""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import zlib
from collections.abc import Generator, Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from files import full_disk, save_video
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from invcodec.capture.image import area_downscale, has_alpha, image_size, read_image
from invcodec.capture.layouts.listing import CameraFiles, Stream
from invcodec.capture.live.stream import StreamReader
from invcodec.capture.video import Upright, probe, read_video
from invcodec.errors import CaptureError, InvError
from invcodec.geometry.camera import Camera
from invcodec.mp4 import write_video
from invcodec.output import written

SIZE = (18, 26)
COUNT = 12


def picture(number: int) -> np.ndarray:
    """A smooth picture, different for each number."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / 10
    waves = [np.sin(x + number), np.cos(y - 1.7 * number), np.sin(x + y + 2.3 * number)]
    return np.rint(127.5 + 100 * np.stack(waves, -1)).astype(np.uint8)


def coded(path: Path, frames: Iterable[av.VideoFrame], codec: str, *, rotation: int = 0, **options: str) -> Path:
    """A video of frames that have time stamps, in milliseconds."""
    with av.open(path, "w") as container:
        for index, frame in enumerate(frames):
            if index == 0:
                stream = container.add_stream(codec, 10, options=options)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
                coder = stream.codec_context
                coder.colorspace, coder.color_range = frame.colorspace, frame.color_range
                if rotation:
                    stream.set_display_rotation(rotation)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def at(milliseconds: int, image: np.ndarray) -> av.VideoFrame:
    """A frame to show at a time."""
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv444p", threads=1)
    frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
    return frame


def images(path: Path, first: int = 0, stop: int | None = None) -> Generator[np.ndarray]:
    info = probe(path)
    return read_video(info, range(first, info.length(info.fps) if stop is None else stop), info.fps)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "waves.mp4"
    save_video(path, (picture(n) for n in range(COUNT)), Fraction(25, 2))
    return path


def nearest(image: np.ndarray) -> int:
    errors = [np.abs(image.astype(float) - picture(n)).mean() for n in range(COUNT)]
    assert min(errors) < 4
    return int(np.argmin(errors))


def test_a_video_reads_back_as_it_was_written(video: Path) -> None:
    info = probe(video)
    assert (info.width, info.height, info.fps) == (SIZE[1], SIZE[0], Fraction(25, 2))
    assert (info.stamps * info.tick).tolist() == [n / Fraction(25, 2) for n in range(COUNT)]
    read = list(images(video))
    assert [image.shape for image in read] == [(*SIZE, 3)] * COUNT
    assert [nearest(image) for image in read] == list(range(COUNT))


@pytest.mark.parametrize("first", [1, 5, COUNT - 1])
def test_a_video_reads_from_a_later_frame_on(video: Path, first: int) -> None:
    assert [nearest(image) for image in images(video, first)] == list(range(first, COUNT))


def test_reading_a_video_can_stop_early(video: Path) -> None:
    reader = images(video, 3)
    assert nearest(next(reader)) == 3
    reader.close()
    assert list(reader) == []


def test_a_video_without_some_of_the_frames_has_gaps(video: Path) -> None:
    found = list(images(video, COUNT - 2, COUNT + 3))
    assert [nearest(image) for image in found[:2]] == [COUNT - 2, COUNT - 1]
    assert found[2:] == [None] * 3
    assert list(images(video, COUNT + 5, COUNT + 7)) == [None] * 2


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv", "b.ts"])
def test_frames_are_found_whatever_the_container_and_the_order_of_coding(name: str, tmp_path: Path) -> None:
    pictures = (at(80 * n, picture(n)) for n in range(COUNT))
    path = coded(tmp_path / name, pictures, "libx264", crf="12", bf="3", g="6", **{"x264-params": "open-gop=1"})
    assert [nearest(image) for image in images(path)] == list(range(COUNT))
    for first in range(COUNT):
        assert nearest(next(images(path, first))) == first


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_a_late_frame_is_decoded_from_shortly_before_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = coded(tmp_path / name, (at(80 * n, picture(n)) for n in range(150)), "libx264", crf="12", bf="3", g="20")
    in_order = list(images(path))[140:]
    decoded = 0

    class Counting:
        """An open video whose decoded frames are counted."""

        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def __enter__(self) -> Counting:
            self._container.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self._container.__exit__(*error)

        def decode(self, stream: Any) -> Generator[av.VideoFrame]:
            nonlocal decoded
            for frame in self._container.decode(stream):
                decoded += 1
                yield frame

    opened = av.open
    monkeypatch.setattr(av, "open", lambda *given, **more: Counting(opened(*given, **more)))
    np.testing.assert_array_equal(list(images(path, 140)), in_order)
    assert decoded < 75


def test_frames_of_a_varying_rate_are_read_by_their_times(tmp_path: Path) -> None:
    # Intervals of 30 to 45 ms, and one frame that was dropped.
    times = [0, 30, 75, 110, 140, 180, 220, 300, 335, 375, 410, 450]
    path = coded(tmp_path / "phone.mkv", (at(t, picture(n)) for n, t in enumerate(times)), "libx264", crf="12")
    info = probe(path)
    even = [b - a for a, b in pairwise(times) if b - a < 60]
    assert info.fps == pytest.approx(1000 * len(even) / sum(even), rel=1e-3)
    shown = [nearest(image) for image in images(path, 0, 7)]
    assert shown == [min(range(COUNT), key=lambda i: abs(times[i] - 1000 * n / info.fps)) for n in range(7)]
    assert nearest(next(images(path, 9))) == 8
    assert [number for number, image in enumerate(images(path)) if image is None] == [7]


def test_times_that_jitter_do_not_change_the_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = [round(1000 * n / 30 + rng.uniform(-5, 5)) for n in range(90)]
    path = coded(tmp_path / "jitter.mkv", (at(10 + t, picture(n % COUNT)) for n, t in enumerate(times)), "libx264")
    info = probe(path)
    assert (round(info.fps), info.length(Fraction(30))) == (30, 90)
    assert [nearest(image) for image in images(path, 80, 84)] == [n % COUNT for n in range(80, 84)]


CORNERS = np.zeros((12, 20, 3), np.uint8)
CORNERS[:6, :10], CORNERS[:6, 10:], CORNERS[6:, :10] = (200, 40, 40), (40, 200, 40), (40, 40, 200)


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("factor", [1, 3])
def test_videos_are_turned_upright(degrees: int, factor: int, tmp_path: Path) -> None:
    path = coded(tmp_path / "phone.mp4", [at(0, CORNERS)], "libx264", rotation=degrees, crf="1")
    upright = np.rot90(CORNERS, degrees // 90)
    info = probe(path)
    assert (info.height, info.width) == upright.shape[:2]
    assert np.abs(next(images(path)).astype(int) - upright).max() < 8
    with av.open(path) as container:
        small = Upright("phone", factor)(next(container.decode(video=0)))
    assert np.abs(small.astype(int) - area_downscale(upright, factor)).max() < 12


def test_mirrored_videos_and_slanted_ones(tmp_path: Path) -> None:
    def turned(name: str, *matrix: int) -> Path:
        path = tmp_path / name
        data = coded(path, [at(0, CORNERS)], "libx264", rotation=90, crf="1").read_bytes()
        old, new = (struct.pack(">9i", *m, 0, 0, 1 << 30) for m in (NINETY, (matrix[0], matrix[1], 0, *matrix[2:], 0)))
        assert data.count(old) == 1
        path.write_bytes(data.replace(old, new))
        return path

    one = 1 << 16
    NINETY = (0, -one, 0, one, 0, 0)
    for (a, b, c, d), expected in {
        (-one, 0, 0, one): CORNERS[:, ::-1],
        (one, 0, 0, -one): CORNERS[::-1],
        (0, one, one, 0): CORNERS.transpose(1, 0, 2),
        (0, -one, -one, 0): CORNERS.transpose(1, 0, 2)[::-1, ::-1],
    }.items():
        assert np.abs(next(images(turned(f"{a}{b}{c}{d}.mp4", a, b, c, d))).astype(int) - expected).max() < 8
    with pytest.raises(CaptureError, match=r"slant\.mp4: is to be shown at 45 degrees, supported are right angles"):
        probe(turned("slant.mp4", 46341, -46341, 46341, 46341))


@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601, Colorspace.BT2020])
@pytest.mark.parametrize("span", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize("depth", [8, 10])
def test_colours_follow_the_stated_matrix_range_and_depth(
    matrix: Colorspace, span: ColorRange, depth: int, tmp_path: Path
) -> None:
    colours = np.random.default_rng(0).integers(20, 236, (4, 6, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    # The definition: luma is a weighted sum, chroma the scaled distance of blue and of red from it.
    red, blue = {Colorspace.ITU709: (0.2126, 0.0722), Colorspace.ITU601: (0.299, 0.114)}.get(matrix, (0.2627, 0.0593))
    rgb = colours / 255
    luma = rgb @ (red, 1 - red - blue, blue)
    chroma = [(rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)]
    top = 2**depth - 1 if span == ColorRange.JPEG else 255 * 2 ** (depth - 8)
    low, luma_span, chroma_span = (0, 1, 1) if span == ColorRange.JPEG else (16 / 255, 219 / 255, 224 / 255)
    middle = 2 ** (depth - 1)
    planes = [top * (low + luma_span * luma), *(middle + top * chroma_span * each for each in chroma)]
    kind = np.uint8 if depth == 8 else np.uint16
    frame = av.VideoFrame(24, 16, "yuv444p" if depth == 8 else "yuv444p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(plane, kind).reshape(16, -1).copy()
        rows[:, :24] = np.rint(values)
        plane.update(rows.tobytes())
    frame.pts, frame.time_base, frame.colorspace, frame.color_range = 0, Fraction(1, 1000), matrix, span
    path = coded(tmp_path / "colours.mkv", [frame], "ffv1")
    assert np.abs(next(images(path)).astype(int) - colours).max() <= 2


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx265", {"x265-params": "log-level=none:pools=1"}),
        ("libsvtav1", {"preset": "8", "svtav1-params": "lp=1"}),
    ],
)
@pytest.mark.parametrize("span", [ColorRange.MPEG, ColorRange.JPEG])
def test_hevc_and_av1_of_10_bits_keep_their_colours(
    codec: str, options: dict[str, str], span: ColorRange, tmp_path: Path
) -> None:
    y, x = np.mgrid[:64, :96]
    colours = np.stack([40 + 2 * x, 60 + 2 * y, 200 - x], -1).astype(np.uint8)
    frames = []
    for number in range(4):
        frame = av.VideoFrame.from_ndarray(colours, format="rgb24").reformat(
            format="yuv420p10le", dst_colorspace=Colorspace.ITU709, dst_color_range=span
        )
        frame.pts, frame.time_base = 100 * number, Fraction(1, 1000)
        frame.colorspace, frame.color_range = Colorspace.ITU709, span
        frames.append(frame)
    read = list(images(coded(tmp_path / "phone.mkv", frames, codec, crf="8", **options)))
    assert len(read) == 4
    for image in read:
        # Another range is off by 10.
        assert np.abs(image.astype(int) - colours).mean() < 4


def test_the_rate_of_ntsc_video_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "ntsc.mp4"
    save_video(path, (picture(n) for n in range(3)), Fraction(30000, 1001))
    assert probe(path).fps == Fraction(30000, 1001)


def test_late_frames_of_film_rate_video_are_found(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    count, first = 3200, 3150
    bits = 1 << np.arange(16)[:, None, None]
    save_video(
        path, ((np.broadcast_to((n & bits > 0) * 255, (16, 16, 3))).astype(np.uint8) for n in range(count)),
        Fraction(24000, 1001), crf=30,
    )  # fmt: skip
    image = next(images(path, first))
    assert int(((image.mean((1, 2)) > 128) * bits.ravel()).sum()) == first


def test_colour_is_kept_at_full_resolution(tmp_path: Path) -> None:
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    stripes[:, 1::2, 2] = 255
    path = tmp_path / "stripes.mp4"
    save_video(path, [stripes], 10, crf=4)
    # With subsampled chroma, every pixel would turn purple.
    assert np.abs(next(images(path)).astype(float) - stripes).mean() < 12


def test_odd_sizes_are_not_padded(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    save_video(path, [np.full((17, 23, 3), 90, np.uint8)], 10)
    info = probe(path)
    assert (info.width, info.height, len(info.stamps)) == (23, 17, 1)
    assert next(images(path)).shape == (17, 23, 3)


def test_no_frames_make_no_video() -> None:
    file = io.BytesIO()
    assert write_video(file, [], Fraction(10)) == 0
    assert file.getvalue() == b""


@pytest.mark.parametrize("size", [0, 1000, 5000])
def test_a_full_disk_is_an_error_that_names_the_video(
    size: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, noise = tmp_path / "film.mp4", np.random.default_rng(0).integers(0, 256, (100, 64, 64, 3), np.uint8)
    with pytest.raises(InvError, match=r"film\.mp4: cannot be written"), full_disk(size), written(path, False) as out:
        write_video(out.file, noise, Fraction(10))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_files_that_are_no_videos_are_named(video: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"gone\.mp4: no such video"):
        probe(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:-600])
    for name, words in (("text", "cannot be read as"), ("empty", "cannot be read as"), ("cut", "holds no")):
        with pytest.raises(CaptureError, match=rf"{name}\.mp4: {words}"):
            probe(tmp_path / f"{name}.mp4")
    (tmp_path / "codec.mp4").write_bytes(video.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(CaptureError, match=r"codec\.mp4: holds no video that can be decoded"):
        probe(tmp_path / "codec.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(CaptureError, match=r"pipe\.mp4: is not a regular file"):
        probe(tmp_path / "pipe.mp4")


def test_names_are_never_addresses_and_playlists_are_no_videos(video: Path, tmp_path: Path) -> None:
    shutil.copy(video, tmp_path / "concat:a|b.mp4")
    assert len(probe(tmp_path / "concat:a|b.mp4").stamps) == COUNT
    odd = tmp_path / os.fsdecode(b"n\xff.mp4")
    shutil.copy(video, odd)
    assert nearest(next(images(odd, 5))) == 5
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://{address}/a.ts\n")
        (tmp_path / "script.mp4").write_text(f"ffconcat version 1.0\nfile {video}\n")
        for name in ("list", "script"):
            with pytest.raises(CaptureError, match="cannot be read as a video"):
                probe(tmp_path / f"{name}.mp4")
        with pytest.raises(BlockingIOError):
            server.accept()


def test_titles_in_any_encoding_are_ignored(video: Path, tmp_path: Path) -> None:
    data = video.read_bytes()
    # The name of libavformat's handler, which every mp4 has.
    assert data.count(b"VideoHandler") == 1
    path = tmp_path / "latin-1.mp4"
    path.write_bytes(data.replace(b"VideoHandler", b"Vid\xe9oHandler"))
    assert nearest(next(images(path, 5))) == 5
    stream = Stream(f"file:{path}", played=True)
    camera = Camera("cam", probe(path).width, probe(path).height, 9.0, 9.0, 1.0, 1.0, np.eye(3, 4))
    assert len(list(StreamReader(CameraFiles(camera, stream=stream), camera, 1, False)._frames())) == COUNT


def test_videos_without_times_are_refused(tmp_path: Path) -> None:
    pictures = [at(100 * n, picture(n)) for n in range(6)]
    for reordered in ("2", "0"):
        with pytest.raises(
            CaptureError, match=r"x\.avi: its frames have no times, or the same ones; convert it to mp4"
        ):
            probe(coded(tmp_path / "x.avi", pictures, "libx264", bf=reordered))


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    save_video(path, (picture(n) for n in range(COUNT)), 10, crf=1)
    data = bytearray(path.read_bytes())
    with av.open(path) as container:
        packets = sorted((packet.pos, packet.size, packet.pts) for packet in container.demux(video=0) if packet.size)
    start, size, _ = packets[len(packets) // 2]
    data[start : start + size] = bytes(255 for _ in range(size))
    path.write_bytes(data)
    with pytest.raises(CaptureError, match=r"damaged\.mp4: "):
        list(images(path))


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


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
def test_grey_of_16_bits_is_rounded_to_8(name: str, tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 257], [32768, 65000, 65406, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), np.rint(deep / 257)[..., None].repeat(3, 2))
    assert not has_alpha(tmp_path / name)


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_of_16_bits_keeps_the_upper_8(
    channels: int, compression: str | None, planes: str, tmp_path: Path
) -> None:
    tifffile = pytest.importorskip("tifffile")
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30, channels), dtype=np.uint16)
    stored = deep if planes == "contig" else np.moveaxis(deep, -1, 0)
    tifffile.imwrite(
        tmp_path / "deep.tif", stored, photometric="rgb", planarconfig=planes, compression=compression,
        extrasamples=["unassalpha"] * (channels - 3),
    )  # fmt: skip
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif"), deep >> 8)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_values_of_unknown_range_are_refused(kind: type, tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 3), kind)).save(tmp_path / "raw.tiff")
    for read in (read_image, image_size):
        with pytest.raises(CaptureError, match=r"raw\.tiff: holds .* values, .*; convert it to 8 or 16 bits"):
            read(tmp_path / "raw.tiff")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"{orientation}.{suffix}"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(CORNERS).save(path, exif=exif, **{"jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {}))
    # Exif 2.32, 4.6.4: on which side of the picture row 0 and column 0 are.
    turned = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud}
    turned |= {5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 3), 8: np.rot90}
    turned |= {7: lambda a: np.rot90(a, 2).transpose(1, 0, 2)}
    upright = turned[orientation](CORNERS)
    assert image_size(path) == upright.shape[1::-1]
    error = np.abs(read_image(path).astype(int) - upright)
    assert error.mean() < 12 if suffix == "webp" else error.max() < 12


def test_pictures_beyond_the_limits_are_refused(tmp_path: Path) -> None:
    def header(width: int, height: int) -> bytes:
        Image.new("L", (1, 1)).save(tmp_path / "big.png")
        data = bytearray((tmp_path / "big.png").read_bytes())
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        return bytes(data)

    for width, height, words in ((16385, 2, "is 16385x2, the limit is 16384"), (16384, 16384, "has too many pixels")):
        (tmp_path / "big.png").write_bytes(header(width, height))
        for read in (read_image, image_size, has_alpha):
            with pytest.raises(CaptureError, match=rf"big\.png: {words}"):
                read(tmp_path / "big.png")


def test_files_that_are_no_pictures_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    (tmp_path / "text.png").write_text("not a picture")
    # Pillow would have Ghostscript run this.
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_image, image_size):
        with pytest.raises(CaptureError, match=r"gone\.png: no such image"):
            read(tmp_path / "gone.png")
        with pytest.raises(CaptureError, match=r"pipe\.png: is not a regular file"):
            read(tmp_path / "pipe.png")
        for name in ("text", "script"):
            with pytest.raises(CaptureError, match=rf"{name}\.png: cannot be read as an image"):
                read(tmp_path / f"{name}.png")
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
