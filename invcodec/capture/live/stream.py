"""One live camera, read through FFmpeg."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import av
import numpy as np

from invcodec.capture.layouts.listing import CameraFiles, Stream
from invcodec.capture.video import Upright, best_video, upright_size
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera


class StreamReader:
    """Reads one camera's images, in a thread of its own that demuxes, decodes and downscales them.

    Args:
        files: the camera as declared, with its stream.
        camera: the camera after downscaling.
        loop: start over at the end, if the stream is a file.
    """

    def __init__(self, files: CameraFiles, camera: Camera, downscale: int, loop: bool) -> None:
        assert files.stream is not None
        self._stream: Stream = files.stream
        self._declared, self._camera = files.camera, camera
        self._upright = Upright(f"camera '{camera.name}'", downscale)
        self._loop = loop and self._stream.played
        self._stopped = threading.Event()

    def start(self, take: Callable[[float, np.ndarray], None], end: Callable[[BaseException | None], None]) -> None:
        """Call `take` with each timestamp and image, and `end` once with the error if any, from another thread."""

        def run() -> None:
            try:
                self._read(take)
            except (av.FFmpegError, OSError) as error:
                end(None if self._stopped.is_set() else self._broken(error.strerror or str(error)))
            except BaseException as error:
                end(error)
            else:
                end(None)

        # A read may block for as long as a camera is silent; a daemon thread does not keep the program from exiting.
        threading.Thread(target=run, daemon=True).start()

    def stop(self) -> None:
        """End reading with the next image."""
        self._stopped.set()

    def _broken(self, why: str) -> CaptureError:
        return CaptureError(f"camera '{self._camera.name}' ({self._stream.url}): {why}")

    def _read(self, take: Callable[[float, np.ndarray], None]) -> None:
        began: float | None = None
        for stamp, frame in self._frames():
            if self._stream.played:
                began = time.monotonic() - stamp if began is None else began
                self._stopped.wait(max(0.0, began + stamp - time.monotonic()))
            if self._stopped.is_set():
                return
            arrived = time.monotonic()
            width, height = upright_size(frame)
            if (width, height) != (self._declared.width, self._declared.height):
                raise self._broken(
                    f"its images are {width}x{height}, but its calibration is for "
                    f"{self._declared.width}x{self._declared.height}"
                )
            take((arrived if self._stream.arrival else stamp) + self._stream.offset, self._upright(frame))

    def _frames(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Decoded frames and their timestamps in seconds; those of a looping file go on rising."""
        shift = 0.0
        while True:
            first = before = stamp = None
            for frame in self._decoded():
                if frame.time is None and not self._stream.arrival:
                    raise self._broken("its frames have no timestamps; set 'clock' to \"arrival\"")
                before, stamp = stamp, frame.time or 0.0
                first = stamp if first is None else first
                yield stamp + shift, frame
            if first is None or stamp is None:
                raise self._broken("delivers no video")
            if not self._loop:
                return
            # The first frame follows the last one as that followed the one before.
            shift += 2 * stamp - first - before if before is not None else 1.0

    def _decoded(self) -> Iterator[av.VideoFrame]:
        camera = self._stream
        with av.open(
            camera.url, "r", format=camera.format, options=dict(camera.options), metadata_errors="replace"
        ) as container:
            stream = best_video(container)
            if stream is None:
                raise self._broken("delivers no video")
            # Each further decoder thread delays output by a frame.
            stream.codec_context.thread_count = 1
            yield from container.decode(stream)
