"""Files on web servers: read by range requests (RFC 9110, section 14), or followed as they grow (`invcodec serve`).

Servers may be hostile: only the address that the user gave is contacted, every request ends within a time that its size
allows, and no more is taken than was asked for.
"""

from __future__ import annotations

import asyncio
import io
import re
import threading
from collections import OrderedDict
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from invcodec.errors import UsageError
from invcodec.version import __version__

if TYPE_CHECKING:
    import aiohttp

_T = TypeVar("_T")
_BLOCK = 1 << 16
_CACHED = 256
"""Blocks in the cache."""
TIMEOUT = 30.0
"""Seconds within which a server must begin to answer, and send more of an answer."""
_SLOWEST = 1 << 15
"""Bytes per second that a server must send of an answer, on average."""
TRANSIENT = (502, 503, 504)


def is_url(text: object) -> bool:
    """Whether this is a URL rather than a path."""
    return isinstance(text, str) and re.match(r"https?://", text) is not None


class RemoteFile(io.RawIOBase):
    """A file on a web server, fetched only as far as it is read.

    Args:
        url: http or https.

    Attributes:
        size: in bytes, when it was opened.
        fetched: bytes received over the network so far.

    Raises:
        UsageError: it cannot be fetched, or the server does not support range requests.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.size = 0
        self.fetched = 0
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._fetch(0, 1)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(22, "seek before the beginning of the file")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        end = max(self.size, self._at) if size is None or size < 0 else self._at + size
        first, stop = self._at // _BLOCK, -(-end // _BLOCK)
        parts = []
        for block in range(first, stop):
            if block not in self._blocks:
                missing = block + 1
                while missing < min(stop, block + _CACHED // 2) and missing not in self._blocks:
                    missing += 1
                self._fetch(block, missing)
            data = self._blocks.get(block, b"")
            if data:
                self._blocks.move_to_end(block)
            parts.append(data)
            if len(data) < _BLOCK:
                break
        data = b"".join(parts)[self._at - first * _BLOCK :][: end - self._at]
        self._at += len(data)
        return data

    def _fetch(self, first: int, stop: int) -> None:
        """Fetch the blocks from `first` up to `stop`, as far as the file goes."""
        header = f"bytes={first * _BLOCK}-{stop * _BLOCK - 1}"
        try:
            with self._get(self.url, {"Range": header}) as answer:
                total = re.fullmatch(r"bytes \d+-\d+/(\d{1,19})", answer.headers.get("Content-Range", ""))
                if answer.status != 206 or not total:
                    raise UsageError(
                        f"{self.url}: its server does not send parts of files; download it, or pipe it to '-'"
                    )
                data = answer.read((stop - first) * _BLOCK)
        except _NoSuchRange:
            return
        self.size = max(self.size, int(total[1]))
        self.fetched += len(data)
        for at in range(0, len(data), _BLOCK):
            block = data[at : at + _BLOCK]
            # A block that is not full may have grown by the next request.
            if len(block) == _BLOCK or first * _BLOCK + at + len(block) >= self.size:
                self._blocks[first + at // _BLOCK] = block
        while len(self._blocks) > _CACHED:
            self._blocks.popitem(last=False)

    def ask(self, what: str, limit: int) -> bytes:
        """The answer to a query about the file, such as "index": at most `limit` bytes.

        Raises:
            UsageError: the server does not support the query.
        """
        # The answer is about the file as it is now, so blocks that were not full are fetched again.
        self._blocks = OrderedDict((at, block) for at, block in self._blocks.items() if len(block) == _BLOCK)
        with self._get(with_query(self.url, what)) as answer:
            if answer.headers.get("Inv-Answer") != what:
                raise UsageError(f"{self.url}: its server does not support '?{what}'")
            return answer.read(limit)

    @contextmanager
    def _get(self, url: str, headers: dict[str, str] | None = None) -> Iterator[Any]:
        """The response of the file's server to a GET request."""
        try:
            with closing(open_url(url, headers)) as answer:
                yield answer
        except OSError as error:
            raise UsageError(f"{self.url}: the connection broke ({error})") from None


class _NoSuchRange(Exception):
    """The range lies past the end of the file."""


class Unavailable(UsageError):
    """The server cannot be reached, or is temporarily unable to answer."""


class NotYet(Unavailable):
    """The server expects the file, but does not have it yet."""


class Answer:
    """The answer to a GET request.

    Attributes:
        status, reason: HTTP status, and what the server calls it.
        headers: by name, in any case.
    """

    def __init__(self, session: aiohttp.ClientSession, response: aiohttp.ClientResponse) -> None:
        self._session = session
        self._response = response
        self.status = response.status
        self.reason = response.reason or ""
        self.headers: Mapping[str, str] = response.headers

    def read(self, limit: int) -> bytes:
        """The body, as far as `limit` bytes.

        Raises:
            OSError: the connection broke, or the server is too slow.
        """

        async def body() -> bytes:
            parts, left = [], limit
            while left and (part := await self._response.content.read(left)):
                parts.append(part)
                left -= len(part)
            return b"".join(parts)

        return _result(body(), TIMEOUT + limit / _SLOWEST)

    def read1(self, size: int) -> bytes:
        """What there is of the body, `size` bytes at most, as soon as there is something; empty at its end.

        Raises:
            OSError: the connection broke, or nothing came in time.
        """
        return _result(self._response.content.read(size), TIMEOUT)

    def close(self) -> None:
        self._response.close()
        asyncio.run_coroutine_threadsafe(self._session.close(), _loop()).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of all requests, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def _result(action: Coroutine[Any, Any, _T], seconds: float) -> _T:
    """The result of a part of a request.

    Raises:
        OSError: it failed, or took longer than so many seconds.
    """
    import aiohttp

    async def bounded() -> _T:
        async with asyncio.timeout(seconds):
            return await action

    try:
        return asyncio.run_coroutine_threadsafe(bounded(), _loop()).result()
    except TimeoutError:
        raise TimeoutError(f"it took longer than {seconds:.0f} s") from None
    except (aiohttp.ClientError, ValueError) as error:
        raise ConnectionError(str(error) or type(error).__name__) from None


def open_url(url: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer to a GET request.

    Raises:
        NotYet, Unavailable: see there.
        UsageError: any other status than success.
    """
    try:
        answer = _result(_request(url, headers or {}), TIMEOUT)
    except OSError as error:
        raise Unavailable(f"{url}: cannot be reached ({error.strerror or error})") from None
    if 200 <= answer.status < 300:
        return answer
    with closing(answer):
        if answer.status == 416:
            raise _NoSuchRange
        reason = f"{answer.status} {answer.reason}"
        if answer.status in TRANSIENT:
            raise NotYet(f"{url}: does not exist yet, or its server is busy ({reason})")
        if "Location" in answer.headers:
            moved = answer.headers["Location"]
            raise UsageError(f"{url}: its server refers to {moved}; if you trust that address, give it instead")
        raise UsageError(f"{url}: its server answers {reason}")


async def _request(url: str, headers: Mapping[str, str]) -> Answer:
    session = new_session()
    try:
        return Answer(session, await get(session, url, headers))
    except BaseException:
        await session.close()
        raise


def new_session() -> aiohttp.ClientSession:
    """For requests from one event loop, by `get`."""
    # Imported here, because most commands never use it.
    import aiohttp

    # Cookies are not kept, bodies are not unpacked, and callers bound the times.
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
    )


async def get(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
    """The response to a GET request, whatever its status; a redirection is not followed.

    Raises:
        aiohttp.ClientError, OSError, ValueError: there is none.
    """
    own = {"User-Agent": f"invcodec/{__version__}", "Accept-Encoding": "identity", **headers}
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    return await session.get(url, headers=own, proxy=proxy, allow_redirects=False)


def with_query(url: str, query: str) -> str:
    """The URL with something added to its query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query, fragment=""))
