"""Pictures to video files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter


class _Sink:
    """A file for FFmpeg to write to, which reports the first failure to us instead of to FFmpeg.

    On its way through FFmpeg an exception is lost when the video is closed, which writes once more.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell = file.seek, file.tell
        self._file = file
        self._error: Exception | None = None

    def write(self, data: bytes) -> int:
        if self._error is None:
            try:
                self._file.write(data)
            except Exception as error:
                self._error = error
        return len(data)

    def check(self) -> None:
        """Raise the error of the first write that failed."""
        if self._error is not None:
            raise self._error


def write_video(file: BinaryIO, frames: Iterable[np.ndarray], fps: Fraction, *, crf: int = 12) -> int:
    """Encode frames `[H, W, 3]` uint8 to H.264 at a rational frame rate; returns how many there were.

    Chroma is not subsampled: at small sizes that costs several dB. Colours are BT.709, and say so.

    Args:
        file: to write to; it must be able to seek. Without frames it stays empty.
    """
    count, convert, sink = 0, VideoReformatter(), _Sink(file)
    with ExitStack() as stack:
        for count, frame in enumerate(frames, 1):
            if count == 1:
                container = stack.enter_context(av.open(sink, "w", format="mp4"))
                stream = container.add_stream("libx264", fps, options={"crf": str(crf), "preset": "medium"})
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv444p"
                coder = stream.codec_context
                coder.colorspace, coder.color_range = Colorspace.ITU709, ColorRange.MPEG
                coder.color_primaries, coder.color_trc = ColorPrimaries.BT709, ColorTrc.IEC61966_2_1
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(
                stream.encode(
                    convert.reformat(
                        picture,
                        format="yuv444p",
                        dst_colorspace=Colorspace.ITU709,
                        dst_color_range=ColorRange.MPEG,
                        threads=1,
                    )
                )
            )
            sink.check()
        if count:
            container.mux(stream.encode(None))
    sink.check()
    return count
