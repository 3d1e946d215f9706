"""Feeds hostile bytes to all that reads them, guided by coverage: `python spec/fuzz_guided.py index --seconds 600`.

libFuzzer, through atheris (`make fuzz-guided` installs it; Linux), keeps each input that reaches new code, and mutates
those. It starts from sound inputs; mutations are its own and those of `fuzz.py`. Everything runs in this process, on
files in memory where there have to be files. Targets:

    file         what finds records, parses all fields, decodes and verifies; with corrected digests
    head         the fields of HEAD, once they are decompressed
    frame        the fields of KEY and DELTA
    index        the rows of INDEX, once they are decompressed
    json         the descriptions of captures and live rigs
    calibration  the calibrations of other tools
    points       models of COLMAP
    request      HTTP requests to the file server
    message      messages to the viewer

What numba compiles counts as no coverage. An error that is not the package's own ends the run, and its input is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import os
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import atheris

_COMPILED = ["coding.codec", "coding.guide", "coding.mixing", "coding.model", "coding.rangecoder", "coding.state"]
_COMPILED += ["field.kernels.grid", "field.kernels.simd", "render.kernels", "training.walk"]
# Numba cannot compile functions that count coverage.
with atheris.instrument_imports(include=["invcodec"], exclude=[f"invcodec.{name}" for name in _COMPILED]):
    from fuzz import VECTORS, Fuzzer, joined, records, with_right_digests
    from fuzz_captures import calibrations, write_calibration, write_captures, write_stills
    from fuzz_network import POSE, REQUESTS, VIEW, Errors

    from invcodec.capture import colmap
    from invcodec.capture.layouts import transforms
    from invcodec.capture.layouts.registry import recognise
    from invcodec.container.canonical import packed_size
    from invcodec.container.compressed import compress, decompress
    from invcodec.container.frame import FrameHead
    from invcodec.container.head import Head
    from invcodec.container.index import FrameList, Index
    from invcodec.container.info import describe
    from invcodec.container.records import RecordType
    from invcodec.editing.verify import verify
    from invcodec.errors import InvError
    from invcodec.limits import MAX_INDEX_BYTES
    from invcodec.streaming import viewer
    from invcodec.streaming.connections import listen, serving
    from invcodec.streaming.server import FileServer

_LONGEST = 1 << 16
_ENOUGH_MB = 2048
_TOO_LONG = 60
"""Bytes, megabytes and seconds of one input."""
_MEMORY = Path("/dev/shm")
_FUZZER = Fuzzer()


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        attack: reads an input; may raise `InvError`.
        seeds: sound inputs.
        change: mutates an input, or returns it as it is; libFuzzer's own mutations are used as often.
    """

    attack: Callable[[bytes], object]
    seeds: list[bytes]
    change: Callable[[bytes, random.Random], bytes] = lambda data, rng: data

    def mutate(self, data: bytes, most: int, seed: int) -> bytes:
        """libFuzzer's custom mutator."""
        rng = random.Random(seed)
        changed = self.change(data, rng) if rng.random() < 0.5 else data
        return changed[:most] if changed != data else atheris.Mutate(data, most)

    def __call__(self, data: bytes) -> None:
        with suppress(InvError):
            self.attack(data)


def payloads(*types: RecordType) -> list[bytes]:
    """Payloads of these records of all sound files, none twice."""
    return list({payload: 0 for data in _FUZZER.sound for type_, _, payload in records(data) if type_ in types})


def change_json(data: bytes, rng: random.Random) -> bytes:
    try:
        return json.dumps(_FUZZER._change(json.loads(data), rng), default=str).encode()
    except (ValueError, TypeError, RecursionError):
        return data


def file(folder: Path) -> Target:
    """All but rendering, which is compiled and takes most of the time of `fuzz.attack`."""
    path = folder / "input.inv"

    def attack(data: bytes) -> None:
        path.write_bytes(data)
        for read in (lambda: verify(io.BytesIO(data), "input"), lambda: describe(path, records=True)):
            with suppress(InvError):
                read()

    def change(data: bytes, rng: random.Random) -> bytes:
        try:
            parts = records(data)
        except InvError:
            return data
        if not parts:
            return data
        if rng.random() < 0.4:
            at = rng.randrange(len(parts))
            type_, frame, payload = parts[at]
            parts[at] = type_, frame, atheris.Mutate(payload, len(payload) + 64)
        else:
            _FUZZER._record(parts, rng)
        whole = joined(parts)
        return with_right_digests(whole) if rng.random() < 0.3 else whole

    return Target(attack, _FUZZER.all, change)


def head(folder: Path) -> Target:
    seeds = [decompress(payload[2:], "", MAX_INDEX_BYTES) for payload in payloads(RecordType.HEAD)]
    top = payloads(RecordType.HEAD)[0][:2]
    return Target(lambda data: Head.from_bytes(top + compress(data)).describe(), seeds, _FUZZER._fields)


def frame(folder: Path) -> Target:
    found = payloads(RecordType.KEY, RecordType.DELTA)
    seeds = [payload[: packed_size(payload, "")] for payload in found]
    return Target(lambda data: FrameHead.split(data)[0].describe(), seeds, _FUZZER._fields)


def index(folder: Path) -> Target:
    """The first byte is the level."""

    def attack(data: bytes) -> None:
        found = Index.from_bytes(data[:1] + compress(data[1:]))
        frames = FrameList(Fraction(1, 90000))
        frames.add_page(found.rows[:1024])
        for entry in frames:
            frames.place(entry.number)

    found = payloads(RecordType.INDEX)
    return Target(attack, [each[:1] + decompress(each[1:], "", MAX_INDEX_BYTES) for each in found])


def described(folder: Path) -> Target:
    path = folder / "transforms.json"

    def attack(data: bytes) -> None:
        path.write_bytes(data)
        for read in (lambda: transforms.read_rig(path), lambda: transforms.read(folder, None)):
            with suppress(InvError):
                read()

    write_captures(folder / "captures")
    seeds = [each.read_bytes() for each in sorted(folder.rglob("*.json")) if each.is_file()]
    shutil.rmtree(folder / "captures")
    return Target(attack, seeds, change_json)


def calibration(folder: Path) -> Target:
    """The first byte says of which tool."""
    sound = {name: text for name, text in calibrations().items() if name != "transforms_train.json"}
    places = []
    for name, text in sound.items():
        write_stills(folder / name)
        write_calibration(folder / name, name, text.encode())
        places.append((folder / name, recognise(folder / name)[1]))
    names = list(sound)

    def attack(data: bytes) -> None:
        which = data[0] % len(names) if data else 0
        place, layout = places[which]
        write_calibration(place, names[which], data[1:])
        layout.read(place, None)

    def change(data: bytes, rng: random.Random) -> bytes:
        if data and names[data[0] % len(names)].endswith(".json"):
            return data[:1] + change_json(data[1:], rng)
        return data

    return Target(attack, [bytes([n]) + text.encode() for n, text in enumerate(sound.values())], change)


def points(folder: Path) -> Target:
    """The first byte says which file of a model."""
    readers = {"images": colmap.read_views, "points3D": colmap.read_positions, "cameras": colmap.read_lenses}
    kinds = [(name, ending) for name in readers for ending in ("txt", "bin")]

    def attack(data: bytes) -> None:
        name, ending = kinds[data[0] % len(kinds)] if data else kinds[0]
        path = folder / f"{name}.{ending}"
        path.write_bytes(data[1:])
        readers[name](path)

    one = (1).to_bytes(8, "little")
    seeds = [
        b"# images\n1 1 0 0 0 0 0 0 1 a.png\n1 2 3\n2 0 1 0 0 0.5 0 0 1 b.png\n\n",
        one + struct.pack("<I7dI6sQ", 1, 1, 0, 0, 0, 0, 0, 0, 1, b"a.png", 0),
        b"# points\n1 0.5 0.5 -2 1 2 3 0.1 1 2\n",
        one + struct.pack("<Q3d3BdQ", 1, 1, 2, 3, 4, 5, 6, 0.1, 0),
        b"# cameras\n1 PINHOLE 16 12 15 15 8 6\n",
        one + struct.pack("<IiQQ4d", 1, 1, 16, 12, 15, 15, 8, 6),
    ]
    return Target(attack, [bytes([kind]) + seed for kind, seed in enumerate(seeds)])


class Wire(asyncio.Transport):
    """A connection to nobody."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self._closing = False

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    abort = close

    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def request(folder: Path) -> Target:
    path = folder / "x.inv"
    path.write_bytes((VECTORS / "valid/long-chain/input.inv").read_bytes())
    loop, errors = asyncio.new_event_loop(), Errors()
    logging.getLogger().addHandler(errors)
    server = FileServer(path)
    while server.file._growing.poll():
        pass
    door = serving(server.application(), listen("127.0.0.1", 0))
    loop.run_until_complete(door.__aenter__())
    make = cast(Callable[[], Any], door._runner.server)

    async def serve(data: bytes) -> None:
        handler = make()
        handler.connection_made(Wire())
        handler.data_received(data)
        for _ in range(8):
            await asyncio.sleep(0)
        handler.connection_lost(None)
        await asyncio.sleep(0)

    def attack(data: bytes) -> None:
        loop.run_until_complete(serve(data))
        assert not errors.found, errors.found

    return Target(attack, REQUESTS)


def message(folder: Path) -> Target:
    def show(*_: object) -> None:
        pass

    session: Any = SimpleNamespace(report=json.dumps, client=None)
    service: Any = SimpleNamespace(show=show)

    def attack(data: bytes) -> None:
        viewer.take(service, session, data.decode(errors="replace"))

    seeds = [{**VIEW, "pose": POSE}, {**VIEW, "camera": "cam00"}]
    return Target(attack, [json.dumps(seed).encode() for seed in seeds], change_json)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "file": file,
    "head": head,
    "frame": frame,
    "index": index,
    "json": described,
    "calibration": calibration,
    "points": points,
    "request": request,
    "message": message,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-crashes"), help="folder for an input that ends the run")
    parser.add_argument("--corpus", type=Path, help="folder for inputs that reach new code, to go on from")
    arguments = parser.parse_args()
    # Files that are written for each input are never on a disk, where there is a choice.
    folder = Path(tempfile.mkdtemp(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    corpus = arguments.corpus or Path(tempfile.mkdtemp())
    corpus.mkdir(parents=True, exist_ok=True)
    target = TARGETS[arguments.target](folder)
    for number, seed in enumerate(target.seeds):
        # A seed that is refused leads nowhere.
        if arguments.target != "file":
            target.attack(seed)
        (corpus / f"seed{number}").write_bytes(seed)
    arguments.keep.mkdir(parents=True, exist_ok=True)
    limits = [
        f"-artifact_prefix={arguments.keep}/",
        f"-max_len={_LONGEST}",
        f"-rss_limit_mb={_ENOUGH_MB}",
        f"-timeout={_TOO_LONG}",
    ]
    atheris.Setup(
        [sys.argv[0], f"-max_total_time={arguments.seconds}", *limits, "-print_final_stats=1", str(corpus)],
        target,
        custom_mutator=target.mutate,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
