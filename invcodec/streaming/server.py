"""HTTP server of one file: byte ranges, and while the file is being written, each record as soon as it is complete.

    GET /live.inv                 the file, or a range of it
    GET /live.inv?follow          header, last keyframe, the deltas since, then every record as it is written
    GET /live.inv?index           the frames so far, as whole INDEX records of level 0, one after another

No client delays the encoder or another client: the file is on disk, and each client reads from its own position in it
at its own pace. A client that falls behind by more than a keyframe skips to the last keyframe.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from aiohttp import web

from invcodec.errors import InvError
from invcodec.streaming.connections import address_of, listen, reach, send, serving
from invcodec.streaming.growing import POLL, FileId, GrowingFile, StreamedRange, stream_ending

MEDIA_TYPE = "application/vnd.inv"
READS = "read this file"
"""What clients can do here."""
_CHUNK = 1 << 16
_IDLE = 0.5
"""Seconds between polls of a finished file."""
_DRAIN = 5.0
"""Seconds that followers have to receive the last records after the encoder has ended."""


class ServedFile:
    """A file on disk, finished or growing, as clients get it; an async context manager, within which it is watched.

    Args:
        path: of the file, which need not exist yet.
        stale: see `GrowingFile`.

    Attributes:
        followers: how many clients are following it.
    """

    def __init__(self, path: Path, stale: FileId | None = None) -> None:
        self._growing = GrowingFile(path, stale)
        self._changed = asyncio.Condition()
        self.followers = 0

    async def __aenter__(self) -> ServedFile:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.cancel()
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

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a client's request for the file, a range of it, or what its query asks for."""
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
                size = min(_CHUNK, stop - at)
                data = growing.read(at, size) if growing.generation == generation else b""
                await send(request, response, data)
                if len(data) < size:
                    # The file was cut or replaced; only the end of the connection can still say so.
                    response.force_close()
                    break
        return response

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", "Inv-Answer": "follow"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        self.followers += 1
        try:
            await self._stream(request, response)
        except InvError:
            # The stream of a corrupt file ends here; its reader reports the damage.
            pass
        finally:
            self.followers -= 1
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse) -> None:
        growing = self._growing
        generation = growing.generation
        await send(request, response, growing.head)
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
                if not chunk:
                    # The file was cut: the client comes again.
                    return
                while whole < at + len(chunk):
                    whole = growing.record_end(whole)
                await send(request, response, chunk)
                at += len(chunk)
                position += len(chunk)
                ranges[-1].end = at
            elif growing.end is not None:
                ending = partial(stream_ending, growing.frames, ranges, position, growing.complete)
                # A long index takes a while.
                await send(request, response, await asyncio.to_thread(ending))
                return
            elif growing.broken:
                return
            else:
                async with self._changed:
                    if growing.generation == generation and last == growing.size and not growing.finished:
                        await self._changed.wait()


class FileServer:
    """Web application that serves one file.

    Args:
        path, stale: as for `ServedFile`.
        stop: once set, the server ends as soon as its followers have received everything, at most 5 s later.
        hosts: as for `serving`.
    """

    def __init__(
        self, path: Path, stale: FileId | None = None, stop: Event | None = None, hosts: Sequence[str] = ()
    ) -> None:
        self.file = ServedFile(path, stale)
        self._stop = stop
        self._hosts = hosts
        self._name = path.name

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._greet)
        app.router.add_get("/{name}", self._answer)
        return app

    async def run(self, listening: socket.socket) -> None:
        """Serve until cancelled or stopped."""
        async with serving(self.application(), listening, self._hosts), self.file:
            # An encoder that was killed cannot set the event.
            encoder = multiprocessing.parent_process()
            while not (self._stop and self._stop.is_set()) and (encoder is None or encoder.is_alive()):
                await asyncio.sleep(0.05)
            for _ in range(round(_DRAIN / 0.05)):
                if not self.file.followers:
                    break
                await asyncio.sleep(0.05)

    async def _greet(self, request: web.Request) -> web.Response:
        url = f"http://{request.headers.get('Host', 'localhost')}/{quote(self._name)}"
        return web.Response(text=f"{url}\n\nWatch it with: invcodec view {url}\n")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["name"] != self._name:
            raise web.HTTPNotFound
        return await self.file.answer(request)


def serve(
    path: Path,
    listening: socket.socket,
    stale: FileId | None = None,
    stop: Event | None = None,
    hosts: Sequence[str] = (),
) -> None:
    """Serve a file until Ctrl-C, or until `stop` is set; see `FileServer`."""
    asyncio.run(FileServer(path, stale, stop, hosts).run(listening))


def _serve_in_background(
    path: Path, listening: socket.socket, stale: FileId | None, stop: Event, hosts: Sequence[str]
) -> None:
    # Ctrl-C is handled by the encoder, which finishes the file and then stops the server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(InvError, OSError):
        serve(path, listening, stale, stop, hosts)


class BackgroundServer:
    """Context manager that serves a file from a process of its own.

    Args:
        path: of the file, which need not exist yet.
        fresh: ignore a file of this name that exists already, because it is about to be replaced.
        hosts: as for `serving`.

    Attributes:
        url: of the file.
        reach: who can reach it, in one line.

    Raises:
        UsageError: the address cannot be used.
    """

    def __init__(self, path: Path, host: str, port: int, *, fresh: bool = True, hosts: Sequence[str] = ()) -> None:
        self._listening = listen(host, port)
        self.url = address_of(self._listening, path.name)
        self.reach = reach(self._listening, READS)
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        stale = FileId.of(path) if fresh else None
        arguments = (path, self._listening, stale, self._stop, (host, *hosts))
        self._process = context.Process(target=_serve_in_background, args=arguments, daemon=True)

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
