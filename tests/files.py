"""Files and parts of them, for the tests of the coding layer."""

from __future__ import annotations

import importlib.util
import resource
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from invcodec.container.canonical import pack, unpack
from invcodec.container.compressed import compress, decompress
from invcodec.container.head import FORMAT_VERSION, Head
from invcodec.geometry.camera import Camera
from invcodec.limits import MAX_HEAD_BYTES
from invcodec.mp4 import write_video


def a_camera(name: str, width: int, height: int) -> Camera:
    """A camera at the origin."""
    return Camera(name, width, height, 9.0, 9.0, width / 2, height / 2, np.eye(3, 4))


def fields_of(head: Head) -> dict[str, Any]:
    """The map that a header is stored as."""
    return unpack(decompress(head.to_bytes()[2:], "header", MAX_HEAD_BYTES), "header")


def head_payload(fields: Any, version: int = FORMAT_VERSION, reader: int = FORMAT_VERSION) -> bytes:
    """A HEAD record's payload; inverse of `fields_of`."""
    return bytes([version, reader]) + compress(pack(fields))


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Files that this process and its children write end after `size` bytes, like those on a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def save_video(path: Path, frames: Iterable[np.ndarray], fps: Fraction | int, *, crf: int = 12) -> None:
    """Write an mp4 file."""
    with open(path, "wb") as file:
        write_video(file, frames, Fraction(fps), crf=crf)


PATIENCE = 300.0
"""Seconds before a test gives up waiting; only a failing test waits this long."""
ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "spec"


def load(name: str, folder: Path = SPEC) -> ModuleType:
    """A script of `spec/` or another folder as a module; it is no part of the package."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


reference = load("reference")
make_vectors = load("make_vectors")
