"""What readers of calibration files share: bounded reading, checked numbers, cameras as OpenCV describes them, and the
pictures that belong to a camera's name."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml

from invcodec.capture.image import image_size
from invcodec.capture.layouts.listing import CameraFiles, Listing
from invcodec.capture.video import probe
from invcodec.errors import CaptureError
from invcodec.geometry.camera import DISTORTION, MAX_NUMBER, Camera, check_pose
from invcodec.geometry.rotations import from_axis_angle, pose_from_opencv
from invcodec.names import Source

IMAGE_RATE = Fraction(30)
"""Frames per second of images whose rate is not given."""
_MAX_BYTES = 4 << 20
"""Of a text file with a calibration, thousands of cameras."""
_IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".tga"}
_VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".ts", ".mpg", ".mxf"}
_FOLDERS = {"images": ("images", ".", "images_2", "images_4", "images_8", "rgbs"), "videos": (".", "videos", "images")}
"""Where pictures may be, in order of preference."""
_EXPECTED = "NAME.mp4, NAME/0000.png or images/NAME/0000.png"


def read_text(path: Path) -> str:
    """The contents of a calibration file.

    Raises:
        CaptureError: missing, not readable, not text, or larger than any calibration.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CaptureError(f"{path}: is larger than {_MAX_BYTES >> 20} MB, too large for a calibration")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such file") from None
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise CaptureError(f"{path}: is not text in UTF-8") from None


@contextmanager
def parsing(path: Path, kind: str) -> Iterator[None]:
    """Turns what a parser raises at a damaged file into a `CaptureError` that names it."""
    try:
        yield
    except CaptureError:
        raise
    except (ValueError, SyntaxError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise CaptureError(f"{path}: is not valid {kind} ({reason})") from None


class _Loader(yaml.SafeLoader):
    """YAML with OpenCV's matrices, which are lists of rows here."""


def _matrix(loader: _Loader, node: yaml.Node) -> Any:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.YAMLError("an opencv-matrix is not a map")
    fields = loader.construct_mapping(node, deep=True)
    rows, columns, data = (fields.get(key) for key in ("rows", "cols", "data"))
    if not (isinstance(rows, int) and isinstance(columns, int) and isinstance(data, list)):
        raise yaml.YAMLError("an opencv-matrix without rows, cols and data")
    if rows * columns != len(data):
        raise yaml.YAMLError(f"an opencv-matrix of {rows}x{columns} with {len(data)} values")
    return data


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", _matrix)


def load_yaml(path: Path) -> dict[str, Any]:
    """A map in YAML, or in the dialect of OpenCV's FileStorage.

    Raises:
        CaptureError
    """
    text = read_text(path)
    # "%YAML:1.0" is no directive of YAML.
    if text.startswith("%YAML"):
        text = text.partition("\n")[2]
    with parsing(path, "YAML"):
        try:
            data = yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            raise ValueError(error) from None
    if not isinstance(data, dict):
        raise CaptureError(f"{path}: is not a map of names to values")
    return data


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table, by its heading, which has at least these columns; the first of them is the camera's name.

    Raises:
        CaptureError
    """
    reader = csv.DictReader(read_text(path).splitlines(), skipinitialspace=True)
    with parsing(path, "a table"):
        try:
            rows = list(reader)
        except csv.Error as error:
            raise ValueError(error) from None
    if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
        raise CaptureError(f"{path}: has no column '{missing[0]}'")
    for number, row in enumerate(rows, 2):
        if any(row[column] is None or not row[column].strip() for column in columns):
            raise CaptureError(f"{path}: line {number} has no value in one of its columns")
    return rows


def xml_with(folder: Path, pattern: str, *tags: bytes) -> Path | None:
    """The first file of a pattern in which all these tags occur."""
    for path in sorted(folder.glob(pattern)):
        if path.is_file() and path.stat().st_size <= _MAX_BYTES and all(tag in path.read_bytes() for tag in tags):
            return path
    return None


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        CaptureError: not XML, or it defines entities, with which a small file can be a large one.
    """
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CaptureError(f"{path}: defines its own document type, which no calibration needs")
    with parsing(path, "XML"):
        return ElementTree.fromstring(text.encode())


def picture_size(folder: Path, name: str, calibration: Path) -> tuple[int, int]:
    """Width and height of the pictures of a camera, for a calibration that does not say.

    Raises:
        CaptureError: it has none.
    """
    for kind in ("images", "videos"):
        for below in _FOLDERS[kind]:
            found = _of(folder / below, name, kind)
            if isinstance(found, Path):
                info = probe(found)
                return info.width, info.height
            if found:
                return image_size(next(iter(found.values())))
    raise CaptureError(f"{calibration}: camera '{name}' has no pictures of its name; expected {_EXPECTED}")


def only(folder: Path, pattern: str) -> Path | None:
    """The file that matches a pattern; None if there is none, or if several do."""
    found = sorted(folder.glob(pattern))
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class Values:
    """Numbers of one camera's entry.

    Attributes:
        row: the entry's values by name.
        where: file and entry, for error messages.
    """

    row: dict[str, Any]
    where: str

    def array(self, key: str, *shapes: tuple[int, ...], default: Sequence[float] | None = None) -> np.ndarray:
        """Finite numbers in one of these shapes, from nested or flat lists.

        Raises:
            CaptureError: missing without a default, of another size, or not finite numbers.
        """
        value = self.row.get(key)
        if value is None:
            if default is None:
                raise CaptureError(f"{self.where}: has no '{key}'")
            return np.array(default, np.float64)
        try:
            found = np.array(value, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise CaptureError(f"{self.where}: '{key}' is not a list of numbers") from None
        if not (np.abs(found) < MAX_NUMBER).all():
            raise CaptureError(f"{self.where}: '{key}' holds values that are not finite, or too large")
        for shape in shapes:
            if found.size == np.prod(shape, dtype=int):
                return found.reshape(shape)
        sizes = " or ".join(str(np.prod(shape, dtype=int)) for shape in shapes)
        raise CaptureError(f"{self.where}: '{key}' has {found.size} numbers, expected {sizes}")

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        return float(self.array(key, (), default=None if default is None else [default]).reshape(()))

    def size(self, value: Any) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = value
        if not (1 <= width < 1e6 and 1 <= height < 1e6):
            raise CaptureError(f"{self.where}: an image size of {width:g}x{height:g} is not one in pixels")
        return round(width), round(height)

    def distortion(self, key: str, *, fisheye: bool = False) -> tuple[float, ...]:
        """Coefficients in OpenCV's order, in that of `Camera`."""
        value = self.array(key, *((n,) for n in ((4, 5) if fisheye else (4, 5, 8, 12, 14, 2, 1, 0))), default=[])
        if fisheye:
            # EasyMocap writes five numbers whatever the model.
            if len(value) == 5 and value[4]:
                raise CaptureError(f"{self.where}: '{key}' has 5 numbers, a fisheye lens has 4")
            return fisheye_distortion(value[:4].tolist())
        if len(value) == 14 and any(value[12:]):
            raise CaptureError(f"{self.where}: '{key}' tilts the sensor, which is not supported; undistort the images")
        return tuple(value[: len(DISTORTION)].tolist())

    def camera(
        self,
        name: str,
        size: tuple[int, int],
        matrix: np.ndarray,
        pose: np.ndarray,
        distortion: Sequence[float] = (),
        *,
        fisheye: bool = False,
        corner: float = 0.0,
    ) -> Camera:
        """A camera with intrinsics `[3, 3]`.

        Args:
            corner: where the format has the upper left corner of the image: OpenCV counts from the centre of its first
                pixel, where the corner is at -0.5.

        Raises:
            CaptureError: the focal lengths or the pose are none.
        """
        if not all(abs(value) < MAX_NUMBER for value in (*matrix[:2].flat, *distortion)):
            raise CaptureError(f"{self.where}: the lens has values that are not finite, or too large")
        if min(matrix[0, 0], matrix[1, 1]) <= 1 / MAX_NUMBER:
            raise CaptureError(f"{self.where}: focal lengths must be positive")
        if abs(matrix[0, 1]) > 1e-3 * matrix[0, 0]:
            raise CaptureError(f"{self.where}: has skewed pixels, which are not supported; undistort the images")
        (fx, _, cx), (_, fy, cy) = matrix[:2].tolist()
        checked = check_pose(pose, self.where)
        return Camera(
            name, *size, fx, fy, cx - corner, cy - corner, checked, tuple(distortion), fisheye=fisheye
        )  # fmt: skip

    def rotation(self, key: str) -> np.ndarray:
        """A rotation `[3, 3]`, from a matrix or from Rodrigues' vector."""
        value = self.array(key, (3, 3), (3,))
        return value if value.shape == (3, 3) else from_axis_angle(value)

    def pose(self, rotation: str, translation: str) -> np.ndarray:
        """The pose of a world-to-camera rotation and translation with OpenCV's axes."""
        return pose_from_opencv(self.rotation(rotation), self.array(translation, (3,)))


OPENCV_CORNER = -0.5


def fisheye_distortion(coefficients: Sequence[float]) -> tuple[float, ...]:
    """k1 to k4 of a fisheye lens, in the order of `Camera`."""
    k1, k2, k3, k4 = (float(value) for value in (*coefficients, 0, 0, 0, 0)[:4])
    return (k1, k2, 0.0, 0.0, k3, k4)


def with_pictures(
    folder: Path,
    calibration: Path,
    cameras: Sequence[Camera],
    source: Source | None,
    *,
    rescale: bool = True,
    fps: Fraction | None = None,
) -> Listing:
    """Cameras with the pictures that are called like them.

    These are `<name>.mp4` or another video, or pictures in `<name>/` whose names end with the frame's number, or one
    picture `<name>.png`; in the capture's folder, in `images/` or in `videos/`.

    Args:
        calibration: the file that lists the cameras, for messages.

    Raises:
        CaptureError: a camera has no pictures.
    """
    if not cameras:
        raise CaptureError(f"{calibration}: holds no cameras")
    missing = ""
    for kind in (source,) if source else ("images", "videos"):
        for below in _FOLDERS[kind]:
            root = folder / below
            found = [_of(root, camera.name, kind) for camera in cameras]
            if all(found):
                listed = [
                    CameraFiles(camera, files) if isinstance(files, Path) else CameraFiles(camera, images=files)
                    for camera, files in zip(cameras, found, strict=True)
                    if files
                ]
                given = fps or (IMAGE_RATE if kind == "images" else None)
                return Listing(tuple(listed), given, "images" if kind == "images" else "videos", rescale)
            if any(found) and not missing:
                lacking = next(camera.name for camera, files in zip(cameras, found, strict=True) if not files)
                missing = f"; in {root}, camera '{lacking}' has none"
    names = ", ".join(camera.name for camera in cameras[:4]) + (", ..." if len(cameras) > 4 else "")
    raise CaptureError(
        f"{calibration}: its cameras ({names}) have no {source or 'pictures'} of their names beside it{missing}; "
        f"expected {_EXPECTED}"
    )


def _of(root: Path, name: str, kind: str) -> Path | dict[int, Path] | None:
    """A camera's video, or its images by frame number."""
    plain = Path(name).name == name and name not in (".", "..")
    if not plain or not root.is_dir():
        return None
    if kind == "videos":
        videos = [root / f"{name}{ending}" for ending in sorted(_VIDEOS)]
        return next((path for path in videos if path.is_file()), None)
    inside = root / name
    if inside.is_dir():
        return numbered(path for path in sorted(inside.iterdir()) if path.suffix.lower() in _IMAGES)
    return next(({0: path} for path in (root / f"{name}{e}" for e in sorted(_IMAGES)) if path.is_file()), None)


def numbered(paths: Iterator[Path]) -> dict[int, Path]:
    """Pictures of a camera by the last number in their names, in order.

    Raises:
        CaptureError: a name without a number, or two with the same.
    """
    found: dict[int, Path] = {}
    for path in paths:
        numbers = re.findall(r"\d+", path.stem)
        if not numbers:
            raise CaptureError(f"{path}: has no frame number in its name")
        other = found.setdefault(int(numbers[-1]), path)
        if other != path:
            raise CaptureError(f"{path}: has the same frame number as {other.name}")
    return dict(sorted(found.items()))
