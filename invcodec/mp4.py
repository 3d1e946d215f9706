"""Pictures to video files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from invcodec.errors import InvError


def write_video(
    path: Path, frames: Iterable[np.ndarray], fps: Fraction, *, crf: int = 12, name: str | None = None
) -> int:
    """Encode frames `[H, W, 3]` uint8 to H.264 at a rational frame rate; returns how many there were.

    Chroma is not subsampled: at small sizes that costs several dB.

    Args:
        path: of the file, which is overwritten.
        name: of the file in messages, in place of its path.

    Raises:
        InvError: it cannot be written.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        return 0
    height, width = first.shape[:2]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-nostdin", "-v", "error", "-xerror"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}", "-framerate", str(fps)]
    command += ["-i", "pipe:0", "-an", "-c:v", "libx264", "-pix_fmt", "yuv444p", "-crf", str(crf), "-preset", "medium"]
    # A path with a colon would be taken for the address of another protocol.
    command += ["-f", "mp4", f"file:{path}"]
    count = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as ffmpeg:
        assert ffmpeg.stdin is not None
        assert ffmpeg.stderr is not None
        try:
            for frame in chain([first], frames):
                ffmpeg.stdin.write(np.ascontiguousarray(frame).data)
                count += 1
            ffmpeg.stdin.close()
        except BrokenPipeError:
            # It has ended early, and says why.
            with suppress(BrokenPipeError):
                ffmpeg.stdin.close()
        except BaseException:
            ffmpeg.kill()
            raise
        said = ffmpeg.stderr.read().decode(errors="replace").splitlines()
    if ffmpeg.returncode or not path.stat().st_size:
        reason = said[-1].rpartition("] ")[2] if said else "ffmpeg failed"
        raise InvError(f"{name or path}: the video cannot be written ({reason})")
    return count
