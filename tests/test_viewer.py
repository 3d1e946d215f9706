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
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import aiohttp
import numpy as np
import pytest
from browser import Browser, needs_chromium
from conftest import Cli
from files import PATIENCE, make_vectors
from PIL import Image

from invcodec.coding.chain import StateReader
from invcodec.coding.state import State
from invcodec.container.index import ROW, FrameList, RowFlags
from invcodec.container.reader import Reader
from invcodec.container.records import HEADER_BYTES, MAGIC, RecordType, pack_record, parse_header
from invcodec.container.scan import Record, Scanner
from invcodec.decoding.video import Video
from invcodec.errors import UsageError
from invcodec.limits import PAGE_FRAMES
from invcodec.streaming import followed as followed_module
from invcodec.streaming import rendering, viewer
from invcodec.streaming.followed import FollowedFile
from invcodec.streaming.rendering import Client, Picture, RenderService, ViewRequest, _false_colours, scene
from invcodec.streaming.viewer import _Session

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
    until(lambda: 2 in followed.arrivals or len(followed._live) == 2)
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
    changes: list[bool] = []
    followed = FollowedFile(str(path), lambda: changes.append(True))
    followed._thread.join(PATIENCE)
    assert (followed.growing, followed.connected, changes) == (False, False, [True])
    followed.close()


def test_frames_stay_in_order_after_some_were_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_vectors.two_segments()
    head, *frames = records_of(made.open())
    path = tmp_path / "live.inv"
    path.write_bytes(head + frames[0])
    seen: list[list[int]] = []
    page: list[int] = []
    lists: list[tuple[int, int]] = []

    def show() -> None:
        """Do what the page does."""
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        session._socket = SimpleNamespace(send_json=send)  # type: ignore[assignment]
        session.list_frames({"list": 0})
        asyncio.run(session._send_changes())
        page[:] = [number for number, *_ in sent[-1]["rows"]]
        if sought := [message for message in sent if "timeline" in message]:
            lists.append((sought[0]["timeline"]["count"], sent[-1]["lists"]))
        seen.append(list(page))

    def follow(*_: object) -> Generator[tuple[Scanner, Record]]:
        ready.wait()
        # The server skips frame 1, and the connection is lost before frame 3.
        for parts in ([frames[0], frames[2]], [frames[2], frames[3]]):
            scanner = Scanner("stream")
            for found in scanner.feed(head + b"".join(parts)):
                yield scanner, found
                show()
            path.write_bytes(made.open())

    ready = threading.Event()
    monkeypatch.setattr(followed_module, "follow_file", follow)
    followed = FollowedFile(str(path))

    async def begin() -> _Session:
        return _Session(SimpleNamespace(file=followed), None, "")  # type: ignore[arg-type]

    session = asyncio.run(begin())
    ready.set()
    followed._thread.join(PATIENCE)
    numbers = [entry.number for entry in followed.frames]
    assert [0, 2] in seen
    assert (numbers, page) == ([0, 1, 2, 3], [0, 1, 2, 3])
    # The page is told that frames have other places after one was inserted.
    assert [count for count, _ in lists] == [1, 2, 4][-len(lists) :]
    assert lists[-1][1] > lists[0][1]
    with Video(followed) as video:
        assert [video.at(entry.time).number for entry in followed.frames] == numbers


# the list of frames


def recording(count: int) -> Any:
    """A file of frames with numbers 2, 4, ..., each a second long, the keyframes of 5000 bytes among others of 100."""
    frames = FrameList(Fraction(1))
    for start in range(0, count, PAGE_FRAMES):
        rows = np.zeros(min(PAGE_FRAMES, count - start), ROW)
        place = start + np.arange(len(rows))
        rows["number"], rows["ticks"] = 2 * (place + 1), place
        rows["flags"] = np.where(place % 60 == 0, RowFlags.KEY, 0)
        rows["length"] = np.where(place % 60 == 0, 5000, 100)
        rows["offset"] = 100 * place + 4900 * ((place + 59) // 60)
        frames.add_page(rows)
    return SimpleNamespace(frames=frames, listed=lambda: nullcontext(frames))


@pytest.mark.parametrize("count", [1, 59, 1024, 1025, 70_000, 2_600_000])
def test_what_a_page_is_sent_is_bounded(count: int) -> None:
    file = recording(count)
    line = viewer._timeline(file)
    assert (line["count"], line["begin"], line["end"]) == (count, 0.0, count - 1)
    assert line["bytes"] == 100 * count + 4900 * -(-count // 60)
    assert len(line["bars"]) <= 1024
    assert len(line["bars"]) * line["each"] >= count > (len(line["bars"]) - 17) * line["each"]
    assert {length for length, _ in line["bars"]} <= {100, 5000}
    assert all((length == 5000) == key for length, key in line["bars"])
    assert line["each"] == 1 or count > 1024
    for wanted, at in (({"list": count // 2}, count // 2), ({"list": 0, "number": 2 * count}, count - 1)):
        got = viewer._rows(file, wanted)
        assert (got["at"], len(got["rows"]) <= 256) == (at, True)
        assert got["rows"][at - got["from"]][:2] == [2 * (at + 1), at]
        assert len(json.dumps(got)) + len(json.dumps(line)) < 40_000


@pytest.mark.parametrize("wanted", [{"list": -5}, {"list": 10**30}, {"list": 0, "number": 10**30}])
def test_places_outside_a_file_list_its_ends(wanted: dict[str, Any]) -> None:
    got = viewer._rows(recording(300), wanted)
    assert (got["at"], len(got["rows"])) in ((0, 256), (299, 44))
    assert viewer._rows(recording(0), wanted) == {"from": 0, "at": 0, "rows": []}
    assert viewer._timeline(recording(0)) == {"count": 0}


# pictures


def ask(number: int, **more: object) -> ViewRequest:
    return ViewRequest.parse({"frame": number, "size": [32, 24], "camera": "cam00", **more})


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
    assert (about["frame"], about["bytes"], about["psnr"]) == (2, frame.bytes, stats.fidelity.psnr)
    assert about["psnr_moving"] == stats.fidelity.psnr_moving
    coarse = pixels(got[0].data)
    shrunk = np.asarray(Image.fromarray(expected).resize(coarse.shape[1::-1], Image.Resampling.BOX))
    assert np.abs(coarse.astype(int) - shrunk).mean() < 12
    service.close()


def test_a_picture_to_save_does_not_keep_those_waiting_who_look(encoded: Path) -> None:
    order: list[Picture | str] = []
    service = RenderService(FollowedFile(str(encoded)), threads=1)
    saver = Client(order.append)

    def look(picture: Picture) -> None:
        order.append("look")
        if order.count("look") < 4:
            service.show(looker, ask(1, size=[40, 30]))

    looker = Client(look)
    service.add(looker)
    service.add(saver)
    # Many strips.
    service._speed = 2000.0
    with service._work:
        looker.request, saver.order = ask(1, size=[40, 30]), ask(2, size=[160, 120])
        service._work.notify_all()
    until(lambda: len(order) == 5)
    assert order[:4] == ["look"] * 4
    saved = order[4]
    assert isinstance(saved, Picture)
    assert (saved.about["saved"], saved.about["frame"], saved.about["type"]) == (True, 2, "image/png")
    with Video(encoded) as video:
        frame = video[2]
        assert_same_picture(pixels(saved.data), frame.render(frame.camera("cam00").resized(160, 120)).rgb)
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
    service.save(broken, ask(1))
    service.show(broken, ask(1))
    service.save(client, ask(99))
    until(lambda: len(got) == 1)
    assert (got[0].about["saved"], "no frame 99" in got[0].about["error"]) == (True, True)
    with monkeypatch.context() as patch:
        patch.setattr(rendering, "_encode", failing)
        service.show(client, ask(1))
        until(lambda: len(got) == 2)
    assert got[1].about["error"] == "MemoryError"
    # Its client leaves while a picture is being rendered.
    service.save(client, ask(1, size=[400, 300]))
    service.remove(client)
    last = Client(got.append)
    service.add(last)
    service.show(last, ask(2))
    until(lambda: len(got) == 3)
    assert got[2].about["frame"] == 2
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
        {"frame": float("inf")},
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


def test_a_page_gets_the_views_that_it_can_start_from(encoded: Path) -> None:
    followed = FollowedFile(str(encoded))
    told = json.loads(json.dumps(scene(followed)))
    assert [view["camera"] for view in told["views"]] == [f"cam0{i}" for i in range(7)]
    assert told["views"][told["start"]]["camera"] == "cam00"
    assert all(0.1 < view["distance"] < 100 for view in told["views"])
    followed.close()


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
    view = {"frame": 1, "size": [32, 24], "camera": "cam00", "pose": None}
    bad = ["[" * 4000, '{"frame":' * 400, "null", "[]", "1", "", "\x00", "{"]
    changes = [{"frame": 10**400}, {"frame": "[["}, {"size": [[1], 2]}, {"camera": "", "pose": "[[[["}]
    bad += [json.dumps({**view, **change}) for change in changes]

    async def story() -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(page + "socket") as socket:

            async def answer(save: bool = False) -> dict[str, Any]:
                """The next error, or what is said about the next picture."""
                while True:
                    message = await socket.receive(PATIENCE)
                    if message.type == aiohttp.WSMsgType.BINARY:
                        size = int.from_bytes(message.data[:4], "little")
                        about = json.loads(message.data[4 : 4 + size])
                        if bool(about.get("saved")) == save and about.get("final", True):
                            return about
                    elif "error" in (told := json.loads(message.data)):
                        return told

            for text in bad:
                await socket.send_str(text)
                assert (await answer())["error"]
            await socket.send_bytes(b"\xff")
            await socket.send_str(json.dumps({**view, "save": True}))
            assert (await answer(save=True))["frame"] == 1
            # The page is closed before its pictures are ready.
            await socket.send_str(json.dumps({**view, "size": [400, 300]}))
            await socket.send_str(json.dumps({**view, "size": [400, 300], "save": True}))
        async with aiohttp.ClientSession() as session, session.ws_connect(page + "socket") as socket:
            await socket.send_str(json.dumps({**view, "frame": 2}))
            assert (await answer())["frame"] == 2

    asyncio.run(story())


@pytest.mark.slow
@needs_chromium
def test_the_page_in_a_browser(cli: Cli, page: str, growing: Path, encoded: Path, tmp_path: Path) -> None:
    async def shown(browser: Browser) -> np.ndarray:
        """The picture on the canvas once it is final."""
        await browser.until("viewer.state().settled")
        url = await browser.run("document.getElementById('picture').toDataURL('image/png')")
        return pixels(base64.b64decode(url.split(",", 1)[1]))

    def decoded(frame: int, pose: object, size: list[int], *more: str) -> np.ndarray:
        view = tmp_path / "view.png"
        arguments = ("--frame", frame, "--pose", pose, "--size", "x".join(map(str, size)), "-o", view, "-f")
        result = cli("decode", encoded, *arguments, *more)
        assert result.code == 0, result.err
        return pixels(view.read_bytes())

    async def story() -> None:
        async with Browser((360, 320)) as browser:
            await browser.open(page)
            await browser.until("window.viewer && viewer.state().frames == 2 && viewer.state().settled")
            size = await browser.run("viewer.request().size")
            # Live: the newest frame is shown, and each new one as it arrives.
            assert await browser.run("viewer.state().following")
            assert_same_picture(await shown(browser), decoded(2, "cam00", size))
            with open(growing, "ab") as file:
                file.write(b"".join(records(encoded)[3:]))
            await browser.until("viewer.state().frames == 3 && !viewer.state().growing")
            assert_same_picture(await shown(browser), decoded(3, "cam00", size))
            assert await browser.run("document.getElementById('live').hidden")
            facts = await browser.run("document.getElementById('facts').textContent")
            assert "PSNR" in facts
            assert "kB" in facts
            # Scrub to the first frame, then step with a key.
            box = await browser.run(
                "(r => [r.x, r.y, r.width, r.height])(document.getElementById('slider').getBoundingClientRect())"
            )
            for kind in ("mousePressed", "mouseReleased"):
                await browser.mouse(kind, box[0] + 6, box[1] + box[3] / 2, button="left", clickCount=1)
            await browser.until("viewer.state().index == 0")
            assert_same_picture(await shown(browser), decoded(1, "cam00", size))
            await browser.run("document.getElementById('picture').focus()")
            await browser.key("ArrowRight", "ArrowRight")
            assert_same_picture(await shown(browser), decoded(2, "cam00", size))
            # Another camera of the rig.
            await browser.run("viewer.look(3)")
            assert_same_picture(await shown(browser), decoded(2, "cam03", size))
            # Orbit, pan, move closer: `decode` gives the same picture from there.
            before = await browser.run("viewer.state().eye")
            await browser.drag((180, 120), (210, 130))
            await browser.drag((180, 120), (190, 110), button="right")
            await browser.mouse("mouseWheel", 180, 120, deltaX=0, deltaY=-100)
            picture = await shown(browser)
            eye, wish = await browser.run("viewer.state().eye"), await browser.run("viewer.request()")
            assert np.linalg.norm(np.subtract(eye["position"], before["position"])) > 0.05
            assert eye["camera"] == ""
            pose = tmp_path / "pose.json"
            pose.write_text(
                json.dumps(
                    {"transform_matrix": [*wish["pose"], [0, 0, 0, 1]], "w": size[0], "h": size[1],
                     "fl_y": wish["focal"] * size[1]}
                )
            )  # fmt: skip
            there = decoded(2, pose, size)
            assert_same_picture(picture, there)
            assert np.abs(there.astype(int) - decoded(2, "cam03", size)).mean() > 2
            # The saved picture is the one on screen.
            await browser.run(
                "window.made = []; window.blobs = []; window.link = URL.createObjectURL;"
                "URL.createObjectURL = blob => { blobs.push(blob); return link(blob); };"
                "HTMLAnchorElement.prototype.click = function() { made.push(this.download); }"
            )
            await browser.key("p", "KeyP")
            await browser.until("made.length == 1")
            assert await browser.run("made[0]") == "live-000002.png"
            data = await browser.run(
                "new Promise(done => { const reader = new FileReader();"
                " reader.onload = () => done(reader.result); reader.readAsDataURL(blobs[0]); })"
            )
            np.testing.assert_array_equal(pixels(base64.b64decode(data.split(",", 1)[1])), picture)
            # Depth, and fly.
            await browser.key("t", "KeyT")
            assert np.abs((await shown(browser)).astype(int) - picture).mean() > 10
            await browser.key("t", "KeyT")
            await browser.key("f", "KeyF")
            before = await browser.run("viewer.state().eye")
            await browser.drag((180, 120), (200, 120))
            after = await browser.run("viewer.state().eye")
            # Looking around does not move the camera.
            np.testing.assert_allclose(after["position"], before["position"])
            assert np.abs(np.subtract(after["back"], before["back"])).max() > 0.01
            # Playback loops.
            await browser.key(" ", "Space")
            seen = set()
            while seen != {0, 1, 2}:
                seen.add(await browser.run("viewer.state().index"))
            await browser.key(" ", "Space")
            assert not await browser.run("viewer.state().playing")

    asyncio.run(asyncio.wait_for(story(), 2 * PATIENCE))


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
