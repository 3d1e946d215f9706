"""What numpy arrays and torch tensors have in common, so that one text serves the host and a GPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A numpy array, or a torch tensor on whatever device."""


def namespace(array: Array) -> Any:
    """The module whose functions take the array: torch, or numpy. Both name those that are used here alike."""
    # Who holds a tensor has imported torch.
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else np


def single(array: Array) -> Array:
    """As float32."""
    return array.astype(np.float32) if isinstance(array, np.ndarray) else array.float()


def rows(columns: Sequence[Array]) -> Array:
    """`[N, C]` float32 from C columns `[N]`."""
    return namespace(columns[0]).stack([single(column) for column in columns], -1)


def on_host(array: Array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()
