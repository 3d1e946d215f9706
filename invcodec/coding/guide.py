"""Coding order, and hints of where the levels of a grid change (FORMAT.md, "Order" and "Hints").

A hint says how much is likely to happen at each place of a tensor before it is coded. The vertices that the occupied
cells touch are looked up in each level as a renderer would. In a KEY, that tells which entries of a hashed level
matter; in a DELTA, coarser levels tell in which cells something changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from invcodec.coding.rangecoder import jit
from invcodec.container.head import Head, NetworkInfo
from invcodec.field.grid_layout import (
    HASH_PRIMES,
    LEVEL_FEATURES,
    PROFILE_ID,
    PROFILE_VERSION,
    dense_shape,
    level_name,
)
from invcodec.field.profile import OCCUPANCY, TensorKey

_MAX_LEVELS = 16
_MAX_RESOLUTION = 4096
_MAX_CELLS = 128
"""Along each axis."""
_MAX_VISITS = 1 << 26
"""Most vertices that are visited for one level; a level that needs more has no hints."""
_FULL = 32
"""Activity of a cell all of whose vertices have changed."""
_HINTS = np.searchsorted((1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 17, 20, 25, 32), np.arange(_FULL + 1), "right").astype(
    np.uint8
)
"""Hint of each activity."""
_, _PRIME_Y, _PRIME_Z = HASH_PRIMES


@dataclass(frozen=True)
class CodingUnit:
    """A tensor in coding order.

    Attributes:
        key: its name.
        position: its index in the table.
        shape: as declared.
    """

    key: TensorKey
    position: int
    shape: tuple[int, ...]
    _guide: Guide
    _index: int

    def hints(self) -> np.ndarray | None:
        """See `Guide.hints`."""
        return self._guide.hints(self._index)

    def learn(self, base: np.ndarray, residual: np.ndarray | None, changed: np.ndarray | None) -> None:
        """See `Guide.learn`; every tensor must be learned before the next one."""
        self._guide.learn(self._index, base, residual, changed)


def coding_order(head: Head, *, is_delta: bool) -> Iterator[CodingUnit]:
    """All tensors of a record, in the order in which they are coded."""
    position = 0
    for network in head.networks:
        guide = Guide(network, is_delta)
        for index in order(network):
            tensor = network.tensors[index]
            yield CodingUnit((network.name, tensor.name), position + index, tensor.shape, guide, index)
        position += len(network.tensors)


def order(network: NetworkInfo) -> list[int]:
    """Indices of a network's tensors in coding order: occupancy comes first."""
    return sorted(range(len(network.tensors)), key=lambda t: not _is_occupancy(network, t))


def _is_grid(network: NetworkInfo) -> bool:
    return (network.profile, network.version) == (PROFILE_ID, PROFILE_VERSION)


def _is_occupancy(network: NetworkInfo, tensor: int) -> bool:
    return _is_grid(network) and network.tensors[tensor].name == OCCUPANCY


class Guide:
    """Hints for the tensors of one network, from those of the record that are already coded.

    Args:
        network: as a file declares it, which may be anything; only tensors as profile `grid` has them get hints.
        is_delta: whether the record is a DELTA.
    """

    def __init__(self, network: NetworkInfo, is_delta: bool) -> None:
        self._network = network
        self._is_delta = is_delta
        self._cells = 0
        # Cells `[C, 3]` uint8, and the activity of all, `[M, M, M]`.
        self._occupied = self._active = np.empty((0, 3), np.uint8)
        self._activity = np.empty(0, np.uint8)
        resolutions = network.config.get("resolutions")
        known = _is_grid(network) and isinstance(resolutions, list)
        self._resolutions = resolutions[:_MAX_LEVELS] if known and resolutions else []

    def hints(self, tensor: int) -> np.ndarray | None:
        """Hints of the tensor that is coded next, `[P]` uint8 below `model.HINTS`; None: all are 0."""
        level = self._level(tensor)
        if level is None:
            return None
        resolution, table = level
        cells = self._active if self._is_delta else self._occupied
        if not self._may_visit(resolution, cells):
            return None
        size = math.prod(self._network.tensors[tensor].shape[:-1])
        if self._is_delta:
            hints = np.zeros(size, np.uint8)
            _spread(resolution, table, *_spans(resolution, self._cells), cells, self._activity, hints)
            return hints
        found = np.zeros(size, np.int32)
        _count(resolution, table, *_spans(resolution, self._cells), cells, found)
        return np.minimum(np.frexp(found)[1], 15).astype(np.uint8)

    def learn(self, tensor: int, base: np.ndarray, residual: np.ndarray | None, changed: np.ndarray | None) -> None:
        """Update activities with a tensor that has been coded.

        Args:
            base: its predicted integers.
            residual: what was coded, or None if it does not change.
            changed: `[P]` uint8, 1 at places whose residual is not 0, or None likewise.
        """
        shape = self._network.tensors[tensor].shape
        if _is_occupancy(self._network, tensor):
            if len(set(shape)) == 1 and len(shape) == 3 and shape[0] <= _MAX_CELLS:
                self._cells = shape[0]
                self._activity = np.zeros(shape, np.uint8)
                integers = base if residual is None else base + residual
                self._occupied = np.empty((np.count_nonzero(integers), 3), np.uint8)
                _list_occupied(integers, self._occupied)
            return
        level = self._level(tensor)
        if level is None or not self._is_delta or tensor + 1 == len(self._resolutions):
            return
        resolution, table = level
        cells = self._active if table else self._occupied
        if self._may_visit(resolution, cells):
            flags = np.zeros(math.prod(shape[:-1]), np.uint8) if changed is None else changed
            active = np.empty_like(cells)
            # Rows along z: most of a dense level's have no change and are skipped.
            rows = flags if table else flags.reshape(-1, resolution + 1).max(1)
            spans = _spans(resolution, self._cells)
            count = _gather(resolution, table, *spans, cells, self._activity, flags, rows, active)
            self._active = active[:count]

    def _level(self, tensor: int) -> tuple[int, int] | None:
        """A level's resolution and its table size (0 if it is dense); None for any other tensor."""
        if not self._cells or tensor >= len(self._resolutions):
            return None
        resolution, info = self._resolutions[tensor], self._network.tensors[tensor]
        if type(resolution) is not int or not 1 <= resolution <= _MAX_RESOLUTION or info.name != level_name(tensor):
            return None
        if info.shape == dense_shape(resolution):
            return resolution, 0
        if len(info.shape) == 2 and info.shape[1] == LEVEL_FEATURES and info.shape[0] & (info.shape[0] - 1) == 0:
            return resolution, info.shape[0]
        return None

    def _may_visit(self, resolution: int, cells: np.ndarray) -> bool:
        return len(cells) * (-(-resolution // self._cells) + 2) ** 3 <= _MAX_VISITS


def _spans(resolution: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """First vertex along one axis that each cell touches, and one past the last."""
    cell = np.arange(cells)
    return cell * resolution // cells, np.minimum(((cell + 1) * resolution + cells - 1) // cells, resolution) + 1


@jit
def _entry(resolution, table, x, y, z):
    """Table entry of a vertex (FORMAT.md, "Profile 2: grid")."""
    if table:
        return (x ^ (y * _PRIME_Y & 0xFFFFFFFF) ^ (z * _PRIME_Z & 0xFFFFFFFF)) & (table - 1)
    return (x * (resolution + 1) + y) * (resolution + 1) + z


@jit
def _count(resolution, table, first, stop, cells, found):
    """Add 1 to a vertex's entry for every cell that it touches."""
    for i in range(len(cells)):
        a, b, c = cells[i, 0], cells[i, 1], cells[i, 2]
        for x in range(first[a], stop[a]):
            for y in range(first[b], stop[b]):
                for z in range(first[c], stop[c]):
                    found[_entry(resolution, table, x, y, z)] += 1


@jit
def _list_occupied(integers, cells):
    """The cells whose integer is not 0, in order, into `cells` `[C, 3]`."""
    count = 0
    for a in range(integers.shape[0]):
        for b in range(integers.shape[1]):
            for c in range(integers.shape[2]):
                if integers[a, b, c] != 0:
                    cells[count, 0], cells[count, 1], cells[count, 2] = a, b, c
                    count += 1


@jit
def _spread(resolution, table, first, stop, cells, activity, hints):
    """The hint of the highest activity of the cells that an entry's vertices touch."""
    for i in range(len(cells)):
        a, b, c = cells[i, 0], cells[i, 1], cells[i, 2]
        own = _HINTS[activity[a, b, c]]
        for x in range(first[a], stop[a]):
            for y in range(first[b], stop[b]):
                for z in range(first[c], stop[c]):
                    entry = _entry(resolution, table, x, y, z)
                    if hints[entry] < own:
                        hints[entry] = own


@jit
def _gather(resolution, table, first, stop, cells, activity, changed, rows, active):
    """The mean of a cell's activity and the share of its vertices that have changed; lists cells where it is not 0.

    Returns:
        The number of cells in `active`.
    """
    listed = 0
    for i in range(len(cells)):
        a, b, c = cells[i, 0], cells[i, 1], cells[i, 2]
        count = 0
        for x in range(first[a], stop[a]):
            for y in range(first[b], stop[b]):
                if table == 0 and not rows[x * (resolution + 1) + y]:
                    continue
                for z in range(first[c], stop[c]):
                    count += changed[_entry(resolution, table, x, y, z)]
        share = 0
        if count:
            share = 32 * count // ((stop[a] - first[a]) * (stop[b] - first[b]) * (stop[c] - first[c]))
        activity[a, b, c] = (activity[a, b, c] + share) >> 1
        if activity[a, b, c] > 0:
            active[listed, 0], active[listed, 1], active[listed, 2] = a, b, c
            listed += 1
    return listed
