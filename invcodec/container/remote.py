"""Files on web servers: read by range requests (RFC 9110, section 14), or followed as they grow (`invcodec serve`)."""

from __future__ import annotations

import http.client
import io
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

from invcodec.errors import UsageError
from invcodec.version import __version__

_BLOCK = 1 << 16
_CACHED = 256
"""Blocks in the cache."""
_TIMEOUT = 30.0
_TRANSIENT = (502, 503, 504)


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
                total = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.headers.get("Content-Range", ""))
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
        except (OSError, http.client.HTTPException) as error:
            raise UsageError(f"{self.url}: the connection broke ({error})") from None


class _NoSuchRange(Exception):
    """The range lies past the end of the file."""


class Unavailable(UsageError):
    """The server cannot be reached, or is temporarily unable to answer."""


class NotYet(Unavailable):
    """The server expects the file, but does not have it yet."""


def open_url(url: str, headers: dict[str, str] | None = None) -> Any:
    """The response to a GET request.

    Raises:
        NotYet, Unavailable: see there.
        UsageError: any other error status.
    """
    request = Request(url, headers={"User-Agent": f"invcodec/{__version__}", **(headers or {})})
    try:
        return urlopen(request, timeout=_TIMEOUT)
    except HTTPError as error:
        with closing(error):
            if error.code == 416:
                raise _NoSuchRange from None
            if error.code in _TRANSIENT:
                raise NotYet(f"{url}: does not exist yet, or its server is busy ({error.reason})") from None
            raise UsageError(f"{url}: its server answers {error.code} {error.reason}") from None
    except URLError as error:
        raise Unavailable(f"{url}: cannot be reached ({error.reason})") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unavailable(f"{url}: cannot be reached ({error})") from None


def with_query(url: str, query: str) -> str:
    """The URL with something added to its query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query, fragment=""))
