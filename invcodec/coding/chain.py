"""Chains of records: the last keyframe and the deltas since, at any frame of a file or in the order of a stream."""

from __future__ import annotations

import os

from invcodec.coding.codec import decode
from invcodec.coding.state import State
from invcodec.container.head import Head
from invcodec.container.index import FrameList
from invcodec.container.reader import Reader, position_of
from invcodec.container.scan import Record
from invcodec.errors import DamagedError


class StateReader(Reader):
    """A `Reader` that also decodes. It keeps the last state, so that decoding frames in order takes one record each."""

    def __init__(self, path: str | os.PathLike[str], *, trust_index: bool = True) -> None:
        super().__init__(path, trust_index=trust_index)
        self._cached: tuple[int, State] | None = None

    def state_at(self, number: int) -> State:
        """Decode a frame's state from the last keyframe and the deltas since.

        Raises:
            FrameNotFoundError: no such frame.
            DamagedError: a record on the way is unsound, or there is no keyframe.
        """
        return self.frames.ask(lambda frames: self._decode(number, frames))

    def _decode(self, number: int, frames: FrameList) -> State:
        last = first = position_of(self.name, number, frames)
        cached = None if self._cached is None else frames.position(self._cached[0])
        while first != cached and not frames[first].is_key:
            if first == 0:
                raise DamagedError(f"{self.name}: there is no keyframe before frame {number}", frame=number)
            first -= 1
        state: State | None = None
        if first == cached and self._cached is not None:
            state = self._cached[1]
            first += 1
        for position in range(first, last + 1):
            entry = frames[position]
            before = None if entry.is_key else frames[position - 1].number
            try:
                frame, coded = self.frame(entry)
                if frame.reference != before:
                    raise DamagedError(f"it changes frame {frame.reference}, which is not the one before it")
                state = decode(self.head, frame, coded, None if entry.is_key else state)
            except DamagedError as error:
                raise DamagedError(
                    f"{self.name}: frame {entry.number}: {error}", offset=entry.offset, frame=entry.number
                ) from None
            self._cached = (entry.number, state)
        assert state is not None
        return state


class Follower:
    """Decodes frames in the order in which a scanner finds them.

    Attributes:
        state: of the last frame, or None if it was lost.
    """

    def __init__(self) -> None:
        self.state: State | None = None

    def apply(self, head: Head, found: Record) -> State:
        """Decode a frame whose record the scanner found good.

        Raises:
            DamagedError: this record, or one that it depends on, does not decode or its digest differs.
            UnsupportedError: an unknown coder.
        """
        assert found.entry is not None
        assert found.frame is not None
        assert found.coded is not None
        is_key = found.frame.is_key
        before, self.state = self.state, None
        if not is_key and before is None:
            raise DamagedError(
                f"frame {found.entry.number} builds on frame {found.frame.reference}, which is lost",
                offset=found.entry.offset,
                frame=found.entry.number,
            )
        try:
            self.state = decode(head, found.frame, found.coded, None if is_key else before)
        except DamagedError as error:
            raise DamagedError(
                f"frame {found.entry.number}: {error}", offset=found.entry.offset, frame=found.entry.number
            ) from None
        return self.state
