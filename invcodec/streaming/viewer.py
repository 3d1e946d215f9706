"""The viewer: a page for the browser, a WebSocket for its requests and pictures, and snapshots."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from invcodec.container.index import FrameEntry
from invcodec.errors import InvError
from invcodec.streaming.followed import FollowedFile
from invcodec.streaming.rendering import Client, Picture, RenderService, ViewRequest, scene
from invcodec.streaming.server import serving

MAX_CLIENTS = 16
_MAX_REQUEST = 4096
"""Longest message from a client, in bytes."""
_PAGE = Path(__file__).parent / "page.html"
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' blob: data:; "
    "connect-src 'self'"
)


class Viewer:
    """Web application that shows one file.

    Args:
        name: path or URL of the file.
        local: refuse requests that name any host but localhost.
        device, threads: as for `invcodec.decoding.video.Video`.
    """

    def __init__(self, name: str, *, local: bool, device: str = "auto", threads: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._local = local
        self.file = FollowedFile(name, self._on_change)
        self._renderer = RenderService(self.file, device=device, threads=threads)
        self._sessions: set[_Session] = set()

    def _on_change(self) -> None:
        """Called from the file's thread."""
        with suppress(RuntimeError):  # The event loop has ended.
            self._loop.call_soon_threadsafe(self._changed.set)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/socket", self._socket)
        app.router.add_get("/picture.png", self._snapshot)
        return app

    async def run(self, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled."""
        try:
            async with serving(self.application(), listening):
                ready()
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    for session in self._sessions:
                        session.wake()
        finally:
            await asyncio.to_thread(self._renderer.close)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse pages of other sites (cross-origin requests and DNS rebinding)."""
        host = request.host.rsplit(":", 1)[0].strip("[]")
        if self._local and host not in ("127.0.0.1", "localhost", "::1"):
            raise web.HTTPForbidden(text=f"{host} is not localhost; open http://127.0.0.1\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin.split("://", 1)[-1] != request.host:
            raise web.HTTPForbidden(text="cross-origin requests are not allowed\n")
        return await handler(request)

    async def _page(self, request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        return web.Response(body=_PAGE.read_bytes(), content_type="text/html", charset="utf-8", headers=headers)

    async def _snapshot(self, request: web.Request) -> web.Response:
        """The requested view, as a PNG to download."""
        try:
            view = ViewRequest.parse(json.loads(request.query.get("view", "")))
            data = await asyncio.wrap_future(self._renderer.snapshot(view))
        except (ValueError, InvError) as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        stem = re.sub(r"[^\w.-]+", "_", self.file.path.stem)
        name = f"{stem}-{view.number:06d}{'-depth' if view.depth else ''}.png"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return web.Response(body=data, content_type="image/png", headers=headers)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        if len(self._sessions) >= MAX_CLIENTS:
            raise web.HTTPServiceUnavailable(text="too many viewers\n")
        socket = web.WebSocketResponse(max_msg_size=_MAX_REQUEST, heartbeat=20, compress=False)
        await socket.prepare(request)
        session = _Session(self, socket)
        self._sessions.add(session)
        self._renderer.add(session.client)
        sending = asyncio.create_task(session.send())
        try:
            async for message in socket:
                if message.type != WSMsgType.TEXT:
                    continue
                try:
                    self._renderer.show(session.client, ViewRequest.parse(json.loads(message.data)))
                except (ValueError, InvError) as error:
                    session.report(str(error))
        finally:
            self._sessions.discard(session)
            self._renderer.remove(session.client)
            sending.cancel()
        return socket


class _Session:
    """One open page. A slow one is sent the newest picture only; those before it are dropped."""

    def __init__(self, viewer: Viewer, socket: web.WebSocketResponse) -> None:
        self._viewer = viewer
        self._socket = socket
        self._wake = asyncio.Event()
        self._picture: Picture | None = None
        self._error: str | None = None
        self._generation = -1
        self._sent_state: tuple[Any, ...] = ()
        self._frames: Sequence[FrameEntry] = []
        self._sent_frames = 0
        self._loop = asyncio.get_running_loop()
        self.client = Client(self._deliver)
        self._wake.set()

    def wake(self) -> None:
        """Send whatever is new."""
        self._wake.set()

    def report(self, text: str) -> None:
        """Send an error message."""
        self._error = text
        self._wake.set()

    def _deliver(self, picture: Picture) -> None:
        """Called from the rendering thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._take, picture)

    def _take(self, picture: Picture) -> None:
        self._picture = picture
        self._wake.set()

    async def send(self) -> None:
        """Send changes of the file, errors and pictures until cancelled."""
        with suppress(ConnectionError):
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._send_changes()
                if self._error is not None:
                    text, self._error = self._error, None
                    await self._socket.send_json({"error": text})
                if self._picture is not None:
                    picture, self._picture = self._picture, None
                    about = json.dumps(picture.about).encode()
                    await self._socket.send_bytes(struct.pack("<I", len(about)) + about + picture.data)

    async def _send_changes(self) -> None:
        file = self._viewer.file
        if self._generation != file.generation:
            self._generation = file.generation
            self._sent_frames = 0
            await self._socket.send_json({"scene": scene(file)})
        frames = file.frames
        if self._frames is not frames:
            # Frames were added before those that the page has.
            self._frames, self._sent_frames = frames, 0
        state = (file.growing, file.connected, len(frames), file.generation)
        if state != self._sent_state:
            self._sent_state = state
            new = frames[self._sent_frames :]
            await self._socket.send_json(
                {
                    "from": self._sent_frames,
                    "frames": [[e.number, float(e.time), e.length, int(e.is_key)] for e in new],
                    "growing": file.growing,
                    "connected": file.connected,
                }
            )
            self._sent_frames += len(new)


async def view(
    name: str,
    listening: socket.socket,
    *,
    local: bool,
    device: str = "auto",
    threads: int | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve the viewer until cancelled.

    Args:
        name, local, device, threads: as for `Viewer`.
        listening: the socket, from `invcodec.streaming.server.listen`.
        ready: called once the page can be opened.

    Raises:
        UsageError, DamagedError, UnsupportedError, LimitError: the file cannot be shown.
    """
    await Viewer(name, local=local, device=device, threads=threads).run(listening, ready)
