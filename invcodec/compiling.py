"""Compiling functions for the processor, and where machine code is kept from one run to the next."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit

from invcodec.output import user_cache

_PACKAGE = Path(__file__).parent
SOURCES = (
    "coding/codec.py",
    "coding/guide.py",
    "coding/mixing.py",
    "coding/model.py",
    "coding/rangecoder.py",
    "coding/state.py",
    "compiling.py",
    "field/grid.py",
    "field/grid_layout.py",
    "field/kernels/grid.py",
    "field/kernels/options.py",
    "field/kernels/simd.py",
    "render/engine.py",
    "render/kernels.py",
    "training/walk.py",
)
"""Files whose functions are compiled, and those whose constants go into them."""
_PREFIX = "compiled-"


def _digest(package: Path) -> str:
    """Of what the sources say now."""
    found = hashlib.sha256()
    for source in SOURCES:
        found.update(hashlib.sha256((package / source).read_bytes()).digest())
    return found.hexdigest()[:16]


def _cache(package: Path) -> Path | None:
    """A folder of these sources' own for machine code: where the user wants it, in the package, or the user's cache.

    numba itself asks whether the file of a function is the one that was compiled. Machine code also contains functions
    and constants of other files, which may have changed since: when a new version is installed, or in a working copy.
    """
    own = package / "__pycache__"
    try:
        name = _PREFIX + _digest(package)
        users = user_cache()
    except (OSError, RuntimeError):  # sources in an archive; a user without a home
        return None
    for parent in [Path(config.CACHE_DIR)] if config.CACHE_DIR else [own, users]:
        folder = parent / name
        new = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        if new and parent == own:
            for old in own.glob(_PREFIX + "*"):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)
        return folder
    return None


_CACHE = _cache(_PACKAGE)


def compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with these options and a cache. Where none can be written, each run compiles anew."""

    def compiled(function: Callable[..., Any]) -> Any:
        users = config.CACHE_DIR
        config.CACHE_DIR = str(_CACHE or "")
        try:
            return njit(cache=_CACHE is not None, **options)(function)
        finally:
            config.CACHE_DIR = users

    return compiled
