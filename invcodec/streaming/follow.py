"""The records of a growing file as they are written, read from disk or from a server."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from time import sleep

from invcodec.container.remote import Unavailable, open_url, with_query
from invcodec.container.scan import Record, Scanner
from invcodec.errors import DamagedError, InvError, UsageError
from invcodec.streaming.growing import POLL, GrowingFile

_RETRY = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each attempt to reconnect; the last one repeats."""
_CHUNK = 1 << 16


def follow_file(path: Path, stopped: Callable[[], bool]) -> Generator[tuple[Scanner, Record]]:
    """Records of a local file, from its last keyframe on, each as soon as it is complete.

    Ends at the file's end mark. When another file takes the name, starts again with a new scanner.

    Args:
        stopped: polled; whether to stop.
    """
    growing = GrowingFile(path)
    generation, at = -1, 0
    scanner = Scanner(str(path))
    try:
        while not stopped():
            if growing.poll():
                # Catch up first, to begin at the last keyframe.
                continue
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
                sleep(POLL)
    finally:
        growing.close()


def follow_url(url: str, stopped: Callable[[], bool]) -> Generator[tuple[Scanner, Record]]:
    """Records of a file that a server is streaming, from its last keyframe on, each as soon as it is complete.

    After a lost connection it reconnects, and starts again at the last keyframe with a new scanner.

    Args:
        stopped: polled; whether to stop.

    Raises:
        UsageError: the server does not support following.
    """
    attempt = 0
    newest: int | None = None
    while not stopped():
        scanner = Scanner(url)
        try:
            with closing(open_url(with_query(url, "follow"))) as answer:
                if answer.headers.get("Inv-Answer") != "follow":
                    raise UsageError(f"{url}: this server cannot stream growing files; use 'invcodec serve' there")
                while data := answer.read1(_CHUNK):
                    for found in scanner.feed(data):
                        # Each connection begins with frames that were received before: they are no progress.
                        if found.entry is not None and (newest is None or found.entry.number > newest):
                            attempt, newest = 0, found.entry.number
                        yield scanner, found
                    if scanner.says_complete or stopped():
                        return
                if scanner.status == "incomplete":
                    return
        except Unavailable:
            pass
        except UsageError:
            raise
        except (OSError, InvError) as error:
            # Corrupt bytes count as a lost connection: the server has checked the file itself.
            if isinstance(error, InvError) and not isinstance(error, DamagedError):
                raise
        sleep(_RETRY[min(attempt, len(_RETRY) - 1)])
        attempt += 1
