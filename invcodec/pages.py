"""The player's page, which shows a file in a browser.

The player is built from `player/`, and is part of the package as files of `invcodec/player/`.
"""

from __future__ import annotations

import html
from pathlib import Path

from invcodec.errors import UsageError

PAGE, SCRIPT = "index.html", "inv-player.js"
"""The page, and what it loads from beside it."""
_PLAYER = Path(__file__).parent / "player"
_TITLE = "<title>invcodec</title>"
_ELEMENT = '<inv-player src="clip.inv" controls autoplay loop></inv-player>'


def part(name: str) -> str:
    """The text of one of the player's files.

    Raises:
        UsageError: it is not there, as in a copy of the sources in which the player was not built.
    """
    try:
        return (_PLAYER / name).read_text()
    except FileNotFoundError:
        raise UsageError(f"{_PLAYER / name}: the player is not built in this copy; run 'make player'") from None


def page(title: str, **attributes: str) -> str:
    """The page with a title, and with these attributes of its player, which has controls."""
    given = "".join(f' {name}="{html.escape(value)}"' if value else f" {name}" for name, value in attributes.items())
    text = part(PAGE).replace(_TITLE, f"<title>{html.escape(title)}</title>")
    return text.replace(_ELEMENT, f"<inv-player{given} controls></inv-player>")
