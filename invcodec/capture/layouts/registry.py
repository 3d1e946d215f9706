"""Finds the layout of a capture, by name or by what its folder holds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from invcodec.capture.layouts.listing import Layout
from invcodec.errors import CaptureError
from invcodec.names import LAYOUT_GROUP, LAYOUTS, layouts, plugins


def load(name: str) -> Layout:
    """The layout of this name.

    Raises:
        CaptureError: there is none.
    """
    if name in LAYOUTS:
        return import_module(f"invcodec.capture.layouts.{name}").LAYOUT
    if (point := plugins(LAYOUT_GROUP).get(name)) is not None:
        return point.load()
    raise CaptureError(f"unknown layout '{name}'; choose from {', '.join(layouts())}")


def recognise(folder: Path, name: str | None = None) -> tuple[str, Layout]:
    """The named layout, or the first one that matches the folder.

    Raises:
        CaptureError: no such folder or layout, or none matches.
    """
    if not folder.exists():
        raise CaptureError(f"{folder}: no such directory")
    if not folder.is_dir():
        raise CaptureError(f"{folder}: not a directory; a capture is a directory with videos or images and their poses")
    if name is not None:
        return name, load(name)
    known = {name: load(name) for name in layouts()}
    for name, layout in known.items():
        if layout.matches(folder):
            return name, layout
    expected = " or ".join(layout.expects for layout in known.values())
    raise CaptureError(f"{folder}: no capture recognised here; expected {expected}")
