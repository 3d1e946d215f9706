"""The pieces of a plan, joined into one file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import BinaryIO

from invcodec.container.index import FrameEntry
from invcodec.container.reader import Reader
from invcodec.editing.edit import concat
from invcodec.encoding.rate import Costs, Result
from invcodec.encoding.report import Outcome
from invcodec.errors import InvError, UsageError
from invcodec.segments.piece import check_piece, piece_name
from invcodec.segments.plan import Plan


def join(plan: Plan, out: BinaryIO) -> Sequence[FrameEntry]:
    """Write the file that a plan is for.

    Args:
        out: writable binary file.

    Raises:
        UsageError: segments are missing, or are not of this plan.
        DamagedError: a piece is damaged.
    """
    missing, paths = [], []
    with ExitStack() as stack:
        for index in range(len(plan.segments)):
            if not plan.store.has(piece_name(index)):
                missing.append(index)
            elif not missing:
                paths.append(stack.enter_context(plan.store.opened(piece_name(index))))
        if missing:
            named = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
            raise UsageError(
                f"{plan.store.place}: {len(missing)} of {len(plan.segments)} segments are not done: {named}; "
                "'invcodec segments run' does them"
            )
        for index, path in enumerate(paths):
            try:
                check_piece(plan, index, path)
            except InvError as error:
                raise type(error)(f"segment {index}: {error}") from None
        return concat(paths, out)


def outcomes(plan: Plan, path: str) -> list[Outcome]:
    """Whether a joined file meets the targets of its plan."""
    with Reader(path) as reader:
        result = Result(plan.settings.target, Costs.of(reader.head, 0.0, 0.0), reader.head.frame_rate)
        for entry in reader.frames:
            result.add(entry.is_key, entry.time, entry.length, reader.stats_at(entry.number).fidelity)
        return result.outcomes(reader.size)
