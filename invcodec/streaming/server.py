"""One file over HTTP: parts of it by range, and, while it grows, each record as soon as it was written.

    GET /live.inv                 the file, or a range of it
    GET /live.inv?follow          header, last keyframe, the deltas since, then every record as it comes
    GET /live.inv?index           the frames so far, as an INDEX record's payload

Nothing waits for a client. The file lies on disk, each client has its place in it, and is sent the next piece when it
has taken the last one; who is too slow and falls behind by more than a keyframe goes on at the last keyframe.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import socket
from contextlib import suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote

from aiohttp import web

from invcodec.errors import InvError, UsageError
from invcodec.streaming.growing import POLL, FileId, Growing, Sent, ending

MEDIA_TYPE = "application/vnd.inv"
MAX_CONNECTIONS = 1000
_PIECE = 1 << 16
_STALLED = 30.0
"""Seconds that a client may take for a piece, or for its request."""
_IDLE = 0.5
"""Seconds between two looks at a file that is finished."""
_FAREWELL = 5.0
"""Seconds that followers have to take the last records when the encoder has ended."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

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
    except OSError as error:
        raise UsageError(f"{host}:{port}: cannot be listened on ({error.strerror or error})") from None
    listening.setblocking(False)
    return listening


def address_of(listening: socket.socket, name: str = "") -> str:
    """The URL of a listening socket's file."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{quote(name)}"


class FileServer:
    """Answers for one file.

    Args:
        path: of the file, which need not be there yet.
        stale: see `Growing`.
        stop: once it is set, the server ends when its followers have all there is, or after a while.
    """

    def __init__(self, path: Path, stale: FileId | None = None, stop: Event | None = None) -> None:
        self._growing = Growing(path, stale)
        self._stop = stop
        self._changed = asyncio.Condition()
        self._followers = 0
        self._name = path.name

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._hello)
        app.router.add_get("/{name}", self._file)
        return app

    async def run(self, listening: socket.socket) -> None:
        """Serve until cancelled, or told to stop."""
        async with serving(self.application(), listening):
            watching = asyncio.create_task(self._watch())
            try:
                # An encoder that was killed told nobody to stop.
                encoder = multiprocessing.parent_process()
                while not (self._stop and self._stop.is_set()) and (encoder is None or encoder.is_alive()):
                    await asyncio.sleep(0.05)
                for _ in range(round(_FAREWELL / 0.05)):
                    if not self._followers:
                        break
                    await asyncio.sleep(0.05)
            finally:
                watching.cancel()
                self._growing.close()

    async def _watch(self) -> None:
        while True:
            # A long file takes a while to look through at first.
            with suppress(OSError):
                if await asyncio.to_thread(self._growing.poll):
                    async with self._changed:
                        self._changed.notify_all()
            await asyncio.sleep(_IDLE if self._growing.finished or self._growing.broken else POLL)

    async def _hello(self, request: web.Request) -> web.Response:
        url = f"http://{request.host}/{quote(self._name)}"
        return web.Response(text=f"{url}\n\nWatch it with: invcodec view {url}\n")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["name"] != self._name:
            raise web.HTTPNotFound
        if not self._growing.head:
            if self._growing.generation and self._growing.broken:
                raise web.HTTPNotFound
            raise web.HTTPServiceUnavailable(reason="No keyframe yet", headers={"Retry-After": "1"})
        if "follow" in request.query:
            return await self._follow(request)
        if "index" in request.query:
            index = await asyncio.to_thread(self._growing.index)
            return web.Response(body=index, headers={"Inv-Answer": "index", "Cache-Control": "no-store"})
        return await self._range(request)

    async def _range(self, request: web.Request) -> web.StreamResponse:
        growing = self._growing
        size = growing.size
        if growing.finished or growing.broken:
            # What is behind the end of the records is for the reader to judge.
            size = await asyncio.to_thread(lambda: growing.path.stat().st_size)
        try:
            wanted = request.http_range
            first, stop, _ = wanted.indices(size) if wanted.start is not None else (0, size, 1)
        except ValueError:
            first, stop = size, size
        partial = "Range" in request.headers
        if partial and first >= stop:
            raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
        headers = {"Accept-Ranges": "bytes", "Content-Type": MEDIA_TYPE, "X-Content-Type-Options": "nosniff"}
        if not growing.finished:
            headers["Cache-Control"] = "no-store"
        if partial:
            headers["Content-Range"] = f"bytes {first}-{stop - 1}/{size}"
        response = web.StreamResponse(status=206 if partial else 200, headers=headers)
        response.content_length = stop - first
        await response.prepare(request)
        if request.method != "HEAD":
            generation = growing.generation
            for at in range(first, stop, _PIECE):
                if growing.generation != generation:
                    break
                await _send(request, response, growing.read(at, min(_PIECE, stop - at)))
        return response

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", "Inv-Answer": "follow"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        self._followers += 1
        try:
            await self._stream(request, response)
        except InvError:
            # A file that makes no sense ends here; its reader finds out what is wrong with it.
            pass
        finally:
            self._followers -= 1
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse) -> None:
        growing = self._growing
        generation = growing.generation
        await _send(request, response, growing.head)
        position = len(growing.head)
        sent: list[Sent] = []
        at: int | None = None
        whole = 0
        while growing.generation == generation:
            # A client is slow if the system takes no more for it; else this server was, and catches up.
            slow = request.transport is not None and request.transport.get_write_buffer_size() > 0
            behind = slow and at is not None and at < (growing.key_before or 0)
            # The record that was begun is sent to its end.
            if growing.key is not None and (at is None or (behind and at == whole)):
                at = whole = growing.key
                sent.append(Sent(at, at, position - at))
            last = growing.size if growing.end is None else growing.end
            if at is not None and at < last:
                if behind and at < whole:
                    last = whole
                piece = growing.read(at, min(_PIECE, last - at))
                while whole < at + len(piece):
                    whole = growing.record_end(whole)
                await _send(request, response, piece)
                at += len(piece)
                position += len(piece)
                sent[-1].end = at
            elif growing.end is not None:
                rows = await asyncio.to_thread(growing.rows)
                await _send(request, response, ending(rows, sent, position, growing.complete))
                return
            elif growing.broken:
                return
            else:
                async with self._changed:
                    if growing.generation == generation and last == growing.size and not growing.finished:
                        await self._changed.wait()


async def _send(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send a piece once the client has taken those before; one that takes too long is cut off."""
    try:
        await asyncio.wait_for(response.write(data), _STALLED)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client takes nothing") from None


class serving:
    """An application on a listening socket, with bounds on what clients can use up; an async context manager."""

    def __init__(self, app: web.Application, listening: socket.socket) -> None:
        app.middlewares.append(self._seen)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, keepalive_timeout=_STALLED, shutdown_timeout=1.0
        )
        self._listening = listening
        self._asked: set[Any] = set()
        self._open: set[Any] = set()

    async def __aenter__(self) -> None:
        await self._runner.setup()
        server, outer = cast(web.Server, self._runner.server), self

        class Connection(asyncio.Protocol):
            """Refuses connections beyond the bound, and closes those that do not ask for anything."""

            def __new__(cls) -> Any:
                if len(server.connections) >= MAX_CONNECTIONS:
                    return super().__new__(cls)
                handler = server()
                loop = asyncio.get_running_loop()
                loop.call_later(_STALLED, outer._check, handler)
                return handler

            def connection_made(self, transport: Any) -> None:
                transport.abort()

        self._server = await asyncio.get_running_loop().create_server(Connection, sock=self._listening)

    @web.middleware
    async def _seen(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self._asked.add(request.protocol)
        try:
            return await handler(request)
        except (ConnectionResetError, ConnectionAbortedError):
            # There is nobody to answer.
            raise asyncio.CancelledError from None

    def _check(self, handler: Any) -> None:
        if handler not in self._asked and handler.transport is not None:
            handler.transport.abort()
        self._asked.discard(handler)

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._runner.cleanup()


def serve(path: Path, listening: socket.socket, stale: FileId | None = None, stop: Event | None = None) -> None:
    """Serve a file until Ctrl-C, or until told to stop."""
    asyncio.run(FileServer(path, stale, stop).run(listening))


def _serve_beside(path: Path, listening: socket.socket, stale: FileId | None, stop: Event) -> None:
    # Ctrl-C is for the encoder, which then finishes the file and stops its server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(InvError, OSError):
        serve(path, listening, stale, stop)


class Beside:
    """A server in a process of its own, for as long as the context is open; a file that is there already is not meant.

    Raises:
        UsageError: the address cannot be used.
    """

    def __init__(self, path: Path, host: str, port: int, *, fresh: bool = True) -> None:
        self._listening = listen(host, port)
        self.url = address_of(self._listening, path.name)
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        stale = FileId.of(path) if fresh else None
        self._process = context.Process(
            target=_serve_beside, args=(path, self._listening, stale, self._stop), daemon=True
        )  # fmt: skip

    def __enter__(self) -> Beside:
        self._process.start()
        self._listening.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._process.join(_FAREWELL + 1)
        if self._process.is_alive():
            self._process.terminate()
