"""Frames as they come: of a rig of cameras, out of a pipe, or of a capture that is played in real time.

Whoever is slower than the cameras gets the newest frame and none of those before: `Newest` holds one.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO

import imageio_ffmpeg
import numpy as np

from invcodec.capture.capture import Capture, Frame, read_mask, rig_cameras
from invcodec.capture.layouts.listing import CameraFiles, Stream
from invcodec.capture.layouts.transforms import read_rig
from invcodec.capture.video import area_downscale
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera

_SILENCE = 30.0
"""Seconds without a frame after which a rig that has begun counts as broken."""
_APART = 2.0
"""Seconds for which a camera's images are kept until the others' of the same time are there."""
_CATCH_UP = 1.0
"""Seconds for which the other cameras are heard when one has ended."""
_HELD_BYTES = 256 << 20
"""Of images of a capture that is played again and again."""
_SAME_TIME = 0.5
"""Images belong together if their time stamps differ by at most this many frames."""
_ON_TIME = 0.05
"""A time stamp this close to a multiple of the frame time stands for it: containers round them."""


@dataclass(frozen=True)
class LiveFrame:
    """A frame, and when its last image arrived (seconds as of `time.time`)."""

    frame: Frame
    arrived: float


class Newest:
    """A place for one frame: what is put there replaces what was not taken.

    Attributes:
        received: frames put so far.
    """

    def __init__(self) -> None:
        self.received = 0
        self._frame: LiveFrame | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, frame: LiveFrame) -> None:
        with self._changed:
            self._frame = frame
            self.received += 1
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing comes any more; what is there can still be taken. The first reason counts."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self, silence: float | None = None) -> LiveFrame | None:
        """The newest frame, waited for if there is none yet; None after the last one.

        Args:
            silence: seconds after which to give up.

        Raises:
            TimeoutError: nothing came.
            CaptureError: why there are no more frames.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._frame is not None or self._ended, silence):
                raise TimeoutError
            frame, self._frame = self._frame, None
            if frame is None and self._error is not None:
                raise self._error
            return frame


class Source(ABC):
    """Cameras that film.

    Attributes:
        name: for messages.
        cameras: at the size of the frames' images.
        fps: nominal frame rate.
        source_size: width and height of the first camera before downscaling.
    """

    def __init__(
        self, name: str, cameras: Sequence[Camera], fps: Fraction, source_size: tuple[int, int], downscale: int
    ) -> None:
        self.name = name
        self.cameras = tuple(cameras)
        self.fps = fps
        self.source_size = source_size
        self.downscale = downscale

    @abstractmethod
    def _run(self, newest: Newest, stop: threading.Event) -> None:
        """Put frames until there are no more, or until `stop` is set; runs in a thread of its own."""

    def lagging(self) -> str:
        """What is waited for, for messages."""
        return self.name

    @contextmanager
    def filming(self) -> Iterator[Newest]:
        """Films as long as the context is open."""
        newest, stop = Newest(), threading.Event()

        def run() -> None:
            try:
                self._run(newest, stop)
            except BaseException as error:
                newest.end(error)
            else:
                newest.end()

        # What it reads from may block for ever, which must not keep the program from ending.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield newest
        finally:
            stop.set()
            thread.join(5)

    def take(self, newest: Newest, begun: bool) -> LiveFrame | None:
        """The newest frame; before the first one, waiting has no end.

        Raises:
            CaptureError: the rig fell silent, or broke.
        """
        try:
            return newest.take(_SILENCE if begun else None)
        except TimeoutError:
            raise CaptureError(f"{self.lagging()}: no frame for {_SILENCE:g} s") from None


class Played(Source):
    """A capture on disk, played at its frame rate.

    Args:
        loop: begin again at the end; frame numbers and times go on.
    """

    def __init__(self, capture: Capture, *, loop: bool = False) -> None:
        super().__init__(
            str(capture.folder), capture.cameras, capture.fps, capture.source_size, capture.downscale
        )  # fmt: skip
        self._capture = capture
        self._loop = loop

    def _run(self, newest: Newest, stop: threading.Event) -> None:
        start = time.monotonic()
        for played, frame in enumerate(self._frames()):
            number = self._capture.numbers.start + played
            if stop.wait(max(0.0, start + float(played / self.fps) - time.monotonic())):
                return
            newest.put(LiveFrame(Frame(number, number / self.fps, frame.images, frame.masks), time.time()))

    def _frames(self) -> Iterator[Frame]:
        """The capture's frames; if they are played again and again and fit, they are read once."""
        held: list[Frame] = []
        left = _HELD_BYTES if self._loop else 0
        while True:
            with closing(self._capture.frames()) as frames:
                for frame in frames:
                    left -= sum(image.nbytes for image in frame.images)
                    if left >= 0:
                        held.append(frame)
                    yield frame
            if not self._loop:
                return
            while len(held) == len(self._capture.numbers):
                yield from held
            held.clear()


class Raw(Source):
    """Raw RGB out of a pipe: for each frame the images of all cameras, in order, rows from the top, 3 bytes a pixel.

    Frames are numbered from 0; their times follow from the frame rate.
    """

    def __init__(self, path: Path, file: BinaryIO, *, downscale: int, holdout: Sequence[str] | None) -> None:
        listing = read_rig(path, streams=False)
        self._declared = [files.camera for files in listing.cameras]
        cameras = rig_cameras(self._declared, path, downscale=downscale, holdout=holdout)
        assert listing.fps is not None
        first = self._declared[0]
        super().__init__("stdin", cameras, listing.fps, (first.width, first.height), downscale)
        self._masks = _masks(listing.cameras, downscale)
        self._file = file

    def _run(self, newest: Newest, stop: threading.Event) -> None:
        total = sum(3 * camera.width * camera.height for camera in self._declared)
        number = 0
        while not stop.is_set() and (data := self._file.read(total)):
            if len(data) < total:
                raise CaptureError(f"stdin: ends inside frame {number}; a frame of this rig has {total} bytes")
            arrived, images, at = time.time(), [], 0
            for camera in self._declared:
                size = 3 * camera.width * camera.height
                image = np.frombuffer(data, np.uint8, size, at).reshape(camera.height, camera.width, 3)
                images.append(area_downscale(image, self.downscale))
                at += size
            newest.put(LiveFrame(Frame(number, number / self.fps, images, self._masks), arrived))
            number += 1


class Rig(Source):
    """Cameras that ffmpeg can read, brought together by their time stamps.

    Args:
        path: see `invcodec.capture.layouts.transforms.read_rig`.
        loop: let files begin again at their end.
    """

    def __init__(self, path: Path, *, downscale: int, holdout: Sequence[str] | None, loop: bool = False) -> None:
        listing = read_rig(path)
        self._files = listing.cameras
        declared = [files.camera for files in self._files]
        cameras = rig_cameras(declared, path, downscale=downscale, holdout=holdout)
        assert listing.fps is not None
        first = declared[0]
        super().__init__(str(path), cameras, listing.fps, (first.width, first.height), downscale)
        self._masks = _masks(self._files, downscale)
        self._loop = loop
        self._aligner = Aligner(len(cameras), self.fps)

    def lagging(self) -> str:
        late = [self.cameras[index].name for index in self._aligner.behind()]
        return f"{self.name}: camera {', '.join(late)}" if late else self.name

    def _run(self, newest: Newest, stop: threading.Event) -> None:
        lock, ends = threading.Lock(), SimpleQueue[BaseException | None]()

        def take(index: int, stamp: float, image: np.ndarray) -> None:
            with lock:
                moment = self._aligner.add(index, stamp, image, time.time())
            if moment is not None:
                frame = Frame(moment.number, moment.time, moment.images, self._masks)
                newest.put(LiveFrame(frame, moment.arrived))

        with ExitStack() as stack:
            for index, (files, camera) in enumerate(zip(self._files, self.cameras, strict=True)):
                reader = _StreamReader(files, camera, self.downscale, self._loop)
                stack.callback(reader.stop)
                reader.start(lambda stamp, image, index=index: take(index, stamp, image), ends.put)  # type: ignore[misc]
            left = len(self._files)
            # A moment needs all cameras, so it is over when one of them ends; the others get time to catch up.
            until: float | None = None
            while left and not stop.is_set() and (until is None or time.monotonic() < until):
                try:
                    error = ends.get(timeout=0.1)
                except Empty:
                    continue
                if error is not None:
                    raise error
                left -= 1
                until = until or time.monotonic() + _CATCH_UP


def _masks(files: Sequence[CameraFiles], downscale: int) -> list[np.ndarray | None]:
    paths = [each.masks.get(None) for each in files]
    return [
        None if path is None else read_mask(path, each.camera, downscale)
        for path, each in zip(paths, files, strict=True)
    ]


@dataclass(frozen=True)
class Moment:
    """Images `[H, W, 3]` of all cameras that were taken at the same time, and when the last one of them arrived."""

    number: int
    time: Fraction
    images: list[np.ndarray]
    arrived: float


class Aligner:
    """Brings together the images of several cameras by their time stamps.

    Time 0 is the earliest of the cameras' first images; a frame's number is its time in frames, rounded. The first
    camera sets the pace: others may be out of step with it by half a frame.

    Args:
        cameras: how many.
        fps: nominal.
    """

    def __init__(self, cameras: int, fps: Fraction) -> None:
        self.fps = fps
        self._held: list[deque[tuple[float, np.ndarray, float]]] = [
            deque(maxlen=max(8, math.ceil(_APART * fps))) for _ in range(cameras)
        ]
        self._first: list[float | None] = [None] * cameras
        self._last_number = -1

    def behind(self) -> list[int]:
        """The cameras whose newest images are the oldest: those that the others wait for."""
        newest = [held[-1][0] if held else -math.inf for held in self._held]
        return [index for index, stamp in enumerate(newest) if stamp == min(newest)]

    def add(self, camera: int, stamp: float, image: np.ndarray, arrived: float) -> Moment | None:
        """Take an image, whose time stamp is in seconds; gives the newest moment that it completes, if any."""
        self._held[camera].append((stamp, image, arrived))
        if self._first[camera] is None:
            self._first[camera] = stamp
        if not all(self._held) or None in self._first:
            return None
        zero = min(first for first in self._first if first is not None)
        for pace, _, _ in reversed(self._held[0]):
            found = [min(held, key=lambda each: abs(each[0] - pace)) for held in self._held]
            if all(abs(each[0] - pace) * self.fps <= _SAME_TIME + 1e-6 for each in found):
                break
        else:
            return None
        number = round((pace - zero) * self.fps)
        # What is older than this moment is of no use any more, and neither is the moment itself.
        for held in self._held:
            while held and held[0][0] <= pace:
                held.popleft()
        if number <= self._last_number:
            return None
        self._last_number = number
        exact = Fraction(round((pace - zero) * 1e6), 1_000_000)
        if abs(exact * self.fps - number) < _ON_TIME:
            exact = number / self.fps
        return Moment(number, exact, [each[1] for each in found], max(each[2] for each in found))


_SHOWN = re.compile(rb"showinfo.* pts_time: *(\S+) .* s:(\d+)x(\d+)")


class _StreamReader:
    """One camera's images, which ffmpeg reads, decodes and shrinks in a process of its own."""

    def __init__(self, files: CameraFiles, camera: Camera, downscale: int, loop: bool) -> None:
        assert files.stream is not None
        self._stream: Stream = files.stream
        self._declared, self._camera = files.camera, camera
        self._stamps: SimpleQueue[float] = SimpleQueue()
        self._complaint = "it gives no video"
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
            # A file stands for a camera, which takes its time.
            options += ["-re", *(("-stream_loop", "-1") if loop else ())]
        filters = "showinfo=checksum=0"
        if downscale > 1:
            width, height = self._camera.width * downscale, self._camera.height * downscale
            filters += f",crop='min(iw,{width})':'min(ih,{height})':0:0"
            filters += f",scale={self._camera.width}:{self._camera.height}:flags=area"
        # One thread: each further one would hold a frame back.
        return [
            imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-loglevel", "info", "-nostats",
            "-copyts", "-threads", "1", *options, "-i", url,
            "-map", "0:v:0", "-vf", filters, "-fps_mode", "passthrough",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-flush_packets", "1", "pipe:1",
        ]  # fmt: skip

    def start(self, take: Callable[[float, np.ndarray], None], end: Callable[[BaseException | None], None]) -> None:
        """Call `take` with each image and its time stamp, and `end` once, from other threads."""

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
                # ffmpeg says what comes before it comes.
                stamp = self._stamps.get(timeout=5)
            except Empty:
                raise self._broken("ffmpeg does not say when its frames were taken") from None
            if self._wrong:
                raise self._broken(self._wrong)
            image = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            take((arrived if self._stream.arrival else stamp) + self._stream.offset, image)
        if self._wrong:
            raise self._broken(self._wrong)

    def _listen(self) -> None:
        """Time stamps, sizes and complaints from standard error."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if shown := _SHOWN.search(line):
                stamp, width, height = shown.groups()
                size = (int(width), int(height))
                if size != (self._declared.width, self._declared.height):
                    self._wrong = (
                        f"its images have {size[0]}x{size[1]} pixels, but its calibration is for "
                        f"{self._declared.width}x{self._declared.height}"
                    )
                try:
                    self._stamps.put(float(stamp))
                except ValueError:
                    self._wrong = self._wrong or "its frames have no time stamps; set 'clock' to arrival"
                    self._stamps.put(0.0)
            elif b"rror" in line or b"No such" in line or b"Invalid" in line:
                self._complaint = line.decode(errors="replace").strip().split("] ", 1)[-1]
