"""Servers that are slow, endless or hostile: reading from them ends in one line."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat

import pytest
from conftest import Cli
from files import PATIENCE, make_vectors

from invcodec.container import remote
from invcodec.container.remote import RemoteFile, Unavailable, open_url
from invcodec.errors import UsageError
from invcodec.streaming.follow import follow_url

Script = Callable[[str], Iterable[bytes]]


@contextmanager
def scripted(script: Script) -> Iterator[tuple[str, list[str]]]:
    """URL of a server that answers each request, of which it keeps the first line, with these bytes."""
    listening = socket.create_server(("127.0.0.1", 0))
    asked: list[str] = []

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError):
            request = client.recv(1 << 16).decode()
            asked.append(request.split("\r\n")[0])
            for part in script(request):
                client.sendall(part)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/x.inv", asked
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def slowly(data: bytes) -> Iterator[bytes]:
    for byte in data:
        yield bytes([byte])
        time.sleep(0.02)


def partial(total: str, length: int = 65536) -> bytes:
    """The beginning of an answer to a range request."""
    headers = f"Content-Range: bytes 0-{length - 1}/{total}\r\nContent-Length: {length}\r\n\r\n"
    return f"HTTP/1.1 206 Partial\r\n{headers}".encode()


def redirect(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 1000000000\r\n\r\n".encode()


ENDLESS = repeat(b"x" * 65536)
HOSTILE: dict[str, Script] = {
    "the status drips": lambda _: slowly(b"HTTP/1.1 200 " + b"O" * 10**6),
    "headers drip": lambda _: chain([b"HTTP/1.1 200 OK\r\n"], slowly(b"A: b\r\n" * 10**6)),
    "the body drips": lambda _: chain([partial("100000")], slowly(b"x" * 10**6)),
    "nothing comes": lambda _: chain([partial("100000")], (time.sleep(0.05) or b"" for _ in repeat(0))),
    "endless status": lambda _: chain([b"HTTP/1.1 200 "], ENDLESS),
    "endless header": lambda _: chain([b"HTTP/1.1 200 OK\r\nA: "], ENDLESS),
    "endless headers": lambda _: chain([b"HTTP/1.1 200 OK\r\n"], repeat(b"A: b\r\n" * 1000)),
    "endless body": lambda _: chain([b"HTTP/1.1 200 OK\r\n\r\n"], ENDLESS),
    "endless error": lambda _: chain([b"HTTP/1.1 404 Not Found\r\n\r\n"], ENDLESS),
    "endless redirect": lambda _: chain([redirect("/y.inv")], ENDLESS),
    "cut body": lambda _: [partial("100000"), b"x" * 100],
    "huge size": lambda _: [partial("9" * 5000), b"x" * 65536],
    "no HTTP": lambda _: [b"\x1b[2J" * 1000],
    "nothing": lambda _: [],
    "two lengths": lambda _: [b"HTTP/1.1 206 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"],
    "negative length": lambda _: [b"HTTP/1.1 206 x\r\nContent-Length: -1\r\n\r\nxx"],
    "wrong chunk": lambda _: [b"HTTP/1.1 206 x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nxx"],
    "compressed": lambda _: [b"HTTP/1.1 206 x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx"],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_servers_get_one_line(name: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TIMEOUT", 0.3)
    monkeypatch.setattr(remote, "_SLOWEST", 1 << 20)
    with scripted(HOSTILE[name]) as (url, _):
        result = cli("info", url)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result
        assert url in result.err
        assert "bug" not in result.err


@pytest.mark.parametrize("to", ["http://127.0.0.1:{}/other.inv", "ftp://127.0.0.1:{}/x.inv", "/other.inv", "//[", ""])
def test_redirects_are_reported_and_not_followed(to: str, cli: Cli) -> None:
    with scripted(lambda _: []) as (other, asked):
        to = to.format(other.split(":")[2].split("/")[0])
        with scripted(lambda _: [redirect(to)]) as (url, here):
            result = cli("info", url)
            with pytest.raises(UsageError, match="refers to"):
                list(follow_url(url, lambda: False))
        assert (result.code, result.err.count("\n"), f"refers to {to}" in result.err) == (2, 1, True)
        assert [line.split()[1] for line in here] == ["/x.inv", "/x.inv?follow"]
        assert not asked


def test_a_stream_that_drips_is_followed_until_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TIMEOUT", PATIENCE)
    data = make_vectors.simple().finish()

    def live(_: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nInv-Answer: follow\r\n\r\n"
        yield data[:-1]
        yield data[-1:]

    with scripted(live) as (url, _):
        assert [found.entry.number for _, found in follow_url(url, lambda: False) if found.entry] == [0, 1, 2]

    def silent(_: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nInv-Answer: follow\r\n\r\n"
        while True:
            time.sleep(0.05)
            yield b""

    with scripted(silent) as (url, _):
        answer = open_url(url)
        monkeypatch.setattr(remote, "TIMEOUT", 0.1)
        with pytest.raises(TimeoutError):
            answer.read1(100)
        answer.close()


def test_no_more_is_taken_than_was_asked_for() -> None:
    body = bytes(range(256)) * 1024

    def generous(_: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-65535/1000000\r\n\r\n"
        yield body
        yield from ENDLESS

    with scripted(generous) as (url, _):
        file = RemoteFile(url)
        assert (file.read(10), file.fetched) == (body[:10], 65536)


def test_addresses_that_make_no_sense_are_refused() -> None:
    for url in ("http://", "http://[", "http://x y/", "http://127.0.0.1:99999/", "http://\x1b[2J/", "http://a..b/"):
        with pytest.raises(Unavailable, match="cannot be reached"):
            open_url(url)
