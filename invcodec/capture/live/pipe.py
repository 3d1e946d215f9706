"""Raw frames from a pipe as a live source."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from invcodec.capture.capture import Frame, rig_cameras
from invcodec.capture.image import area_downscale
from invcodec.capture.layouts.transforms import read_rig
from invcodec.capture.live.source import LiveSource, Newest, still_masks
from invcodec.errors import CaptureError


class RawPipe(LiveSource):
    """Raw RGB from a pipe: each frame holds the images of all cameras in order, top row first, 3 bytes per pixel.

    Frames are numbered from 0; their times follow from the frame rate.

    Args:
        path: a rig's JSON file (`read_rig`).
        file: to read from.
    """

    def __init__(self, path: Path, file: BinaryIO, *, downscale: int, holdout: Sequence[str] | None) -> None:
        listing = read_rig(path, streams=False)
        self._declared = [files.camera for files in listing.cameras]
        cameras = rig_cameras(self._declared, path, downscale=downscale, holdout=holdout)
        assert listing.fps is not None
        first = self._declared[0]
        super().__init__("stdin", cameras, listing.fps, (first.width, first.height), downscale)
        self._masks = still_masks(listing.cameras, downscale)
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
            newest.put(Frame(number, number / self.fps, images, self._masks), arrived)
            number += 1
