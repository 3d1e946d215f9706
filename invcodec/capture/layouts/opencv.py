"""EasyMocap, EasyVolcap, ZJU-MoCap: `intri.yml` and `extri.yml`, which OpenCV's FileStorage writes.

For each name in `names`, `K_<name>` (3x3), `D_<name>` or `dist_<name>`, optionally `W_<name>` and `H_<name>`; and
`Rot_<name>` (3x3) or `R_<name>` (Rodrigues), and `T_<name>`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from invcodec.capture.image import image_size
from invcodec.capture.layouts.calibration import OPENCV_CORNER, Values, parsing, read_text, with_pictures
from invcodec.capture.layouts.listing import OPENCV_AXES, Layout, Listing
from invcodec.capture.video import probe
from invcodec.errors import CaptureError
from invcodec.names import Source

_LENSES, _POSES = "intri.yml", "extri.yml"


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


def matches(folder: Path) -> bool:
    return (folder / _LENSES).is_file() and (folder / _POSES).is_file()


def read(folder: Path, source: Source | None) -> Listing:
    lenses, poses = load_yaml(folder / _LENSES), load_yaml(folder / _POSES)
    names = lenses.get("names")
    if not isinstance(names, list) or not names:
        names = [key[2:] for key in lenses if isinstance(key, str) and key.startswith("K_")]
    names = [str(name) for name in names]
    cameras = []
    # The size of the pictures stands in for one that is not given, so they are looked for first.
    for name in names:
        lens = Values(lenses, f"{folder / _LENSES}: camera '{name}'")
        pose = Values(poses, f"{folder / _POSES}: camera '{name}'")
        matrix = lens.array(f"K_{name}", (3, 3))
        given = [lens.number(f"{side}_{name}", 0) for side in "WH"]
        size = lens.size(given) if all(given) else (0, 0)
        distortion = lens.distortion(f"D_{name}" if f"D_{name}" in lenses else f"dist_{name}")
        rotation = next((key for key in (f"Rot_{name}", f"R_{name}") if key in poses), f"Rot_{name}")
        world = pose.pose(rotation, f"T_{name}")
        cameras.append(lens.camera(name, size, matrix, world, distortion, corner=OPENCV_CORNER))
    return sized(with_pictures(folder, folder / _LENSES, cameras, source))


def sized(listing: Listing) -> Listing:
    """The listing with the sizes of pictures for cameras whose calibration has none."""
    listed = []
    for files in listing.cameras:
        if not files.camera.width:
            if files.video is not None:
                info = probe(files.video)
                size = info.width, info.height
            else:
                size = image_size(next(iter(files.images.values())))
            files = replace(files, camera=replace(files.camera, width=size[0], height=size[1]))
        listed.append(files)
    return replace(listing, cameras=tuple(listed))


LAYOUT = Layout(matches, read, f"{_LENSES} and {_POSES}", OPENCV_AXES)
