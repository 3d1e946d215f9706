"""Reading video and image files."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from invcodec.errors import CaptureError

# It would log to standard error that ffmpeg is stopped early, which is intended.
logging.getLogger("imageio_ffmpeg").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class VideoInfo:
    """Size in pixels, frame rate and number of frames of a video file."""

    width: int
    height: int
    fps: Fraction
    frames: int


@cache
def probe(path: Path) -> VideoInfo:
    """Size, rate and length of a video file; its frames are counted, not estimated.

    Raises:
        CaptureError: the file is missing or is not a readable video.
    """
    if not path.is_file():
        raise CaptureError(f"{path}: no such video")
    try:
        frames, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
        with closing(imageio_ffmpeg.read_frames(str(path))) as reader:
            meta = next(reader)
    except (OSError, RuntimeError, StopIteration):
        raise CaptureError(f"{path}: cannot be read as a video (broken or not a video file)") from None
    width, height = meta["source_size"]
    fps = _exact_rate(meta["fps"])
    if frames < 1 or fps <= 0:
        raise CaptureError(f"{path}: holds no frames")
    return VideoInfo(width, height, fps, frames)


def _exact_rate(printed: float) -> Fraction:
    """The exact frame rate behind the two decimals that ffmpeg prints: 29.97 is 30000/1001."""
    whole = math.ceil(printed)
    ntsc = Fraction(1000 * whole, 1001)
    if printed != whole and abs(printed - ntsc) <= 0.005 + 1e-9:
        return ntsc
    return Fraction(printed).limit_denominator(1001)


def read_video(path: Path, first: int, info: VideoInfo) -> Iterator[np.ndarray]:
    """Yield frames `[H, W, 3]` uint8 from number `first` on.

    Raises:
        CaptureError: the video ends before its last frame.
    """
    # Seeking to half a frame before the wanted one is safe against rounding of times.
    seek = ["-ss", f"{(first - 0.5) / info.fps:.6f}"] if first else []
    reader = imageio_ffmpeg.read_frames(
        str(path), pix_fmt="rgb24", input_params=seek, output_params=["-fps_mode", "passthrough"]
    )
    with closing(reader):
        next(reader)
        number = first
        for data in reader:
            yield np.frombuffer(data, np.uint8).reshape(info.height, info.width, 3)
            number += 1
            if number == info.frames:
                return
    raise CaptureError(f"{path}: ends after frame {number - 1}, expected {info.frames} frames")


def read_image(path: Path) -> np.ndarray:
    """An image file as `[H, W, 3]` uint8, or `[H, W, 4]` with straight alpha if it has transparency.

    Raises:
        CaptureError: missing, or not an image.
    """
    with _opened(path) as image:
        alpha = "A" in image.getbands() or "transparency" in image.info
        return np.asarray(image.convert("RGBA" if alpha else "RGB"))


def has_alpha(path: Path) -> bool:
    """Whether `read_image` would return four channels; reads only the file's header."""
    with _opened(path) as image:
        return "A" in image.getbands() or "transparency" in image.info


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file; reads only its header."""
    with _opened(path) as image:
        return image.size


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such image") from None
    except (OSError, SyntaxError, ValueError):
        raise CaptureError(f"{path}: cannot be read as an image") from None


def area_downscale(image: np.ndarray, factor: int) -> np.ndarray:
    """Mean of each `factor` x `factor` block of `[H, W, C]` uint8; colours are weighted by their alpha.

    Rows and columns beyond a multiple of the factor are cropped.
    """
    if factor == 1:
        return image
    height, width = (n // factor * factor for n in image.shape[:2])
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor, -1).astype(np.float32)
    if image.shape[2] == 4:
        alpha = blocks[..., 3:]
        total = alpha.sum((1, 3))
        colour = (blocks[..., :3] * alpha).sum((1, 3)) / np.maximum(total, 1)
        mean = np.concatenate([colour, total / factor**2], -1)
    else:
        mean = blocks.mean((1, 3))
    return np.rint(mean).astype(np.uint8)
