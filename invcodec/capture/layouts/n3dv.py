"""Neural 3D Video: `camNN.mp4` and `poses_bounds.npy`, whose row i belongs to the i-th video in natural order.

As in LLFF, a row holds a 3x5 matrix (3x4 camera-to-world with columns down, right, back, then height, width, focal
length) and the near and far depth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from invcodec.capture.layouts.calibration import natural
from invcodec.capture.layouts.listing import CameraFiles, Layout, Listing, existing
from invcodec.errors import CaptureError
from invcodec.geometry.camera import MAX_NUMBER, Camera, check_pose
from invcodec.geometry.convention import LLFF
from invcodec.names import Source
from invcodec.places import local

_POSES = "poses_bounds.npy"


def files(folder: Path) -> list[Path]:
    return existing(folder, _POSES)


def read(folder: Path, source: Source | None) -> Listing:
    path = folder / _POSES
    if source == "images":
        raise CaptureError(f"{folder}: this layout has videos only; omit --source or use --source videos")
    try:
        # Mapped, a header that claims more than the file holds costs no memory.
        with local(path) as file, np.errstate(over="raise"):
            rows = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such file") from None
    except Exception:
        # A damaged header raises errors of many kinds.
        raise CaptureError(f"{path}: not a readable .npy file") from None
    if not isinstance(rows, np.ndarray):
        raise CaptureError(f"{path}: not a readable .npy file")
    if rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind not in "fiu":
        raise CaptureError(f"{path}: has shape {rows.shape}, expected one row of 17 numbers per camera")
    videos = sorted(folder.glob("*.mp4"), key=lambda path: natural(path.stem))
    if len(videos) != len(rows):
        raise CaptureError(
            f"{folder}: {len(videos)} videos but {len(rows)} poses in {_POSES}; "
            "expected one row per video, in the order of the sorted file names"
        )
    cameras: list[CameraFiles] = []
    for row, video in zip(rows.astype(np.float64), videos, strict=True):
        where = f"{path}: row {len(cameras)} ({video.name})"
        if not (np.abs(row) < MAX_NUMBER).all():
            raise CaptureError(f"{where}: the pose or its bounds contain values that are not finite, or too large")
        matrix = row[:15].reshape(3, 5)
        height, width, focal = matrix[:, 4]
        near, far = row[15:]
        if not 1 / MAX_NUMBER < near < far:
            raise CaptureError(f"{where}: bounds {near:g} to {far:g} are not a range of depths in front of the camera")
        if min(height, width, focal) <= 1 / MAX_NUMBER:
            raise CaptureError(f"{where}: height, width and focal length must be positive")
        pose = check_pose(np.stack([matrix[:, 1], -matrix[:, 0], matrix[:, 2], matrix[:, 3]], 1), where)
        cameras.append(
            CameraFiles(
                Camera(
                    video.stem,
                    round(width),
                    round(height),
                    focal,
                    focal,
                    width / 2,
                    height / 2,
                    pose,
                    near=near,
                    far=far,
                ),
                video=video,
            )
        )
    return Listing(tuple(cameras), None, "videos", rescale=True)


LAYOUT = Layout(files, read, f"camNN.mp4 and {_POSES}", LLFF)
