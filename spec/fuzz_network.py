"""Feeds hostile bytes to the file server, to the reader of remote files and to the viewer.

    python spec/fuzz_network.py --inputs 3000

Inputs are requests to `invcodec serve`, answers to `invcodec info` and messages to `invcodec view`, each for a mutated
file of `fuzz.py` or a sound one. A server must answer or close the connection and report no error, a reader must end
with a result or a typed error, and the viewer must still render afterwards. Any other outcome is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import resource
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
from fuzz import VECTORS, Fuzzer

from invcodec.container import remote
from invcodec.container.info import describe
from invcodec.errors import InvError
from invcodec.streaming import follow
from invcodec.streaming.connections import address_of, listen
from invcodec.streaming.server import FileServer
from invcodec.streaming.viewer import Viewer

REQUESTS = [
    b"GET /x.inv HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-99\r\nConnection: close\r\n\r\n",
    b"GET /x.inv?follow HTTP/1.1\r\nHost: [::1]:80\r\nOrigin: http://[::1]:80\r\n\r\n",
    b"GET /x.inv?index HTTP/1.0\r\nSec-Fetch-Site: same-origin\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /x.inv HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"POST /x.inv HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
]
PARTS = [b"\r\n", b"\r\n\r\n", b"\0", b"\xff", b"%00", b"bytes=-", b"9" * 30, b"A: b\r\n", b"Host: \r\n", b"[", b"-1"]
VIEW = {"frame": 0, "size": [16, 12], "camera": "", "focal": 1.0, "depth": False, "serial": 1}
POSE = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
_ANSWERS = 100
"""Answers to a reader at most, so that a server that goes on for ever does not stop the run."""
_PATIENCE = 60.0
"""Seconds after which something that should have ended has not."""


class NetworkFuzzer(Fuzzer):
    """Generates requests, answers and messages."""

    def text(self, data: bytes, rng: random.Random) -> bytes:
        out = bytearray(data)
        for _ in range(rng.choice([0, 1, 1, 2, 5])):
            if rng.random() < 0.5:
                self._bytes(out, rng)
            else:
                at = rng.randrange(len(out) + 1)
                out[at : at + rng.choice([0, 0, 1, 5])] = rng.choice(PARTS) * rng.choice([1, 1, 1, 100])
        return bytes(out)

    def file(self, number: int, rng: random.Random) -> bytes:
        return self.make(number) if rng.random() < 0.5 else rng.choice(self.sound)

    def answer(self, request: bytes, data: bytes, rng: random.Random) -> bytes:
        """To a request for a part of the file, its index, or all that follows."""
        if b"?" in request.split(b"\r\n", 1)[0]:
            what = b"follow" if b"?follow" in request else b"index"
            whole = b"HTTP/1.1 200 OK\r\nInv-Answer: " + what + b"\r\n\r\n" + data
        else:
            first, last = 0, len(data)
            with suppress(ValueError, IndexError):
                first, last = map(int, request.split(b"bytes=")[1].split(b"\r\n")[0].split(b"-"))
            part = data[first : last + 1]
            size = len(data) if rng.random() < 0.95 else rng.choice([0, 1, 2**31, 2**63, 10**40])
            whole = b"HTTP/1.1 206 x\r\nContent-Range: bytes %d-%d/%d\r\n" % (first, first + len(part) - 1, size)
            whole += b"Content-Length: %d\r\n\r\n" % len(part) + part
        return self.text(whole, rng) if rng.random() < 0.3 else whole

    def message(self, rng: random.Random) -> str | bytes:
        value: Any = {**VIEW, "pose": POSE}
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            value = self._change(value, rng)
        text = json.dumps(value, default=str)
        if rng.random() < 0.2:
            changed = bytearray(text.encode())
            self._bytes(changed, rng)
            return changed.decode(errors="replace") if rng.random() < 0.9 else bytes(changed)
        return rng.choice(["[", '{"size":', "9"]) * rng.randint(1, 500) if rng.random() < 0.02 else text


def is_cheap(message: str | bytes) -> bool:
    """Whether a message asks for no picture that takes long to render."""
    try:
        width, height = json.loads(message)["size"]
        return int(width) * int(height) <= 1000
    except Exception:
        return True


async def ask_server(fuzzer: NetworkFuzzer, path: Path, number: int) -> str:
    """One file, many requests at once."""
    rng = random.Random(number)
    path.write_bytes(fuzzer.file(number, rng))
    listening = listen("127.0.0.1", 0)
    address = listening.getsockname()
    running = asyncio.create_task(FileServer(path).run(listening))

    async def ask(request: bytes) -> None:
        reader, writer = await asyncio.open_connection(*address)
        with suppress(ConnectionError):
            writer.write(request)
            # A server that waits for the rest of a request is left alone.
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1 << 20), 0.1)
        writer.close()

    try:
        await asyncio.gather(*(ask(fuzzer.text(rng.choice(REQUESTS), rng)) for _ in range(20)))
        good = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"
        reader, writer = await asyncio.open_connection(*address)
        writer.write(good)
        answer = await asyncio.wait_for(reader.read(), _PATIENCE)
        writer.close()
        assert b"200 OK" in answer, answer
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    return "served"


async def answer_reader(fuzzer: NetworkFuzzer, number: int) -> str:
    """One reader, all whose requests get hostile answers."""
    rng = random.Random(number)
    data, count = fuzzer.file(number, rng), 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            writer.write(fuzzer.answer(request, data, rng) if count <= _ANSWERS else b"HTTP/1.1 404 x\r\n\r\n")
            await writer.drain()
        writer.close()

    def read(url: str) -> str:
        try:
            describe(url, records=True)
            outcome = "read"
        except InvError as error:
            outcome = type(error).__name__
        with suppress(InvError):
            list(follow.follow_url(url, lambda: count > _ANSWERS / 2))
        return outcome

    async with await asyncio.start_server(answer, sock=(listening := listen("127.0.0.1", 0))):
        return await asyncio.wait_for(asyncio.to_thread(read, address_of(listening, "x.inv")), _PATIENCE)


async def ask_viewer(fuzzer: NetworkFuzzer, url: str, number: int) -> str:
    """One page, many messages; the last must get a picture."""
    rng = random.Random(number)
    async with aiohttp.ClientSession() as session, session.ws_connect(url + "socket") as socket:
        for message in [fuzzer.message(rng) for _ in range(20)]:
            if is_cheap(message) and len(message) < 1000:
                await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        await socket.send_str(json.dumps({**VIEW, "pose": POSE, "serial": 2**40}))
        while True:
            answer = await socket.receive(_PATIENCE)
            assert answer.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), answer
            if answer.type == aiohttp.WSMsgType.BINARY:
                about = json.loads(answer.data[4 : 4 + int.from_bytes(answer.data[:4], "little")])
                if about.get("serial") == 2**40:
                    assert about.get("final"), about
                    return "viewed"


class Errors(logging.Handler):
    """Collects what servers report as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


async def run(first: int, inputs: int) -> int:
    fuzzer, outcomes, crashes = NetworkFuzzer(), Counter[str](), 0
    errors = Errors()
    logging.getLogger().addHandler(errors)
    listening = listen("127.0.0.1", 0)
    ready = asyncio.Event()
    viewer = Viewer(str(VECTORS / "valid/long-chain/input.inv"), device="cpu", threads=1)
    viewing = asyncio.create_task(viewer.run(listening, ready.set))
    await ready.wait()
    url = address_of(listening)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + inputs):
            try:
                if number % 3 == 0:
                    outcome = await ask_server(fuzzer, Path(folder) / "x.inv", number)
                elif number % 3 == 1:
                    outcome = await answer_reader(fuzzer, number)
                else:
                    outcome = await ask_viewer(fuzzer, url, number)
                assert not errors.found, errors.found[0]
            except Exception as error:
                crashes += 1
                outcome = f"CRASH {type(error).__name__}"
                print(f"input {number}: {type(error).__name__}: {error}")
                errors.found.clear()
            outcomes[outcome] += 1
    viewing.cancel()
    with suppress(asyncio.CancelledError):
        await viewing
    print(", ".join(f"{name} {count}" for name, count in sorted(outcomes.items())))
    return crashes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=3_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input; each number is one input")
    arguments = parser.parse_args()
    # Only to be done sooner.
    remote.TIMEOUT, follow._RETRY = 1.0, (0.0,) * 5
    started = monotonic()
    crashes = asyncio.run(run(arguments.first, arguments.inputs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{arguments.inputs} inputs in {monotonic() - started:.0f} s, {crashes} crashes, {peak / 1000:.0f} MB at most"
    )
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
