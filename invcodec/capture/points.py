"""Reconstructed points of a scene: COLMAP's sparse model beside the pictures.

Formats: https://colmap.github.io/format.html, binary and text.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from invcodec.errors import CaptureError
from invcodec.geometry.camera import Camera

_MODEL = Path("sparse", "0")
_MAX_BYTES = 1 << 28
"""Of each file, which is read at once: five million points without observations."""
_COUNT = struct.Struct("<Q")
_IMAGE = struct.Struct("<4x7d4x")
"""Number, rotation (w, x, y, z) and translation from the world to the camera, number of the lens."""
_POINT = struct.Struct("<8x3d3x8x")
"""Number, position, colour, error."""
_SAME_PLACE = 0.01
"""How far apart the same camera may be in the model and in the capture, as a fraction of the rig's radius; and how much
the elements of its rotation may differ."""


def read_points(folder: Path, cameras: Sequence[Camera]) -> np.ndarray | None:
    """The points `[N, 3]` float64 of `sparse/0`, in the world of a capture's cameras.

    None if there is no such model, or if it does not have all these cameras where the capture has them: then its world
    is another one, as some tools turn and scale it.

    Raises:
        CaptureError: a file of the model is damaged or too large; names it.
    """
    for ending, images, points in ((".bin", _binary_images, _binary_points), (".txt", _text_images, _text_points)):
        poses_file, points_file = (folder / _MODEL / f"{name}{ending}" for name in ("images", "points3D"))
        if poses_file.is_file() and points_file.is_file():
            found, positions = _rows(poses_file, images, 7), _rows(points_file, points, 3)
            return positions if _same_world(_poses(found), cameras) else None
    return None


def _rows(path: Path, parse: Callable[[bytes], Iterator[Sequence[float]]], width: int) -> np.ndarray:
    """Numbers `[N, width]` from a file."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CaptureError(f"{path}: is larger than {_MAX_BYTES >> 20} MiB; remove it, it is optional")
        rows = np.fromiter(parse(path.read_bytes()), np.dtype((np.float64, width)))
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read ({error.strerror})") from None
    except (struct.error, ValueError, IndexError, OverflowError):
        raise CaptureError(f"{path}: is damaged, or not a model of COLMAP; remove it, it is optional") from None
    if not np.isfinite(rows).all():
        raise CaptureError(f"{path}: holds values that are not finite; remove it, it is optional")
    return rows


def _binary_images(data: bytes) -> Iterator[tuple[float, ...]]:
    offset = _COUNT.size
    for _ in range(_COUNT.unpack_from(data)[0]):
        yield _IMAGE.unpack_from(data, offset)
        # The image's name, then its observations of 24 bytes.
        offset = data.index(b"\0", offset + _IMAGE.size) + 1
        offset += _COUNT.size + 24 * _COUNT.unpack_from(data, offset)[0]
    _check_end(data, offset)


def _binary_points(data: bytes) -> Iterator[tuple[float, ...]]:
    offset = _COUNT.size
    for _ in range(_COUNT.unpack_from(data)[0]):
        yield _POINT.unpack_from(data, offset)
        # Its observations of 8 bytes.
        offset += _POINT.size
        offset += _COUNT.size + 8 * _COUNT.unpack_from(data, offset)[0]
    _check_end(data, offset)


def _check_end(data: bytes, offset: int) -> None:
    if offset != len(data):
        raise ValueError


def _text_images(data: bytes) -> Iterator[list[float]]:
    # Every second line lists observations, and may be empty.
    for line in islice(_lines(data), 0, None, 2):
        yield [float(word) for word in line.split()[1:8]]


def _text_points(data: bytes) -> Iterator[list[float]]:
    for line in _lines(data):
        if line.strip():
            yield [float(word) for word in line.split()[1:4]]


def _lines(data: bytes) -> Iterator[str]:
    return (line.rstrip("\n") for line in io.TextIOWrapper(io.BytesIO(data), "utf-8") if not line.startswith("#"))


def _poses(images: np.ndarray) -> np.ndarray:
    """Camera-to-world poses `[N, 3, 4]` with OpenGL axes, from quaternions and translations `[N, 7]`."""
    w, x, y, z = (images[:, :4] / np.linalg.norm(images[:, :4], axis=1, keepdims=True).clip(min=1e-12)).T
    # Of the rotation from the camera to the world, with COLMAP's axes: right, down, forward.
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)],
        [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)],
        [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)],
    ]
    rotation = np.moveaxis(np.array(rows), -1, 0)
    centre = -rotation @ images[:, 4:, None]
    return np.concatenate([rotation * (1, -1, -1), centre], 2)


def _same_world(found: np.ndarray, cameras: Sequence[Camera]) -> bool:
    """Whether all cameras are among poses `[N, 3, 4]`."""
    own = np.stack([camera.pose for camera in cameras])
    radius = np.linalg.norm(own[:, :, 3] - own[:, :, 3].mean(0), axis=1).max()
    tolerance = _SAME_PLACE * np.array([1, 1, 1, radius])
    return all((np.abs(found - pose) <= tolerance).all((1, 2)).any() for pose in own)
