"""PLY files of 3D Gaussian splats, with the properties that Kerbl et al. (2023) gave them and all players read."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from invcodec.exporting.splats import Splats
from invcodec.extras import require
from invcodec.geometry.rotations import to_quaternion

_NAMES = (
    *("x", "y", "z"),
    *("f_dc_0", "f_dc_1", "f_dc_2"),
    "opacity",
    *("scale_0", "scale_1", "scale_2"),
    *("rot_0", "rot_1", "rot_2", "rot_3"),
)
_CONSTANT = 0.28209479177387814
"""The spherical harmonic of degree 0, whose coefficient `f_dc` is, from a colour of 0.5 on."""
_LEAST_SCALE = 1e-12
_HALF_TURN = np.diag([-1.0, -1.0, 1.0])
"""About z: files have +y down, as the cameras of structure from motion, and players turn them back."""


def require_plyfile() -> Any:
    """The module plyfile.

    Raises:
        UsageError: it is not installed.
    """
    return require("plyfile", "export", "PLY files need plyfile")


def ply_bytes(splats: Splats) -> bytes:
    """The file, binary, of splats in axes with +y up.

    Raises:
        UsageError: plyfile is not installed.
    """
    plyfile = require_plyfile()
    splats = splats.turned(_HALF_TURN)
    values = np.concatenate(
        [
            splats.positions,
            (splats.colours - 0.5) / _CONSTANT,
            np.log(splats.opacities / (1 - splats.opacities))[:, None],
            np.log(splats.scales.clip(min=_LEAST_SCALE)),
            to_quaternion(splats.axes),
        ],
        1,
    ).astype("<f4")
    rows = values.view([(name, "<f4") for name in _NAMES])[:, 0]
    file = io.BytesIO()
    plyfile.PlyData([plyfile.PlyElement.describe(rows, "vertex")], byte_order="<").write(file)
    return file.getvalue()
