"""The player with a file: as one page that holds both, or as a folder for any web server.

The player is built from `player/`, and is part of the package as files of `invcodec/player/`.
"""

from __future__ import annotations

import base64
import html
from pathlib import Path

from invcodec.errors import UsageError

SITE = ("index.html", "inv-player.js")
"""Files of a site beside the file that it plays, which is named CLIP."""
CLIP = "clip.inv"
_MOST = 256 << 20
"""Bytes of a file that a page may hold: in base64 they have to fit one string, of 2^29 characters in Chromium."""

_PLAYER = Path(__file__).parents[1] / "player"
_SCRIPT = '<script type="module" src="inv-player.js"></script>'
_SOURCE = f' src="{CLIP}"'
_ELEMENT = f"<inv-player{_SOURCE} controls autoplay loop></inv-player>"
_TITLE = "<title>invcodec</title>"
_OPEN = """
const text = document.getElementById("clip").textContent;
const clip = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
document.querySelector("inv-player").open(new Blob([clip]));"""


def part(name: str) -> str:
    """The text of one of the player's files.

    Raises:
        UsageError: it is not there, as in a copy of the sources in which the player was not built.
    """
    try:
        return (_PLAYER / name).read_text()
    except FileNotFoundError:
        raise UsageError(f"{_PLAYER / name}: the player is not built in this copy; run 'make player'") from None


def site_index(title: str) -> str:
    """The page of a site, which loads the player and CLIP from beside it."""
    return part("index.html").replace(_TITLE, f"<title>{html.escape(title)}</title>")


def page(clip: Path, title: str) -> str:
    """One page that plays a file with no server and no network: player and file are within.

    Raises:
        UsageError: the file is too large for that.
    """
    if clip.stat().st_size > _MOST:
        raise UsageError(f"{clip}: a page holds at most {_MOST >> 20} MB; use --site")
    # Within strings and templates of a script, a backslash before the slash changes nothing.
    script = part("inv-player.js").replace("</script", "<\\/script")
    held = f'<script type="text/plain" id="clip">{base64.b64encode(clip.read_bytes()).decode()}</script>'
    shown = site_index(title).replace(_SCRIPT, f'<script type="module">{script}{_OPEN}</script>')
    return shown.replace(_ELEMENT, _ELEMENT.replace(_SOURCE, "") + held)
