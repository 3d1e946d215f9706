"""Files over HTTP: ranges, following, late joiners, slow and hostile clients, lost connections."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from aiohttp import web
from conftest import Cli
from files import PATIENCE, make_vectors

from invcodec.coding.chain import StateReader
from invcodec.coding.coders import CODER
from invcodec.coding.state import table
from invcodec.container import remote
from invcodec.container.frame import DIGEST_BYTES, FrameHead
from invcodec.container.index import FrameList, read_pages
from invcodec.container.records import HEADER_BYTES, MAGIC, RecordType, pack_record, parse_header
from invcodec.container.remote import RemoteFile
from invcodec.container.scan import Record, Scanner, scan
from invcodec.editing.verify import verify
from invcodec.errors import UsageError
from invcodec.streaming import connections, follow, server
from invcodec.streaming import growing as module_growing
from invcodec.streaming.connections import address_of, has_place, listen
from invcodec.streaming.follow import follow_file, follow_url
from invcodec.streaming.growing import FileId, GrowingFile, StreamedRange, stream_ending
from invcodec.streaming.server import FileServer


@contextmanager
def served(
    path: Path, port: int = 0, stale: FileId | None = None, buffer: int | None = None, hosts: Sequence[str] = ()
) -> Iterator[str]:
    """URL of the file, served from this process; `buffer` bounds the socket's send buffer in bytes."""
    listening = listen("127.0.0.1", port)
    if buffer is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    stop = threading.Event()

    async def run() -> None:
        await FileServer(path, stale, stop, hosts).run(listening)  # type: ignore[arg-type]

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield address_of(listening, path.name)
    finally:
        stop.set()
        thread.join()


@pytest.fixture(autouse=True)
def _short_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_DRAIN", 0.2)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urlopen(Request(url, headers=headers)) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, b""


def ready(url: str) -> None:
    """Wait until the server has found the file."""
    until(lambda: get(url, Range="bytes=0-0")[0] == 206)


def records(data: bytes) -> list[bytes]:
    """The magic number, then each record."""
    parts, at = [data[: len(MAGIC)]], len(MAGIC)
    while at < len(data):
        end = parse_header(data[at : at + HEADER_BYTES], at).end
        parts.append(data[at:end])
        at = end
    return parts


def test_ranges_of_the_file_and_nothing_else_are_served(tmp_path: Path) -> None:
    data = make_vectors.two_segments().finish()
    path = tmp_path / "out put.inv"
    path.write_bytes(data)
    (tmp_path / "secret.txt").write_text("secret")
    with served(path) as url:
        ready(url)
        assert get(url) == (200, data)
        for text, part in [
            ("0-7", data[:8]), ("100-199", data[100:200]), ("-12", data[-12:]), (f"{len(data) - 3}-", data[-3:]),
            (f"10-{10**9}", data[10:]),
        ]:  # fmt: skip
            assert get(url, Range=f"bytes={text}") == (206, part)
        for text in (f"{len(data)}-", "9-5", "x-y"):
            assert get(url, Range=f"bytes={text}")[0] == 416
        base = url.rsplit("/", 1)[0]
        assert get(f"{base}/")[0] == 200
        for other in ("secret.txt", "../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt", "out.inv", "/etc/passwd"):
            assert get(f"{base}/{other}")[0] == 404
        with urlopen(Request(url, method="HEAD")) as answer:
            assert int(answer.headers["Content-Length"]) == len(data)
        assert get(url, **{"Content-Length": "0"})[0] == 200
        with pytest.raises(HTTPError, match="405"):
            urlopen(Request(url, method="POST", data=b"x"))


def test_info_and_decode_take_urls(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    with served(encoded) as url:
        ready(url)
        here, there = (json.loads(cli("info", name, "--json").out) for name in (encoded, url))
        assert {**here, "file": ""} == {**there, "file": ""}
        for frame in ("latest", "2"):
            a, b = tmp_path / "a.png", tmp_path / "b.png"
            for name, view in ((encoded, a), (url, b)):
                assert cli("decode", name, "--frame", frame, "--pose", "cam00", "-o", view, "-f").code == 0
            assert a.read_bytes() == b.read_bytes()
        missing = cli("info", url + "x")
        assert (missing.code, "404" in missing.err, missing.err.count("\n")) == (2, True, 1)
    gone = cli("info", url)
    assert (gone.code, "cannot be reached" in gone.err, gone.err.count("\n")) == (2, True, 1)


def test_a_frame_far_inside_fetches_only_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small blocks for a small file.
    monkeypatch.setattr(remote, "_BLOCK", 4096)
    made = make_vectors.Maker(make_vectors.header([make_vectors.grid("ndc")], make_vectors.cameras("ndc")), 1)
    for number in range(600):
        if number % 20:
            made.delta(number, 40 * number, share=1.0)
        else:
            made.key(number, 40 * number)
    finished, growing = tmp_path / "finished.inv", tmp_path / "growing.inv"
    growing.write_bytes(made.open())
    finished.write_bytes(made.finish())
    for path in (finished, growing):
        with served(path) as url:
            ready(url)
            until(lambda: len(StateReader(url).frames) == 600)
            with StateReader(url) as there, StateReader(path) as here:
                assert (there.status, len(there.frames)) == (here.status, 600)
                state = there.state_at(333)
                assert state.digest() == here.state_at(333).digest()
                assert isinstance(there._file, RemoteFile)
                assert there._file.fetched < 0.6 * path.stat().st_size


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_a_remote_file_reads_like_a_file(tmp_path: Path, size: int) -> None:
    data = make_vectors.simple().finish() + bytes(range(256)) * 800
    path = tmp_path / "x.inv"
    path.write_bytes(data)
    with served(path) as url:
        ready(url)
        remote, local = RemoteFile(url), io.BytesIO(data)
        for offset in (0, 1, 65536, len(data) - size, len(data) - 1, len(data), len(data) + 10):
            if offset >= 0:
                remote.seek(offset), local.seek(offset)
                assert remote.read(size) == local.read(size)
        remote.seek(5), local.seek(5)
        assert remote.read() == local.read()


def test_a_server_without_ranges_is_refused_in_one_line(cli: Cli, tmp_path: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        client, _ = listening.accept()
        with client:
            client.recv(4096)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")

    thread = threading.Thread(target=answer)
    thread.start()
    result = cli("info", f"http://127.0.0.1:{listening.getsockname()[1]}/x.inv")
    thread.join()
    listening.close()
    assert (result.code, "does not send parts" in result.err, result.err.count("\n")) == (2, True, 1)


def test_a_late_joiner_gets_a_valid_file_from_the_last_keyframe_on(tmp_path: Path) -> None:
    data = make_vectors.two_segments().finish()
    magic, head, *frames, index, end = records(data)
    path, followed = tmp_path / "live.inv", tmp_path / "followed.inv"
    with served(path) as url:
        assert get(url)[0] == 503
        path.write_bytes(magic + head + b"".join(frames[:3]) + frames[3][:30])
        ready(url)
        # An incomplete record is not served.
        assert get(url) == (200, magic + head + b"".join(frames[:3]))
        with closing(urlopen(url + "?follow")) as stream:
            assert stream.read(len(magic + head + frames[2])) == magic + head + frames[2]
            with open(path, "ab") as file:
                file.write(frames[3][30:])
                file.flush()
                assert stream.read(len(frames[3])) == frames[3]
                file.write(index + end)
            rest = stream.read()
        followed.write_bytes(magic + head + frames[2] + frames[3] + rest)
    with open(followed, "rb") as file:
        found = verify(file, "followed")
    assert (found.status, [e.number for e in found.frames], found.problems) == ("complete", [2, 3], [])
    # Its own index is valid, too.
    with StateReader(followed) as reader:
        assert (reader.status, [entry.number for entry in reader.frames]) == ("complete", [2, 3])


def big_file(frames: int, size: int) -> tuple[bytes, list[bytes]]:
    """A header, and keyframes of `size` zero bytes."""
    made = make_vectors.simple()
    head = b"".join(records(made.open())[:2])
    qps = (0,) * len(table(made.head))
    heads = [FrameHead(number, None, bytes(DIGEST_BYTES), CODER, qps).to_bytes() for number in range(frames)]
    return head, [pack_record(RecordType.KEY, number, each + bytes(size)) for number, each in enumerate(heads)]


def test_a_slow_client_skips_to_the_last_keyframe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_TIMEOUT", PATIENCE)
    head, keys = big_file(40, 150_000)
    path = tmp_path / "live.inv"
    path.write_bytes(head + keys[0])
    # With a large buffer the system would take everything at once, as if the client were fast.
    with served(path, buffer=4096) as url:
        ready(url)
        host, port = "127.0.0.1", int(url.split(":")[2].split("/")[0])
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            slow.connect((host, port))
            slow.sendall(b"GET /live.inv?follow HTTP/1.0\r\n\r\n")
            until(lambda: slow.recv(1, socket.MSG_PEEK))
            with closing(urlopen(url + "?follow")) as fast, open(path, "ab") as file:
                fast.read(len(head) + len(keys[0]))
                for key in keys[1:]:
                    file.write(key)
                    file.flush()
                    # The slow client does not delay the fast one.
                    assert fast.read(len(key)) == key
                growing = GrowingFile(path)
                growing.poll()
                growing.close()
                file.write(stream_ending(growing.frames, [StreamedRange(0, 2**62, 0)], file.tell(), True))
            data = b""
            while piece := slow.recv(1 << 16):
                data += piece
    body = data.split(b"\r\n\r\n", 1)[1]
    scanner = Scanner("slow")
    list(scan(io.BytesIO(body), scanner))
    numbers = [entry.number for entry in scanner.frames]
    assert (scanner.status, scanner.problems) == ("complete", [])
    assert numbers[-1] == 39
    assert 2 <= len(numbers) < 40


def raw(url: str, request: str, host: str = "127.0.0.1") -> bytes:
    """All that a server answers to these bytes, until it closes the connection."""
    port = int(url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (host, 0)) as client:
        client.sendall(request.encode("latin-1"))
        data = b""
        while piece := client.recv(1 << 16):
            data += piece
    return data


def test_connections_are_bounded_by_host_and_silent_ones_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 12)
    path = tmp_path / "live.inv"
    path.write_bytes(make_vectors.simple().finish())
    with served(path) as url:
        ready(url)
        port = int(url.split(":")[2].split("/")[0])
        request = f"GET /live.inv?index HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n"

        def answered(host: str = "127.0.0.1") -> bool:
            # A connection that is refused ends before the request has come, or is reset by it.
            with suppress(ConnectionError):
                return b" 200 OK" in raw(url, request, host)
            return False

        here = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(3)]
        assert not answered()
        # Other hosts still have room.
        assert answered("127.0.0.2")
        for each in here:
            each.close()
        until(answered)
        monkeypatch.setattr(connections, "_TIMEOUT", 0.2)
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as silent, suppress(ConnectionResetError):
            assert silent.recv(1) == b""


@pytest.mark.parametrize(
    ("there", "peer", "room"),
    [
        ([], "10.0.0.1", True),
        (["10.0.0.1"] * 3, "10.0.0.1", False),
        (["10.0.0.1"] * 3, "10.0.0.2", True),
        (["10.0.0.1"] * 3, "::ffff:10.0.0.1", False),
        (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"], "2001:db8::4", False),
        (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"], "2001:db8:0:1::4", True),
        ([f"10.0.0.{i}" for i in range(12)], "10.0.1.1", False),
    ],
)
def test_one_host_cannot_take_all_places(there: list[str], peer: str, room: bool) -> None:
    assert has_place(there, peer, 12) == room


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ("", 200),
        ("Host: 127.0.0.1", 200),
        ("Host: localhost:8080", 200),
        ("Host: LOCALHOST.", 200),
        ("Host: 192.168.1.7:8080", 200),
        ("Host: [::1]:8080", 200),
        (f"Host: {socket.gethostname()}:8080", 200),
        ("Host: video.example", 200),
        ("Host: evil.example", 403),
        ("Host: 127.0.0.1.evil.example", 403),
        ("Host: localhost@evil.example", 403),
        ("Host: [::1", 403),
        ("Host: evil.example.[::1]:8080", 403),
        ("Host: 127\xb8.0.0.[::1]:80", 403),
        ("Host: ", 403),
        ("Host: \xff", 403),
        ("Host: localhost:\xff", 403),
        ("Host: x@localhost", 403),
        ("Host: localhost/x", 403),
        ("Host: localhost\r\nOrigin: http://localhost", 200),
        ("Host: localhost:80\r\nOrigin: http://localhost:90", 403),
        ("Host: localhost\r\nOrigin: null", 403),
        ("Host: localhost\r\nSec-Fetch-Site: same-origin", 200),
        ("Host: localhost\r\nSec-Fetch-Site: none", 200),
        ("Host: localhost\r\nSec-Fetch-Site: same-site", 403),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site", 403),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: document", 403),
    ],
)
def test_pages_of_other_sites_cannot_read_the_file(guarded: str, headers: str, code: int) -> None:
    end = f"\r\n{headers}\r\n\r\n" if headers else "\r\n\r\n"
    for path in ("live.inv", "live.inv?follow", "live.inv?index"):
        assert f" {code} ".encode() in raw(guarded, f"GET /{path} HTTP/1.0{end}").split(b"\r\n", 1)[0]
    # A link to the front page may be followed.
    front = 200 if "document" in headers else code
    assert f" {front} ".encode() in raw(guarded, f"GET / HTTP/1.0{end}").split(b"\r\n", 1)[0]


def test_malformed_requests_are_no_news(guarded: str, caplog: pytest.LogCaptureFixture) -> None:
    for request in ("\x1b[2J\r\n\r\n", "GET /\x00 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost\r\n\r\n"):
        assert b" 400 " in raw(guarded, request).split(b"\r\n", 1)[0]
    assert not caplog.records


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a finished file whose server may also be called video.example."""
    path = tmp_path_factory.mktemp("guarded") / "live.inv"
    path.write_bytes(make_vectors.simple().finish())
    with served(path, hosts=["Video.example"]) as url:
        ready(url)
        yield url


def test_a_file_that_is_cut_ends_answers_that_are_on_their_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head, keys = big_file(3, 150_000)
    path = tmp_path / "live.inv"
    path.write_bytes(head + b"".join(keys))
    read = GrowingFile.read

    def cut(self: GrowingFile, offset: int, size: int) -> bytes:
        """As if the file were cut between the last look at its size and this."""
        return read(self, offset, size)[: max(0, len(head) + 200_000 - offset)]

    with served(path) as url:
        ready(url)
        until(lambda: len(get(url)[1]) == path.stat().st_size)
        monkeypatch.setattr(GrowingFile, "read", cut)
        with closing(http.client.HTTPConnection(url.split("/")[2], timeout=PATIENCE)) as client:
            client.request("GET", url)
            with pytest.raises(http.client.IncompleteRead):
                client.getresponse().read()
            # What comes next must not be taken for the rest of this.
            assert client.sock.recv(1) == b""
        assert len(get(url + "?follow")[1]) <= len(head) + 200_000


def follow_all(follow: Iterator[tuple[Scanner, Record]], into: list[int]) -> None:
    for _, found in follow:
        if found.entry is not None and found.entry.number not in into:
            into.append(found.entry.number)


def test_a_lost_connection_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    magic, head, *frames, index, end = records(make_vectors.two_segments().finish())
    path = tmp_path / "live.inv"
    path.write_bytes(magic + head + frames[0])
    numbers: list[int] = []
    losses: list[float] = []

    def wait(seconds: float) -> None:
        losses.append(seconds)
        time.sleep(seconds)

    monkeypatch.setattr(follow, "sleep", wait)
    with served(path) as url:
        ready(url)
        port = int(url.split(":")[2].split("/")[0])
        thread = threading.Thread(target=follow_all, args=(follow_url(url, lambda: False), numbers))
        thread.start()
        until(lambda: numbers == [0])
    until(lambda: losses)
    with open(path, "ab") as file:
        file.write(frames[1])
    with served(path, port):
        until(lambda: numbers == [0, 1])
        with open(path, "ab") as file:
            file.write(frames[2] + frames[3] + index + end)
        thread.join(PATIENCE)
    assert numbers == [0, 1, 2, 3]


def test_a_plain_server_cannot_be_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.inv"
    path.write_bytes(make_vectors.simple().finish())
    with served(path) as url:
        ready(url)
        with pytest.raises(UsageError, match="404"):
            list(follow_url(url + "x", lambda: False))


def pages_of(growing: GrowingFile) -> FrameList:
    return read_pages(growing.index(), growing.frames.time_base)


def test_a_file_that_is_replaced_or_truncated_starts_over(tmp_path: Path) -> None:
    data = make_vectors.two_segments().finish()
    magic, head, *frames, _, _ = records(data)
    path = tmp_path / "live.inv"
    path.write_bytes(data)
    growing = GrowingFile(path)
    assert growing.poll()
    assert growing.finished
    assert (growing.generation, growing.size) == (1, len(data))
    assert not growing.poll()
    (tmp_path / "new").write_bytes(magic + head + frames[0])
    (tmp_path / "new").replace(path)
    assert growing.poll()
    assert (growing.generation, growing.finished, len(pages_of(growing))) == (2, False, 1)
    with open(path, "ab") as file:
        file.write(frames[1])
    assert growing.poll()
    assert (growing.generation, len(pages_of(growing))) == (2, 2)
    with open(path, "r+b") as file:
        file.truncate(len(magic + head + frames[0]))
    assert growing.poll()
    assert (growing.generation, len(pages_of(growing))) == (3, 1)
    growing.close()
    stale = GrowingFile(path, FileId.of(path))
    assert not stale.poll()
    assert stale.head == b""


def test_a_file_that_is_replaced_while_it_is_opened_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make_vectors.simple().finish(), make_vectors.two_segments().finish()
    path, new = tmp_path / "live.inv", tmp_path / "new"
    path.write_bytes(first)
    new.write_bytes(second)
    open_ = os.open

    def opened(*arguments: Any) -> int:
        file = open_(*arguments)
        if new.exists():
            new.replace(path)
        return file

    monkeypatch.setattr(os, "open", opened)
    growing = GrowingFile(path)
    assert growing.poll()
    assert growing.size == len(first)
    assert growing.poll()
    assert (growing.generation, growing.size) == (2, len(second))
    growing.close()


def test_a_long_file_is_polled_in_parts_and_followed_from_its_last_keyframe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_growing, "_RECORDS_PER_POLL", 1)
    path = tmp_path / "live.inv"
    path.write_bytes(make_vectors.two_segments().finish())
    growing = GrowingFile(path)
    sizes = []
    while growing.poll():
        sizes.append(growing.size)
    growing.close()
    # The header, four frames, the index and the end mark.
    assert (len(sizes), sizes == sorted(sizes), growing.finished) == (7, True, True)
    numbers: list[int] = []
    follow_all(follow_file(path, lambda: False), numbers)
    assert numbers == [2, 3]


def test_a_header_after_a_private_record_is_served_without_it(tmp_path: Path) -> None:
    magic, head, *frames, _, _ = records(make_vectors.two_segments().finish())
    path = tmp_path / "live.inv"
    path.write_bytes(magic + pack_record(200, 0, bytes(100_000)) + head + b"".join(frames))
    growing = GrowingFile(path)
    growing.poll()
    growing.close()
    assert growing.head == magic + head
    numbers: list[int] = []
    follow_all(follow_file(path, lambda: numbers == [2, 3]), numbers)
    assert numbers == [2, 3]


def test_frames_without_a_header_are_not_read_again_and_again(tmp_path: Path) -> None:
    magic, _, first, *_ = records(make_vectors.two_segments().finish())
    path = tmp_path / "live.inv"
    private = pack_record(200, 0, b"")
    path.write_bytes(magic + 150 * private + first)
    growing = GrowingFile(path)
    while growing.poll():
        pass
    growing.close()
    assert (growing.head, growing.size, growing.broken) == (b"", len(magic + 150 * private), True)
    assert len(growing.frames) == 0


def test_a_file_that_was_deleted_is_still_served(tmp_path: Path) -> None:
    path = tmp_path / "live.inv"
    data = make_vectors.two_segments().finish()
    path.write_bytes(data)
    with served(path) as url:
        ready(url)
        until(lambda: get(url) == (200, data))
        path.unlink()
        assert get(url) == (200, data)
        assert get(url, Range="bytes=-12") == (206, data[-12:])


def test_connections_are_remembered_while_they_are_silent_and_open() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="x")

    async def remembered() -> list[int]:
        app = web.Application()
        app.router.add_get("/", answer)
        listening = listen("127.0.0.1", 0)
        context = connections.serving(app, listening)
        counts = []
        async with context:
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await reader.readuntil(b"\r\n\r\nx")
                counts.append(len(context._silent))
            writer.close()
            _, writer = await asyncio.open_connection(*listening.getsockname())
            while not context._silent:
                await asyncio.sleep(0.001)
            writer.close()
            while context._silent:
                await asyncio.sleep(0.001)
        return counts

    assert asyncio.run(asyncio.wait_for(remembered(), PATIENCE)) == [0, 0]


class Answer:
    """An HTTP response whose body is sent chunk by chunk; an exception among them is raised."""

    def __init__(self, chunks: list[bytes | Exception], **headers: str) -> None:
        self.status = 206
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self._chunks = chunks

    def read1(self, size: int) -> bytes:
        chunk = self._chunks.pop(0) if self._chunks else b""
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    read = read1

    def close(self) -> None:
        pass


def test_reconnecting_waits_longer_until_there_is_a_new_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    magic, head, *frames, _, _ = records(make_vectors.two_segments().finish())
    start = magic + head + frames[0]
    lost = ConnectionResetError("lost")
    answers = [[start, lost], [start, frames[1][:9], lost], [start, lost], [start, frames[1], lost], [start, lost]]
    waits: list[float] = []
    monkeypatch.setattr(follow, "open_url", lambda url: Answer([*answers[len(waits)]], Inv_Answer="follow"))
    monkeypatch.setattr(follow, "sleep", waits.append)
    numbers: list[int] = []
    follow_all(follow_url("http://x/live.inv", lambda: len(waits) == len(answers)), numbers)
    assert numbers == [0, 1]
    assert waits == [0.1, 0.2, 0.5, 0.1, 0.2]


def test_a_connection_that_breaks_is_reported_in_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_vectors.two_segments().open()
    reset = ConnectionResetError("Connection reset by peer")

    def opened(url: str, headers: dict[str, str] | None = None) -> Answer:
        if url.endswith("?index"):
            return Answer([reset], Inv_Answer="index")
        return Answer([data], Content_Range=f"bytes 0-{len(data) - 1}/{len(data)}")

    monkeypatch.setattr(remote, "open_url", opened)
    url = "http://x/live.inv"
    with pytest.raises(UsageError, match=r"live\.inv: the connection broke"):
        RemoteFile(url).ask("index", 1000)
    # The frames are then found without the index.
    result = cli("info", url)
    assert (result.code, result.err) == (0, "")
    monkeypatch.setattr(remote, "open_url", lambda *_: Answer([reset], Content_Range="bytes 0-9/10"))
    result = cli("info", url)
    assert (result.code, f"{url}: the connection broke" in result.err, result.err.count("\n")) == (2, True, 1)


@pytest.mark.parametrize("flags", [0, 1, 2, 3, 2**31])
def test_end_flags_other_than_bit_0_are_ignored(tmp_path: Path, flags: int) -> None:
    *body, _ = records(make_vectors.simple().finish())
    index_at = sum(len(each) for each in body[:-1])
    path = tmp_path / "live.inv"
    path.write_bytes(b"".join(body) + pack_record(RecordType.END, 0, struct.pack("<QI", index_at, flags)))
    growing = GrowingFile(path)
    growing.poll()
    growing.close()
    assert (growing.finished, growing.broken, growing.complete) == (True, False, bool(flags & 1))


def test_an_end_mark_of_another_size_ends_what_makes_sense(tmp_path: Path) -> None:
    *body, _ = records(make_vectors.simple().finish())
    path = tmp_path / "live.inv"
    path.write_bytes(b"".join(body) + pack_record(RecordType.END, 0, b""))
    growing = GrowingFile(path)
    growing.poll()
    growing.close()
    assert (growing.finished, growing.broken) == (False, True)


def test_a_local_file_is_followed_like_a_stream(tmp_path: Path) -> None:
    magic, head, *frames, index, end = records(make_vectors.two_segments().finish())
    path = tmp_path / "live.inv"
    path.write_bytes(magic + head + frames[0] + frames[1][:11])
    numbers: list[int] = []
    thread = threading.Thread(target=follow_all, args=(follow_file(path, lambda: False), numbers))
    thread.start()
    until(lambda: numbers == [0])
    with open(path, "ab") as file:
        file.write(frames[1][11:] + frames[2])
        file.flush()
        until(lambda: numbers == [0, 1, 2])
        file.write(frames[3] + index + end)
    thread.join(PATIENCE)
    assert numbers == [0, 1, 2, 3]


def test_bad_addresses_and_files_are_refused(cli: Cli, encoded: Path, tmp_path: Path) -> None:
    taken = listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    result = cli("serve", encoded, "--address", port)
    assert (result.code, f"127.0.0.1:{port}" in result.err, result.err.count("\n")) == (2, True, 1)
    taken.close()
    for bad in ("80800", "host", ":1", "1:2:3"):
        assert cli("serve", encoded, "--address", bad).code == 2
    assert cli("serve", tmp_path).code == 2
    other = tmp_path / "secret.txt"
    other.write_text("something else, and more of it than a header has")
    assert "not an .inv file" in cli("serve", other).err
    assert cli("serve", tmp_path / "none" / "x.inv").code == 2


@pytest.mark.parametrize("payload", [b"", b"\0", bytes(11), bytes(13)])
def test_an_end_mark_of_another_size_ends_the_recording_but_not_the_server(tmp_path: Path, payload: bytes) -> None:
    data = make_vectors.two_segments().open()
    path = tmp_path / "live.inv"
    path.write_bytes(data + pack_record(RecordType.END, 0, payload))
    growing = GrowingFile(path)
    while growing.poll():
        pass
    assert (growing.broken, growing.finished, growing.size) == (True, False, len(data))
    growing.close()
