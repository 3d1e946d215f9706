"""OpenEXR pictures: linear light, shown as sRGB in 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from invcodec import srgb
from invcodec.errors import CaptureError, InvError
from invcodec.extras import require
from invcodec.limits import MAX_IMAGE_SIDE
from invcodec.places import local

_MAGIC = b"\x76\x2f\x31\x01"
_MOST_PIXELS = 1 << 27
"""They take 16 bytes each while they are read."""
_PRIMARIES = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
"""Chromaticities x and y of red, green, blue and white in sRGB (ITU-R BT.709), which files have that name none."""


def is_exr(file: BinaryIO) -> bool:
    """Whether a file, open at its beginning, is one of OpenEXR's, whatever its name says."""
    magic = file.read(len(_MAGIC))
    file.seek(0)
    return magic == _MAGIC


def describe_exr(path: Path) -> tuple[int, int, bool]:
    """Width and height of a picture, and whether it has alpha; reads only the file's header.

    Raises:
        CaptureError: the file is broken, too large, or its channels are not those of a picture in sRGB's primaries.
        UsageError: OpenEXR is not installed.
    """
    header, _ = _parts(path, header_only=True)
    channels = header["channels"]
    if not {"R", "G", "B"} <= channels.keys() or any(c.xSampling * c.ySampling != 1 for c in channels.values()):
        raise CaptureError(
            f"{path}: holds channels {', '.join(sorted(channels)) or 'of no name'}; expected R, G, B and maybe A, "
            "all at full size"
        )
    primaries = header.get("chromaticities", _PRIMARIES)
    if not np.allclose(primaries, _PRIMARIES, atol=0.005):
        raise CaptureError(f"{path}: its primaries are not those of sRGB (BT.709); convert it to them")
    for name in ("dataWindow", "displayWindow"):
        (left, top), (right, bottom) = header[name]
        width, height = int(right) - int(left) + 1, int(bottom) - int(top) + 1
        if max(width, height) > MAX_IMAGE_SIDE or width * height > _MOST_PIXELS:
            raise CaptureError(
                f"{path}: its {name} is {width}x{height}, the limits are {MAX_IMAGE_SIDE} pixels per side and "
                f"{_MOST_PIXELS >> 20} million pixels"
            )
    return width, height, "A" in channels


def read_exr(path: Path) -> np.ndarray:
    """A picture as `[H, W, 3]` uint8, or `[H, W, 4]` with straight alpha.

    1.0 becomes white, and what is brighter is cut off; sRGB's transfer function (IEC 61966-2-1) brings linear light to
    8 bits. OpenEXR's alpha is premultiplied, in linear light.

    Raises:
        CaptureError, UsageError: as `describe_exr`.
    """
    width, height, alpha = describe_exr(path)
    header, found = _parts(path, separate_channels=True)
    (left, top), (shown_left, shown_top) = header["dataWindow"][0], header["displayWindow"][0]
    # What lies outside the data is black, and what lies outside the picture is not part of it.
    linear = np.zeros((height, width, 4 if alpha else 3), np.float32)
    for index in range(linear.shape[2]):
        pixels = found["RGBA"[index]].pixels
        y, x = int(top) - int(shown_top), int(left) - int(shown_left)
        inside = pixels[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)]
        linear[max(y, 0) : max(y, 0) + inside.shape[0], max(x, 0) : max(x, 0) + inside.shape[1], index] = inside
    np.nan_to_num(linear, copy=False, posinf=1.0, neginf=0.0)
    if alpha:
        linear[..., :3] /= np.maximum(linear[..., 3:], 1e-6)
    np.clip(linear, 0, 1, out=linear)
    colour = linear[..., :3]
    np.copyto(colour, srgb.from_linear(colour))
    return np.rint(255 * linear).astype(np.uint8)


def _parts(path: Path, **how: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and channels of a file's first part, as its library has them; the header's channels are by name."""
    OpenEXR = require("OpenEXR", "exr", f"{path}: reading OpenEXR needs its library")
    try:
        with local(path) as there:
            file = OpenEXR.File(str(there), **how)
        header, channels = file.header(), file.channels()
        return {**header, "channels": {each.name: each for each in header["channels"]}}, channels
    except (InvError, MemoryError):
        raise
    except Exception:
        # The binding raises errors of many kinds when a file is damaged.
        raise CaptureError(f"{path}: cannot be read as an image") from None
