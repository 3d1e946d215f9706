"""The coders that a record can name (FORMAT.md, "Registries"). A new one implements `Coder` and is one row here."""

from __future__ import annotations

from invcodec.coding.coder import Coder
from invcodec.coding.entropy import MixingCoder
from invcodec.errors import UnsupportedError

CODER = 1
"""Id of the coder of new files."""

CODERS: dict[int, Coder] = {1: MixingCoder()}


def find_coder(number: int) -> Coder:
    """The coder with this id.

    Raises:
        UnsupportedError: an unknown id.
    """
    if number not in CODERS:
        raise UnsupportedError(f"coder {number} needs a newer invcodec")
    return CODERS[number]
