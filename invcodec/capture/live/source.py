"""Base of live sources: a background thread that fills a one-frame mailbox.

A consumer slower than the cameras always gets the latest frame; `Newest` keeps only that one.
"""

from __future__ import annotations

import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from invcodec.capture.capture import Frame, pixel_mask
from invcodec.capture.layouts.listing import CameraFiles
from invcodec.errors import CaptureError, InvWarning
from invcodec.geometry.camera import Camera

_SILENCE = 30.0
"""Seconds without a frame after which a source that has started counts as broken."""
_PATIENCE = 5.0
"""Seconds without a first frame after which a source says what it is waiting for."""


@dataclass(frozen=True)
class LiveFrame:
    """A frame in the mailbox.

    Attributes:
        arrived: time of its last image, in seconds as of `time.time`.
        received: number of frames put up to this one.
    """

    frame: Frame
    arrived: float
    received: int


class Newest:
    """A mailbox for one frame: a new frame replaces one that has not been taken.

    Attributes:
        received: number of frames put so far.
    """

    def __init__(self) -> None:
        self.received = 0
        self._frame: LiveFrame | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, frame: Frame, arrived: float) -> None:
        """Hold a frame whose last image arrived at this time, in seconds as of `time.time`."""
        with self._changed:
            self.received += 1
            self._frame = LiveFrame(frame, arrived, self.received)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Mark the end of the stream; a frame still held can be taken. Only the first call's error is kept."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self, silence: float | None = None) -> LiveFrame | None:
        """The latest frame, waiting until there is one; None once the stream has ended.

        Args:
            silence: seconds to wait before giving up, or None to wait indefinitely.

        Raises:
            TimeoutError: no frame arrived in time.
            CaptureError: the error that ended the stream.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._frame is not None or self._ended, silence):
                raise TimeoutError
            frame, self._frame = self._frame, None
            if frame is None and self._error is not None:
                raise self._error
            return frame


class LiveSource(ABC):
    """A source of frames that arrive in real time.

    Attributes:
        name: for messages.
        cameras: in order, at the size of the frames' images.
        fps: nominal frame rate.
        source_size: width and height of the first camera before downscaling.
        downscale: the factor that the images are shrunk by.
        transparent: whether images carry alpha, over a transparent background.
    """

    def __init__(
        self,
        name: str,
        cameras: Sequence[Camera],
        fps: Fraction,
        source_size: tuple[int, int],
        downscale: int,
        *,
        transparent: bool = False,
        points: np.ndarray | None = None,
    ) -> None:
        self.name = name
        self.cameras = tuple(cameras)
        self.fps = fps
        self.source_size = source_size
        self.downscale = downscale
        self.transparent = transparent
        self.points = points

    @abstractmethod
    def _run(self, newest: Newest, stop: threading.Event) -> None:
        """Put frames until the source ends or `stop` is set; runs in a thread of its own."""

    def waiting(self) -> str:
        """Why there is no frame, for messages."""
        return "no frame yet"

    @contextmanager
    def filming(self) -> Iterator[Newest]:
        """Run the source for as long as the context is open."""
        newest, stop = Newest(), threading.Event()

        def run() -> None:
            try:
                self._run(newest, stop)
            except BaseException as error:
                newest.end(error)
            else:
                newest.end()

        # A read may block forever; a daemon thread does not keep the program from exiting.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield newest
        finally:
            stop.set()
            thread.join(5)

    def take(self, newest: Newest, begun: bool) -> LiveFrame | None:
        """The latest frame, or None at the end; waits indefinitely for the first one (`begun` is False).

        Warns of what the first frame is waiting for, after 5 s and then ever more rarely.

        Raises:
            CaptureError: the source failed, or delivered nothing for too long after its first frame.
        """
        patience = _SILENCE if begun else _PATIENCE
        while True:
            try:
                return newest.take(patience)
            except TimeoutError:
                if begun:
                    raise CaptureError(f"{self.name}: no frame for {_SILENCE:g} s: {self.waiting()}") from None
            warnings.warn(f"{self.name}: waiting: {self.waiting()}", InvWarning, stacklevel=2)
            patience *= 2


def still_masks(files: Sequence[CameraFiles], downscale: int) -> list[np.ndarray | None]:
    """The mask of each live camera, `[H, W]` bool or None; it is the same for all frames."""
    return [pixel_mask(each.masks.get(None), each.camera, downscale) for each in files]
