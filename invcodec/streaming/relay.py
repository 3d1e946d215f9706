"""A file on another server, passed on to clients of this one, whose pages may not read it there themselves."""

from __future__ import annotations

import asyncio
from types import TracebackType

import aiohttp
from aiohttp import web

from invcodec.container.remote import TIMEOUT, TRANSIENT, get, new_session, with_query
from invcodec.streaming.connections import send

_CHUNK = 1 << 16
_PASSED = (200, 206, 404, 416, *TRANSIENT)
"""Statuses that clients can do something with."""
_HEADERS = ("Content-Length", "Content-Range", "Inv-Answer", "ETag", "Last-Modified", "Retry-After")


class RelayedFile:
    """The counterpart of `invcodec.streaming.server.ServedFile` for a URL; an async context manager."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> RelayedFile:
        self._session = new_session()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a client's request for the file, a range of it, or what its query asks for."""
        asked = next((name for name in ("follow", "index") if name in request.query), None)
        url = with_query(self._url, asked) if asked else self._url
        headers = {name: request.headers[name] for name in ("Range",) if name in request.headers}
        try:
            async with asyncio.timeout(TIMEOUT):
                found = await get(self._session, url, headers)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise web.HTTPBadGateway(text=f"{self._url}: cannot be reached ({error})\n") from None
        try:
            if found.status not in _PASSED:
                raise web.HTTPBadGateway(text=f"{self._url}: its server answers {found.status}\n")
            return await self._pass_on(request, found)
        finally:
            found.close()

    async def _pass_on(self, request: web.Request, found: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = {name: found.headers[name] for name in _HEADERS if name in found.headers}
        headers |= {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        headers["Content-Type"] = "application/octet-stream"
        response = web.StreamResponse(status=found.status, headers=headers)
        await response.prepare(request)
        try:
            while True:
                async with asyncio.timeout(TIMEOUT):
                    data = await found.content.read(_CHUNK)
                if not data:
                    return response
                await send(request, response, data)
        except (aiohttp.ClientError, TimeoutError):
            # Only the end of the connection can still say so.
            response.force_close()
            if request.transport is not None:
                request.transport.abort()
            return response
