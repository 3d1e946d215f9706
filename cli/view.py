"""`invcodec view`: a file in the browser."""

from __future__ import annotations

import asyncio
import ipaddress
import webbrowser
from contextlib import suppress
from pathlib import Path
from time import sleep

import click

from .values import Address, Input


@click.command(
    "view",
    epilog="""\b
Examples:
  invcodec view out.inv
  invcodec view http://host:8080/live.inv
  invcodec view out.inv --address 0.0.0.0:8088 --no-browser     to look from another machine""",
)
@click.argument("file", type=Input())
@click.option(
    "--address",
    type=Address(),
    default="0",
    metavar="[HOST:]PORT",
    help="Where the page is: 8088 for this machine alone, 0.0.0.0:8088 for all.  [default: any port, this machine]",
)
@click.option("--browser/--no-browser", default=True, help="Open the page in the browser.  [default: on]")
@click.option("--device", default="auto", show_default=True, help="Where to render: auto, cpu or cuda.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads. Default: all cores.")
def command(
    file: Path | str, address: tuple[str, int], browser: bool, device: str, threads: int | None
) -> None:  # fmt: skip
    """Look at FILE, which may be an http address and may still grow, in the browser, from any side, until Ctrl-C.

    Drag to go around the scene, scroll to come closer, space to play; ? shows all keys. Pictures are rendered by this
    program: the machine that it runs on does the work.
    """
    from invcodec.streaming.server import address_of, listen
    from invcodec.streaming.viewer import view

    if str(file) == "-":
        raise click.UsageError("a pipe cannot be sought in; give a file or its address")
    _wait_for(str(file))
    listening = listen(*address)
    url = address_of(listening)

    def ready() -> None:
        click.echo(url)
        if browser:
            webbrowser.open(url)

    with suppress(KeyboardInterrupt):
        asyncio.run(
            view(
                str(file),
                listening,
                local=ipaddress.ip_address(listening.getsockname()[0].split("%")[0]).is_loopback,
                device=device,
                threads=threads,
                ready=ready,
            )
        )


def _wait_for(name: str) -> None:
    """Wait until a server that is up has the first keyframe."""
    from invcodec.container.reader import Reader
    from invcodec.container.remote import NotYet

    told = False
    while True:
        try:
            Reader(name).close()
            return
        except NotYet:
            if not told:
                click.echo(f"{name}: waiting for the first keyframe", err=True)
            told = True
            sleep(0.3)
