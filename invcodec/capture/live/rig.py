"""A rig of live cameras as a live source."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np

from invcodec.capture.capture import Frame, rig_cameras
from invcodec.capture.layouts.transforms import read_rig
from invcodec.capture.live.align import Aligner
from invcodec.capture.live.source import LiveSource, Newest, still_masks
from invcodec.capture.live.stream import StreamReader
from invcodec.errors import CaptureError

_APART = 1.0
"""Seconds by which clocks, and not only delays, differ."""
_CATCH_UP = 1.0
"""Seconds for which the other cameras are still read once one has ended."""


class CameraRig(LiveSource):
    """Cameras that FFmpeg can read, matched by timestamp.

    Args:
        path: a rig's JSON file (`invcodec.capture.layouts.transforms.read_rig`).
        loop: start files over at their end.
    """

    def __init__(self, path: Path, *, downscale: int, holdout: Sequence[str] | None, loop: bool = False) -> None:
        listing = read_rig(path)
        self._files = listing.cameras
        declared = [files.camera for files in self._files]
        cameras = rig_cameras(declared, path, downscale=downscale, holdout=holdout)
        assert listing.fps is not None
        first = declared[0]
        super().__init__(str(path), cameras, listing.fps, (first.width, first.height), downscale)
        self._masks = still_masks(self._files, downscale)
        self._loop = loop
        self._aligner = Aligner(len(cameras), self.fps)

    def waiting(self) -> str:
        if missing := self._aligner.missing():
            return f"no image yet from camera {self._listed(missing)}"
        late, seconds = self._aligner.behind()
        if seconds < _APART:
            return f"no images of the same time; camera {self._listed(late)} is last, by {seconds:.2g} s"
        return (
            f"no images of the same time, as the clock of camera {self._listed(late)} is {seconds:.4g} s behind; "
            "set its 'offset', or 'clock' to \"arrival\" for all"
        )

    def _listed(self, cameras: Sequence[int]) -> str:
        return ", ".join(self.cameras[index].name for index in cameras)

    def _run(self, newest: Newest, stop: threading.Event) -> None:
        lock, ends = threading.Lock(), SimpleQueue[BaseException | None]()

        def take(index: int, stamp: float, image: np.ndarray) -> None:
            with lock:
                synced = self._aligner.add(index, stamp, image, time.time())
            if synced is not None:
                frame = Frame(synced.number, synced.time, synced.images, self._masks)
                newest.put(frame, synced.arrived)

        with ExitStack() as stack:
            for index, (files, camera) in enumerate(zip(self._files, self.cameras, strict=True)):
                reader = StreamReader(files, camera, self.downscale, self._loop)
                stack.callback(reader.stop)
                reader.start(lambda stamp, image, index=index: take(index, stamp, image), ends.put)  # type: ignore[misc]
            left = len(self._files)
            # A frame needs all cameras, so the recording is over when one ends; the others get time to catch up.
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
        if not (newest.received or stop.is_set()):
            raise CaptureError(f"{self.name}: ended, with {self.waiting()}")
