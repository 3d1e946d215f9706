"""A range of frames that is encoded into a file of its own, a piece of a larger one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Segment:
    """A segment, as its piece names it; pieces of one plan are joined.

    Attributes:
        plan: 16-byte digest of all that the pieces of one file have in common.
        numbers: of its frames.
        budget: bytes of its records, if the whole file has a target that limits bytes.
    """

    plan: bytes
    numbers: range
    budget: int | None = None

    def note(self) -> dict[str, Any]:
        """What the encoder's notes in HEAD say of it."""
        return {"plan": self.plan, "frames": [self.numbers.start, self.numbers.stop], "budget": self.budget}
