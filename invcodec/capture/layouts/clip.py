"""One video file: a clip of a single camera, which has no poses and needs none.

Its camera stands at the origin of its world, at a distance from the picture that equals the picture's longer side.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from invcodec.capture.layouts.listing import CameraFiles, Layout, Listing
from invcodec.capture.video import probe
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera
from invcodec.names import Source

_NAME = "camera"


def files(path: Path) -> list[Path]:
    return [path] if path.is_file() else []


def read(path: Path, source: Source | None) -> Listing:
    if source == "images":
        raise CaptureError(f"{path}: is a video; omit --source or use --source videos")
    video = probe(path)
    size = video.width, video.height
    camera = Camera(_NAME, *size, max(size), max(size), video.width / 2, video.height / 2, np.eye(3, 4))
    return Listing((CameraFiles(camera, video=path),), None, "videos", flat=True)


LAYOUT = Layout(files, read, "one video file", None)
