"""`invcodec serve`: serves a finished or growing file over HTTP."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from .options import HOST
from .terminal import note, say
from .values import Address


@click.command(
    "serve",
    short_help="Serve a finished or growing file over HTTP.",
    epilog="""\b
Examples:
  invcodec serve out.inv
  invcodec serve live.inv --address 0.0.0.0:8080
  invcodec encode rig.json live.inv --live --serve 8080""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--address",
    type=Address(),
    default="8080",
    show_default=True,
    help="Address to listen on: 8080 for localhost only, 0.0.0.0:8080 for all interfaces; port 0 picks a free port.",
)
@HOST
def command(file: Path, address: tuple[str, int], hosts: tuple[str, ...]) -> None:
    """Serve FILE, and nothing else, over HTTP until Ctrl-C.

    FILE may be finished, still growing, or not exist yet. 'invcodec view', 'decode' and 'info' accept its URL, and so
    does any other client that supports HTTP range requests.
    """
    from invcodec.errors import UsageError
    from invcodec.streaming.connections import address_of, listen, reach
    from invcodec.streaming.growing import GrowingFile
    from invcodec.streaming.server import READS, serve

    if file.is_dir():
        raise UsageError(f"{file}: is a directory; give a file name")
    if not file.parent.is_dir():
        raise UsageError(f"{file.parent}: no such directory")
    growing = GrowingFile(file)
    growing.poll()
    growing.close()
    if growing.broken and not growing.head:
        raise UsageError(f"{file}: is not an .inv file")
    listening = listen(*address)
    say(address_of(listening, file.name))
    note(reach(listening, READS))
    with suppress(KeyboardInterrupt):
        serve(file, listening, hosts=(address[0], *hosts))
