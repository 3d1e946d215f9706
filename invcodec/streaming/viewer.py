"""The viewer: the player's page, the file that it plays, and pictures for devices that are too slow to render them."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from aiohttp import WSMsgType, web

from invcodec import pages
from invcodec.container.reader import Reader
from invcodec.container.remote import is_url
from invcodec.errors import InvError
from invcodec.streaming.connections import has_place, serving
from invcodec.streaming.followed import GROWING, FollowedFile
from invcodec.streaming.relay import RelayedFile
from invcodec.streaming.rendering import Client, Picture, RenderService, ViewRequest
from invcodec.streaming.server import ServedFile

MAX_CLIENTS = 32
WATCHES = "watch this file and have this machine render it"
"""What clients can do here."""
_MAX_REQUEST = 4096
"""Longest message from a client, in bytes."""
_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src blob:; style-src 'unsafe-inline'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)


class Viewer:
    """Web application that shows one file.

    Args:
        name: path or URL of the file.
        hosts: as for `serving`.
        device, threads: as for `invcodec.decoding.video.Video`.

    Raises:
        UsageError: the player is not there.
    """

    def __init__(
        self, name: str, *, hosts: Sequence[str] = (), device: str = "auto", threads: int | None = None
    ) -> None:
        self._name = name
        self._title = unquote(urlsplit(name).path.rpartition("/")[2]) if is_url(name) else Path(name).name
        self._script = pages.part(pages.SCRIPT)
        self._hosts = hosts
        self._file = RelayedFile(name) if is_url(name) else ServedFile(Path(name))
        self._device, self._threads = device, threads
        self._renderer: RenderService | None = None
        self._opening = asyncio.Lock()
        self._peers: list[str] = []

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get(f"/{pages.SCRIPT}", self._send_script)
        app.router.add_get("/file/{name}", self._send_file)
        app.router.add_get("/socket", self._socket)
        return app

    async def run(self, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled."""
        try:
            async with self._file, serving(self.application(), listening, self._hosts):
                ready()
                await asyncio.Event().wait()
        finally:
            if self._renderer is not None:
                await asyncio.to_thread(self._renderer.close)

    async def _page(self, request: web.Request) -> web.Response:
        follow = "?follow" if await asyncio.to_thread(self._is_growing) else ""
        source = f"file/{quote(self._title, safe='')}{follow}"
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        text = pages.page(self._title, src=source, server="socket", loop="")
        return web.Response(text=text, content_type="text/html", headers=headers)

    def _is_growing(self) -> bool:
        try:
            with Reader(self._name) as reader:
                return reader.status in GROWING
        except InvError:
            # Its server may come back.
            return True

    async def _send_script(self, request: web.Request) -> web.Response:
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        return web.Response(text=self._script, content_type="text/javascript", headers=headers)

    async def _send_file(self, request: web.Request) -> web.StreamResponse:
        return await self._file.answer(request)

    async def _service(self) -> RenderService:
        """What renders, from when it is needed first.

        Raises:
            InvError: the file cannot be opened.
        """
        async with self._opening:
            if self._renderer is None:
                file = await asyncio.to_thread(FollowedFile, self._name)
                self._renderer = RenderService(file, device=self._device, threads=self._threads)
            return self._renderer

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        peer = request.remote or ""
        if not has_place(self._peers, peer, MAX_CLIENTS):
            raise web.HTTPServiceUnavailable(text="too many viewers\n")
        self._peers.append(peer)
        try:
            socket = web.WebSocketResponse(max_msg_size=_MAX_REQUEST, heartbeat=20, compress=False)
            await socket.prepare(request)
            try:
                service = await self._service()
            except (InvError, OSError) as error:
                await socket.send_json({"error": str(error)})
                await socket.close()
                return socket
            await _converse(service, socket)
        finally:
            self._peers.remove(peer)
        return socket


async def _converse(service: RenderService, socket: web.WebSocketResponse) -> None:
    """Take a page's requests and send it pictures until it is gone."""
    session = _Session(socket)
    service.add(session.client)
    sending = asyncio.create_task(session.send())
    try:
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                take(service, session, message.data)
    finally:
        service.remove(session.client)
        sending.cancel()


def take(service: RenderService, session: _Session, message: str) -> None:
    """Take a page's request for a view."""
    try:
        service.show(session.client, ViewRequest.parse(json.loads(message)))
    except RecursionError:
        session.report("view: invalid request")
    except (ValueError, InvError) as error:
        session.report(str(error))


class _Session:
    """One open page. A slow one is sent the newest picture only; those before it are dropped."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._wake = asyncio.Event()
        self._picture: Picture | None = None
        self._error: str | None = None
        self._loop = asyncio.get_running_loop()
        self.client = Client(self._deliver)

    def report(self, text: str) -> None:
        """Send an error message."""
        self._error = text
        self._wake.set()

    def _deliver(self, picture: Picture) -> None:
        """Called from the rendering thread."""
        with suppress(RuntimeError):  # The event loop has ended.
            self._loop.call_soon_threadsafe(self._take, picture)

    def _take(self, picture: Picture) -> None:
        self._picture = picture
        self._wake.set()

    async def send(self) -> None:
        """Send errors and pictures until cancelled."""
        with suppress(ConnectionError):
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._error is not None:
                    text, self._error = self._error, None
                    await self._socket.send_json({"error": text})
                if self._picture is not None:
                    picture, self._picture = self._picture, None
                    about = json.dumps(picture.about).encode()
                    await self._socket.send_bytes(struct.pack("<I", len(about)) + about + picture.data)


async def view(
    name: str,
    listening: socket.socket,
    *,
    hosts: Sequence[str] = (),
    device: str = "auto",
    threads: int | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve the viewer until cancelled.

    Args:
        name, hosts, device, threads: as for `Viewer`.
        listening: the socket, from `invcodec.streaming.connections.listen`.
        ready: called once the page can be opened.

    Raises:
        UsageError: the player is not there.
    """
    await Viewer(name, hosts=hosts, device=device, threads=threads).run(listening, ready)
