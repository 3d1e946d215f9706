"""Files of a sparse model of COLMAP, binary or text: https://colmap.github.io/format.html."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from invcodec.errors import CaptureError
from invcodec.geometry.camera import MAX_NUMBER
from invcodec.geometry.rotations import from_quaternion, pose_from_opencv

T = TypeVar("T")
S = TypeVar("S")

FOLDERS = (Path("sparse", "0"), Path("sparse"))
"""Where a model is, beside the pictures; the first that exists is taken."""
MODELS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
}
"""Camera models with their numbers of parameters; binary files have their indices."""
_MAX_BYTES = 1 << 28
"""Of each file, which is read at once: five million points without observations."""
_COUNT = struct.Struct("<Q")
_IMAGE = struct.Struct("<4x7dI")
"""Number, rotation (w, x, y, z) and translation from the world to the camera, number of the lens."""
_POINT = struct.Struct("<8x3d3x8x")
"""Number, position, colour, error."""
_LENS = struct.Struct("<IiQQ")
"""Number, model, width and height."""


@dataclass(frozen=True)
class View:
    """A picture of a model.

    Attributes:
        name: path of the picture below the folder of pictures.
        pose: `[3, 4]`, camera-to-world with OpenGL axes.
        lens: number of its lens.
    """

    name: str
    pose: np.ndarray
    lens: int


@dataclass(frozen=True)
class LensModel:
    """A lens of a model: its camera model's name, image size in pixels, and parameters."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


def find(folder: Path, *names: str) -> list[Path]:
    """The files with these names (without ending) of the capture's model, binary if there are both; or none."""
    for model in FOLDERS:
        for ending in (".bin", ".txt"):
            paths = [folder / model / f"{name}{ending}" for name in names]
            if all(path.exists() for path in paths):
                return paths
    return []


def read_views(path: Path) -> list[View]:
    """The pictures of `images.bin` or `images.txt`.

    Raises:
        CaptureError: the file is damaged or too large.
    """
    rows = _read(path, _binary_images, _text_images, list)
    numbers = np.array([row for row, _, _ in rows], np.float64).reshape(-1, 7)
    _check_finite(numbers, path)
    poses = pose_from_opencv(from_quaternion(numbers[:, :4]), numbers[:, 4:])
    return [View(name, pose, lens) for pose, (_, lens, name) in zip(poses, rows, strict=True)]


def read_lenses(path: Path) -> dict[int, LensModel]:
    """The lenses of `cameras.bin` or `cameras.txt` by number.

    Raises:
        CaptureError: the file is damaged or too large, or a lens is of an unknown model.
    """
    lenses = dict(_read(path, _binary_lenses, _text_lenses, list))
    for lens in lenses.values():
        if lens.model not in MODELS:
            raise CaptureError(f"{path}: camera model {lens.model} is not known; undistort with COLMAP's undistorter")
        if len(lens.parameters) != MODELS[lens.model]:
            raise CaptureError(f"{path}: {lens.model} with {len(lens.parameters)} parameters, not {MODELS[lens.model]}")
        _check_finite(np.array(lens.parameters), path)
    return lenses


def read_positions(path: Path) -> np.ndarray:
    """The points `[N, 3]` float64 of `points3D.bin` or `points3D.txt`.

    Raises:
        CaptureError: the file is damaged or too large.
    """
    row = np.dtype((np.float64, 3))
    points = _read(path, _binary_points, _text_points, lambda found: np.fromiter(found, row))
    _check_finite(points, path)
    return points


def _read(
    path: Path,
    binary: Callable[[bytes], Iterable[T]],
    text: Callable[[bytes], Iterable[T]],
    collect: Callable[[Iterable[T]], S],
) -> S:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CaptureError(f"{path}: is larger than {_MAX_BYTES >> 20} MiB")
        return collect((binary if path.suffix == ".bin" else text)(path.read_bytes()))
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read ({error.strerror})") from None
    except (struct.error, ValueError, IndexError, OverflowError):
        raise CaptureError(f"{path}: is damaged, or not a model of COLMAP") from None


def _check_finite(numbers: np.ndarray, path: Path) -> None:
    if not (np.abs(numbers) < MAX_NUMBER).all():
        raise CaptureError(f"{path}: holds values that are not finite, or too large")


def _binary_images(data: bytes) -> Iterator[tuple[list[float], int, str]]:
    offset = _COUNT.size
    for _ in range(_COUNT.unpack_from(data)[0]):
        *numbers, lens = _IMAGE.unpack_from(data, offset)
        # The image's name, then its observations of 24 bytes.
        start = offset + _IMAGE.size
        end = data.index(b"\0", start)
        yield numbers, lens, data[start:end].decode()
        offset = end + 1
        offset += _COUNT.size + 24 * _COUNT.unpack_from(data, offset)[0]
    _check_end(data, offset)


def _binary_points(data: bytes) -> Iterator[Sequence[float]]:
    offset = _COUNT.size
    for _ in range(_COUNT.unpack_from(data)[0]):
        yield _POINT.unpack_from(data, offset)
        # Its observations of 8 bytes.
        offset += _POINT.size
        offset += _COUNT.size + 8 * _COUNT.unpack_from(data, offset)[0]
    _check_end(data, offset)


def _binary_lenses(data: bytes) -> Iterator[tuple[int, LensModel]]:
    offset = _COUNT.size
    names = list(MODELS)
    for _ in range(_COUNT.unpack_from(data)[0]):
        number, model, width, height = _LENS.unpack_from(data, offset)
        if not 0 <= model < len(names):
            # How long its parameters are is not known either.
            yield number, LensModel(f"number {model}", width, height, ())
            return
        parameters = struct.unpack_from(f"<{MODELS[names[model]]}d", data, offset + _LENS.size)
        yield number, LensModel(names[model], width, height, parameters)
        offset += _LENS.size + 8 * len(parameters)
    _check_end(data, offset)


def _check_end(data: bytes, offset: int) -> None:
    if offset != len(data):
        raise ValueError


def _text_images(data: bytes) -> Iterator[tuple[list[float], int, str]]:
    # Every second line lists observations, and may be empty.
    for line in islice(_lines(data), 0, None, 2):
        words = line.split(maxsplit=9)
        if len(words) != 10:
            raise ValueError
        yield [float(word) for word in words[1:8]], int(words[8]), words[9].strip()


def _text_points(data: bytes) -> Iterator[Sequence[float]]:
    for line in _lines(data):
        if line.strip():
            _, x, y, z, *_ = line.split()
            yield [float(x), float(y), float(z)]


def _text_lenses(data: bytes) -> Iterator[tuple[int, LensModel]]:
    for line in _lines(data):
        if line.strip():
            number, model, width, height, *parameters = line.split()
            size = round(float(width)), round(float(height))
            yield int(number), LensModel(model, *size, tuple(map(float, parameters)))


def _lines(data: bytes) -> Iterator[str]:
    return (line.rstrip("\n") for line in io.TextIOWrapper(io.BytesIO(data), "utf-8") if not line.startswith("#"))
