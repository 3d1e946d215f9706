"""What compiled functions need around them: where they are kept, and how Ctrl-C gets out of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt, also where it came while a compiled function was being called.

    There Python sees functions that return although an exception is pending, and each time raises SystemError from it.
    """
    try:
        yield
    except SystemError as error:
        cause: BaseException | None = error
        while isinstance(cause, SystemError):
            cause = cause.__cause__
        if isinstance(cause, KeyboardInterrupt):
            raise cause from None
        raise
