"""Pictures of several cameras without a calibration: what there is to calibrate, and nothing to encode.

Not one of the layouts that are recognised.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from invcodec.capture.layouts.calibration import camera_names, with_pictures
from invcodec.capture.layouts.listing import Layout, Listing
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera
from invcodec.geometry.rig import MIN_TRAINING_CAMERAS
from invcodec.limits import MAX_CAMERAS
from invcodec.names import Source

NAME = "uncalibrated"


def read(folder: Path, source: Source | None) -> Listing:
    if not folder.is_dir():
        raise CaptureError(f"{folder}: {'is not a directory' if folder.exists() else 'no such directory'}")
    # Beside videos there may be pictures that are none of a camera, such as a plot of the rig.
    kinds: tuple[Source, ...] = (source,) if source else ("videos", "images")
    found = {kind: camera_names(folder, kind) for kind in kinds}
    kind = next((kind for kind in kinds if len(found[kind]) >= MIN_TRAINING_CAMERAS), None)
    if kind is None:
        one = next((names[0] for names in found.values() if names), None)
        pictures = source or "pictures"
        expected = " or ".join({"videos": "a video", "images": "a folder of images"}[kind] for kind in kinds)
        raise CaptureError(
            f"{folder}: has {f'{pictures} of one camera ({one})' if one else f'no {pictures} of cameras'}; "
            f"expected {expected} for each of at least {MIN_TRAINING_CAMERAS} cameras"
        )
    if len(found[kind]) > MAX_CAMERAS:
        raise CaptureError(f"{folder}: has {kind} of {len(found[kind])} cameras, the limit is {MAX_CAMERAS}")
    # Nothing is known of them but names: of pictures that may lie outside of the folder, not even the size is read.
    cameras = [Camera(name, 1, 1, 1.0, 1.0, 0.5, 0.5, np.eye(3, 4)) for name in found[kind]]
    return replace(with_pictures(folder, folder, cameras, kind), uncalibrated=True)


LAYOUT = Layout(lambda folder: [], read, "videos or folders of images", None)
