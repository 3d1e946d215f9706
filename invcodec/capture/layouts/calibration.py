"""What readers of calibration files share: bounded reading, checked numbers, cameras as OpenCV describes them, and the
pictures that belong to a camera's name."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml

from invcodec.capture.image import check_file, image_size
from invcodec.capture.layouts.listing import CameraFiles, Listing
from invcodec.capture.video import probe
from invcodec.errors import CaptureError
from invcodec.geometry.camera import DISTORTION, MAX_NUMBER, Camera, check_pose
from invcodec.geometry.rotations import from_axis_angle, pose_from_opencv
from invcodec.limits import MAX_CAMERAS
from invcodec.names import Source
from invcodec.places import is_dir, is_file

IMAGE_RATE = Fraction(30)
"""Frames per second of images whose rate is not given."""
_MAX_BYTES = 4 << 20
"""Of a text file with a calibration, thousands of cameras."""
_MAX_VALUES = 1 << 18
_MAX_DEPTH = 8
"""Of a YAML or TOML file: how many values it may have, and how deep in each other."""
_IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".tga", ".exr"}
_VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".ts", ".mpg", ".mxf"}
_FOLDERS = {"images": ("images", ".", "images_2", "images_4", "images_8", "rgbs"), "videos": (".", "videos", "images")}
"""Where pictures may be, in order of preference."""
_EXPECTED = "NAME.mp4, NAME/0000.png or images/NAME/0000.png"


def read_text(path: Path) -> str:
    """The contents of a calibration file.

    Raises:
        CaptureError: missing, not a regular file, not readable, not text, or larger than any calibration.
    """
    check_file(path, "file")
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise CaptureError(f"{path}: is larger than {_MAX_BYTES >> 20} MiB, too large for a calibration")
        return data.decode("utf-8-sig")
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


class _Loader(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc]  # libyaml is optional
    """YAML in which all values are text, and OpenCV's matrices are lists."""


def _matrix(loader: Any, node: yaml.Node) -> Any:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.YAMLError("an opencv-matrix is not a map")
    fields = loader.construct_mapping(node, deep=True)
    rows, columns, data = (fields.get(key) for key in ("rows", "cols", "data"))
    if not (isinstance(rows, str) and isinstance(columns, str) and isinstance(data, list)):
        raise yaml.YAMLError("an opencv-matrix without rows, cols and data")
    if int(rows) * int(columns) != len(data):
        raise yaml.YAMLError(f"an opencv-matrix of {rows}x{columns} with {len(data)} values")
    return data


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", _matrix)


def load_yaml(path: Path) -> dict[str, Any]:
    """A map in YAML, or in the dialect of OpenCV's FileStorage; whatever is not a list or a map is text.

    Raises:
        CaptureError: not a map, or it repeats values by aliases, with which a small file can be a large one.
    """
    text = read_text(path)
    # "%YAML:1.0" is no directive of YAML.
    if text.startswith("%YAML"):
        text = text.partition("\n")[2]
    with parsing(path, "YAML"):
        try:
            _check_yaml(text)
            data = yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            raise ValueError(error) from None
    if not isinstance(data, dict):
        raise CaptureError(f"{path}: is not a map of names to values")
    return data


def _check_yaml(text: str) -> None:
    """Refuse what would take much time, memory or stack to load."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, _Loader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"*{event.anchor} stands for values that are elsewhere; write them out")
        if depth > _MAX_DEPTH or count > _MAX_VALUES:
            raise yaml.YAMLError("too many values for a calibration, or too deep in each other")


_DOTTED = re.compile(rf"""(?:\.[ \t]*(?:[\w-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*){{{_MAX_DEPTH}}}""")


def load_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        CaptureError
    """
    text = read_text(path)
    with parsing(path, "TOML"):
        # The time that a key takes is quadratic in its parts.
        if _DOTTED.search(text):
            raise ValueError(f"a key of more than {_MAX_DEPTH} parts")
        return tomllib.loads(text)


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table, by its heading, which has at least these columns; the first of them is the camera's name.

    Raises:
        CaptureError
    """
    reader = csv.reader(read_text(path).splitlines(), skipinitialspace=True)
    rows: list[dict[str, str]] = []
    with parsing(path, "CSV"):
        try:
            heading = next(reader, [])
            if missing := [column for column in columns if column not in heading]:
                raise CaptureError(f"{path}: has no column '{missing[0]}'")
            for line in filter(None, reader):
                row = dict(zip(heading, line, strict=False))
                if not all(row.get(column, "").strip() for column in columns):
                    raise CaptureError(f"{path}: line {reader.line_num} has no value in one of its columns")
                if len(rows) == MAX_CAMERAS:
                    raise CaptureError(f"{path}: has more than {MAX_CAMERAS} cameras")
                rows.append(row)
        except csv.Error as error:
            raise ValueError(error) from None
    return rows


def first_with(folder: Path, pattern: str, fits: Callable[[str], bool]) -> list[Path]:
    """The first file of a pattern whose text fits, alone; none if none does."""
    for path in sorted(folder.glob(pattern)):
        with suppress(CaptureError):
            if fits(read_text(path)):
                return [path]
    return []


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        CaptureError: not XML, or it defines entities, with which a small file can be a large one.
    """
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CaptureError(f"{path}: defines its own document type, which no calibration needs")
    with parsing(path, "XML"):
        # As text, whatever encoding it declares.
        return ElementTree.fromstring(text)


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


def only(folder: Path, pattern: str) -> list[Path]:
    """The file that matches a pattern, alone; none if there is none, or if several do."""
    found = list(folder.glob(pattern))
    return found if len(found) == 1 else []


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


def camera_names(folder: Path, kind: Source) -> list[str]:
    """Names of the cameras that have pictures of a kind, in natural order, for a folder without a calibration."""
    found: list[str] = []
    for root in (folder / below for below in _FOLDERS[kind]):
        if len(found) < 2 and root.is_dir():
            found = _camera_names(sorted(root.iterdir(), key=lambda path: natural(path.name)), kind) or found
    return found


def _camera_names(entries: Sequence[Path], kind: Source) -> list[str]:
    """Names of the cameras whose pictures are among the entries of one folder."""
    fits = _is_image if kind == "images" else _is_video
    names = list(dict.fromkeys(path.stem for path in entries if fits(path)))
    if kind == "images":
        folders = [path.name for path in entries if path.is_dir() and any(map(_is_image, path.iterdir()))]
        # A picture beside folders of them is none of a camera.
        return folders if len(folders) > 1 or not names else names
    return names


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _IMAGES and path.is_file()


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in _VIDEOS and path.is_file()


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts cam_2 before cam_10."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]


def _of(root: Path, name: str, kind: str) -> Path | dict[int, Path] | None:
    """A camera's video, or its images by frame number."""
    plain = Path(name).name == name and name not in (".", "..")
    if not plain or not is_dir(root):
        return None
    if kind == "videos":
        videos = [root / f"{name}{ending}" for ending in sorted(_VIDEOS)]
        return next((path for path in videos if is_file(path)), None)
    inside = root / name
    if is_dir(inside):
        return numbered(path for path in sorted(inside.iterdir()) if path.suffix.lower() in _IMAGES)
    return next(({0: path} for path in (root / f"{name}{e}" for e in sorted(_IMAGES)) if is_file(path)), None)


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
