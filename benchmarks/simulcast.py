"""The alternative without a radiance field: the training cameras' videos, each encoded separately as AV1."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
from bjontegaard import rate_at
from common import complete

from invcodec.capture.capture import Capture
from invcodec.metrics import psnr

# Full range and exact conversion both ways, so that AV1 causes all of the loss.
_SCALE = "flags=lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"
_INTO = f"scale=in_range=pc:out_range=pc:out_color_matrix=bt709:{_SCALE}"
_BACK = f"scale=in_range=pc:out_range=pc:in_color_matrix=bt709:{_SCALE}"
_FILE, _FRAME = 32, struct.Struct("<IQ")
"""IVF: size of the file header in bytes; header of each frame (bytes and time)."""


@dataclass(frozen=True)
class Encoder:
    """An AV1 encoder at slow settings, with one keyframe and look-ahead over the whole clip."""

    name: str
    options: tuple[str, ...]


ENCODERS = (
    # 4:4:4 gains 2 to 4 dB over 4:2:0 at such sizes; delta-q off saves 2 %; slower speeds gave no further gain.
    Encoder(
        "libaom, 4:4:4 10 bit",
        ("-c:v", "libaom-av1", "-cpu-used", "2", "-pix_fmt", "yuv444p10le", "-lag-in-frames", "35", "-b:v", "0")
        + ("-aom-params", "deltaq-mode=0"),
    ),
    Encoder(
        "SVT-AV1, 4:2:0 10 bit",
        ("-c:v", "libsvtav1", "-preset", "2", "-pix_fmt", "yuv420p10le", "-svtav1-params", "tune=1"),
    ),
)


def read_views(capture: Capture) -> list[list[np.ndarray]]:
    """All frames `[H, W, 3]` uint8 of each training camera."""
    views: list[list[np.ndarray]] = [[] for _ in capture.training]
    for frame in capture.frames():
        for view, index in zip(views, capture.training, strict=True):
            view.append(complete(frame)[index][..., :3])
    return views


def measure(views: Sequence[Sequence[np.ndarray]], rate: Fraction, encoder: Encoder, crf: int) -> dict[str, Any]:
    """Encode and decode every view.

    Returns:
        Bytes of AV1 frames alone (no container) over all views: of the first frame, of a later one (mean), and of all;
        and PSNR as of `invcodec eval`, mean over images.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(lambda view: _one(view, rate, encoder, crf), views))
    sizes = np.sum([sizes for sizes, _ in done], 0)
    return {
        "encoder": encoder.name,
        "crf": crf,
        "key_bytes": int(sizes[0]),
        "later_bytes_mean": float(sizes[1:].mean()) if len(sizes) > 1 else None,
        "file_bytes": int(sizes.sum()),
        "frames": len(sizes),
        "training_psnr": float(np.mean([quality for _, quality in done])),
    }


def _one(frames: Sequence[np.ndarray], rate: Fraction, encoder: Encoder, crf: int) -> tuple[list[int], float]:
    """Bytes of each frame of one view in coding order, keyframe first, and its PSNR."""
    height, width = frames[0].shape[:2]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    data = _ffmpeg(
        [*raw, "-s", f"{width}x{height}", "-r", str(rate), "-i", "-", "-vf", _INTO]
        + ["-color_range", "pc", "-colorspace", "bt709", *encoder.options]
        + ["-g", "9999", "-crf", str(crf), "-threads", "1", "-f", "ivf", "-"],
        b"".join(frame.tobytes() for frame in frames),
    )
    sizes, position = [], _FILE
    while position < len(data):
        sizes.append(_FRAME.unpack_from(data, position)[0])
        position += _FRAME.size + sizes[-1]
    back = _ffmpeg(["-f", "ivf", "-i", "-", "-vf", _BACK, *raw, "-"], data)
    decoded = np.frombuffer(back, np.uint8).reshape(-1, height, width, 3)
    if not len(decoded) == len(sizes) == len(frames):
        raise ValueError(f"{encoder.name}: {len(frames)} frames went in, {len(decoded)} came back")
    return sizes, float(np.mean([psnr(a, b) for a, b in zip(frames, decoded, strict=True)]))


def _ffmpeg(arguments: Sequence[str], data: bytes) -> bytes:
    # Only benchmarks need it, for libaom: PyAV comes without.
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *arguments]
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        raise SystemExit(f"ffmpeg failed: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout


def beside(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Compare one of our files, as measured by `rate.py`, with AV1 at the same training-view PSNR (interpolated).

    Returns:
        By encoder, `key_bytes`, `later_bytes` and `bytes_per_frame` (None outside the measured range), and `smaller`:
        for which numbers of frames our file is smaller, if both continue as after the warm-up.
    """
    result = {}
    for encoder in dict.fromkeys(point["encoder"] for point in rows):
        points = [point for point in rows if point["encoder"] == encoder]
        key, later, total = (
            rate_at([(point[name], point["training_psnr"]) for point in points if point[name]], row["training_psnr"])
            for name in ("key_bytes", "later_bytes_mean", "file_bytes")
        )
        found, each = None, row["later_bytes_mean"]
        if key is not None and later is not None and each is not None:
            found = smaller(row["file_bytes"] - (row["frames"] - 1) * each, each, key, later)
        result[encoder] = {
            "key_bytes": key,
            "later_bytes": later,
            "bytes_per_frame": None if total is None else total / row["frames"],
            "smaller": found,
        }
    return result


def smaller(ours: float, our_later: float, theirs: float, their_later: float) -> str:
    """Numbers of frames for which our file is no larger, in words, given bytes of the first and of a later frame."""
    first, each = theirs - ours, their_later - our_later
    if first < 0:
        return f"from {1 + ceil(-first / each)} frames on" if each > 0 else "never"
    return "always" if each >= 0 else f"up to {1 + floor(first / -each)} frames"
