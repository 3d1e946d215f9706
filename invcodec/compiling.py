"""Where compiled functions are cached."""

from __future__ import annotations

import os
from pathlib import Path


def _can_cache() -> bool:
    """Whether numba will find a folder to write to: its own choice, the package's, or the user's."""
    if os.environ.get("NUMBA_CACHE_DIR") or os.access(Path(__file__).parent, os.W_OK):
        return True
    try:
        folder = Path.home() / ".cache" / "numba"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return False
    return os.access(folder, os.W_OK)


CACHE = _can_cache()
"""Passed to every compiler. Without it each run compiles anew, which is slow but works."""
