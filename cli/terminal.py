"""All that commands say on standard output and standard error, except for progress bars and data.

Names and messages may come from files, captures and servers of strangers. A terminal obeys control characters, so every
line goes through `printable`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_LONGEST = 1000
"""Characters of a message; a name in it may have millions."""


def printable(text: object) -> str:
    """Text in one line: with escapes, as in Python, for line breaks and all else that is not a printable character.

    These are control characters, marks that change the direction of text, and bytes of file names that are not UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def say(*lines: object, err: bool = False) -> None:
    """Print lines on standard output, or on standard error."""
    stream = sys.stderr if err else sys.stdout
    stream.write("".join(f"{printable(line)}\n" for line in lines))
    stream.flush()


def note(text: object) -> None:
    """Print a message about what the program does on standard error."""
    line = str(text)
    say(f"invcodec: {line if len(line) <= _LONGEST else f'{line[:_LONGEST]} ...'}", err=True)


def say_json(value: Any, *, err: bool = False, indent: int | None = 2) -> None:
    """Print a value as JSON, which has escapes of its own."""
    for line in json.dumps(value, indent=indent).split("\n"):
        say(line, err=err)
