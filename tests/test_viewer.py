"""The viewer: following a file, rendering, and the page in a browser."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import numpy as np
import pytest
from browser import Browser, needs_chromium
from conftest import Cli
from files import PATIENCE, make_vectors
from PIL import Image
from playing import INSIDE, STATE, WITHOUT_WEBGL, Player
from test_player_render import LEAST_PSNR, MOST_BEYOND, differences

from invcodec.coding.chain import StateReader
from invcodec.coding.state import State
from invcodec.container.reader import Reader
from invcodec.container.records import HEADER_BYTES, MAGIC, RecordType, pack_record, parse_header
from invcodec.container.scan import Record, Scanner
from invcodec.decoding.video import Video
from invcodec.errors import UsageError
from invcodec.streaming import followed as followed_module
from invcodec.streaming import rendering
from invcodec.streaming.followed import FollowedFile
from invcodec.streaming.rendering import Client, Picture, RenderService, ViewRequest, _false_colours
from invcodec.synth.rig import FOCAL_LENGTH

PROGRAM = [sys.executable, "-c", "import sys; from invcodec_cli import main; sys.exit(main())"]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def records(path: Path) -> list[bytes]:
    return records_of(path.read_bytes())


def records_of(data: bytes) -> list[bytes]:
    """The magic number with the header, then each further record."""
    ends = [len(MAGIC)]
    while ends[-1] < len(data):
        ends.append(parse_header(data[ends[-1] : ends[-1] + HEADER_BYTES], ends[-1]).end)
    return [data[: ends[1]], *(data[a:b] for a, b in pairwise(ends[1:]))]


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def assert_same_picture(a: np.ndarray, b: np.ndarray) -> None:
    """Except in the last bit, which depends on the order of float32 additions."""
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - b).max() <= 1


# a file that grows


def test_frames_that_arrive_are_added_and_all_can_be_decoded(encoded: Path, tmp_path: Path) -> None:
    head, key, delta, second, index, end = records(encoded)
    path = tmp_path / "live.inv"
    path.write_bytes(head + key + delta[:20])
    followed = FollowedFile(str(path))
    assert followed.growing
    numbers = lambda: [entry.number for entry in followed.frames]  # noqa: E731
    assert numbers() == [1]
    with open(path, "ab") as file:
        file.write(delta[20:] + second)
        file.flush()
        until(lambda: numbers() == [1, 2, 3])
        with Video(encoded) as whole:
            for number in (3, 1, 2):
                assert followed.state_at(number).digest() == whole.source.state_at(number).digest()
                assert followed.stats_at(number).stage == {1: "key", 2: "all", 3: "refresh"}[number]
        file.write(index + end)
    until(lambda: not followed.growing)
    followed.close()


def test_a_file_that_replaces_another_starts_over(encoded: Path, tmp_path: Path) -> None:
    head, key, delta, second, *_ = records(encoded)
    path = tmp_path / "live.inv"
    path.write_bytes(head + key + delta)
    followed = FollowedFile(str(path))
    until(lambda: len(followed._live) == 2)
    with Reader(encoded) as reader:
        *cameras, last = reader.head.cameras
        other = replace(reader.head, cameras=(*cameras, replace(last, name="cam96")))
    (tmp_path / "new").write_bytes(MAGIC + pack_record(RecordType.HEAD, 0, other.to_bytes()) + second)
    (tmp_path / "new").replace(path)
    until(lambda: followed.generation == 1)
    assert [entry.number for entry in followed.frames] == [3]
    assert [camera.name for camera in followed.head.cameras][-1] == "cam96"
    followed.close()


class TrackedReader(StateReader):
    """A reader that knows whether it is in use, and calls `during` with each frame number that it decodes."""

    opened: ClassVar[list[TrackedReader]] = []
    during: ClassVar[Callable[[int], None]]

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.used = False
        self.closed_in_use = False
        self.opened.append(self)

    def state_at(self, number: int) -> State:
        self.used = True
        type(self).during(number)
        state = super().state_at(number)
        self.used = False
        return state

    def close(self) -> None:
        self.closed_in_use |= self.used
        super().close()


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> type[TrackedReader]:
    monkeypatch.setattr(followed_module, "StateReader", TrackedReader)
    monkeypatch.setattr(TrackedReader, "opened", [])
    monkeypatch.setattr(TrackedReader, "during", lambda number: None, raising=False)
    return TrackedReader


def test_a_reader_is_not_closed_while_it_is_in_use(
    encoded: Path, tracked: type[TrackedReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = FollowedFile(str(encoded))
    threads: list[threading.Thread] = []

    def replace_reader(number: int) -> None:
        threads.append(threading.Thread(target=followed._catch_up))
        threads[-1].start()
        until(lambda: len(tracked.opened) == 2)
        # It must wait for the frame, however long that takes.
        threads[-1].join(0.2)

    monkeypatch.setattr(tracked, "during", replace_reader)
    followed.state_at(2)
    threads[0].join()
    old, new = tracked.opened
    assert (old._file.closed, old.closed_in_use, new._file.closed) == (True, False, False)
    followed.close()
    assert new._file.closed


def test_a_closed_file_opens_no_other_reader(encoded: Path, tracked: type[TrackedReader]) -> None:
    followed = FollowedFile(str(encoded))
    followed.close()
    followed._catch_up()
    assert len(tracked.opened) == 2
    assert all(reader._file.closed for reader in tracked.opened)


def test_closing_ends_the_thread_that_follows(encoded: Path, tmp_path: Path) -> None:
    path = tmp_path / "live.inv"
    path.write_bytes(b"".join(records(encoded)[:2]))
    followed = FollowedFile(str(path))
    thread = followed._thread
    assert thread.is_alive()
    followed.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_read_error_ends_following(encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> Generator[tuple[Scanner, Record]]:
        raise OSError("Input/output error")
        yield

    monkeypatch.setattr(followed_module, "follow_file", failing)
    path = tmp_path / "live.inv"
    path.write_bytes(b"".join(records(encoded)[:2]))
    followed = FollowedFile(str(path))
    followed._thread.join(PATIENCE)
    assert not followed.growing
    followed.close()


def test_frames_stay_in_order_after_some_were_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_vectors.two_segments()
    head, *frames = records_of(made.open())
    path = tmp_path / "live.inv"
    path.write_bytes(head + frames[0])
    seen: list[list[int]] = []

    def follow(*_: object) -> Generator[tuple[Scanner, Record]]:
        ready.wait()
        # The server skips frame 1, and the connection is lost before frame 3.
        for parts in ([frames[0], frames[2]], [frames[2], frames[3]]):
            scanner = Scanner("stream")
            for found in scanner.feed(head + b"".join(parts)):
                yield scanner, found
                seen.append([entry.number for entry in followed.frames])
            path.write_bytes(made.open())

    ready = threading.Event()
    monkeypatch.setattr(followed_module, "follow_file", follow)
    followed = FollowedFile(str(path))
    ready.set()
    followed._thread.join(PATIENCE)
    numbers = [entry.number for entry in followed.frames]
    assert [0, 2] in seen
    assert numbers == [0, 1, 2, 3]
    with Video(followed) as video:
        assert [video.at(entry.time).number for entry in followed.frames] == numbers


# pictures

FOCAL = FOCAL_LENGTH * 4 / 3
"""Of the cameras, whose pictures are 4 by 3, as a multiple of the height."""


def ask(number: int, **more: object) -> ViewRequest:
    return ViewRequest.parse({"frame": number, "size": [32, 24], "camera": "cam00", "focal": FOCAL, **more})


def test_pictures_match_the_decoder_and_come_coarse_first(encoded: Path) -> None:
    got: list[Picture] = []
    service = RenderService(FollowedFile(str(encoded)), threads=2)
    client = Client(got.append)
    service.add(client)
    # As on a machine so slow that it renders several sizes.
    service._speed = 1000.0
    service.show(client, ask(2, size=[160, 120], serial=7))
    until(lambda: got and got[-1].about.get("final"))
    sizes = [picture.about["size"] for picture in got]
    assert sizes[-1] == (160, 120)
    assert sizes == sorted(sizes)
    assert len(sizes) > 1
    assert {picture.about["serial"] for picture in got} == {7}
    with Video(encoded) as video:
        frame = video[2]
        expected = frame.render(frame.camera("cam00").resized(160, 120)).rgb
        assert_same_picture(pixels(got[-1].data), expected)
        stats = frame.stats
    about = got[-1].about
    assert (about["frame"], about["psnr"]) == (2, stats.fidelity.psnr)
    assert about["psnr_moving"] == stats.fidelity.psnr_moving
    coarse = pixels(got[0].data)
    shrunk = np.asarray(Image.fromarray(expected).resize(coarse.shape[1::-1], Image.Resampling.BOX))
    assert np.abs(coarse.astype(int) - shrunk).mean() < 12
    service.close()


def test_a_frame_that_has_not_arrived_is_waited_for(encoded: Path, tmp_path: Path) -> None:
    head, key, delta, second, *_ = records(encoded)
    path = tmp_path / "live.inv"
    path.write_bytes(head + key)
    got: list[Picture] = []
    service = RenderService(FollowedFile(str(path)), threads=1)
    early, other = Client(got.append), Client(got.append)
    service.add(early)
    service.add(other)
    service.show(early, ask(3, serial=1))
    service.show(other, ask(1, serial=2))
    until(lambda: len(got) == 1)
    assert got[0].about["serial"] == 2
    with path.open("ab") as file:
        file.write(delta + second)
    until(lambda: len(got) == 2)
    assert (got[1].about["serial"], got[1].about["frame"]) == (1, 3)
    service.close()


def test_nothing_that_goes_wrong_ends_rendering(encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Picture] = []
    service = RenderService(FollowedFile(str(encoded)), threads=1)

    def gone(picture: Picture) -> None:
        raise RuntimeError("the page is gone")

    def failing(*_: object, exact: bool) -> None:
        raise MemoryError

    broken, client = Client(gone), Client(got.append)
    for each in (broken, client):
        service.add(each)
    service.show(broken, ask(1))
    service.show(client, ask(99))
    until(lambda: len(got) == 1)
    assert "no frame 99" in got[0].about["error"]
    with monkeypatch.context() as patch:
        patch.setattr(rendering, "_encode", failing)
        service.show(client, ask(1))
        until(lambda: len(got) == 2)
    assert got[1].about["error"] == "MemoryError"
    # Its client leaves while a picture is being rendered.
    service.show(client, ask(1, size=[400, 300]))
    service.remove(client)
    pictures: list[Picture] = []
    last = Client(pictures.append)
    service.add(last)
    service.show(last, ask(2))
    until(lambda: pictures)
    assert pictures[0].about["frame"] == 2
    service.close()


def test_a_new_request_replaces_the_old_one(encoded: Path) -> None:
    got: list[Picture] = []
    service = RenderService(FollowedFile(str(encoded)), threads=1)
    client = Client(got.append)
    service.add(client)
    for serial in range(20):
        service.show(client, ask(1 + serial % 3, size=[200, 150], serial=serial))
    until(lambda: got and got[-1].about.get("final") and got[-1].about["serial"] == 19)
    assert sum(bool(picture.about.get("final")) for picture in got) < 20
    service.show(client, ask(99, serial=20))
    until(lambda: got[-1].about["serial"] == 20)
    assert "no frame 99; the file has frames 1 to 3" in got[-1].about["error"]
    service.close()


@pytest.mark.parametrize(
    "change",
    [
        {"size": [0, 24]}, {"size": [100000, 100000]}, {"size": "x"}, {"frame": None}, {"frame": "x"}, {"focal": -1},
        {"focal": float("nan")}, {"camera": "", "pose": [[0] * 4] * 3}, {"camera": "", "pose": None}, {"serial": "x"},
        {"frame": float("inf")}, {"focal": None},
    ],
)  # fmt: skip
def test_invalid_requests_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ask(1, **change)


def test_near_is_red_far_is_blue_and_empty_space_is_black() -> None:
    colours = _false_colours(np.array([[1.0, 2.0, 50.0, np.inf]], np.float32), ()).astype(int)[0]
    assert colours[0, 0] > colours[0, 2]
    assert colours[2, 2] > colours[2, 0]
    assert (colours[3] == 0).all()


# the whole program


@pytest.fixture(scope="module")
def growing(encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file without its last frame."""
    path = tmp_path_factory.mktemp("view") / "live.inv"
    head, key, delta, *_ = records(encoded)
    path.write_bytes(head + key + delta)
    return path


@pytest.fixture(scope="module")
def page(growing: Path) -> Iterator[str]:
    """Address of the viewer's page for that file."""
    process = subprocess.Popen(
        [*PROGRAM, "view", str(growing), "--no-browser", "--threads", "2"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait(PATIENCE)


def test_pages_of_other_sites_are_refused(page: str) -> None:
    async def codes() -> list[int]:
        found = []
        async with aiohttp.ClientSession() as session:
            for path, headers in [
                ("", {}),
                ("", {"Host": "evil.example"}),
                ("", {"Host": "127.0.0.1.evil.example"}),
                ("socket", {"Origin": "http://evil.example"}),
                ("socket", {"Sec-Fetch-Site": "same-site"}),
                ("", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"}),
                ("", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}),
                ("etc/passwd", {}),
            ]:
                async with session.get(page + path, headers=headers) as answer:
                    found.append(answer.status)
        return found

    assert asyncio.run(codes()) == [200, 403, 403, 403, 403, 403, 200, 404]


def test_whatever_a_page_sends_gets_an_answer_and_rendering_goes_on(page: str) -> None:
    view = {"frame": 1, "size": [32, 24], "camera": "cam00", "pose": None, "focal": 1.0}
    bad = ["[" * 4000, '{"frame":' * 400, "null", "[]", "1", "", "\x00", "{"]
    changes = [{"frame": 10**400}, {"frame": "[["}, {"size": [[1], 2]}, {"camera": "", "pose": "[[[["}]
    bad += [json.dumps({**view, **change}) for change in changes]

    async def story() -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(page + "socket") as socket:

            async def answer() -> dict[str, Any]:
                """The next error, or what is said about the next picture."""
                while True:
                    message = await socket.receive(PATIENCE)
                    if message.type == aiohttp.WSMsgType.BINARY:
                        size = int.from_bytes(message.data[:4], "little")
                        about = json.loads(message.data[4 : 4 + size])
                        if about.get("final", True):
                            return about
                    elif "error" in (told := json.loads(message.data)):
                        return told

            for text in bad:
                await socket.send_str(text)
                assert (await answer())["error"]
            await socket.send_bytes(b"\xff")
            # The page is closed before its picture is ready.
            await socket.send_str(json.dumps({**view, "size": [400, 300]}))
        async with aiohttp.ClientSession() as session, session.ws_connect(page + "socket") as socket:
            await socket.send_str(json.dumps({**view, "frame": 2}))
            assert (await answer())["frame"] == 2

    asyncio.run(story())


async def showing(browser: Browser) -> np.ndarray:
    """The picture `[H, W, 3]` once it is final and nothing lies over it."""
    await browser.until(f"{STATE}.settled && {INSIDE}.getElementById('note').hidden")
    left, top, width, height = await browser.run(
        f"(box => [box.x, box.y, box.width, box.height])({INSIDE}.getElementById('stage').getBoundingClientRect())"
    )
    seen = pixels(await browser.screenshot())
    return seen[int(top) : int(top + height), int(left) : int(left + width)]


def rendered(file: Path, number: int, camera: str, size: tuple[int, int]) -> np.ndarray:
    with Video(file, device="cpu", threads=1) as video:
        return video[number].render(video[number].camera(camera).resized(*size)).rgb


@needs_chromium
def test_the_server_renders_for_a_browser_that_cannot(page: str, growing: Path, cli: Cli, tmp_path: Path) -> None:
    async def story() -> None:
        async with Browser((360, 320)) as browser:
            await browser.call("Page.enable")
            await browser.call("Page.addScriptToEvaluateOnNewDocument", source=WITHOUT_WEBGL)
            await browser.open(page)
            await browser.until(f"{STATE}.settled && {STATE}.rendering === 'server' && {STATE}.frames === 2")
            picture = await showing(browser)
            size = picture.shape[1], picture.shape[0]
            assert await browser.run(f"{STATE}.following")
            assert_same_picture(picture, rendered(growing, 2, "cam00", size))
            # Another camera, another frame.
            await browser.run(f"{INSIDE}.getElementById('picture').focus()")
            await browser.key("Home")
            await browser.key("v")
            await browser.until(f"{STATE}.frame === 1 && {STATE}.through === 1")
            assert_same_picture(await showing(browser), rendered(growing, 1, "cam01", size))
            # From a place of one's own, `decode` gives the same picture.
            await browser.drag((180, 120), (210, 130))
            await browser.until(f"{STATE}.through === 'own'")
            picture = await showing(browser)
            rows = np.reshape(await browser.run(f"{STATE}.pose"), (3, 4)).tolist()
            with Reader(growing) as reader:
                camera = reader.head.cameras[1]
            pose, view = tmp_path / "pose.json", tmp_path / "view.png"
            there = {"transform_matrix": [*rows, [0, 0, 0, 1]], "w": size[0], "h": size[1]}
            pose.write_text(json.dumps({**there, "fl_y": camera.fy * size[1] / camera.height}))
            result = cli("decode", growing, "--frame", 1, "--pose", pose, "--size", f"{size[0]}x{size[1]}", "-o", view)
            assert result.code in (0, 3), result.err
            assert_same_picture(picture, pixels(view.read_bytes()))
            # What is saved is what is seen.
            await browser.run(
                "window.blobs = []; window.names = []; const link = URL.createObjectURL;"
                "URL.createObjectURL = blob => { blobs.push(blob); return link(blob); };"
                "HTMLAnchorElement.prototype.click = function() { names.push(this.download); }"
            )
            await browser.key("p")
            await browser.until("names.length")
            assert await browser.run("names[0]") == "live-000001.png"
            saved = await browser.run(
                "new Promise(done => { const reader = new FileReader();"
                " reader.onload = () => done(reader.result); reader.readAsDataURL(blobs[0]); })"
            )
            np.testing.assert_array_equal(pixels(base64.b64decode(saved.split(",", 1)[1])), picture)
            await browser.key("t")
            await browser.until(f"{STATE}.settled")
            assert np.abs((await showing(browser)).astype(int) - picture).mean() > 10
            await browser.key("i")
            assert "by the server" in await browser.run(f"{INSIDE}.getElementById('facts').innerText")

    asyncio.run(asyncio.wait_for(story(), 2 * PATIENCE))


SPEED = """
let now = 0, rays = 0;
window.pieces = 0;
performance.now = () => now;
const {{ scissor, fenceSync }} = WebGL2RenderingContext.prototype;
WebGL2RenderingContext.prototype.scissor = function (x, y, width, height) {{
    rays = width * height;
    scissor.call(this, x, y, width, height);
}};
WebGL2RenderingContext.prototype.fenceSync = function (...given) {{
    now += {microseconds} * 1e-3 * rays;
    pieces++;
    return fenceSync.apply(this, given);
}};
"""
"""A device on which each ray takes so long."""


@needs_chromium
@pytest.mark.parametrize(
    ("size", "microseconds", "wanted"),
    [
        # 128x72 rays in 12 ms take 1.302 µs each.
        pytest.param((160, 150), 1.29, "device", id="fast enough"),
        pytest.param((160, 150), 1.31, "server", id="too slow"),
        pytest.param((64, 48), 2, "device", id="for a small picture fast enough"),
    ],
)
def test_a_slow_device_leaves_rendering_to_the_server_unless_the_user_does_not(
    player: Player, page: str, size: tuple[int, int], microseconds: float, wanted: str
) -> None:
    async def story(browser: Browser) -> None:
        await browser.until(f"{STATE}.settled")
        await browser.run(f"{INSIDE}.getElementById('picture').focus()")
        while await browser.run(f"pieces < 12 && {STATE}.rendering === 'device'"):
            await browser.key("v")
            await browser.until(f"{STATE}.settled")
        await browser.until(f"{STATE}.rendering === {wanted!r} && {STATE}.settled")
        other = "server" if wanted == "device" else "device"
        for choice in (other, wanted):
            await browser.key("n")
            await browser.until(f"{STATE}.rendering === {choice!r} && {STATE}.size")

    player.visit(page, story, size=size, before=SPEED.format(microseconds=microseconds))


def started(*arguments: object) -> tuple[subprocess.Popen[str], str]:
    """A server, and its address."""
    process = subprocess.Popen([*PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(PATIENCE)
    assert process.stdout is not None
    process.stdout.close()


@needs_chromium
def test_the_page_follows_a_file_on_another_server_through_a_lost_connection(encoded: Path, tmp_path: Path) -> None:
    head, key, delta, second, index, end = records(encoded)
    path = tmp_path / "far away.inv"
    path.write_bytes(head + key)
    serving, url = started("serve", path, "--address", 0)
    viewing, address = started("view", url, "--no-browser", "--threads", 1)

    async def story() -> None:
        nonlocal serving
        async with Browser((360, 320)) as browser:
            # How long the page takes to render is for this story to say.
            pace = "window.pace = 0.001; let now = 0; performance.now = () => (now += window.pace);"
            await browser.call("Page.enable")
            await browser.call("Page.addScriptToEvaluateOnNewDocument", source=pace)
            await browser.open(address)
            await browser.until(f"{STATE}.frame === 1 && {STATE}.following")
            with path.open("ab") as file:
                file.write(delta)
            await browser.until(f"{STATE}.frame === 2")
            stop(serving)
            await browser.until(f"{INSIDE}.getElementById('note').innerText.includes('connection is lost')")
            await browser.run("window.pace = 50")
            await browser.run(f"{INSIDE}.getElementById('picture').focus()")
            await browser.key("Home")
            await browser.until(f"{STATE}.frame === 1 && !{STATE}.following && {STATE}.settled")
            assert await browser.run(f"{STATE}.rendering") == "device"
            assert await browser.run(f"{INSIDE}.getElementById('note').innerText.includes('connection is lost')")
            serving, _ = started("serve", path, "--address", url.split(":")[2].split("/")[0])
            with path.open("ab") as file:
                file.write(second)
            await browser.until(f"{STATE}.frames === 3")
            assert await browser.run(f"{STATE}.frame") == 1
            await browser.key("l")
            await browser.until(f"{STATE}.frame === 3 && {STATE}.following")
            with path.open("ab") as file:
                file.write(index + end)
            await browser.until(f"{INSIDE}.getElementById('live').hidden")
            picture = await showing(browser)
            found = differences(picture, rendered(encoded, 3, "cam00", (picture.shape[1], picture.shape[0])))
            assert found[0] >= LEAST_PSNR
            assert found[1] <= MOST_BEYOND

    try:
        asyncio.run(asyncio.wait_for(story(), 2 * PATIENCE))
    finally:
        stop(viewing)
        stop(serving)


def test_the_viewer_waits_for_a_file_that_does_not_exist_yet(encoded: Path, tmp_path: Path) -> None:
    path = tmp_path / "live.inv"
    serving = subprocess.Popen([*PROGRAM, "serve", str(path), "--address", "0"], stdout=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    url = serving.stdout.readline().strip()
    viewing = subprocess.Popen(
        [*PROGRAM, "view", url, "--no-browser"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert viewing.stdout is not None
    assert viewing.stderr is not None
    assert "waiting for the first keyframe" in viewing.stderr.readline()
    path.write_bytes(encoded.read_bytes())
    assert viewing.stdout.readline().startswith("http://127.0.0.1:")
    for process in (viewing, serving):
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    for stream in (viewing.stdout, viewing.stderr, serving.stdout):
        stream.close()


def test_a_file_that_cannot_be_viewed_gives_one_line(cli: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "x.inv"
    bad.write_bytes(b"nothing of the kind, but long enough to be looked at")
    for name, code in ((tmp_path / "none.inv", 2), (bad, 2), ("-", 2), ("http://127.0.0.1:9/x.inv", 2)):
        result = cli("view", name, "--no-browser")
        assert (result.code, result.err.count("\n"), result.out) == (code, 1, ""), result.err
