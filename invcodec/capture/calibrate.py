"""Calibrates a capture that has nothing but its pictures, and writes what it finds beside them.

Nothing in pictures tells where up is and how large the world is. Up is the direction that the cameras' horizontal axes
are most nearly at right angles to, which is true of cameras that were put up level. The origin is the middle of the
cameras, and the farthest of them is one unit away. y points up and the rig looks along -z.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from invcodec.capture.capture import Capture, Frame, open_as
from invcodec.capture.image import read_image
from invcodec.capture.layouts import transforms, uncalibrated
from invcodec.capture.structure import ENOUGH_MATCHES, Counted, Structure, reconstruct, require_colmap
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera
from invcodec.geometry.camera_json import camera_entry
from invcodec.geometry.fitting import narrowed
from invcodec.geometry.rig import upright
from invcodec.names import Source
from invcodec.output import check_output, written

_INSTANTS = 3
"""How many instants are pooled if none are chosen."""
_SIDE = 1000
"""Pictures are shrunk by an integer as long as their longer side keeps this many pixels."""
_FEW_FEATURES = 100
_LEVEL = 1e-3
"""Weight of the cameras' own up against their horizontal axes, which say nothing where all cameras look one way."""


@dataclass(frozen=True)
class Placed:
    """A camera, and how well it fits.

    Attributes:
        camera: at the size of its pictures, with depth bounds where its points tell them.
        points: how many points of the scene it saw.
        error: their mean distance from where it should have seen them, in pixels.
    """

    camera: Camera
    points: int
    error: float


@dataclass(frozen=True)
class Unplaced:
    """A camera that could not be placed.

    Attributes:
        name: the camera's.
        reason: in words.
        advice: what helps.
    """

    name: str
    reason: str
    advice: str


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        path: the file that was written.
        placed: the cameras that are in it.
        unplaced: those that are not.
        points: `[N, 3]` of the scene.
        frames: numbers of the frames that were looked at.
        shared: whether cameras with pictures of one size have one lens.
    """

    path: Path
    placed: tuple[Placed, ...]
    unplaced: tuple[Unplaced, ...]
    points: np.ndarray
    frames: tuple[int, ...]
    shared: bool

    @property
    def error(self) -> float:
        """Mean error of all cameras' points in pixels."""
        return float(np.average([each.error for each in self.placed], weights=[each.points for each in self.placed]))


def calibrate(
    folder: str | os.PathLike[str],
    *,
    frames: Sequence[int] | None = None,
    share_intrinsics: bool | None = None,
    focal_length: float | None = None,
    fisheye: bool = False,
    masks: Path | None = None,
    source: Source | None = None,
    outside: bool = False,
    seed: int = 0,
    force: bool = False,
    counted: Counted = lambda what, total: nullcontext(lambda: None),
) -> Calibration:
    """Find the cameras of a folder of videos, or of folders of images, and write them to its `transforms.json`.

    Args:
        folder: what has a video, or a folder of images, for each camera.
        frames: numbers of the frames to look at; the static parts of the scene are the same in all of them, what moves
            adds texture. A few that are spread over the capture if None.
        share_intrinsics: whether cameras with pictures of one size have one lens; decided by what fits if None.
        focal_length: in picture widths, if it is known roughly.
        fisheye: whether the lenses are (equidistant) fisheyes.
        masks: a folder with an image for each camera, `NAME.png`, black where nothing is to be looked at.
        source: "videos" or "images"; if None, images where there are no videos.
        outside: allow files outside the folder.
        force: replace an existing file.
        counted: see `invcodec.capture.structure.Counted`.

    Raises:
        UsageError: pycolmap is not installed, or the file exists.
        CaptureError: the pictures cannot be read, or too little looks alike in them to place half of the cameras.
    """
    require_colmap()
    target = Path(folder)
    path = target / transforms.FILE
    capture = _opened(target, source, outside)
    check_output(path, force)
    numbers = _instants(capture, frames)
    shrunk = max(1, min(max(camera.width, camera.height) for camera in capture.cameras) // _SIDE)
    capture = _masked(_opened(target, source, outside, shrunk), masks)
    cameras = [_guessed(camera, focal_length, fisheye) for camera in capture.cameras]
    structure = reconstruct(
        cameras,
        _read(capture, numbers),
        len(numbers),
        shared=share_intrinsics,
        known=focal_length is not None,
        seed=seed,
        counted=counted,
    )
    names = [camera.name for camera in capture.cameras]
    unplaced = tuple(_unplaced(structure, names, index) for index, each in enumerate(structure.cameras) if each is None)
    if 2 * len(unplaced) >= len(names):
        count = len(names) - len(unplaced)
        reason, advice = unplaced[0].reason, unplaced[0].advice
        raise CaptureError(
            f"{target}: {f'only {count}' if count else 'none'} of {len(names)} cameras could be placed; for one, "
            f"{unplaced[0].name} {reason}: {advice}"
        )
    rows = [index for index, each in enumerate(structure.cameras) if each is not None]
    found = [_enlarged(each, capture.files[row].camera, shrunk) for row in rows if (each := structure.cameras[row])]
    rig, points = _upright(found, structure.points)
    placed = tuple(
        Placed(narrowed(camera, points), int(structure.seen[row]), shrunk * float(structure.errors[row]))
        for row, camera in zip(rows, rig, strict=True)
    )
    _write(path, capture, [each.camera for each in placed], force)
    return Calibration(path, placed, unplaced, points, tuple(numbers), structure.shared)


def _opened(folder: Path, source: Source | None, outside: bool, downscale: int = 1) -> Capture:
    return open_as(
        uncalibrated.NAME,
        uncalibrated.LAYOUT,
        folder,
        source=source,
        downscale=downscale,
        alpha="mask",
        outside=outside,
    )


def _guessed(camera: Camera, focal_length: float | None, fisheye: bool) -> Camera:
    """A camera with a lens to begin with."""
    # Unless something is known, 53 degrees across the longer side.
    focal = float(max(camera.width, camera.height)) if focal_length is None else camera.width * focal_length
    return replace(camera, fx=focal, fy=focal, fisheye=fisheye)


def _enlarged(camera: Camera, full: Camera, factor: int) -> Camera:
    """A camera of pictures that were shrunk by a factor, at the size of the full ones."""
    return replace(
        full,
        fx=factor * camera.fx,
        fy=factor * camera.fy,
        cx=factor * camera.cx,
        cy=factor * camera.cy,
        pose=camera.pose,
        distortion=camera.distortion,
        fisheye=camera.fisheye,
    )


def _instants(capture: Capture, frames: Sequence[int] | None) -> list[int]:
    available = capture.available
    if frames is None:
        missing = frozenset[int]().union(*capture.gaps)
        whole = [number for number in available if number not in missing] or available
        # Neither the first nor the last: there are fades and hands in front of lenses.
        count = min(_INSTANTS, len(whole))
        return [whole[(2 * index + 1) * len(whole) // (2 * count)] for index in range(count)]
    if wrong := [number for number in frames if number not in available]:
        raise CaptureError(f"{capture.folder}: no frame {wrong[0]}; it has frames {available.start}:{available.stop}")
    return sorted(set(frames))


def _read(capture: Capture, numbers: Sequence[int]) -> Iterator[Frame]:
    for number in numbers:
        with closing(replace(capture, numbers=range(number, number + 1)).frames()) as frames:
            yield next(frames)


def _masked(capture: Capture, folder: Path | None) -> Capture:
    if folder is None:
        return capture
    files = tuple(replace(each, masks={None: folder / f"{each.camera.name}.png"}) for each in capture.files)
    for each in files:
        read_image(each.masks[None])
    return replace(capture, files=files)


def _unplaced(structure: Structure, names: Sequence[str], index: int) -> Unplaced:
    """Why a camera could not be placed, and what helps."""
    features, most = int(structure.features[index]), int(structure.matches[index].max())
    other = int(structure.matches[index].argmax())
    reason = (
        f"has {most} points in common with {names[other]}, at most" if most else "has no points in common with others"
    )
    advice = (
        "move it nearer to another camera or add one between them; other moments (--at) help if they show more texture"
    )
    if features < _FEW_FEATURES:
        reason = f"shows {features} distinct points"
        advice = "choose moments with more texture and light (--at), or put up something patterned while calibrating"
    elif most >= ENOUGH_MATCHES:
        reason = f"has {most} points in common with {names[other]}, but they fit no place where it could be"
        advice = "tell about its lens (--focal-length, --fisheye), or choose other moments (--at)"
        if structure.cameras[other] is None:
            advice += "; pictures from one place, or of one camera twice, tell no distances"
    return Unplaced(names[index], reason, advice)


def _upright(cameras: Sequence[Camera], points: np.ndarray) -> tuple[list[Camera], np.ndarray]:
    """Cameras and points `[N, 3]` in the world that the module describes."""
    poses = np.stack([camera.pose for camera in cameras])
    right, own_up, back, centres = (poses[:, :, k] for k in range(4))
    middle = centres.mean(0)
    spread = right.T @ right / len(cameras) + _LEVEL * np.eye(3)
    up = np.linalg.solve(spread, own_up.mean(0))
    up /= np.linalg.norm(up)
    # Of cameras all around, the first is in front.
    towards = next(
        each for each in (back.mean(0), back[0], own_up[0], right[0]) if np.linalg.norm(np.cross(up, each)) > 0.1
    )
    level = towards - up * (up @ towards)
    axes = upright(middle, level / np.linalg.norm(level), up)[:, :3]
    unit = float(np.linalg.norm(centres - middle, axis=1).max()) or 1.0
    moved = [
        replace(
            camera, pose=np.column_stack([axes.T @ camera.pose[:, :3], axes.T @ (camera.pose[:, 3] - middle) / unit])
        )
        for camera in cameras
    ]
    return moved, (points - middle) @ axes / unit


def _write(path: Path, capture: Capture, cameras: Sequence[Camera], force: bool) -> None:
    """Write `transforms.json`, with the pictures of each camera."""
    entries: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    files = {each.camera.name: each for each in capture.files}
    for camera in cameras:
        own = files[camera.name]
        entry = camera_entry(camera)
        if own.video is not None:
            entry["video"] = os.path.relpath(own.video, capture.folder)
        entries.append(entry)
        frames += [
            {"file_path": os.path.relpath(image, capture.folder), "camera": camera.name, "frame_index": number}
            for number, image in own.images.items()
        ]
    data = {"cameras": entries} | ({"frames": frames} if frames else {})
    text = f"{json.dumps(data, indent=1)}\n"
    with written(path, force) as out:
        out.file.write(text.encode())
