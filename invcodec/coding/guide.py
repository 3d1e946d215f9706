"""Where a grid changes: what its occupied cells and coarser levels tell of the finer levels (FORMAT.md, "Hints").

The vertices of each level at the occupied cells are looked up as a renderer would. A keyframe learns from that which
entries of a hashed level matter; a delta learns from the levels before in which cells something happens.
"""

from __future__ import annotations

import math

import numpy as np

from invcodec.coding.rangecoder import jit
from invcodec.container.head import NetworkInfo

_PROFILE, _VERSION = 2, 1
_OCCUPANCY = "occupancy"
_MAX_LEVELS = 16
_MAX_CELLS = 128
"""Along each axis."""
_MAX_VISITS = 1 << 26
"""Of vertices, for one level: a level that would need more has no hints."""
_FULL = 32
"""Activity of a cell all of whose vertices have changed."""
_HINTS = np.searchsorted((1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 17, 20, 25, 32), np.arange(_FULL + 1), "right").astype(
    np.uint8
)
"""Of each activity."""


def order(network: NetworkInfo) -> list[int]:
    """Indices of a network's tensors in the order in which they are coded: occupancy comes first."""
    return sorted(range(len(network.tensors)), key=lambda t: not _is_occupancy(network, t))


def _is_occupancy(network: NetworkInfo, tensor: int) -> bool:
    return (network.profile, network.version, network.tensors[tensor].name) == (_PROFILE, _VERSION, _OCCUPANCY)


class Guide:
    """What a record has told of one network so far.

    Args:
        network: any; there are no hints for one that is not of profile `grid`, or not as that profile has it.
        is_delta: whether the record is.
    """

    def __init__(self, network: NetworkInfo, is_delta: bool) -> None:
        self._network = network
        self._is_delta = is_delta
        self._cells = 0
        # Cells `[C, 3]`, and the activity of all, `[M, M, M]`.
        self._occupied = self._active = np.empty((0, 3), np.int64)
        self._activity = np.empty(0, np.uint8)
        resolutions = network.config.get("resolutions")
        known = (network.profile, network.version) == (_PROFILE, _VERSION) and isinstance(resolutions, list)
        self._resolutions = resolutions[:_MAX_LEVELS] if known and resolutions else []

    def hints(self, tensor: int) -> np.ndarray | None:
        """For a tensor that is coded next, `[P]` uint8, one for each of its places; None: all are 0."""
        level = self._level(tensor)
        if level is None:
            return None
        resolution, table = level
        cells = self._active if self._is_delta else self._occupied
        if not self._may_visit(resolution, cells):
            return None
        size = math.prod(self._network.tensors[tensor].shape[:-1])
        found = np.zeros(size, np.uint8 if self._is_delta else np.int32)
        if self._is_delta:
            _spread(resolution, table, *_spans(resolution, self._cells), cells, self._activity, found)
            return _HINTS[found]
        _count(resolution, table, *_spans(resolution, self._cells), cells, found)
        return np.minimum(np.frexp(found)[1], 15).astype(np.uint8)

    def learn(
        self, tensor: int, before: np.ndarray | None, values: np.ndarray | None, changed: np.ndarray | None
    ) -> None:
        """Take in a tensor that has been coded.

        Args:
            before: its integers before the record, or None in a keyframe.
            values: what was coded, or None if it does not change.
            changed: `[P]` uint8, which places have changed, or None likewise.
        """
        shape = self._network.tensors[tensor].shape
        if _is_occupancy(self._network, tensor):
            if len(set(shape)) == 1 and len(shape) == 3 and shape[0] <= _MAX_CELLS:
                self._cells = shape[0]
                levels = (0 if before is None else before) + (0 if values is None else values)
                self._occupied = np.argwhere(levels)
                self._activity = np.zeros(shape, np.uint8)
            return
        level = self._level(tensor)
        if level is None or not self._is_delta or tensor + 1 == len(self._resolutions):
            return
        resolution, table = level
        cells = self._active if table else self._occupied
        if self._may_visit(resolution, cells):
            flags = np.zeros(math.prod(shape[:-1]), np.uint8) if changed is None else changed
            alive = np.zeros(len(cells), np.bool_)
            # Rows along z, so that the many of a dense level in which nothing changes are passed over.
            rows = flags if table else flags.reshape(-1, resolution + 1).max(1)
            _gather(resolution, table, *_spans(resolution, self._cells), cells, self._activity, flags, rows, alive)
            self._active = cells[alive]

    def _level(self, tensor: int) -> tuple[int, int] | None:
        """A level's resolution and its table size (0 if it is dense); None for any other tensor."""
        if not self._cells or tensor >= len(self._resolutions):
            return None
        resolution, info = self._resolutions[tensor], self._network.tensors[tensor]
        if type(resolution) is not int or not 1 <= resolution <= 4096 or info.name != f"grid.{tensor}":
            return None
        if info.shape == (*(resolution + 1,) * 3, 2):
            return resolution, 0
        if len(info.shape) == 2 and info.shape[1] == 2 and info.shape[0] & (info.shape[0] - 1) == 0:
            return resolution, info.shape[0]
        return None

    def _may_visit(self, resolution: int, cells: np.ndarray) -> bool:
        return len(cells) * (-(-resolution // self._cells) + 2) ** 3 <= _MAX_VISITS


def _spans(resolution: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """First vertex along one axis that each cell touches, and the one behind the last."""
    cell = np.arange(cells)
    return cell * resolution // cells, np.minimum(((cell + 1) * resolution + cells - 1) // cells, resolution) + 1


@jit
def _entry(resolution, table, x, y, z):
    """Where a vertex is looked up (FORMAT.md, "Profile 2: grid")."""
    if table:
        return (x ^ (y * 2654435761 & 0xFFFFFFFF) ^ (z * 805459861 & 0xFFFFFFFF)) & (table - 1)
    return (x * (resolution + 1) + y) * (resolution + 1) + z


@jit
def _count(resolution, table, first, behind, cells, found):
    """Add 1 to a vertex's entry for every cell that it touches."""
    for i in range(len(cells)):
        a, b, c = cells[i, 0], cells[i, 1], cells[i, 2]
        for x in range(first[a], behind[a]):
            for y in range(first[b], behind[b]):
                for z in range(first[c], behind[c]):
                    found[_entry(resolution, table, x, y, z)] += 1


@jit
def _spread(resolution, table, first, behind, cells, activity, found):
    """The highest activity of the cells that an entry's vertices touch."""
    for i in range(len(cells)):
        a, b, c = cells[i, 0], cells[i, 1], cells[i, 2]
        own = activity[a, b, c]
        for x in range(first[a], behind[a]):
            for y in range(first[b], behind[b]):
                for z in range(first[c], behind[c]):
                    entry = _entry(resolution, table, x, y, z)
                    if found[entry] < own:
                        found[entry] = own


@jit
def _gather(resolution, table, first, behind, cells, activity, changed, rows, alive):
    """The mean of a cell's activity and the share of its vertices that have changed; alive where it is not 0."""
    for i in range(len(cells)):
        a, b, c = cells[i, 0], cells[i, 1], cells[i, 2]
        count = 0
        for x in range(first[a], behind[a]):
            for y in range(first[b], behind[b]):
                if table == 0 and not rows[x * (resolution + 1) + y]:
                    continue
                for z in range(first[c], behind[c]):
                    count += changed[_entry(resolution, table, x, y, z)]
        share = 0
        if count:
            share = 32 * count // ((behind[a] - first[a]) * (behind[b] - first[b]) * (behind[c] - first[c]))
        activity[a, b, c] = (activity[a, b, c] + share) >> 1
        alive[i] = activity[a, b, c] > 0
