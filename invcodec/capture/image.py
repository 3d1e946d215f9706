"""Reading image files, and shrinking images."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from invcodec.capture.exr import describe_exr, is_exr, read_exr
from invcodec.errors import CaptureError, InvError
from invcodec.limits import MAX_IMAGE_SIDE
from invcodec.places import exists, is_file

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM", "TGA", "GIF", "JPEG2000")
"""What Pillow may take a file for, whatever its name says. Others start programs (EPS) or hold no pictures."""
_SIDEWAYS = (5, 6, 7, 8)
"""Values of Exif's Orientation that swap width and height."""
# What is wrong with a picture is an error or nothing; Pillow also warns, of large ones and of tags nobody asked for.
warnings.filterwarnings("ignore", module=r"PIL\b")
# Pillow's own reader takes planes of 16 bits for planes of 8.
TiffImagePlugin.READ_LIBTIFF = True


def read_image(path: Path) -> np.ndarray:
    """An image file as `[H, W, 3]` uint8, or `[H, W, 4]` with straight alpha if it has transparency.

    Turned as its Exif orientation says. Of 16 bits per channel, the upper 8 are kept; OpenEXR's linear light becomes
    sRGB.

    Raises:
        CaptureError: missing, not an image, too large, or of more than 16 bits per channel but for OpenEXR.
        UsageError: OpenEXR's library is not installed.
    """
    with _opened(path) as image:
        if image is None:
            return read_exr(path)
        image.load()
        shown = ImageOps.exif_transpose(image)
        if shown.mode.startswith("I;16"):
            grey = ((np.asarray(shown).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
            return np.repeat(grey[..., None], 3, 2)
        return np.asarray(shown.convert("RGBA" if _transparent(shown) else "RGB"))


def has_alpha(path: Path) -> bool:
    """Whether `read_image` would return four channels; reads only the file's header."""
    with _opened(path) as image:
        return describe_exr(path)[2] if image is None else _transparent(image)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file as `read_image` returns it; reads only its header."""
    with _opened(path) as image:
        if image is None:
            return describe_exr(path)[:2]
        width, height = image.size
        # Pillow turns TIFFs itself. Asking others for tags that the header lacks would decode all of the image.
        tagged = image.format != "TIFF" and not {"exif", "xmp"}.isdisjoint(image.info)
        sideways = tagged and image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
        return (height, width) if sideways else (width, height)


def _transparent(image: Image.Image) -> bool:
    return not image.mode.startswith("I;16") and ("A" in image.getbands() or "transparency" in image.info)


def check_file(path: Path, kind: str) -> None:
    """Check that a path from a capture, which may be any text, is a regular file.

    Raises:
        CaptureError: it is not, or there is none; says of which kind it should be.
    """
    if not is_file(path):
        raise CaptureError(f"{path}: {'is not a regular file' if exists(path) else f'no such {kind}'}")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image | None]:
    """A picture, of which only the header has been read; None if it is one of OpenEXR's."""
    check_file(path, "image")
    try:
        with path.open("rb") as file:
            if is_exr(file):
                yield None
                return
            with Image.open(file, formats=_FORMATS) as image:
                if max(image.size) > MAX_IMAGE_SIDE:
                    raise CaptureError(
                        f"{path}: is {image.width}x{image.height}, the limit is {MAX_IMAGE_SIDE} pixels per side"
                    )
                if image.mode in ("F", "I"):
                    raise CaptureError(
                        f"{path}: holds {'floating-point' if image.mode == 'F' else '32-bit'} values, whose range is "
                        "not known; convert it to 8 or 16 bits per channel"
                    )
                yield image
    except (InvError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise CaptureError(f"{path}: has too many pixels ({error})") from None
    except Exception:
        # Pillow's decoders raise errors of many kinds when a file is damaged.
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
