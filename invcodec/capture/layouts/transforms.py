"""nerfstudio and instant-ngp: `transforms.json`, here of a multi-view video.

`cameras[]` has one entry for each camera, with a video; `frames[]` one for each image, with a camera and a frame
index or time. Intrinsics may stand at the top, per camera or per frame.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from invcodec.capture.layouts.listing import CameraFiles, Listing, Source, Stream
from invcodec.capture.video import image_size
from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera, check_pose

_FILE = "transforms.json"
_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")


def matches(folder: Path) -> bool:
    return (folder / _FILE).is_file()


@dataclass(frozen=True)
class _Declared:
    """A checked file: all of it, its two lists, the names of test cameras, and the frame rate if it has one."""

    data: dict[str, Any]
    frames: list[dict[str, Any]]
    cameras: list[dict[str, Any]]
    test: list[str]
    rate: Fraction | None


def _load(path: Path) -> _Declared:
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CaptureError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(data, dict):
        raise CaptureError(f"{path}: not a JSON object")
    frames, cameras = data.get("frames") or [], data.get("cameras") or []
    for name, rows in (("frames", frames), ("cameras", cameras)):
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise CaptureError(f"{path}: '{name}' is not a list of objects")
    test = data.get("test_cameras") or []
    if not isinstance(test, list) or not all(isinstance(name, str) for name in test):
        raise CaptureError(f"{path}: 'test_cameras' is not a list of names")
    fps = _number(data, "fps", path)
    if fps is not None and not 0.01 <= fps <= 1000:
        raise CaptureError(f"{path}: 'fps' is {fps:g}, expected 0.01 to 1000")
    return _Declared(data, frames, cameras, test, None if fps is None else Fraction(fps).limit_denominator(1001))


def read(folder: Path, source: Source | None) -> Listing:
    path = folder / _FILE
    declared = _load(path)
    data, frames, cameras, test, rate = (getattr(declared, field.name) for field in fields(declared))
    has_images = any("file_path" in row for row in frames)
    has_videos = any("video" in row for row in cameras)
    source = source or ("images" if has_images else "videos")
    if not (has_images if source == "images" else has_videos):
        wanted = "frames[].file_path" if source == "images" else "cameras[].video"
        raise CaptureError(f"{path}: names no {source} ({wanted})")
    if source == "images":
        return Listing(_from_images(folder, path, data, frames, cameras, test, rate), rate or Fraction(30), source)
    listed: list[CameraFiles] = []
    for row in cameras:
        if "video" not in row:
            raise CaptureError(f"{path}: camera '{row.get('name', len(listed))}' names no video")
        video = folder / str(row["video"])
        name = str(row.get("name", video.stem))
        listed.append(
            CameraFiles(
                _camera(name, {**data, **row}, path, None, test), video=video, masks=_mask(folder, row, None, path)
            )
        )
    return Listing(tuple(listed), rate, source)


def read_rig(path: Path, *, streams: bool = True) -> Listing:
    """The cameras of a rig that films now, from a file in the manner of transforms.json.

    What `cameras[].video` names goes to ffmpeg: a file, a named pipe, a device, an address. Beside it may stand
    `ffmpeg`, a list of input options; `offset`, in seconds, which is added to the camera's time stamps; and `clock`:
    "stream" takes the stream's own time stamps, "arrival" the times at which its frames arrive here.

    Args:
        streams: whether the cameras must name their streams.

    Raises:
        CaptureError
    """
    declared = _load(path)
    if not declared.cameras:
        raise CaptureError(f"{path}: 'cameras' is empty; a rig has one entry for each camera")
    if declared.rate is None:
        raise CaptureError(f"{path}: has no 'fps'; a rig must say how many frames a second its cameras take")
    listed = []
    for index, row in enumerate(declared.cameras):
        name = str(row.get("name", f"cam{index:02d}"))
        camera = _camera(name, {**declared.data, **row}, path, None, declared.test)
        stream = _stream(row, path, f"{path}: camera '{name}'") if streams else None
        listed.append(CameraFiles(camera, masks=_mask(path.parent, row, None, path), stream=stream))
    return Listing(tuple(listed), declared.rate, "videos")


def _stream(row: Mapping[str, Any], path: Path, where: str) -> Stream:
    video, options, clock = row.get("video"), row.get("ffmpeg", []), row.get("clock", "stream")
    if not isinstance(video, str) or not video:
        raise CaptureError(f"{where}: names no 'video'")
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise CaptureError(f'{where}: \'ffmpeg\' is not a list of texts; write ["-f", "v4l2"]')
    if clock not in ("stream", "arrival"):
        raise CaptureError(f"{where}: 'clock' is {clock!r}, expected stream or arrival")
    beside = path.parent / video
    url = str(beside) if "://" not in video and beside.exists() else video
    return Stream(url, tuple(options), _number(row, "offset", path) or 0.0, clock == "arrival")


def _number(row: Mapping[str, Any], key: str, path: Path) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e30:
        raise CaptureError(f"{path}: '{key}' is {repr(value)[:40]}, expected a number")
    return float(value)


def _mask(folder: Path, row: Mapping[str, Any], frame: int | None, path: Path) -> dict[int | None, Path]:
    name = row.get("mask_path")
    if name is not None and not isinstance(name, str):
        raise CaptureError(f"{path}: 'mask_path' is {name!r}, expected a file name")
    return {frame: folder / name} if name else {}


def _camera(name: str, row: Mapping[str, Any], path: Path, size: tuple[int, int] | None, test: list[str]) -> Camera:
    """A camera from an entry with the top level's defaults below it; `size` replaces a missing width and height."""
    where = f"{path}: camera '{name}'"
    model = row.get("camera_model", "OPENCV")
    if model not in _MODELS:
        raise CaptureError(f"{where}: camera model {model} is not supported; undistort to one of {', '.join(_MODELS)}")
    get = {k: _number(row, k, path) for k in ("w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "near", "far")}
    lens = [_number(row, k, path) or 0.0 for k in ("k1", "k2", "p1", "p2")]
    if any(_number(row, k, path) for k in ("k3", "k4", "k5", "k6")):
        raise CaptureError(f"{where}: distortion beyond k1 k2 p1 p2 is not supported; undistort the images first")
    width, height = get["w"] or (size[0] if size else None), get["h"] or (size[1] if size else None)
    if width is None or height is None:
        raise CaptureError(f"{where}: has no 'w' and 'h'")
    fx = get["fl_x"]
    if fx is None and get["camera_angle_x"]:
        fx = 0.5 * width / math.tan(0.5 * get["camera_angle_x"])
    fx = fx or get["fl_y"]
    fy = get["fl_y"] or fx
    if fx is None or fy is None or min(fx, fy) <= 0 or width < 1 or height < 1:
        raise CaptureError(f"{where}: needs a positive 'fl_x' (or 'camera_angle_x') and size")
    if "transform_matrix" not in row:
        raise CaptureError(f"{where}: has no 'transform_matrix'")
    near, far = get["near"], get["far"]
    if (near is not None and near <= 0) or (far is not None and far <= (near or 0)):
        raise CaptureError(f"{where}: near {near} and far {far} are not a range of depths")
    return Camera(
        name,
        int(width),
        int(height),
        fx,
        fy,
        width / 2 if get["cx"] is None else get["cx"],
        height / 2 if get["cy"] is None else get["cy"],
        check_pose(row["transform_matrix"], where),
        (lens[0], lens[1], lens[2], lens[3]),
        near,
        far,
        row.get("split") == "test" or name in test,
    )


def _from_images(
    folder: Path,
    path: Path,
    data: dict[str, Any],
    frames: list[dict[str, Any]],
    cameras: list[dict[str, Any]],
    test: list[str],
    rate: Fraction | None,
) -> tuple[CameraFiles, ...]:
    declared = {str(row["name"]): row for row in cameras if "name" in row}
    if len(declared) < sum("name" in row for row in cameras):
        raise CaptureError(f"{path}: two entries of 'cameras' have the same name")
    times = sorted({t for row in frames if (t := _time(row, path)) is not None})
    by_camera: dict[str, dict[int, dict[str, Any]]] = {}
    for row in frames:
        if not isinstance(row.get("file_path"), str):
            raise CaptureError(f"{path}: an entry of 'frames' has no 'file_path'")
        parent = PurePosixPath(row["file_path"]).parent.name
        name = str(row.get("camera", parent))
        number = _frame_number(row, times, rate, path)
        of_camera = by_camera.setdefault(name, {})
        if number in of_camera:
            raise CaptureError(f"{path}: camera '{name}' has two images for frame {number}")
        of_camera[number] = row
    listed = []
    for name in [*(n for n in declared if n in by_camera), *(n for n in by_camera if n not in declared)]:
        rows = by_camera[name]
        images = {number: _image_path(folder, row["file_path"]) for number, row in sorted(rows.items())}
        first = rows[min(rows)]
        merged = {**data, **declared.get(name, {}), **first}
        size = None if "w" in merged and "h" in merged else image_size(next(iter(images.values())))
        camera = _camera(name, merged, path, size, test)
        for number, row in rows.items():
            where = f"{path}: camera '{name}'"
            other = _camera(name, {**data, **declared.get(name, {}), **row}, path, size, test)
            if not np.allclose(other.pose, camera.pose, atol=1e-6):
                raise CaptureError(
                    f"{where} moves (its pose at frame {number} differs); only fixed rigs can be encoded"
                )
            if replace(other, pose=camera.pose, held_out=camera.held_out).to_dict() != camera.to_dict():
                raise CaptureError(f"{where} zooms (its lens at frame {number} differs); that cannot be encoded")
        masks: dict[int | None, Path] = {}
        for number, row in rows.items():
            masks |= _mask(folder, row, number, path)
        listed.append(CameraFiles(camera, images=images, masks=masks))
    return tuple(listed)


def _image_path(folder: Path, name: str) -> Path:
    path = folder / name
    return path if path.suffix else path.with_suffix(".png")


def _time(row: Mapping[str, Any], path: Path) -> float | None:
    stamp = _number(row, "timestamp", path)
    return _number(row, "time", path) if stamp is None else stamp


def _frame_number(row: Mapping[str, Any], times: list[float], rate: Fraction | None, path: Path) -> int:
    """A frame's number: as given, else the rank of its time, else the number in its file name."""
    for key in ("frame_index", "frame"):
        if isinstance(row.get(key), int) and not isinstance(row[key], bool):
            return row[key]
    if (time := _time(row, path)) is not None:
        return times.index(time)
    numbers = re.findall(r"\d+", PurePosixPath(row["file_path"]).stem)
    if not numbers:
        raise CaptureError(f"{path}: image '{row['file_path']}' has no frame_index, no time and no number in its name")
    return int(numbers[-1])
