"""EasyMocap, EasyVolcap, ZJU-MoCap: `intri.yml` and `extri.yml`, which OpenCV's FileStorage writes.

For each name in `names`, `K_<name>` (3x3), `D_<name>` or `dist_<name>`, optionally `W_<name>` and `H_<name>`; and
`Rot_<name>` (3x3) or `R_<name>` (Rodrigues), and `T_<name>`.
"""

from __future__ import annotations

from pathlib import Path

from invcodec.capture.layouts.calibration import OPENCV_CORNER, Values, load_yaml, picture_size, with_pictures
from invcodec.capture.layouts.listing import Layout, Listing, existing
from invcodec.geometry.convention import OPENCV_INVERTED
from invcodec.names import Source

_LENSES, _POSES = "intri.yml", "extri.yml"


def files(folder: Path) -> list[Path]:
    return existing(folder, _LENSES, _POSES)


def read(folder: Path, source: Source | None) -> Listing:
    lenses, poses = load_yaml(folder / _LENSES), load_yaml(folder / _POSES)
    names = lenses.get("names")
    if not isinstance(names, list) or not names:
        names = [key[2:] for key in lenses if isinstance(key, str) and key.startswith("K_")]
    names = [str(name) for name in names]
    cameras = []
    for name in names:
        lens = Values(lenses, f"{folder / _LENSES}: camera '{name}'")
        pose = Values(poses, f"{folder / _POSES}: camera '{name}'")
        matrix = lens.array(f"K_{name}", (3, 3))
        given = [lens.number(f"{side}_{name}", 0) for side in "WH"]
        size = lens.size(given) if all(given) else picture_size(folder, name, folder / _LENSES)
        distortion = lens.distortion(f"D_{name}" if f"D_{name}" in lenses else f"dist_{name}")
        rotation = next((key for key in (f"Rot_{name}", f"R_{name}") if key in poses), f"Rot_{name}")
        world = pose.pose(rotation, f"T_{name}")
        cameras.append(lens.camera(name, size, matrix, world, distortion, corner=OPENCV_CORNER))
    return with_pictures(folder, folder / _LENSES, cameras, source)


LAYOUT = Layout(files, read, f"{_LENSES} and {_POSES}", OPENCV_INVERTED)
