"""`invcodec export --html` and `--site`: pages that play a file."""

from __future__ import annotations

import asyncio
import io
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, needs_chromium
from conftest import Cli
from files import SPEC
from PIL import Image
from playing import CLIP, ELEMENT, STATE
from test_player_render import LEAST_PSNR, MOST_BEYOND, differences

from invcodec import pages
from invcodec.decoding.video import Video
from invcodec.exporting import page

SIZE = 240, 180


def shown(url: str) -> tuple[np.ndarray, list[str]]:
    """What a page shows of the first frame, without its controls, and the addresses that it asked for."""
    asked: list[str] = []

    def listen(method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            asked.append(params["request"]["url"])

    async def run() -> bytes:
        async with Browser(SIZE) as browser:
            browser.listen = listen
            await browser.call("Network.enable")
            await browser.open(url)
            await browser.until(f"{STATE}.frames === 3")
            await browser.run(f"{ELEMENT}.removeAttribute('autoplay')")
            await browser.run(f"{ELEMENT}.removeAttribute('controls')")
            await browser.run(f"{ELEMENT}.pause()")
            await browser.run(f"{ELEMENT}.seek(0)")
            await browser.until(f"{STATE}.settled && {STATE}.frame === 0")
            return await browser.screenshot()

    return np.array(Image.open(io.BytesIO(asyncio.run(run()))).convert("RGB")), asked


def assert_first_frame(picture: np.ndarray) -> None:
    with Video(CLIP, device="cpu", threads=1) as video:
        wanted = video[0].render(video[0].camera("cam00").resized(*SIZE)).rgb
    psnr, beyond = differences(picture, wanted)
    assert psnr >= LEAST_PSNR
    assert beyond <= MOST_BEYOND


@needs_chromium
def test_a_page_plays_from_disk_without_a_network(cli: Cli, tmp_path: Path) -> None:
    made = tmp_path / "a <clip> & more.html"
    named = tmp_path / "a <clip> & more.inv"
    shutil.copyfile(CLIP, named)
    result = cli("export", named, "--html", made)
    assert (result.code, result.err) == (0, "")
    assert "<title>a &lt;clip&gt; &amp; more</title>" in made.read_text()
    picture, asked = shown(made.as_uri())
    assert_first_frame(picture)
    assert {url.split(":")[0] for url in asked} <= {"file", "blob", "data"}
    assert sum(url.startswith("file:") for url in asked) == 1


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """As `python -m http.server` does, which knows no ranges."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@needs_chromium
def test_a_site_plays_from_a_plain_server(cli: Cli, tmp_path: Path) -> None:
    result = cli("export", CLIP, "--site", tmp_path / "site")
    assert (result.code, result.err) == (0, "")
    assert {path.name for path in (tmp_path / "site").iterdir()} == {"index.html", "inv-player.js", "clip.inv"}
    assert (tmp_path / "site" / "clip.inv").read_bytes() == CLIP.read_bytes()
    with served(tmp_path / "site") as url:
        picture, asked = shown(url)
    assert_first_frame(picture)
    assert url in asked
    assert all(each.startswith((url, "blob:", "data:")) for each in asked)


def test_pages_play_whole_files_and_replace_none(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "clip.html"
    for selection in (("--frame", "0"), ("--frames", "0:1"), ("--time", "0")):
        result = cli("export", CLIP, "--html", made, *selection)
        assert (result.code, "invcodec cut" in result.err, made.exists()) == (2, True, False)
    assert cli("export", CLIP, "--html", made).code == 0
    before = made.read_bytes()
    result = cli("export", CLIP, "--html", made)
    assert (result.code, result.err.count("\n"), made.read_bytes() == before) == (2, 1, True)
    site = tmp_path / "site"
    site.mkdir()
    (site / "clip.inv").write_bytes(b"mine")
    result = cli("export", CLIP, "--site", site)
    assert (result.code, [path.name for path in site.iterdir()]) == (2, ["clip.inv"])
    monkeypatch.setattr(page, "_MOST", CLIP.stat().st_size - 1)
    result = cli("export", CLIP, "--html", made, "-f")
    assert (result.code, "use --site" in result.err, made.read_bytes() == before) == (2, True, True)
    monkeypatch.setattr(pages, "_PLAYER", tmp_path)
    result = cli("export", CLIP, "--site", tmp_path / "other")
    assert (result.code, "make player" in result.err, (tmp_path / "other").exists()) == (2, True, False)


def test_damaged_files_are_played_and_said_to_be_damaged(cli: Cli, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.inv"
    damaged.write_bytes(CLIP.read_bytes()[:-200])
    result = cli("export", damaged, "--html", tmp_path / "clip.html")
    assert (result.code, (tmp_path / "clip.html").exists()) == (3, True)
    assert "cut off" in result.err
    result = cli("export", SPEC / "make_vectors.py", "--html", tmp_path / "other.html")
    assert (result.code, (tmp_path / "other.html").exists()) == (2, False)
