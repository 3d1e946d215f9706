"""Pictures to video files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from invcodec.errors import InvError


def write_video(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: Fraction, *, crf: int = 12) -> int:
    """Encode frames `[H, W, 3]` uint8 to H.264 at a rational frame rate; returns how many there were.

    Chroma is not subsampled: at small sizes that costs several dB.
    """
    writer = None
    count = 0
    try:
        for frame in frames:
            if writer is None:
                height, width = frame.shape[:2]
                writer = imageio_ffmpeg.write_frames(
                    str(path),
                    (width, height),
                    fps=fps,
                    codec="libx264",
                    pix_fmt_in="rgb24",
                    pix_fmt_out="yuv444p",
                    quality=None,
                    macro_block_size=1,
                    output_params=["-crf", str(crf), "-preset", "medium"],
                )
                writer.send(None)
            writer.send(np.ascontiguousarray(frame))
            count += 1
    except OSError as error:
        raise InvError(f"{path}: the video could not be written ({error})") from None
    finally:
        if writer is not None:
            writer.close()
    if count and not Path(path).is_file():
        raise InvError(f"{path}: the video could not be written")
    return count
