"""Binary glTF 2.0 files of meshes with vertex colours."""

from __future__ import annotations

from typing import Any

import numpy as np

from invcodec import srgb
from invcodec.exporting.surface import Mesh
from invcodec.extras import require

_COLOURS = "_COLOUR"
_UNLIT = "KHR_materials_unlit"


def require_trimesh() -> Any:
    """The module trimesh.

    Raises:
        UsageError: it is not installed.
    """
    return require("trimesh", "export", "GLB files need trimesh")


def glb_bytes(mesh: Mesh) -> bytes:
    """The file of a mesh in axes with +y up, which is shown in its own colours, without lights.

    Raises:
        UsageError: trimesh is not installed.
    """
    trimesh = require_trimesh()
    # Vertex colours of glTF are linear light.
    colours = np.concatenate([srgb.to_linear(mesh.colours), np.ones((len(mesh.colours), 1))], 1)
    made = trimesh.Trimesh(
        mesh.positions,
        mesh.triangles,
        vertex_attributes={_COLOURS: np.rint(65535 * colours).astype(np.uint16)},
        process=False,
    )
    return trimesh.exchange.gltf.export_glb(made.scene(), include_normals=False, tree_postprocessor=_as_colours)


def _as_colours(tree: dict[str, Any]) -> None:
    """Make the attribute of 16 bits the colours: of its own, trimesh writes 8, too few for dark linear light."""
    (primitive,) = (each for mesh in tree["meshes"] for each in mesh["primitives"])
    attributes = primitive["attributes"]
    attributes["COLOR_0"] = attributes.pop(_COLOURS)
    tree["accessors"][attributes["COLOR_0"]]["normalized"] = True
    tree["materials"] = [{"doubleSided": True, "extensions": {_UNLIT: {}}}]
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), _UNLIT]
    primitive["material"] = 0
