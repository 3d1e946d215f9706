"""Input layouts: each turns a folder into cameras and, per camera, a place to read images from.

A new layout is one file with a `matches` and a `read` function, and one line in `LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from invcodec.capture.layouts import n3dv, transforms
from invcodec.capture.layouts.listing import Listing, Source
from invcodec.errors import CaptureError


@dataclass(frozen=True)
class Layout:
    """A way to lay out a capture on disk.

    Attributes:
        matches: whether a folder looks like it.
        read: everything that the folder declares, from images or videos as asked (None: whichever is there,
            images first).
        expects: what a user must provide, for error messages.
    """

    name: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, Source | None], Listing]
    expects: str


LAYOUTS = (
    Layout("transforms", transforms.matches, transforms.read, "transforms.json"),
    Layout("n3dv", n3dv.matches, n3dv.read, "camNN.mp4 and poses_bounds.npy"),
)
"""In order of preference."""

LayoutName = Literal["transforms", "n3dv"]


def recognise(folder: Path, name: str | None) -> Layout:
    """The layout of a folder, or the one that was asked for.

    Raises:
        CaptureError: no such folder, or nothing in it that is known.
    """
    if not folder.exists():
        raise CaptureError(f"{folder}: no such directory")
    if not folder.is_dir():
        raise CaptureError(f"{folder}: not a directory; a capture is a directory with videos or images and their poses")
    for layout in LAYOUTS:
        if layout.name == name or (name is None and layout.matches(folder)):
            return layout
    known = " or ".join(layout.expects for layout in LAYOUTS)
    raise CaptureError(f"{folder}: no capture recognised here; expected {known}")
