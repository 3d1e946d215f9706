"""A capture out of nothing: the synthetic scene, filmed by a synthetic rig, as files on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from invcodec.errors import UsageError
from invcodec.geometry.camera import Camera
from invcodec.synth.rig import synthetic_rig
from invcodec.synth.scene import Scene
from invcodec.synth.trace import render
from invcodec.video import write_video

LayoutName = Literal["transforms", "n3dv"]


def write_synthetic(
    folder: str | Path,
    *,
    cameras: int = 9,
    size: tuple[int, int] = (96, 72),
    frames: int = 8,
    scene: Scene = "moving",
    layout: LayoutName = "transforms",
    fps: int = 10,
    done: Callable[[], None] = lambda: None,
) -> None:
    """Write a scene as a capture.

    Args:
        folder: must not exist, or be empty.
        cameras: on an arc around cam00, which sits in the middle and is marked as test (where the layout can).
        size: width and height in pixels.
        scene: "still"; "moving": a ball bounces and a cube spins; "changing": besides, the table changes its
            colour, and a sphere appears half-way.
        layout: "transforms" writes PNG images and transforms.json, "n3dv" mp4 videos and poses_bounds.npy.
        done: called after every image.

    Raises:
        UsageError: the folder holds something.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: already exists; give a new or empty folder")
    target.mkdir(parents=True, exist_ok=True)
    rig = synthetic_rig(cameras, size)

    def images(camera: Camera) -> Iterator[np.ndarray]:
        for number in range(frames):
            yield render(camera, scene, number / fps, frames / fps)
            done()

    if layout == "n3dv":
        np.save(target / "poses_bounds.npy", np.stack([_llff_row(camera) for camera in rig]))
        for camera in rig:
            write_video(target / f"{camera.name}.mp4", images(camera), Fraction(fps), crf=6)
        return
    rows = []
    for camera in rig:
        inside = target / "frames" / camera.name
        inside.mkdir(parents=True)
        for number, image in enumerate(images(camera)):
            path = inside / f"{number:04d}.png"
            Image.fromarray(image).save(path)
            rows.append(
                {
                    "file_path": path.relative_to(target).as_posix(),
                    "camera": camera.name,
                    "frame_index": number,
                    "timestamp": number / fps,
                }
            )
    listed = [_transforms_row(camera) for camera in rig]
    data = {"camera_model": "OPENCV", "fps": fps, "cameras": listed, "frames": rows}
    # The last file written is the one that makes the folder a capture.
    (target / "transforms.json").write_text(json.dumps(data, indent=1) + "\n")


def _transforms_row(camera: Camera) -> dict[str, Any]:
    return {
        "name": camera.name,
        "w": camera.width,
        "h": camera.height,
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        "cx": camera.cx,
        "cy": camera.cy,
        "near": camera.near,
        "far": camera.far,
        "split": "test" if camera.held_out else "train",
        "transform_matrix": [*camera.pose.tolist(), [0.0, 0.0, 0.0, 1.0]],
    }


def _llff_row(camera: Camera) -> np.ndarray:
    right, up, back, position = camera.pose.T
    last = np.array([camera.height, camera.width, camera.fx])
    matrix = np.stack([-up, right, back, position, last], 1)
    return np.append(matrix, [camera.near, camera.far])
