"""Helpers that accept NumPy arrays and torch tensors alike."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A numpy array, or a torch tensor on any device."""


def namespace(array: Array) -> Any:
    """The module whose functions take this array, torch or numpy; function names that are used are the same in both."""
    # Whoever holds a tensor has imported torch.
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else np


def single(array: Array) -> Array:
    """The array as float32."""
    return array.astype(np.float32) if isinstance(array, np.ndarray) else array.float()


def rows(columns: Sequence[Array]) -> Array:
    """`[N, C]` float32 from C columns `[N]`."""
    return namespace(columns[0]).stack([single(column) for column in columns], -1)


def on_host(array: Array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()
