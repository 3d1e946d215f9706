"""Writes a synthetic capture: the scene, filmed by the synthetic rig, as files on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera
from invcodec.geometry.camera_json import camera_entry
from invcodec.mp4 import write_video
from invcodec.names import RigKind, Scene
from invcodec.synth.rig import FOCAL_LENGTH, scaled, synthetic_rig
from invcodec.synth.scene import room_around
from invcodec.synth.trace import render

Images = Callable[[Camera], Iterator[np.ndarray]]
"""Yields all frames `[H, W, 3]` uint8 of a camera."""


def write_synthetic(
    folder: str | Path,
    *,
    cameras: int = 9,
    size: tuple[int, int] = (96, 72),
    frames: int = 8,
    scene: Scene = "moving",
    layout: str = "transforms",
    fps: int = 10,
    rig: RigKind = "arc",
    focal_length: float = FOCAL_LENGTH,
    overlap: float = 1.0,
    outlier: float = 1.0,
    scale: float = 1.0,
    exposure: float = 0.0,
    bounds: bool = True,
    done: Callable[[], None] = lambda: None,
) -> None:
    """Write the synthetic scene as a capture.

    Args:
        folder: must be empty or not exist.
        cameras: how many; cam00 is in the middle and held out, where the layout supports it.
        size: width and height in pixels.
        frames: how many.
        scene: "still"; "moving": a ball bounces and a cube spins, in colours that stay; "repainted": nothing moves, and
            every surface changes colour; "changing": as "moving", and the table changes colour, and a sphere appears
            half-way through.
        layout: "transforms" for PNG images and transforms.json, "n3dv" for mp4 videos and poses_bounds.npy.
        fps: frames per second.
        rig, focal_length, overlap, outlier: see `invcodec.synth.rig.synthetic_rig`.
        scale: factor on all lengths. At 1, cameras with the usual lens stand 3.1 units from what they look at.
        exposure: in stops, relative to the usual one.
        bounds: whether the calibration states depth bounds.
        done: called after every image.

    Raises:
        UsageError: the folder is not empty, the layout or rig is unknown, or the layout requires bounds.
    """
    if layout not in WRITERS:
        raise UsageError(f"unknown layout '{layout}' for a synthetic capture; choose from {', '.join(WRITERS)}")
    if layout == "n3dv" and not bounds:
        raise UsageError("layout 'n3dv' always has depth bounds; without them, choose 'transforms'")
    made = synthetic_rig(cameras, size, rig, focal_length=focal_length, overlap=overlap, outlier=outlier)
    room = room_around(made)
    in_scene = {camera.name: camera for camera in made}
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: already exists; choose a new or empty folder")
    target.mkdir(parents=True, exist_ok=True)

    def images(camera: Camera) -> Iterator[np.ndarray]:
        for number in range(frames):
            time, duration = number / fps, frames / fps
            yield render(in_scene[camera.name], scene, time, duration, room=room, exposure=exposure)
            done()

    written = [scaled(camera, scale) for camera in made]
    if not bounds:
        written = [replace(camera, near=None, far=None) for camera in written]
    WRITERS[layout](target, written, images, fps)


def _write_transforms(folder: Path, rig: Sequence[Camera], images: Images, fps: int) -> None:
    rows = []
    for camera in rig:
        inside = folder / "frames" / camera.name
        inside.mkdir(parents=True)
        for number, image in enumerate(images(camera)):
            path = inside / f"{number:04d}.png"
            Image.fromarray(image).save(path)
            rows.append(
                {
                    "file_path": path.relative_to(folder).as_posix(),
                    "camera": camera.name,
                    "frame_index": number,
                    "timestamp": number / fps,
                }
            )
    listed = [camera_entry(camera) for camera in rig]
    data = {"camera_model": "OPENCV", "fps": fps, "cameras": listed, "frames": rows}
    # Written last: this file makes the folder a capture.
    (folder / "transforms.json").write_text(json.dumps(data, indent=1) + "\n")


def _write_n3dv(folder: Path, rig: Sequence[Camera], images: Images, fps: int) -> None:
    np.save(folder / "poses_bounds.npy", np.stack([_llff_row(camera) for camera in rig]))
    for camera in rig:
        with open(folder / f"{camera.name}.mp4", "wb") as file:
            write_video(file, images(camera), Fraction(fps), crf=6)


def _llff_row(camera: Camera) -> np.ndarray:
    right, up, back, position = camera.pose.T
    last = np.array([camera.height, camera.width, camera.fx])
    matrix = np.stack([-up, right, back, position, last], 1)
    return np.append(matrix, [camera.near, camera.far])


WRITERS = {"transforms": _write_transforms, "n3dv": _write_n3dv}
"""By layout; `invcodec.names.SYNTH_LAYOUTS` lists them for the command line."""
