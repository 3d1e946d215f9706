"""What the file server and the viewer have in common: sockets, and what keeps strangers out and each client in bounds.

Whoever can reach the socket may use the server, except web pages of other sites, which reach it through the browser of
somebody who can. They are told by three headers that a page cannot forge:

- `Host`: a page whose site has pointed its own name at this machine (DNS rebinding) says that name. Only addresses,
  localhost, this machine's name and names that the user has allowed are answered.
- `Origin` (Fetch Standard) and `Sec-Fetch-Site` (Fetch Metadata): requests that other sites cause are refused, except
  for links to the front page.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from invcodec.errors import UsageError

MAX_CONNECTIONS = 1000
_SHARE = 4
"""One host may have one of this many parts of the places."""
_TIMEOUT = 30.0
"""Seconds within which a client must receive a chunk, or send its request."""
_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{0,5})?")
"""What a request may say of the host that it was sent to (RFC 9110, section 7.2): an IPv6 address, or anything else."""
_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""When a client that says nothing is asked whether it is still there: after seconds, every so many, how often."""


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 is any free one.

    Raises:
        UsageError: the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(512)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{host}:{port}: cannot listen on this address ({reason})") from None
    listening.setblocking(False)
    return listening


def address_of(listening: socket.socket, name: str = "") -> str:
    """URL of a file that is served on a socket."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{quote(name)}"


def reach(listening: socket.socket, what: str) -> str:
    """Who can reach a server, in one line; `what` says what they can do there."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host.split("%")[0]).is_loopback:
        return f"only this machine can {what}"
    where = "this machine" if host in ("0.0.0.0", "::") else host
    return f"everyone who can reach port {port} of {where} can {what}: there is no password and no encryption"


def has_place(peers: Sequence[str], peer: str, most: int) -> bool:
    """Whether one more client may come in.

    Args:
        peers: addresses of those that are in, of which there may be `most`.
        peer: the address of the one that comes; of its host there may be a quarter as many.
    """
    host = _host_of(peer)
    return len(peers) < most and sum(_host_of(each) == host for each in peers) < max(1, most // _SHARE)


@lru_cache(4096)
def _host_of(peer: str) -> str:
    """The host that has an address: a host has whole /64 networks of IPv6."""
    try:
        address = ipaddress.ip_address(peer.split("%")[0])
    except ValueError:
        return peer
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address) >> 64 << 64, 64)))


class serving:
    """Async context manager that serves an application on a socket, to those that may use it and in bounds.

    Args:
        hosts: names, besides its own, by which browsers may know this machine.
    """

    def __init__(self, app: web.Application, listening: socket.socket, hosts: Iterable[str] = ()) -> None:
        own = socket.gethostname().lower()
        self._hosts = {"localhost", own, own.split(".")[0], f"{own.split('.')[0]}.local", *map(str.lower, hosts)}
        app.middlewares.append(self._admit)
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            logger=_logger(),
            keepalive_timeout=_TIMEOUT,
            shutdown_timeout=1.0,
        )
        self._listening = listening
        self._silent: dict[Any, float] = {}
        """Connections that have not sent a request yet, and since when they are open."""

    async def __aenter__(self) -> None:
        await self._runner.setup()
        server, outer = cast(web.Server, self._runner.server), self

        class Door(asyncio.Protocol):
            """Lets connections in as far as there is room."""

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                there = [each.transport for each in server.connections if each.transport is not None]
                if not has_place([_peer(each) for each in there], _peer(transport), MAX_CONNECTIONS):
                    cast(asyncio.Transport, transport).abort()
                    return
                for name, value in _ALIVE.items():
                    if hasattr(socket, name):
                        connection = transport.get_extra_info("socket")
                        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
                handler = server()
                outer._silent[handler] = monotonic()
                cast(asyncio.Transport, transport).set_protocol(handler)
                handler.connection_made(transport)

        self._server = await asyncio.get_running_loop().create_server(Door, sock=self._listening)
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Close connections that stay silent, and forget those that are closed."""
        while True:
            await asyncio.sleep(min(1.0, _TIMEOUT))
            for handler, since in list(self._silent.items()):
                if handler.transport is not None and monotonic() - since > _TIMEOUT:
                    handler.transport.abort()
                if handler.transport is None:
                    del self._silent[handler]

    @web.middleware
    async def _admit(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self._silent.pop(request.protocol, None)
        self._refuse_other_sites(request)
        try:
            return await handler(request)
        except (ConnectionResetError, ConnectionAbortedError):
            # The client is gone.
            raise asyncio.CancelledError from None

    def _refuse_other_sites(self, request: web.Request) -> None:
        """Refuse what a page of another site has caused.

        Raises:
            HTTPForbidden
        """
        # Browsers always send a host.
        said = request.headers.get("Host")
        if said is not None and not self._is_own(said):
            raise web.HTTPForbidden(text="this server has another name; whoever runs it can allow names with --host\n")
        origin = request.headers.get("Origin")
        foreign = origin is not None and origin.split("://", 1)[-1] != said
        follows_link = request.path == "/" and request.headers.get("Sec-Fetch-Dest") == "document"
        if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none") and not follows_link:
            foreign = True
        if foreign:
            raise web.HTTPForbidden(text="requests from other sites are refused\n")

    def _is_own(self, said: str) -> bool:
        matched = _HOST.fullmatch(said)
        if matched is None:
            return False
        host = (matched["address"] or matched["name"]).rstrip(".").lower()
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host in self._hosts
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.cancel()
        self._server.close()
        await self._runner.cleanup()


async def send(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send a chunk once the client has room for it; disconnect a client that takes too long."""
    try:
        await asyncio.wait_for(response.write(data), _TIMEOUT)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client is stalled") from None


def _logger() -> logging.Logger:
    """For defects; requests that are malformed are answered, and nobody else needs to know."""
    logger = logging.getLogger(__name__)
    logger.filters = [lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))]
    return logger


def _peer(transport: asyncio.BaseTransport) -> str:
    """The address of a connection's other end."""
    return (transport.get_extra_info("peername") or ("",))[0]
