"""`invcodec serve`: a file over HTTP, finished or growing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from .values import Address


@click.command(
    "serve",
    epilog="""\b
Examples:
  invcodec serve out.inv
  invcodec serve live.inv --address 0.0.0.0:8080
  invcodec encode rig.json live.inv --live --serve 8080      both in one""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--address",
    type=Address(),
    default="8080",
    show_default=True,
    help="Where to listen: 8080 for this machine alone, 0.0.0.0:8080 for everyone who can reach it; port 0 takes any.",
)
def command(file: Path, address: tuple[str, int]) -> None:
    """Serve FILE, and nothing else, over HTTP until Ctrl-C.

    FILE may be finished, may still grow, or may not be there yet. 'invcodec view', 'decode' and 'info' take its
    address; so does everything that knows HTTP and ranges.
    """
    from invcodec.errors import UsageError
    from invcodec.streaming.growing import Growing
    from invcodec.streaming.server import address_of, listen, serve

    if file.is_dir():
        raise UsageError(f"{file}: is a directory; give a file name")
    if not file.parent.is_dir():
        raise UsageError(f"{file.parent}: no such directory")
    growing = Growing(file)
    growing.poll()
    growing.close()
    if growing.broken and not growing.head:
        raise UsageError(f"{file}: is not an .inv file")
    listening = listen(*address)
    click.echo(address_of(listening, file.name))
    with suppress(KeyboardInterrupt):
        serve(file, listening)
