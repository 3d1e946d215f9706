"""Records of a growing file as they are written, on this machine or from a server."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from invcodec.container.remote import Unavailable, open_url, with_query
from invcodec.container.scan import Record, Scanner
from invcodec.errors import DamagedError, InvError, UsageError
from invcodec.streaming.growing import POLL, Growing

_AGAIN = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each new attempt to connect; the last one repeats."""
_CHUNK = 1 << 16


def follow_file(path: Path, stopped: Callable[[], bool]) -> Iterator[tuple[Scanner, Record]]:
    """Records of a file on this machine, from its last keyframe on, each as soon as it is there.

    It ends with the file's end mark. When another file takes the name, it begins again under a new scanner.
    """
    growing = Growing(path)
    generation, at = -1, 0
    scanner = Scanner(str(path))
    try:
        while not stopped():
            growing.poll()
            if generation != growing.generation and growing.key is not None:
                generation, at, scanner = growing.generation, growing.key, Scanner(str(path))
                for found in scanner.feed(growing.head):
                    yield scanner, found
            last = growing.size if growing.end is None else growing.end
            if generation == growing.generation and at < last:
                data = growing.read(at, min(_CHUNK, last - at))
                at += len(data)
                for found in scanner.feed(data):
                    yield scanner, found
            elif growing.finished or growing.broken:
                return
            else:
                time.sleep(POLL)
    finally:
        growing.close()


def follow_url(
    url: str, stopped: Callable[[], bool], status: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[Scanner, Record]]:
    """Records of a file that grows on a server, from its last keyframe on, each as soon as it is there.

    When the connection breaks it is made again; then the stream begins again at the last keyframe, under a new scanner.

    Args:
        stopped: asked now and then whether to go on.
        status: told when the connection is lost ("lost") and when it is there ("connected").

    Raises:
        UsageError: the server does not let its file be followed.
    """
    attempt = 0
    while not stopped():
        scanner = Scanner(url)
        try:
            with closing(open_url(with_query(url, "follow"))) as answer:
                if answer.headers.get("Inv-Answer") != "follow":
                    raise UsageError(f"{url}: its server does not let files be followed; it takes 'invcodec serve'")
                status("connected")
                while data := answer.read1(_CHUNK):
                    attempt = 0
                    for found in scanner.feed(data):
                        yield scanner, found
                    if scanner.says_complete or stopped():
                        return
                if scanner.status == "incomplete":
                    return
        except Unavailable:
            pass
        except UsageError:
            raise
        except (OSError, http.client.HTTPException, InvError) as error:
            # Bytes that make no sense are a broken connection too: the file itself is checked where it is kept.
            if isinstance(error, InvError) and not isinstance(error, DamagedError):
                raise
        status("lost")
        time.sleep(_AGAIN[min(attempt, len(_AGAIN) - 1)])
        attempt += 1
