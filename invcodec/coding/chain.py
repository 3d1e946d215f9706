"""The decoded state at any frame of a file: the last keyframe and the deltas since."""

from __future__ import annotations

import os

from invcodec.coding.state import State, decode
from invcodec.container.reader import Reader
from invcodec.errors import DamagedError


class StateReader(Reader):
    """A `Reader` that also decodes; it keeps the last state, so that going on to the next frame takes one delta."""

    def __init__(self, path: str | os.PathLike[str], *, trust_index: bool = True) -> None:
        super().__init__(path, trust_index=trust_index)
        self._cached: tuple[int, State] | None = None

    def state_at(self, number: int) -> State:
        """The decoded state at a frame: the last keyframe, and the deltas since.

        Raises:
            FrameNotFoundError: no such frame.
            DamagedError: a record on the way is unsound.
        """
        chain = [self.entry(number)]
        while not chain[-1].is_key and (self._cached is None or chain[-1].number != self._cached[0]):
            reference = chain[-1].reference
            before = self._by_number.get(reference) if reference is not None else None
            if before is None or before.offset >= chain[-1].offset:
                raise DamagedError(
                    f"frame {chain[-1].number} refers to frame {reference}, which is not before it",
                    frame=number,
                )
            chain.append(before)
        state: State | None = None
        if self._cached is not None and chain[-1].number == self._cached[0]:
            state = self._cached[1]
            chain.pop()
        for entry in reversed(chain):
            try:
                frame, coded = self.frame(entry)
                state = decode(self.head, frame, coded, None if entry.is_key else state)
            except DamagedError as error:
                raise DamagedError(
                    f"{self.name}: frame {entry.number}: {error}", offset=entry.offset, frame=entry.number
                ) from None
            self._cached = (entry.number, state)
        assert state is not None
        return state
