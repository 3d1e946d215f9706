"""Parts of files, for the tests of the coding layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from invcodec.capture.camera import Camera


def a_camera(name: str, width: int, height: int) -> dict[str, Any]:
    """A camera as a file holds it, at the origin."""
    return Camera(name, width, height, 9.0, 9.0, width / 2, height / 2, np.eye(3, 4)).to_dict()
