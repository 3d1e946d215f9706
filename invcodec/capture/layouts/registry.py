"""Finds the layout of a capture, by name or by what its folder holds."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from invcodec.capture.layouts.listing import Layout
from invcodec.errors import CaptureError
from invcodec.names import LAYOUT_GROUP, LAYOUTS, layouts, load_plugin, loaded_plugins, plugins


def load(name: str) -> Layout:
    """The layout of this name.

    Raises:
        CaptureError: there is none.
        UsageError: it is a plug-in that cannot be loaded.
    """
    if name in LAYOUTS:
        return import_module(f"invcodec.capture.layouts.{name}").LAYOUT
    if (point := plugins(LAYOUT_GROUP).get(name)) is not None:
        return load_plugin(point)
    raise CaptureError(f"unknown layout '{name}'; choose from {', '.join(layouts())}")


def is_capture(folder: Path) -> bool:
    """Whether a layout matches the folder, or file."""
    return any(layout.files(folder) for _, layout in _in_order())


def recognise(folder: Path, name: str | None = None) -> tuple[str, Layout]:
    """The named layout, or the first one that matches the folder.

    Raises:
        CaptureError: no such folder or layout, or none matches.
        UsageError: the named layout is a plug-in that cannot be loaded.
    """
    if not folder.exists():
        raise CaptureError(f"{folder}: no such file or directory")
    if not (folder.is_dir() or folder.is_file()):
        raise CaptureError(f"{folder}: neither a directory nor a file")
    if name is not None:
        layout = load(name)
        if folder.is_file() and not layout.files(folder):
            raise CaptureError(f"{folder}: not a directory, which layout '{name}' needs")
        return name, layout
    expected = []
    for name, layout in _in_order():
        if layout.files(folder):
            return name, layout
        expected.append(layout.expects)
    raise CaptureError(f"{folder}: no capture recognised here; expected {' or '.join(expected)}")


def _in_order() -> Iterator[tuple[str, Layout]]:
    """All layouts in order of preference; plug-ins are loaded only if no built-in one is taken."""
    yield from ((name, load(name)) for name in LAYOUTS)
    yield from ((name, layout) for name, layout in loaded_plugins(LAYOUT_GROUP) if name not in LAYOUTS)
