"""The player, the decoder for browsers: its own tests, and the conformance vectors, in Node and in Chromium."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sysconfig
import zlib
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from browser import Browser, needs_chromium
from files import PATIENCE, ROOT, SPEC, load, make_vectors, reference

from invcodec.streaming.server import BackgroundServer
from invcodec.version import __version__

BUILT = ROOT / "player" / "build"
ENVIRONMENT = os.environ | {"PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])}
VECTORS = sorted(path.parent for path in SPEC.glob("vectors/*/*/expect.json"))
# The reference decoder takes long for the long one.
SOUND = [folder for folder in VECTORS if folder.parent.name != "faulty" and folder.name != "long"]


def node(*arguments: str | Path) -> str:
    """What a program for Node prints."""
    assert BUILT.is_dir(), "the player is not built: make player"
    done = subprocess.run(
        ["node", *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, cwd=BUILT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def empty_page(request: web.Request) -> web.Response:
    return web.Response(text="<!doctype html>", content_type="text/html")


async def in_a_page(script: str, **folders: Path) -> Any:
    """The value of an expression in a page of Chromium, where `player` is what the tests have and `get` reads files.

    Args:
        folders: also served, by the first part of their address.
    """
    app = web.Application()
    app.router.add_static("/build", BUILT)
    app.router.add_static("/vectors", SPEC / "vectors")
    for prefix, folder in folders.items():
        app.router.add_static(f"/{prefix}", folder)
    app.router.add_get("/", empty_page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with Browser() as browser:
            await browser.open(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            await browser.until("document.readyState == 'complete' && location.protocol == 'http:'")
            get = "async name => new Uint8Array(await (await fetch(`/vectors/${name}/input.inv`)).arrayBuffer())"
            return await browser.run(
                f"import('/build/page.js').then(async player => {{ const get = {get}; {script} }})"
            )
    finally:
        await runner.cleanup()


def name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def inputs(folders: list[Path]) -> list[Path]:
    return [folder / "input.inv" for folder in folders]


def expected(folder: Path) -> dict[str, Any]:
    """What the player is to find in a vector."""
    wanted = json.loads((folder / "expect.json").read_text())
    view = wanted.pop("render", None)
    wanted.pop("intent")
    if wanted["refused"]:
        return wanted | {"picture": wanted["refused"]}
    return wanted | ({"picture": view.get("refused")} if view else {})


def differing(found: list[dict[str, Any]]) -> list[str]:
    """Names of the vectors in which the player finds something else."""
    assert len(found) == len(VECTORS)
    return [
        name(folder)
        for folder, each in zip(VECTORS, found, strict=True)
        if any(each.get(key) != value for key, value in expected(folder).items())
    ]


def played(folder: Path) -> dict[str, Any]:
    """What a page gets of a vector: of each frame its number, and the CRC of each tensor by the reference decoder."""
    file = reference.read((folder / "input.inv").read_bytes())
    try:
        reference.find_roles(file.head)
    except reference.Refused as refusal:
        return {"refused": refusal.kind}
    frames = [
        [number, [zlib.crc32(np.ascontiguousarray(each).tobytes()) for each in reference.weights(state).values()]]
        for number, state in reference.states(file)
    ]
    return {"refused": None, "status": file.status, "frames": frames}


@cache
def played_in_node() -> list[dict[str, Any]]:
    """What a page gets of all vectors, by Node."""
    return [without_traffic(each) for each in json.loads(node("vectors.js", "play", "0", *inputs(VECTORS)))]


def without_traffic(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != "traffic"}


def test_the_player_has_the_version_of_the_package() -> None:
    assert json.loads((ROOT / "player" / "package.json").read_text())["version"] == __version__


def test_the_player_passes_its_own_tests() -> None:
    node("--test", *sorted(BUILT.glob("*.test.js")))


@pytest.mark.parametrize("piece", [0, 7], ids=["whole", "in pieces"])
def test_the_player_finds_what_is_expected(piece: int) -> None:
    assert differing(json.loads(node("vectors.js", "observe", str(piece), *inputs(VECTORS)))) == []


def test_the_player_has_the_weights_of_the_reference_decoder() -> None:
    found = dict(zip(VECTORS, played_in_node(), strict=True))
    for folder in SOUND:
        assert {key: value for key, value in found[folder].items() if key != "message"} == played(folder), name(folder)


def test_what_is_refused_is_refused_with_one_line() -> None:
    for folder, found in zip(VECTORS, played_in_node(), strict=True):
        wanted = expected(folder)
        # The coder of a frame is known only once it is asked for.
        kind = None if folder.name == "unknown-coder" else wanted.get("picture", found["refused"])
        assert found["refused"] == kind, name(folder)
        assert "\n" not in found.get("message", ""), name(folder)


def rounded(value: Any) -> Any:
    """A value of JSON as JavaScript has it, where numbers are doubles."""
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(value) if type(value) is int else value


def test_the_player_finds_in_hostile_files_what_the_package_finds(tmp_path: Path) -> None:
    fuzzer = load("fuzz").Fuzzer()
    files = {tmp_path / f"{number}.inv": fuzzer.make(number) for number in range(40)}
    for path, data in files.items():
        path.write_bytes(data)
    observed, played = (json.loads(node("vectors.js", what, "0", *files)) for what in ("observe", "play"))
    for (path, data), found, frames in zip(files.items(), observed, played, strict=True):
        wanted = make_vectors.observe(data)
        wanted["lost"] = sorted(set(wanted.get("lost", [])))
        assert {key: rounded(found.get(key, [])) for key in wanted} == {
            key: rounded(value) for key, value in wanted.items()
        }, path.name
        # Whatever a page asks for is answered.
        assert frames["refused"] or frames["frames"] is not None, path.name


@needs_chromium
def test_chromium_finds_the_same() -> None:
    found = asyncio.run(
        in_a_page(
            f"""
            const observed = [], played = [];
            for (const name of {json.dumps([name(folder) for folder in VECTORS])}) {{
                observed.push(await player.observe(await get(name)));
                played.push(await player.play(`/vectors/${{name}}/input.inv`));
            }}
            return {{observed, played}};
            """
        )
    )
    assert differing(found["observed"]) == []
    for folder, each, wanted in zip(VECTORS, found["played"], played_in_node(), strict=True):
        assert without_traffic(each) == wanted, name(folder)


def long_file(folder: Path) -> Path:
    """A file of two groups of frames, with 200 kB before each record that readers skip."""
    made = make_vectors.Maker(make_vectors.header([make_vectors.grid("ndc")], make_vectors.cameras("ndc")), 1)
    filler = make_vectors.raw_record(200, bytes(200_000))
    for first in (0, 3):
        made.raw(filler).key(first, 40 * first).raw(filler)
        for number in (first + 1, first + 2):
            made.delta(number, 40 * number)
    path = folder / "long.inv"
    path.write_bytes(made.raw(filler).finish())
    return path


def test_a_picture_takes_a_few_requests_and_the_bytes_that_it_needs(tmp_path: Path) -> None:
    path = long_file(tmp_path)
    with BackgroundServer(path, "127.0.0.1", 0, fresh=False) as server:
        alone = json.loads(node("fetch.js", server.url, "4"))
        first = json.loads(node("fetch.js", server.url, "0", "1", "5"))
    whole = json.loads(node("vectors.js", "play", "0", path))[0]["frames"]
    assert [frame[0] for frame in whole] == [0, 1, 2, 3, 4, 5]
    assert alone["frames"] == [whole[4]]
    assert first["frames"] == [whole[0], whole[1], whole[5]]
    # The beginning, the end with the index, and the records from the last keyframe on.
    needed = 2 * 2**16 + 200_028 + 1_000
    assert alone["traffic"]["requests"] == 3
    assert alone["traffic"]["bytes"] < needed < path.stat().st_size / 2


def test_a_server_without_ranges_will_do(tmp_path: Path) -> None:
    path = long_file(tmp_path)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found = json.loads(node("fetch.js", f"http://127.0.0.1:{server.server_port}/{path.name}", "1", "5"))
        server.shutdown()
    assert [frame[0] for frame in found["frames"]] == [1, 5]
    assert found["traffic"] == {"requests": 1, "bytes": path.stat().st_size}


def test_a_file_is_followed_while_it_is_written_and_goes_back_to_its_beginning(tmp_path: Path) -> None:
    made = make_vectors.two_segments()
    whole, cut = made.finish(), made.offsets()[3]
    path = tmp_path / "live.inv"
    path.write_bytes(whole[:cut])
    with BackgroundServer(path, "127.0.0.1", 0, fresh=False) as server:
        command = ["node", BUILT / "follow.js", server.url]
        with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            # The stream begins with frame 2; those before are listed.
            assert [follower.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "2\n"]
            with open(path, "ab") as file:
                file.write(whole[cut:])
            assert follower.stdout.read().splitlines() == ["3", "complete, decoded 3 and 0"]
