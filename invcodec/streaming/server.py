"""HTTP server of one file: byte ranges, and while the file is being written, each record as soon as it is complete.

    GET /live.inv                 the file, or a range of it
    GET /live.inv?follow          header, last keyframe, the deltas since, then every record as it is written
    GET /live.inv?index           the frames so far, as an INDEX record's payload

No client delays the encoder or another client: the file is on disk, and each client reads from its own position in it
at its own pace. A client that falls behind by more than a keyframe skips to the last keyframe.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import socket
from contextlib import suppress
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote

from aiohttp import web

from invcodec.errors import InvError, UsageError
from invcodec.streaming.growing import POLL, FileId, GrowingFile, StreamedRange, stream_ending

MEDIA_TYPE = "application/vnd.inv"
MAX_CONNECTIONS = 1000
_CHUNK = 1 << 16
_TIMEOUT = 30.0
"""Seconds within which a client must receive a chunk, or send its request."""
_IDLE = 0.5
"""Seconds between polls of a finished file."""
_DRAIN = 5.0
"""Seconds that followers have to receive the last records after the encoder has ended."""


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
    except OSError as error:
        raise UsageError(f"{host}:{port}: cannot listen on this address ({error.strerror or error})") from None
    listening.setblocking(False)
    return listening


def address_of(listening: socket.socket, name: str = "") -> str:
    """URL of a file that is served on a socket."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{quote(name)}"


class FileServer:
    """Web application that serves one file.

    Args:
        path: of the file, which need not exist yet.
        stale: see `GrowingFile`.
        stop: once set, the server ends as soon as its followers have received everything, at most 5 s later.
    """

    def __init__(self, path: Path, stale: FileId | None = None, stop: Event | None = None) -> None:
        self._growing = GrowingFile(path, stale)
        self._stop = stop
        self._changed = asyncio.Condition()
        self._followers = 0
        self._name = path.name

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._greet)
        app.router.add_get("/{name}", self._file)
        return app

    async def run(self, listening: socket.socket) -> None:
        """Serve until cancelled or stopped."""
        async with serving(self.application(), listening):
            watching = asyncio.create_task(self._watch())
            try:
                # An encoder that was killed cannot set the event.
                encoder = multiprocessing.parent_process()
                while not (self._stop and self._stop.is_set()) and (encoder is None or encoder.is_alive()):
                    await asyncio.sleep(0.05)
                for _ in range(round(_DRAIN / 0.05)):
                    if not self._followers:
                        break
                    await asyncio.sleep(0.05)
            finally:
                watching.cancel()
                self._growing.close()

    async def _watch(self) -> None:
        while True:
            # Not in another thread, so that requests never see the file's state while it changes.
            changed = False
            with suppress(OSError):
                changed = self._growing.poll()
            if changed:
                async with self._changed:
                    self._changed.notify_all()
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(_IDLE if self._growing.finished or self._growing.broken else POLL)

    async def _greet(self, request: web.Request) -> web.Response:
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
            return web.Response(
                body=self._growing.index(), headers={"Inv-Answer": "index", "Cache-Control": "no-store"}
            )
        return await self._range(request)

    async def _range(self, request: web.Request) -> web.StreamResponse:
        growing = self._growing
        generation = growing.generation
        # Bytes past the last record are served as well: the reader decides what they are.
        size = growing.available if growing.finished or growing.broken else growing.size
        try:
            asked = request.http_range
            first, stop, _ = asked.indices(size) if asked.start is not None else (0, size, 1)
        except ValueError:
            first, stop = size, size
        is_partial = "Range" in request.headers
        if is_partial and first >= stop:
            raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
        headers = {"Accept-Ranges": "bytes", "Content-Type": MEDIA_TYPE, "X-Content-Type-Options": "nosniff"}
        if not growing.finished:
            headers["Cache-Control"] = "no-store"
        if is_partial:
            headers["Content-Range"] = f"bytes {first}-{stop - 1}/{size}"
        response = web.StreamResponse(status=206 if is_partial else 200, headers=headers)
        response.content_length = stop - first
        await response.prepare(request)
        if request.method != "HEAD":
            for at in range(first, stop, _CHUNK):
                if growing.generation != generation:
                    break
                await _send(request, response, growing.read(at, min(_CHUNK, stop - at)))
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
            # The stream of a corrupt file ends here; its reader reports the damage.
            pass
        finally:
            self._followers -= 1
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse) -> None:
        growing = self._growing
        generation = growing.generation
        await _send(request, response, growing.head)
        position = len(growing.head)
        ranges: list[StreamedRange] = []
        at: int | None = None
        whole = 0
        while growing.generation == generation:
            # Only a client whose socket is full is slow; otherwise it is this server that has to catch up.
            slow = request.transport is not None and request.transport.get_write_buffer_size() > 0
            behind = slow and at is not None and at < (growing.key_before or 0)
            # Skip at the end of a record only.
            if growing.key is not None and (at is None or (behind and at == whole)):
                at = whole = growing.key
                ranges.append(StreamedRange(at, at, position - at))
            last = growing.size if growing.end is None else growing.end
            if at is not None and at < last:
                if behind and at < whole:
                    last = whole
                chunk = growing.read(at, min(_CHUNK, last - at))
                while whole < at + len(chunk):
                    whole = growing.record_end(whole)
                await _send(request, response, chunk)
                at += len(chunk)
                position += len(chunk)
                ranges[-1].end = at
            elif growing.end is not None:
                ending = partial(stream_ending, growing.frames, ranges, position, growing.complete)
                # A long index takes a while.
                await _send(request, response, await asyncio.to_thread(ending))
                return
            elif growing.broken:
                return
            else:
                async with self._changed:
                    if growing.generation == generation and last == growing.size and not growing.finished:
                        await self._changed.wait()


async def _send(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send a chunk once the client has room for it; disconnect a client that takes too long."""
    try:
        await asyncio.wait_for(response.write(data), _TIMEOUT)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client is stalled") from None


class serving:
    """Async context manager that serves an application on a socket, with bounds on what clients can use up."""

    def __init__(self, app: web.Application, listening: socket.socket) -> None:
        app.middlewares.append(self._track)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, keepalive_timeout=_TIMEOUT, shutdown_timeout=1.0
        )
        self._listening = listening
        self._silent: set[Any] = set()
        """Connections that have not sent a request yet."""

    async def __aenter__(self) -> None:
        await self._runner.setup()
        server, outer = cast(web.Server, self._runner.server), self

        class Connection(asyncio.Protocol):
            """Refuses connections beyond the limit, and closes those that send no request in time."""

            def __new__(cls) -> Any:
                if len(server.connections) >= MAX_CONNECTIONS:
                    return super().__new__(cls)
                handler = server()
                outer._silent.add(handler)
                loop = asyncio.get_running_loop()
                loop.call_later(_TIMEOUT, outer._close_if_silent, handler)
                return handler

            def connection_made(self, transport: Any) -> None:
                transport.abort()

        self._server = await asyncio.get_running_loop().create_server(Connection, sock=self._listening)

    @web.middleware
    async def _track(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self._silent.discard(request.protocol)
        try:
            return await handler(request)
        except (ConnectionResetError, ConnectionAbortedError):
            # The client is gone.
            raise asyncio.CancelledError from None

    def _close_if_silent(self, handler: Any) -> None:
        if handler in self._silent:
            self._silent.discard(handler)
            if handler.transport is not None:
                handler.transport.abort()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._runner.cleanup()


def serve(path: Path, listening: socket.socket, stale: FileId | None = None, stop: Event | None = None) -> None:
    """Serve a file until Ctrl-C, or until `stop` is set; see `FileServer`."""
    asyncio.run(FileServer(path, stale, stop).run(listening))


def _serve_in_background(path: Path, listening: socket.socket, stale: FileId | None, stop: Event) -> None:
    # Ctrl-C is handled by the encoder, which finishes the file and then stops the server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(InvError, OSError):
        serve(path, listening, stale, stop)


class BackgroundServer:
    """Context manager that serves a file from a process of its own.

    Args:
        path: of the file, which need not exist yet.
        fresh: ignore a file of this name that exists already, because it is about to be replaced.

    Attributes:
        url: of the file.

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
            target=_serve_in_background, args=(path, self._listening, stale, self._stop), daemon=True
        )  # fmt: skip

    def __enter__(self) -> BackgroundServer:
        self._process.start()
        self._listening.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._process.join(_DRAIN + 1)
        if self._process.is_alive():
            self._process.terminate()
