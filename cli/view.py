"""`invcodec view`: shows a file in the browser."""

from __future__ import annotations

import asyncio
import webbrowser
from contextlib import suppress
from pathlib import Path
from time import sleep

import click

from .options import DEVICE, HOST, THREADS
from .terminal import note, say
from .values import Address, Input


@click.command(
    "view",
    short_help="View a file interactively in a browser.",
    epilog="""\b
Examples:
  invcodec view out.inv
  invcodec view http://host:8080/live.inv
  invcodec view out.inv --address 0.0.0.0:8088 --no-browser""",
)
@click.argument("file", type=Input())
@click.option(
    "--address",
    type=Address(),
    default="0",
    metavar="[HOST:]PORT",
    help="Address of the page: 8088 for localhost only, 0.0.0.0:8088 for all interfaces.  [default: a free port on "
    "localhost]",
)
@HOST
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser.  [default: on]")
@DEVICE
@THREADS
def command(
    file: Path | str,
    address: tuple[str, int],
    hosts: tuple[str, ...],
    browser: bool,
    device: str,
    threads: int | None,
) -> None:
    """View FILE interactively in a browser until Ctrl-C.

    FILE may also be an HTTP URL, and may still be growing. Drag to orbit, scroll to zoom, press space to play and ? to
    list all keys. The browser decodes and renders; for a device that is too slow, this program does.
    """
    from invcodec.streaming.connections import address_of, listen, reach
    from invcodec.streaming.viewer import WATCHES, view

    if str(file) == "-":
        raise click.UsageError("standard input is not seekable; use a file or a URL")
    _wait_for(str(file))
    listening = listen(*address)
    url = address_of(listening)

    def ready() -> None:
        say(url)
        note(reach(listening, WATCHES))
        if browser:
            webbrowser.open(url)

    with suppress(KeyboardInterrupt):
        asyncio.run(
            view(
                str(file),
                listening,
                hosts=(address[0], *hosts),
                device=device,
                threads=threads,
                ready=ready,
            )
        )


def _wait_for(name: str) -> None:
    """Wait until the server has the first keyframe."""
    from invcodec.container.reader import Reader
    from invcodec.container.remote import NotYet

    told = False
    while True:
        try:
            Reader(name).close()
            return
        except NotYet:
            if not told:
                say(f"{name}: waiting for the first keyframe", err=True)
            told = True
            sleep(0.3)
