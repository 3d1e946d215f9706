"""The viewer: a page for the browser, a WebSocket for its wishes and pictures, and pictures to keep."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from invcodec.errors import InvError
from invcodec.streaming.painter import Looker, Painter, Picture, Wish, scene
from invcodec.streaming.server import serving
from invcodec.streaming.watched import Watched

MAX_LOOKERS = 16
_MAX_WISH = 4096
_PAGE = Path(__file__).parent / "page.html"
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' blob: data:; "
    "connect-src 'self'"
)


class Viewer:
    """Shows one file to whoever opens the page.

    Args:
        name: path or address of the file.
        local: answer only to pages that were opened on this machine.
    """

    def __init__(self, name: str, *, local: bool, device: str = "auto", threads: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._local = local
        self.watched = Watched(name, self._changed)
        self._painter = Painter(self.watched, device=device, threads=threads)
        self._sessions: set[_Session] = set()

    def _changed(self) -> None:
        """There is something new of the file; called from its thread."""
        with suppress(RuntimeError):  # The loop has ended.
            self._loop.call_soon_threadsafe(self._news.set)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/socket", self._socket)
        app.router.add_get("/picture.png", self._picture)
        return app

    async def run(self, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled."""
        try:
            async with serving(self.application(), listening):
                ready()
                while True:
                    await self._news.wait()
                    self._news.clear()
                    for session in self._sessions:
                        session.tell()
        finally:
            await asyncio.to_thread(self._painter.close)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Pages of other sites must not look through this one, whatever name they give this machine."""
        host = request.host.rsplit(":", 1)[0].strip("[]")
        if self._local and host not in ("127.0.0.1", "localhost", "::1"):
            raise web.HTTPForbidden(text=f"{host} is not this machine; open http://127.0.0.1\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin.split("://", 1)[-1] != request.host:
            raise web.HTTPForbidden(text="this viewer answers its own page only\n")
        return await handler(request)

    async def _page(self, request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        return web.Response(body=_PAGE.read_bytes(), content_type="text/html", charset="utf-8", headers=headers)

    async def _picture(self, request: web.Request) -> web.Response:
        """What the page shows, at any size, as a PNG to keep."""
        try:
            wish = Wish.parse(json.loads(request.query.get("view", "")))
            data = await asyncio.wrap_future(self._painter.order(wish))
        except (ValueError, InvError) as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        stem = re.sub(r"[^\w.-]+", "_", self.watched.path.stem)
        name = f"{stem}-{wish.number:06d}{'-depth' if wish.depth else ''}.png"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return web.Response(body=data, content_type="image/png", headers=headers)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        if len(self._sessions) >= MAX_LOOKERS:
            raise web.HTTPServiceUnavailable(text="too many are looking\n")
        socket = web.WebSocketResponse(max_msg_size=_MAX_WISH, heartbeat=20, compress=False)
        await socket.prepare(request)
        session = _Session(self, socket)
        self._sessions.add(session)
        self._painter.add(session.looker)
        sending = asyncio.create_task(session.send())
        try:
            async for message in socket:
                if message.type != WSMsgType.TEXT:
                    continue
                try:
                    self._painter.wish(session.looker, Wish.parse(json.loads(message.data)))
                except (ValueError, InvError) as error:
                    session.complain(str(error))
        finally:
            self._sessions.discard(session)
            self._painter.remove(session.looker)
            sending.cancel()
        return socket


class _Session:
    """One open page. It is sent the newest picture, however slow it is: those between are left out."""

    def __init__(self, viewer: Viewer, socket: web.WebSocketResponse) -> None:
        self._viewer = viewer
        self._socket = socket
        self._wake = asyncio.Event()
        self._picture: Picture | None = None
        self._complaint: str | None = None
        self._generation = -1
        self._told: tuple[Any, ...] = ()
        self._frames = 0
        self._loop = asyncio.get_running_loop()
        self.looker = Looker(self._deliver)
        self._wake.set()

    def tell(self) -> None:
        self._wake.set()

    def complain(self, text: str) -> None:
        self._complaint = text
        self._wake.set()

    def _deliver(self, picture: Picture) -> None:
        """There is a picture; called from the painter's thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._take, picture)

    def _take(self, picture: Picture) -> None:
        self._picture = picture
        self._wake.set()

    async def send(self) -> None:
        """Send what there is to say, for ever."""
        with suppress(ConnectionError):
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._news()
                if self._complaint is not None:
                    text, self._complaint = self._complaint, None
                    await self._socket.send_json({"error": text})
                if self._picture is not None:
                    picture, self._picture = self._picture, None
                    about = json.dumps(picture.about).encode()
                    await self._socket.send_bytes(struct.pack("<I", len(about)) + about + picture.data)

    async def _news(self) -> None:
        watched = self._viewer.watched
        if self._generation != watched.generation:
            self._generation = watched.generation
            self._frames = 0
            await self._socket.send_json({"scene": scene(watched)})
        frames = watched.frames
        told = (watched.growing, watched.connected, len(frames), watched.generation)
        if told != self._told:
            self._told = told
            fresh = frames[self._frames :]
            await self._socket.send_json(
                {
                    "from": self._frames,
                    "frames": [[e.number, float(e.time), e.length, int(e.is_key)] for e in fresh],
                    "growing": watched.growing,
                    "connected": watched.connected,
                }
            )
            self._frames += len(fresh)


async def view(
    name: str,
    listening: socket.socket,
    *,
    local: bool,
    device: str = "auto",
    threads: int | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Show a file until cancelled; `ready` is called once the page can be opened.

    Raises:
        UsageError, DamagedError, UnsupportedError, LimitError: the file cannot be shown.
    """
    await Viewer(name, local=local, device=device, threads=threads).run(listening, ready)
