"""The viewer: a page for the browser, and a WebSocket for its requests and pictures."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from invcodec.container.index import FrameList, RowFlags
from invcodec.errors import InvError, UsageError
from invcodec.limits import PAGE_FRAMES
from invcodec.streaming.connections import has_place, serving
from invcodec.streaming.followed import FollowedFile
from invcodec.streaming.rendering import Client, Picture, RenderService, ViewRequest, scene

MAX_CLIENTS = 32
WATCHES = "watch this file and have this machine render it"
"""What clients can do here."""
ROWS = 256
"""Frames that a page is sent at once; it states this number, too."""
_BARS = 1024
"""Bars of a timeline at most."""
_PAGES_READ = 64
"""Pages of an index that are read for a timeline at most; of a longer recording, only some are."""
_MAX_REQUEST = 4096
"""Longest message from a client, in bytes."""
_PAGE = Path(__file__).parent / "page.html"
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)


class Viewer:
    """Web application that shows one file.

    Args:
        name: path or URL of the file.
        hosts: as for `serving`.
        device, threads: as for `invcodec.decoding.video.Video`.
    """

    def __init__(
        self, name: str, *, hosts: Sequence[str] = (), device: str = "auto", threads: int | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._hosts = hosts
        self.file = FollowedFile(name, self._on_change)
        self._renderer = RenderService(self.file, device=device, threads=threads)
        self._sessions: set[_Session] = set()

    def _on_change(self) -> None:
        """Called from the file's thread."""
        with suppress(RuntimeError):  # The event loop has ended.
            self._loop.call_soon_threadsafe(self._changed.set)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/socket", self._socket)
        return app

    async def run(self, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled."""
        try:
            async with serving(self.application(), listening, self._hosts):
                ready()
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    for session in self._sessions:
                        session.wake()
        finally:
            await asyncio.to_thread(self._renderer.close)

    async def _page(self, request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        return web.Response(body=_PAGE.read_bytes(), content_type="text/html", charset="utf-8", headers=headers)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        peer = request.remote or ""
        if not has_place([each.peer for each in self._sessions], peer, MAX_CLIENTS):
            raise web.HTTPServiceUnavailable(text="too many viewers\n")
        socket = web.WebSocketResponse(max_msg_size=_MAX_REQUEST, heartbeat=20, compress=False)
        session = _Session(self, socket, peer)
        self._sessions.add(session)
        try:
            await socket.prepare(request)
            self._renderer.add(session.client)
            sending = asyncio.create_task(session.send())
            try:
                async for message in socket:
                    if message.type == WSMsgType.TEXT:
                        self._take(session, message.data)
            finally:
                self._renderer.remove(session.client)
                sending.cancel()
        finally:
            self._sessions.discard(session)
        return socket

    def _take(self, session: _Session, message: str) -> None:
        """Take a page's request: frames to list, or a view to show or to save."""
        try:
            data = json.loads(message)
            if isinstance(data, dict) and "list" in data:
                session.list_frames(data)
                return
            view = ViewRequest.parse(data)
            if not data.get("save"):
                self._renderer.show(session.client, view)
            elif session.saving:
                raise UsageError("the picture before is still being rendered")
            else:
                session.saving = True
                self._renderer.save(session.client, view)
        except RecursionError:
            session.report("view: invalid request")
        except (ValueError, InvError) as error:
            session.report(str(error))


class _Session:
    """One open page. A slow one is sent the newest picture only; those before it are dropped.

    Attributes:
        peer: the page's address.
        saving: whether it has ordered a picture to save that it has not been sent yet.
    """

    def __init__(self, viewer: Viewer, socket: web.WebSocketResponse, peer: str) -> None:
        self._viewer = viewer
        self._socket = socket
        self.peer = peer
        self.saving = False
        self._saved: Picture | None = None
        self._wake = asyncio.Event()
        self._picture: Picture | None = None
        self._error: str | None = None
        self._generation = -1
        self._sent_state: tuple[Any, ...] = ()
        self._frames: FrameList | None = None
        self._lists = 0
        self._wanted: dict[str, Any] | None = None
        self._loop = asyncio.get_running_loop()
        self.client = Client(self._deliver)
        self._wake.set()

    def wake(self) -> None:
        """Send whatever is new."""
        self._wake.set()

    def list_frames(self, wanted: dict[str, Any]) -> None:
        """Send the rows of the frames around a place, or around a number; in place of those before."""
        key = "number" if "number" in wanted else "list"
        if type(wanted[key]) is not int:
            raise UsageError("view: invalid request")
        self._wanted = wanted
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
        if picture.about.get("saved"):
            self._saved = picture
        else:
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
                    await self._send_picture(picture)
                if self._saved is not None:
                    picture, self._saved = self._saved, None
                    await self._send_picture(picture)
                    self.saving = False

    async def _send_picture(self, picture: Picture) -> None:
        about = json.dumps(picture.about).encode()
        await self._socket.send_bytes(struct.pack("<I", len(about)) + about + picture.data)

    async def _send_changes(self) -> None:
        file = self._viewer.file
        if self._generation != file.generation:
            self._generation = file.generation
            await self._socket.send_json({"scene": scene(file)})
        frames = file.frames
        if self._frames is not frames:
            # Frames were added before those that the page has, so that they have other places now.
            self._frames = frames
            self._lists += 1
        state = (file.growing, file.connected, len(frames), self._lists)
        if state != self._sent_state:
            self._sent_state = state
            about = {"lists": self._lists, "growing": file.growing, "connected": file.connected}
            if brief := await self._read(_timeline, file):
                await self._socket.send_json({"timeline": {**about, **brief}})
        if self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            if rows := await self._read(_rows, file, wanted):
                await self._socket.send_json({**rows, "lists": self._lists})

    async def _read(self, read: Callable[..., dict[str, Any]], *of: Any) -> dict[str, Any] | None:
        """What can be read of the file, without keeping others waiting; None, with an error to send, if it cannot."""
        try:
            return await asyncio.to_thread(read, *of)
        except (InvError, OSError) as error:
            self._error = str(error)
            return None


def _timeline(file: FollowedFile) -> dict[str, Any]:
    """All frames in brief, in types that JSON has, however many there are.

    `bars` are pairs of the longest record of some frames and whether there is a keyframe among them, `each` is how many
    frames a bar stands for.
    """
    with file.listed() as frames:
        count = len(frames)
        if not count:
            return {"count": 0}
        first, last = frames[0], frames[-1]
        pages = range(0, -(-count // PAGE_FRAMES), -(-count // (PAGE_FRAMES * _PAGES_READ)))
        each = 1
        while each * _BARS < min(count, PAGE_FRAMES * _PAGES_READ):
            each *= 2
        bars: list[tuple[int, bool]] = []
        for rows in map(frames.page, pages):
            starts = np.arange(0, len(rows), each)
            longest = np.maximum.reduceat(rows["length"], starts)
            keys = np.bitwise_or.reduceat(rows["flags"], starts) & RowFlags.KEY
            bars += zip(longest.tolist(), (keys != 0).tolist(), strict=True)
        return {
            "count": count,
            "begin": float(first.time),
            "end": float(last.time),
            "bytes": last.offset + last.length - first.offset,
            "bars": bars,
            "each": each * pages.step,
        }


def _rows(file: FollowedFile, wanted: dict[str, Any]) -> dict[str, Any]:
    """Number, time and length of frames, and whether they are keyframes, from place `from` on; and the place `at`."""
    with file.listed() as frames:
        at = frames.place(wanted["number"]) if "number" in wanted else wanted["list"]
        at = max(0, min(at, len(frames) - 1))
        start = at - at % ROWS
        rows = [[e.number, float(e.time), e.length, int(e.is_key)] for e in frames[start : start + ROWS]]
        return {"from": start, "at": at, "rows": rows}


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
        UsageError, DamagedError, UnsupportedError, LimitError: the file cannot be shown.
    """
    await Viewer(name, hosts=hosts, device=device, threads=threads).run(listening, ready)
