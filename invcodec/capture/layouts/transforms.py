"""nerfstudio and instant-ngp: `transforms.json`, extended to multi-view video.

`cameras[]` has one entry per camera, with a video; `frames[]` has one per image, with a camera and a frame index or
time. Intrinsics may be given at the top level, per camera or per frame.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from invcodec.capture.image import image_size
from invcodec.capture.layouts.calibration import IMAGE_RATE, Values
from invcodec.capture.layouts.listing import CameraFiles, Layout, Listing, Stream, existing
from invcodec.errors import CaptureError
from invcodec.geometry.camera import MAX_NUMBER, Camera, check_pose
from invcodec.geometry.camera_json import Fields, load_json
from invcodec.names import Source

FILE = "transforms.json"


def files(folder: Path) -> list[Path]:
    return existing(folder, FILE)


@dataclass(frozen=True)
class Declared:
    """A checked file.

    Attributes:
        data: the whole object.
        frames, cameras: its lists.
        test: names of the test cameras.
        rate: frames per second, if given.
    """

    data: dict[str, Any]
    frames: list[dict[str, Any]]
    cameras: list[dict[str, Any]]
    test: list[str]
    rate: Fraction | None


def load(path: Path) -> Declared:
    data = load_json(path, CaptureError)
    if not isinstance(data, dict):
        raise CaptureError(f"{path}: not a JSON object")
    frames, cameras = data.get("frames") or [], data.get("cameras") or []
    for name, rows in (("frames", frames), ("cameras", cameras)):
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise CaptureError(f"{path}: '{name}' is not a list of objects")
    test = data.get("test_cameras") or []
    if not isinstance(test, list) or not all(isinstance(name, str) for name in test):
        raise CaptureError(f"{path}: 'test_cameras' is not a list of names")
    return Declared(data, frames, cameras, test, Fields(data, str(path), CaptureError).rate("fps"))


def read(folder: Path, source: Source | None) -> Listing:
    path = folder / FILE
    declared = load(path)
    has_images = any("file_path" in row for row in declared.frames)
    has_videos = any("video" in row for row in declared.cameras)
    source = source or ("images" if has_images else "videos")
    if not (has_images if source == "images" else has_videos):
        wanted = "frames[].file_path" if source == "images" else "cameras[].video"
        raise CaptureError(f"{path}: lists no {source} ({wanted})")
    if source == "images":
        return Listing(from_images(folder, path, declared), declared.rate or IMAGE_RATE, source)
    listed: list[CameraFiles] = []
    for row in declared.cameras:
        if "video" not in row:
            raise CaptureError(f"{path}: camera '{row.get('name', len(listed))}' has no 'video'")
        video = folder / str(row["video"])
        name = str(row.get("name", video.stem))
        camera = _camera(name, {**declared.data, **row}, path, None, declared.test)
        listed.append(CameraFiles(camera, video=video, masks=_mask(folder, row, None, path)))
    return Listing(tuple(listed), declared.rate, source)


def read_rig(path: Path, *, streams: bool = True) -> Listing:
    """The cameras of a live rig, from a JSON file with the keys of transforms.json.

    `cameras[].video` is passed to FFmpeg: a file, a named pipe, a device or a URL. Optional keys beside it: `ffmpeg`,
    its input options by name; `offset`, in seconds, added to the camera's timestamps; and `clock`, "stream" for the
    stream's own timestamps or "arrival" for the times at which its frames arrive.

    Args:
        streams: whether the cameras must have streams.

    Raises:
        CaptureError
    """
    declared = load(path)
    if not declared.cameras:
        raise CaptureError(f"{path}: 'cameras' is empty; a rig needs one entry per camera")
    if declared.rate is None:
        raise CaptureError(f"{path}: has no 'fps'; a rig needs its cameras' frame rate")
    listed = []
    for index, row in enumerate(declared.cameras):
        name = str(row.get("name", f"cam{index:02d}"))
        camera = _camera(name, {**declared.data, **row}, path, None, declared.test)
        stream = _stream(row, path, f"{path}: camera '{name}'") if streams else None
        listed.append(CameraFiles(camera, masks=_mask(path.parent, row, None, path), stream=stream))
    return Listing(tuple(listed), declared.rate, "videos")


def _stream(row: Mapping[str, Any], path: Path, where: str) -> Stream:
    video, options, clock = row.get("video"), row.get("ffmpeg", {}), row.get("clock", "stream")
    if not isinstance(video, str) or not video:
        raise CaptureError(f"{where}: has no 'video'")
    if not isinstance(options, dict) or not all(isinstance(value, str | int | float) for value in options.values()):
        raise CaptureError(
            f"{where}: 'ffmpeg' is not an object of input options; write, for example, "
            '{"f": "v4l2", "framerate": 30}'
        )
    if clock not in ("stream", "arrival"):
        raise CaptureError(f"{where}: 'clock' is {clock!r}, expected stream or arrival")
    named = {key: str(value) for key, value in options.items()}
    form = named.pop("f", "v4l2" if re.fullmatch(r"/dev/video\d+", video) else None)
    beside = path.parent / video
    played = os.path.isfile(beside)
    local = played or (os.path.exists(beside) and beside.is_fifo())
    return Stream(
        # Spelled out, a name with a colon is not taken for an address.
        f"file:{beside.resolve()}" if local else video,
        form,
        named,
        Fields(row, where, CaptureError).number("offset") or 0.0,
        clock == "arrival",
        played,
    )


def _mask(folder: Path, row: Mapping[str, Any], frame: int | None, path: Path) -> dict[int | None, Path]:
    name = row.get("mask_path")
    if name is not None and not isinstance(name, str):
        raise CaptureError(f"{path}: 'mask_path' is {name!r}, expected a file name")
    return {frame: folder / name} if name else {}


def _camera(name: str, row: Mapping[str, Any], path: Path, size: tuple[int, int] | None, test: list[str]) -> Camera:
    """The camera of an entry merged over the top level's defaults; `size` stands in for a missing width and height."""
    where = f"{path}: camera '{name}'"
    row = _with_matrix(row, where)
    fields = Fields(row, where, CaptureError)
    width, height = fields.side("w") or (size and size[0]), fields.side("h") or (size and size[1])
    if width is None or height is None:
        raise CaptureError(f"{where}: has no 'w' and 'h'")
    lens = fields.lens(width)
    if lens.fx is None or lens.fy is None:
        raise CaptureError(f"{where}: has neither 'fl_x' nor 'camera_angle_x'")
    if "transform_matrix" not in row:
        raise CaptureError(f"{where}: has no 'transform_matrix'")
    near, far = fields.number("near"), fields.number("far")
    if (near is not None and near <= 1 / MAX_NUMBER) or (far is not None and far <= (near or 0)):
        raise CaptureError(f"{where}: near {near} and far {far} are not a range of depths")
    return Camera(
        name,
        width,
        height,
        lens.fx,
        lens.fy,
        width / 2 if lens.cx is None else lens.cx,
        height / 2 if lens.cy is None else lens.cy,
        check_pose(row["transform_matrix"], where),
        lens.distortion or (),
        near,
        far,
        row.get("split") == "test" or name in test,
        lens.fisheye,
    )


def _with_matrix(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """An entry whose intrinsics are a matrix `K`, as some exporters write it, with nerfstudio's keys instead."""
    if row.get("K") is None:
        return row
    matrix = Values(dict(row), where).array("K", (3, 3))
    return {**row, "fl_x": matrix[0, 0], "fl_y": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}


def from_images(folder: Path, path: Path, declared: Declared) -> tuple[CameraFiles, ...]:
    """Cameras with the images of `frames`.

    Args:
        folder: what image paths are relative to.
        path: the file, for messages.

    Raises:
        CaptureError
    """
    entries = {str(row["name"]): row for row in declared.cameras if "name" in row}
    if len(entries) < sum("name" in row for row in declared.cameras):
        raise CaptureError(f"{path}: two entries of 'cameras' have the same name")
    times = sorted({t for row in declared.frames if (t := _time(row, path)) is not None})
    ranks = {time: rank for rank, time in enumerate(times)}
    by_camera: dict[str, dict[int, dict[str, Any]]] = {}
    for row in declared.frames:
        if not isinstance(row.get("file_path"), str):
            raise CaptureError(f"{path}: an entry of 'frames' has no 'file_path'")
        parent = PurePosixPath(row["file_path"]).parent.name
        name = str(row.get("camera", parent))
        number = _frame_number(row, ranks, path)
        of_camera = by_camera.setdefault(name, {})
        if number in of_camera:
            raise CaptureError(f"{path}: camera '{name}' has two images for frame {number}")
        of_camera[number] = row
    listed = []
    for name in [*(n for n in entries if n in by_camera), *(n for n in by_camera if n not in entries)]:
        rows = by_camera[name]
        images = {number: _image_path(folder, row["file_path"]) for number, row in sorted(rows.items())}
        first = rows[min(rows)]
        defaults = {**declared.data, **entries.get(name, {})}
        merged = {**defaults, **first}
        size = None if "w" in merged and "h" in merged else image_size(next(iter(images.values())))
        camera = _camera(name, merged, path, size, declared.test)
        for number, row in rows.items():
            where = f"{path}: camera '{name}'"
            other = _camera(name, {**defaults, **row}, path, size, declared.test)
            if not np.allclose(other.pose, camera.pose, atol=1e-6):
                raise CaptureError(f"{where} moves (its pose at frame {number} differs); cameras must be static")
            if replace(other, pose=camera.pose, held_out=camera.held_out).to_dict() != camera.to_dict():
                raise CaptureError(f"{where} zooms (its lens at frame {number} differs); intrinsics must be constant")
        masks: dict[int | None, Path] = {}
        for number, row in rows.items():
            masks |= _mask(folder, row, number, path)
        listed.append(CameraFiles(camera, images=images, masks=masks))
    return tuple(listed)


def _image_path(folder: Path, name: str) -> Path:
    path = folder / name
    return path if path.suffix else path.with_suffix(".png")


def _time(row: Mapping[str, Any], path: Path) -> float | None:
    fields = Fields(row, str(path), CaptureError)
    stamp = fields.number("timestamp")
    return fields.number("time") if stamp is None else stamp


def _frame_number(row: Mapping[str, Any], ranks: Mapping[float, int], path: Path) -> int:
    """A frame's number: as given, else the rank of its time, else the last number in its file name."""
    for key in ("frame_index", "frame"):
        if isinstance(row.get(key), int) and not isinstance(row[key], bool):
            return row[key]
    if (time := _time(row, path)) is not None:
        return ranks[time]
    numbers = re.findall(r"\d+", PurePosixPath(row["file_path"]).stem)
    if not numbers:
        raise CaptureError(f"{path}: image '{row['file_path']}' has no frame_index, no time and no number in its name")
    return int(numbers[-1])


LAYOUT = Layout(files, read, FILE)
