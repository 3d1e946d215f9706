"""The player with a file: as one page that holds both, or as a folder for any web server."""

from __future__ import annotations

import base64
from pathlib import Path

from invcodec import pages
from invcodec.errors import UsageError

CLIP = "clip.inv"
"""The file that a site plays."""
_MOST = 256 << 20
"""Bytes of a file that a page may hold: in base64 they have to fit one string, of 2^29 characters in Chromium."""

_SCRIPT = f'<script type="module" src="{pages.SCRIPT}"></script>'
_END = "</inv-player>"
_OPEN = """
const text = document.getElementById("clip").textContent;
const clip = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
document.querySelector("inv-player").open(new Blob([clip]));"""


def site_files(title: str) -> dict[str, str]:
    """The files of a site beside CLIP, by name."""
    return {pages.PAGE: pages.page(title, src=CLIP, autoplay="", loop=""), pages.SCRIPT: pages.part(pages.SCRIPT)}


def page(clip: Path, title: str) -> str:
    """One page that plays a file with no server and no network: player and file are within.

    Raises:
        UsageError: the file is too large for that.
    """
    if clip.stat().st_size > _MOST:
        raise UsageError(f"{clip}: a page holds at most {_MOST >> 20} MB; use --site")
    # Within strings and templates of a script, a backslash before the slash changes nothing.
    script = pages.part(pages.SCRIPT).replace("</script", "<\\/script")
    held = f'<script type="text/plain" id="clip">{base64.b64encode(clip.read_bytes()).decode()}</script>'
    shown = pages.page(title, autoplay="", loop="").replace(_END, _END + held)
    return shown.replace(_SCRIPT, f'<script type="module">{script}{_OPEN}</script>')
