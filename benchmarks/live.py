"""Live encoding: delay from camera to screen, many followers, a killed server, a long run.

    python benchmarks/live.py --data studio --downscale 2 --save benchmarks/results/live.json

Everything runs over the loopback interface. The delay is measured with the programs that a user starts:
`encode --live --loop --serve`, `view` of its address, and a client that has `view` render each new frame as the page of
a slow device does. The other parts serve generated records.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "spec"), str(ROOT / "benchmarks")]

from common import commit, machine  # noqa: E402
from make_vectors import Maker, cameras, grid, header  # noqa: E402

from invcodec.coding.coders import CODER  # noqa: E402
from invcodec.coding.state import table  # noqa: E402
from invcodec.container.frame import DIGEST_BYTES, FrameHead, Stats  # noqa: E402
from invcodec.container.reader import Reader  # noqa: E402
from invcodec.container.records import HEADER_BYTES, MAGIC, pack_record, parse_header  # noqa: E402
from invcodec.streaming.follow import follow_url  # noqa: E402
from invcodec.streaming.growing import GrowingFile, StreamedRange, stream_ending  # noqa: E402

PROGRAM = [sys.executable, "-c", "import sys; from invcodec_cli import main; sys.exit(main())"]
KEY_EVERY = 30
DELTA_BYTES, KEY_BYTES = 6_000, 80_000
"""Approximate record sizes of the default profile on `studio`."""


@contextmanager
def program(*arguments: object, error: bool = False) -> Any:
    """Run an `invcodec` command in the background; its output, or standard error, can be read."""
    pipes = {"stderr": subprocess.PIPE} if error else {"stdout": subprocess.PIPE}
    process = subprocess.Popen([*PROGRAM, *map(str, arguments)], text=True, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


def memory(pid: int) -> float:
    """Resident MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": median(ordered),
        "p90": ordered[int(0.9 * (len(ordered) - 1))],
        "worst": ordered[-1],
    }


# the delay


def measure_delay(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    command = ["encode", arguments.data, folder / "live.inv", "--live", "--loop", "--serve", "0", "--progress", "json",
               "--preset", "draft", "--downscale", arguments.downscale, "--key-seconds", arguments.key_seconds,
               "--seconds-per-frame", arguments.seconds_per_frame]  # fmt: skip
    reports: dict[int, dict[str, Any]] = {}
    with program(*command, error=True) as encoder:
        url = next(line.split()[1].rstrip(";") for line in encoder.stderr if line.startswith("serving "))

        def read() -> None:
            for line in encoder.stderr:
                with suppress(ValueError):
                    report = json.loads(line)
                    reports[report["frame"]] = report

        threading.Thread(target=read, daemon=True).start()
        while not reports:
            assert encoder.poll() is None
            time.sleep(0.05)
        with program("view", url, "--no-browser") as viewer:
            page = viewer.stdout.readline().strip()
            seen = asyncio.run(look(page, arguments.frames))
        with program("info", url, "--json") as info:
            size = json.load(info.stdout)["cameras"][0]
        while seen[-1]["frame"] not in reports:
            time.sleep(0.05)
    parts = []
    for about in seen:
        report = reports[about["frame"]]
        part = {
            "queue": report["queue"],
            "train": report["training"],
            "code": report["coding"],
            "render": about["took"],
        }
        total = about["received"] - report["captured"]
        # Everything else: writing, polling, sending, decoding, waiting for its turn.
        part["transfer"] = total - sum(part.values())
        part["after training"] = total - report["queue"] - report["training"]
        parts.append({**part, "total": total, "late": report["seconds"] > report["deadline"]})
    return {
        "command": " ".join(["invcodec", *(Path(str(a)).name if "/" in str(a) else str(a) for a in command)]),
        "size": [size["width"], size["height"]],
        "frames": len(parts),
        "seconds": {name: spread([part[name] for part in parts]) for name in parts[0] if name != "late"},
        "late": sum(part["late"] for part in parts),
        "dropped": sum(report["dropped"] for report in reports.values()),
    }


async def look(page: str, count: int) -> list[dict[str, Any]]:
    """Metadata of the viewer's pictures, for a number of new frames, with the time at which each arrived."""
    url = page + "file/live.inv"
    with Reader(url) as reader:
        camera = reader.head.cameras[0]
    loop, numbers, done = asyncio.get_running_loop(), asyncio.Queue[int](), threading.Event()
    size = [round(96 * camera.width / camera.height), 96]
    view = {"size": size, "camera": camera.name, "focal": camera.fy / camera.height}

    def follow() -> None:
        for _, found in follow_url(url, done.is_set):
            if found.entry is not None:
                loop.call_soon_threadsafe(numbers.put_nowait, found.entry.number)

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    seen: list[dict[str, Any]] = []
    async with aiohttp.ClientSession() as session, session.ws_connect(page + "socket", max_msg_size=0) as socket:
        # The stream begins with frames that are old.
        await numbers.get()
        for serial in range(count + 1):
            newest = await numbers.get()
            while not numbers.empty():
                newest = numbers.get_nowait()
            await socket.send_str(json.dumps({**view, "frame": newest, "serial": serial}))
            about: dict[str, Any] = {}
            while not about.get("final"):
                message = await socket.receive()
                if message.type != aiohttp.WSMsgType.BINARY:
                    raise SystemExit("the viewer ended")
                about = json.loads(message.data[4 : 4 + struct.unpack("<I", message.data[:4])[0]])
            seen.append({**about, "received": time.time()})
    done.set()
    await asyncio.to_thread(following.join)
    return seen[1:]


# generated records


class Generated:
    """A file of records with sound framing and meaningless content, appended one by one."""

    def __init__(self, path: Path) -> None:
        made = Maker(header([grid("ndc")], cameras("ndc")), 1)
        self._qps = (0,) * len(table(made.head))
        data = made.open()
        self.path = path
        self.file: BinaryIO = open(path, "wb", buffering=0)  # noqa: SIM115
        self.file.write(data[: parse_header(data[len(MAGIC) : len(MAGIC) + HEADER_BYTES], len(MAGIC)).end])
        self.count = 0
        self._noise = os.urandom(KEY_BYTES)

    def append(self) -> None:
        key = self.count % KEY_EVERY == 0
        reference, qps = (None, self._qps) if key else (self.count - 1, None)
        stats = Stats(captured=round(1000 * time.time()))
        frame = FrameHead(40 * self.count, reference, bytes(DIGEST_BYTES), CODER, qps, stats)
        payload = frame.to_bytes() + self._noise[: KEY_BYTES if key else DELTA_BYTES]
        self.file.write(pack_record(2 if key else 3, self.count, payload))
        self.count += 1

    def finish(self) -> None:
        growing = GrowingFile(self.path)
        while growing.poll():
            pass
        self.file.write(stream_ending(growing.frames, [StreamedRange(0, 2**62, 0)], self.file.tell(), True))
        growing.close()
        self.file.close()


@contextmanager
def server(path: Path, port: int = 0) -> Any:
    with program("serve", path, "--address", port) as process:
        yield process, process.stdout.readline().strip()


def measure_followers(count: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Many clients of one server, all in one process; records are written at 10 per second."""
    made = Generated(folder / "many.inv")
    made.append()
    delays: list[float] = []
    numbers: list[list[int]] = [[] for _ in range(count)]

    async def follow(session: aiohttp.ClientSession, url: str, mine: list[int]) -> None:
        buffer, at = bytearray(), len(MAGIC)
        async with session.get(url + "?follow") as answer:
            async for data in answer.content.iter_any():
                now = time.time()
                buffer += data
                while at + HEADER_BYTES <= len(buffer):
                    record = parse_header(bytes(buffer[at : at + HEADER_BYTES]), at)
                    if record.end > len(buffer):
                        break
                    if record.type in (2, 3):
                        frame, _ = FrameHead.split(bytes(buffer[record.payload_offset : record.end]))
                        mine.append(record.frame)
                        if record.frame > 0 and frame.stats.captured is not None:
                            delays.append(now - frame.stats.captured / 1000)
                    at = record.end
                del buffer[:at]
                at = 0

    async def run(url: str) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            tasks = [asyncio.create_task(follow(session, url, mine)) for mine in numbers]
            while not all(numbers):
                await asyncio.sleep(0.05)
            for _ in range(round(10 * seconds)):
                made.append()
                await asyncio.sleep(0.1)
            made.finish()
            await asyncio.gather(*tasks)

    with server(made.path) as (process, url):
        before = cpu(process.pid)
        asyncio.run(run(url))
        used, resident = cpu(process.pid) - before, memory(process.pid)
    lost = sum(mine != list(range(made.count)) for mine in numbers)
    return {
        "followers": count,
        "records": made.count,
        "followers_that_lost_any": lost,
        "delay_seconds": spread(delays),
        "server_cpu_seconds": used,
        "server_mb": resident,
    }


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_reconnection(folder: Path, rounds: int = 5) -> dict[str, Any]:
    """Kill and restart a server, and measure how long a follower takes to receive the next record."""
    made = Generated(folder / "killed.inv")
    made.append()
    got: list[int] = []
    stop = threading.Event()
    times: list[float] = []
    with server(made.path) as (process, url):
        port = int(url.split(":")[2].split("/")[0])

        def follow() -> None:
            for _, found in follow_url(url, stop.is_set):
                if found.entry is not None and found.entry.number not in got:
                    got.append(found.entry.number)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        while not got:
            time.sleep(0.01)
        process.kill()
    for _ in range(rounds):
        made.append()
        with server(made.path, port) as (process, _):
            started = time.monotonic()
            while got[-1] != made.count - 1:
                time.sleep(0.005)
            times.append(time.monotonic() - started)
            process.kill()
    stop.set()
    return {"kills": rounds, "seconds_after_the_server_is_back": spread(times), "lost": made.count - len(got)}


def measure_soak(records: int, folder: Path) -> dict[str, Any]:
    """Serve many records as fast as possible, and measure the memory of the server and of a follower."""
    made = Generated(folder / "long.inv")
    made.append()
    script = (
        "import sys; from invcodec.streaming.follow import follow_url\n"
        "count, last, gaps = 0, -1, 0\n"
        "for scanner, found in follow_url(sys.argv[1], lambda: False):\n"
        "    if found.entry is not None:\n"
        "        gaps += found.entry.number != last + 1; last = found.entry.number; count += 1\n"
        "print(count, gaps, scanner.status)\n"
    )
    marks: list[dict[str, float]] = []
    with server(made.path) as (process, url):
        follower = subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True)
        started = time.monotonic()
        time.sleep(2)
        for number in range(1, records):
            made.append()
            # At most about 500 per second, 20 times the rate of cameras.
            time.sleep(0.002)
            if number % (records // 10) == 0:
                marks.append({"records": number, "server_mb": memory(process.pid), "follower_mb": memory(follower.pid)})
        made.finish()
        assert follower.stdout is not None
        count, gaps, status = follower.stdout.readline().split()
        follower.wait()
        seconds = time.monotonic() - started
    half = marks[len(marks) // 2]
    grown = {name: 1e6 * (marks[-1][name] - half[name]) / (marks[-1]["records"] - half["records"])
             for name in ("server_mb", "follower_mb")}  # fmt: skip
    return {
        "records": records,
        "file_mb": made.path.stat().st_size / 1e6,
        "seconds": seconds,
        "received": int(count),
        "gaps": int(gaps),
        "status_of_what_was_received": status,
        "memory": marks,
        "server_bytes_per_record_in_the_second_half": grown["server_mb"],
        "follower_bytes_per_record_in_the_second_half": grown["follower_mb"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of a capture")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--key-seconds", default="15")
    parser.add_argument("--seconds-per-frame", default="1")
    parser.add_argument("--frames", type=int, default=30, help="number of frames whose delay is measured")
    parser.add_argument("--followers", type=int, default=200)
    parser.add_argument("--records", type=int, default=20_000, help="number of records of the long run")
    parser.add_argument("--save", type=Path, help="write the results there, as JSON")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "commit": commit(), "date": date.today().isoformat()}
    given = [Path(a).name if a in (arguments.data, str(arguments.save)) else a for a in sys.argv[1:]]
    result["command"] = " ".join(["python", "benchmarks/live.py", *given])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result["delay"] = {"load_average": os.getloadavg()[0], **measure_delay(arguments, folder)}
        shown = result["delay"]["seconds"]
        print("| part | median | 90 % | worst |\n|---|---|---|---|")
        for part in ("queue", "train", "code", "transfer", "render", "after training", "total"):
            print(f"| {part} | " + " | ".join(f"{1000 * value:.0f} ms" for value in shown[part].values()) + " |")
        result["followers"] = measure_followers(arguments.followers, 10, folder)
        print(json.dumps(result["followers"]))
        result["reconnection"] = measure_reconnection(folder)
        print(json.dumps(result["reconnection"]))
        result["soak"] = measure_soak(arguments.records, folder)
        print(json.dumps({key: value for key, value in result["soak"].items() if key != "memory"}))
    if arguments.save:
        arguments.save.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
