"""What workers of a cluster do in tests; they import this module."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import ray
from files import PATIENCE, full_disk

from invcodec.capture.capture import Capture
from invcodec.segments.piece import encode_piece

MEMORY = 600_000_000


def on_small_disk(seen: Path, plan: Any, capture: Capture, index: int) -> Any:
    """Encodes a piece, but the disk of the first machine that asks is full."""
    node = ray.get_runtime_context().get_node_id()
    try:
        with (seen / "full").open("x") as file:
            file.write(node)
    except FileExistsError:
        pass
    (seen / f"{index}-{node}").touch()
    if (seen / "full").read_text() == node:
        with full_disk(200):
            return encode_piece(plan, capture, index)
    return encode_piece(plan, capture, index)


def hungry(log: Path, index: int) -> int:
    """Runs out of memory until it has twice as much."""
    memory = int(ray.get_runtime_context().get_assigned_resources()["memory"])
    with log.open("a") as file:
        file.write(f"{memory} ")
    if memory < 2 * MEMORY:
        raise MemoryError
    return index


def never(log: Path, index: int) -> int:
    with log.open("a") as file:
        file.write(f"{index} ")
    if index == 1:
        raise OSError(errno.EIO, "Input/output error", "disk")
    if index == 2:
        raise ValueError("a bug")
    return index


def on_two_machines(seen: Path, index: int) -> int:
    """Where each is tried first, task 0 fails and task 1 does not end; task 2 ends once task 1 has begun."""
    node = ray.get_runtime_context().get_node_id()
    try:
        with (seen / str(index)).open("x") as file:
            file.write(node)
    except FileExistsError:
        return index
    if index == 0:
        raise OSError(errno.EIO, "Input/output error", "disk")
    if index == 1:
        time.sleep(PATIENCE)
    while not ((seen / "1").exists() and (seen / "1").read_text()):
        time.sleep(0.01)
    return index
