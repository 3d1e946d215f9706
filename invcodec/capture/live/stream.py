"""One live camera, read through ffmpeg."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

import imageio_ffmpeg
import numpy as np

from invcodec.capture.layouts.listing import CameraFiles, Stream
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera

_SHOWINFO = re.compile(rb"showinfo.* pts_time: *(\S+) .* s:(\d+)x(\d+)")


class StreamReader:
    """Reads one camera's images; an ffmpeg process of its own demuxes, decodes and downscales them.

    Args:
        files: the camera as declared, with its stream.
        camera: the camera after downscaling.
        loop: start over at the end, if the stream is a file.
    """

    def __init__(self, files: CameraFiles, camera: Camera, downscale: int, loop: bool) -> None:
        assert files.stream is not None
        self._stream: Stream = files.stream
        self._declared, self._camera = files.camera, camera
        self._stamps: SimpleQueue[float] = SimpleQueue()
        self._complaint = "delivers no video"
        self._wrong: str | None = None
        self._stopped = False
        self._process = subprocess.Popen(
            self._command(downscale, loop), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def _command(self, downscale: int, loop: bool) -> list[str]:
        url, options = self._stream.url, list(self._stream.options)
        if not options and re.fullmatch(r"/dev/video\d+", url):
            options = ["-f", "v4l2"]
        if os.path.isfile(url):
            # A file stands in for a camera, so it is read in real time.
            options += ["-re", *(("-stream_loop", "-1") if loop else ())]
        filters = "showinfo=checksum=0"
        if downscale > 1:
            width, height = self._camera.width * downscale, self._camera.height * downscale
            filters += f",crop='min(iw,{width})':'min(ih,{height})':0:0"
            filters += f",scale={self._camera.width}:{self._camera.height}:flags=area"
        # One thread: each further decoder thread delays output by a frame.
        return [
            imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-loglevel", "info", "-nostats",
            "-copyts", "-threads", "1", *options, "-i", url,
            "-map", "0:v:0", "-vf", filters, "-fps_mode", "passthrough",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-flush_packets", "1", "pipe:1",
        ]  # fmt: skip

    def start(self, take: Callable[[float, np.ndarray], None], end: Callable[[BaseException | None], None]) -> None:
        """Call `take` with each timestamp and image, and `end` once with the error if any, from other threads."""

        def run() -> None:
            error: BaseException | None = None
            try:
                self._read(take)
                complaints.join(5)
                if self._process.wait() and not self._stopped:
                    error = self._broken(self._wrong or self._complaint)
            except BaseException as raised:
                error = raised
            end(error)

        complaints = threading.Thread(target=self._listen, daemon=True)
        complaints.start()
        threading.Thread(target=run, daemon=True).start()

    def stop(self) -> None:
        self._stopped = True
        self._process.kill()
        self._process.wait()

    def _broken(self, why: str) -> CaptureError:
        return CaptureError(f"camera '{self._camera.name}' ({self._stream.url}): {why}")

    def _read(self, take: Callable[[float, np.ndarray], None]) -> None:
        assert self._process.stdout is not None
        width, height = self._camera.width, self._camera.height
        size = 3 * width * height
        while len(data := self._process.stdout.read(size)) == size:
            arrived = time.monotonic()
            try:
                # showinfo reports a frame before its pixels are written.
                stamp = self._stamps.get(timeout=5)
            except Empty:
                raise self._broken("ffmpeg reports no timestamps") from None
            if self._wrong:
                raise self._broken(self._wrong)
            image = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            take((arrived if self._stream.arrival else stamp) + self._stream.offset, image)
        if self._wrong:
            raise self._broken(self._wrong)

    def _listen(self) -> None:
        """Parse timestamps, image sizes and error messages from ffmpeg's standard error."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if shown := _SHOWINFO.search(line):
                stamp, width, height = shown.groups()
                size = (int(width), int(height))
                if size != (self._declared.width, self._declared.height):
                    self._wrong = (
                        f"its images are {size[0]}x{size[1]}, but its calibration is for "
                        f"{self._declared.width}x{self._declared.height}"
                    )
                try:
                    self._stamps.put(float(stamp))
                except ValueError:
                    self._wrong = self._wrong or "its frames have no timestamps; set 'clock' to \"arrival\""
                    self._stamps.put(0.0)
            elif b"rror" in line or b"No such" in line or b"Invalid" in line:
                self._complaint = line.decode(errors="replace").strip().split("] ", 1)[-1]
