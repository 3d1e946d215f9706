"""A capture on disk as a live source."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

from invcodec.capture.capture import Capture, Frame
from invcodec.capture.live.source import LiveSource, Newest

_CACHE_BYTES = 256 << 20
"""Upper bound on the images kept in memory while a capture loops."""


class PlayedCapture(LiveSource):
    """A capture on disk, played back at its frame rate.

    Args:
        loop: start over at the end; frame numbers and times keep counting.
    """

    def __init__(self, capture: Capture, *, loop: bool = False) -> None:
        super().__init__(
            str(capture.folder),
            capture.cameras,
            capture.fps,
            capture.source_size,
            capture.downscale,
            transparent=capture.transparent,
            points=capture.points,
        )
        self._capture = capture
        self._loop = loop

    def _run(self, newest: Newest, stop: threading.Event) -> None:
        start = time.monotonic()
        for played, frame in enumerate(self._frames()):
            number = self._capture.numbers.start + played
            if stop.wait(max(0.0, start + float(played / self.fps) - time.monotonic())):
                return
            newest.put(Frame(number, number / self.fps, frame.images, frame.masks), time.time())

    def _frames(self) -> Iterator[Frame]:
        """The capture's frames; a looping capture that fits the cache is read only once."""
        held: list[Frame] = []
        left = _CACHE_BYTES if self._loop else 0
        while True:
            with closing(self._capture.frames()) as frames:
                for frame in frames:
                    left -= sum(image.nbytes for image in frame.images if image is not None)
                    if left >= 0:
                        held.append(frame)
                    yield frame
            if not self._loop:
                return
            while len(held) == len(self._capture.numbers):
                yield from held
            held.clear()
