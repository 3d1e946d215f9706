"""Packages that only some work needs; each belongs to an extra, as in `pip install 'invcodec[export]'`."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from invcodec.errors import UsageError


def require(module: str, extra: str, need: str) -> ModuleType:
    """A module of a package that an extra installs.

    Args:
        need: what cannot be done without it, for the message: "PLY files need plyfile".

    Raises:
        UsageError: it is not installed, or lacks a library of the system.
    """
    try:
        return import_module(module)
    except ImportError:
        raise UsageError(f"{need}: pip install 'invcodec[{extra}]'") from None
