"""What the player does with a device: its clock, fingers, screen, graphics, memory and network, in Chromium."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, needs_chromium
from files import PATIENCE, SPEC, make_vectors
from PIL import Image
from playing import BUILT, CLIP, ELEMENT, INSIDE, STATE, Player, reply, text
from test_page import served
from test_player import long_file
from test_player_render import LEAST_PSNR, MOST_BEYOND, differences
from test_viewer import records_of

from invcodec.container.frame import Stats
from invcodec.container.reader import Reader
from invcodec.decoding.video import Video

FAKE_CLOCK = """
let now = 0;
const waiting = [];
performance.now = () => now;
window.requestAnimationFrame = call => waiting.push(call);
window.pass = milliseconds => {
    now += milliseconds;
    for (const call of waiting.splice(0)) call(now);
};
window.turn = () => new Promise(go => setTimeout(go));
window.settle = async player => { while (!player.state.settled) { pass(0); await turn(); } };
"""
"""Time passes when `pass` says so; `settle` has everything done that takes none."""


def pixels(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))


async def picture(browser: Browser) -> np.ndarray:
    """What is seen `[H, W, 3]`, once it is as fine as it gets."""
    await browser.until(f"{STATE}.settled")
    return pixels(await browser.screenshot())[:, :, :3]


def moving(count: int) -> Any:
    """A file of 25 frames a second."""
    made = make_vectors.Maker(make_vectors.header([make_vectors.grid("ndc")], make_vectors.cameras("ndc")), 3)
    made.key(0, 0)
    for number in range(1, count):
        made.delta(number, 40 * number)
    return made


def timed(player: Player, folder: Path, count: int, script: str) -> Any:
    """What a script says of a file of so many frames, in a page whose time passes when the script says so."""
    path, found = folder / "clip.inv", []
    path.write_bytes(moving(count).finish())

    async def play(browser: Browser) -> None:
        await browser.until(f"{STATE}.frames === {count}")
        found.append(await reply(browser, script))

    player.run(path, play, attributes="", size=(64, 48), before=FAKE_CLOCK)
    return found[0]


# time


@needs_chromium
def test_the_last_frame_is_shown_at_the_end_though_others_were_left_out(player: Player, tmp_path: Path) -> None:
    seen = timed(
        player,
        tmp_path,
        3,
        """
        await settle(player);
        player.play();
        pass(0);
        pass(1000);
        await settle(player);
        return [player.paused, player.currentTime, player.state.frame];
        """,
    )
    assert seen == [True, pytest.approx(0.12), 2]


@needs_chromium
def test_five_seconds_take_five_seconds_and_show_every_frame_at_its_time(player: Player, tmp_path: Path) -> None:
    seen = timed(
        player,
        tmp_path,
        126,
        """
        const seen = [];
        player.addEventListener('ended', () => seen.push('ended'));
        await settle(player);
        player.play();
        pass(0);
        // Halfway between the moments at which frames change.
        pass(20);
        for (let i = 0; i < 126; i++) {
            await settle(player);
            seen.push([player.currentTime, player.state.frame]);
            pass(40);
        }
        seen.push(player.paused, player.currentTime);
        for (const [speed, by] of [[2, 510], [0.25, 880]]) {
            player.playbackRate = speed;
            player.currentTime = 0;
            player.play();
            pass(0);
            for (let i = 0; i < 10; i++) {
                pass(by / 10);
                await settle(player);
            }
            seen.push(player.currentTime, player.state.frame);
            player.pause();
        }
        return seen;
        """,
    )
    moments, (ended, paused, end, *others) = seen[:126], seen[126:]
    assert [time for time, _ in moments] == pytest.approx([0.02 + 0.04 * i for i in range(126)], abs=1e-9)
    assert [frame for _, frame in moments] == list(range(126))
    assert (ended, paused, end) == ("ended", True, 5.04)
    assert others == pytest.approx([1.02, 25, 0.22, 5], abs=1e-9)


@needs_chromium
def test_time_waits_for_a_frame_that_takes_long_and_late_frames_are_left_out(player: Player, tmp_path: Path) -> None:
    times, shown = timed(
        player,
        tmp_path,
        10,
        """
        const shown = [];
        await settle(player);
        player.addEventListener('timeupdate', () => shown.push(player.state.frame));
        player.play();
        pass(0);
        const times = [];
        // The worker's answer, to what is asked at the first of these, cannot come before this function waits.
        for (let i = 0; i < 10; i++) {
            pass(50);
            times.push(player.currentTime);
        }
        await settle(player);
        times.push(player.currentTime);
        pass(50);
        await settle(player);
        times.push(player.currentTime);
        return [times, shown];
        """,
    )
    waited = [0.05, 0.1, 0.15, 0.2, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]
    assert times == pytest.approx([*waited, 0.25, 0.3], abs=1e-9)
    assert shown == [1, 6, 7]


# hands and screen


def values(pose: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Rotation `[3, 3]` and position `[3]`."""
    matrix = np.reshape(pose, (3, 4))
    return matrix[:, :3], matrix[:, 3]


@needs_chromium
def test_fingers_orbit_pinch_and_pan(player: Player) -> None:
    async def play(browser: Browser) -> None:
        await browser.until(f"{STATE}.settled")
        poses = [values(await browser.run(f"{STATE}.pose"))]

        async def touched(*path: list[tuple[float, float]]) -> None:
            """The pose after each part of a movement is added."""
            before = await browser.run(f"JSON.stringify({STATE}.pose)")
            await browser.touch(*path)
            await browser.until(f"JSON.stringify({STATE}.pose) !== {before!r}")
            poses.append(values(await browser.run(f"{STATE}.pose")))

        # Twice as far apart, then four times: half of the distance, then half of that.
        await touched([(180, 120), (220, 120)], [(160, 120), (240, 120)])
        await touched([(180, 120), (220, 120)], [(160, 120), (240, 120)])
        # Together again.
        await touched([(120, 120), (280, 120)], [(180, 120), (220, 120)])
        await touched([(180, 120), (220, 120)], [(200, 150), (240, 150)])
        await touched([(200, 120)], [(240, 120)])
        for rotation, _ in poses[:5]:
            np.testing.assert_allclose(rotation, poses[0][0], atol=1e-4)
        # In the camera's own axes.
        ways = [poses[0][0].T @ (after[1] - before[1]) for before, after in pairwise(poses)]
        first = -ways[0][2]
        assert first > 0.1
        for way, back in zip(ways, (-first, -first / 2, 1.5 * first), strict=False):
            np.testing.assert_allclose(way, [0, 0, back], atol=1e-4)
        # The scene goes with the fingers, down and to the right.
        assert ways[3][0] < -0.01
        assert ways[3][1:] == pytest.approx([-30 / 20 * ways[3][0], 0], abs=1e-4)
        turned = poses[5][0] @ poses[4][0].T
        assert np.arccos((np.trace(turned) - 1) / 2) > 0.1
        distance = 2 * first
        centres = [position - distance * rotation[:, 2] for rotation, position in poses[4:]]
        np.testing.assert_allclose(*centres, atol=1e-4)

    player.run(CLIP, play)


@needs_chromium
def test_full_screen_comes_and_goes(player: Player) -> None:
    async def play(browser: Browser) -> None:
        await browser.until(f"{STATE}.settled")
        icon = f"{INSIDE}.getElementById('full').innerHTML"
        normal = await browser.run(icon)
        await browser.run(f"{INSIDE}.getElementById('picture').focus()")
        await browser.key("f")
        await browser.until(f"document.fullscreenElement === {ELEMENT} && {icon} !== {normal!r}")
        await browser.key("f")
        await browser.until(f"document.fullscreenElement === null && {icon} === {normal!r}")
        await browser.until(f"{STATE}.settled")

    player.run(CLIP, play)


@needs_chromium
@pytest.mark.parametrize("name", ["grid-ndc", "grid-box-transparent"])
def test_the_picture_that_is_saved_is_the_one_that_decode_writes(player: Player, tmp_path: Path, name: str) -> None:
    file = SPEC / "vectors" / "valid" / name / "input.inv"

    async def play(browser: Browser) -> None:
        await browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        await browser.until(f"{STATE}.settled")
        await browser.run(f"{INSIDE}.getElementById('picture').focus()")
        await browser.key("p")
        saved = tmp_path / "input-000000.png"
        while not saved.exists():
            await asyncio.sleep(0.05)
        with Video(file, device="cpu", threads=1) as video:
            wanted = video[0].render(video[0].camera("cam00").resized(120, 90))
        found = pixels(saved.read_bytes())
        assert found.shape == (90, 120, 4)
        if name == "grid-ndc":
            assert (found[:, :, 3] == 255).all()
            psnr, beyond = differences(found[:, :, :3], wanted.rgb)
        else:
            # What is transparent has any colour.
            psnr, beyond = differences(premultiplied(found), premultiplied(wanted.rgba))
        assert psnr >= LEAST_PSNR
        assert beyond <= MOST_BEYOND

    player.run(file, play, attributes="", size=(120, 90))


def premultiplied(picture: np.ndarray) -> np.ndarray:
    """`[H, W, 4]` with straight alpha, as what it adds to a background."""
    alpha = picture[:, :, 3:]
    return np.dstack([np.round(picture[:, :, :3] * (alpha / 255)).astype(np.uint8), alpha])


# graphics


@needs_chromium
def test_the_picture_comes_back_after_the_graphics_driver_lost_everything(player: Player) -> None:
    async def play(browser: Browser) -> None:
        await browser.run(
            f"""
            const canvas = {INSIDE}.getElementById('picture');
            window.loss = canvas.getContext('webgl2').getExtension('WEBGL_lose_context');
            window.events = [];
            for (const event of ['webglcontextlost', 'webglcontextrestored']) {{
                canvas.addEventListener(event, () => events.push(event));
            }}
            """
        )

        async def lose() -> None:
            await browser.run("events.length = 0; loss.loseContext()")
            await browser.until("events.length === 1")

        async def restore() -> None:
            await browser.run("loss.restoreContext()")
            await browser.until("events.length === 2")

        frames = []
        for time in (0, 0.04):
            await browser.run(f"{ELEMENT}.currentTime = {time}")
            frames.append(await picture(browser))
        assert np.abs(frames[0].astype(int) - frames[1]).max() > 10
        await lose()
        await browser.until(f"{STATE}.size === null && !{INSIDE}.getElementById('busy').hidden")
        await restore()
        np.testing.assert_array_equal(await picture(browser), frames[1])
        # Another frame is asked for meanwhile.
        await lose()
        await browser.run(f"{ELEMENT}.currentTime = 0")
        await restore()
        np.testing.assert_array_equal(await picture(browser), frames[0])
        # A file is opened meanwhile.
        await lose()
        await browser.run(f"{ELEMENT}.src = 'files/input.inv?again'")
        await browser.until(f"{STATE}.frames === 3")
        await restore()
        np.testing.assert_array_equal(await picture(browser), frames[0])
        # While the shader is compiled.
        await browser.run(f"{ELEMENT}.src = 'files/input.inv'")
        await browser.until(f"{ELEMENT}.duration > 0")
        await lose()
        await restore()
        np.testing.assert_array_equal(await picture(browser), frames[0])
        assert await text(browser, "note") == ""

    player.run(CLIP, play, attributes="", size=(120, 90))


# memory

ALIVE = """
window.alive = {};
for (const kind of ["Buffer", "Framebuffer", "Program", "Shader", "Texture"]) {
    count(`create${kind}`, `delete${kind}`, kind);
}
count("fenceSync", "deleteSync", "Sync");
function count(make, drop, kind) {
    const all = WebGL2RenderingContext.prototype;
    const [made, dropped] = [all[make], all[drop]];
    alive[kind] = 0;
    all[make] = function (...given) {
        alive[kind]++;
        return made.apply(this, given);
    };
    all[drop] = function (each) {
        if (each && !each.isGone) alive[kind]--;
        if (each) each.isGone = true;
        return dropped.call(this, each);
    };
}
"""
"""Counts what there is on the GPU."""


@needs_chromium
def test_memory_stays_the_same_over_300_frames(player: Player, tmp_path: Path) -> None:
    path = tmp_path / "clip.inv"
    path.write_bytes(make_vectors.two_segments().finish())

    async def play(browser: Browser) -> None:
        workers: list[str] = []
        browser.listen = lambda method, params: (
            workers.append(params["sessionId"]) if method == "Target.attachedToTarget" else None
        )
        await browser.until(f"{STATE}.frames === 4")
        await browser.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)

        async def used() -> list[int]:
            """Bytes of the page and of its worker."""
            found = []
            for session in (None, *workers):
                await browser.call("HeapProfiler.collectGarbage", session)
                usage = await browser.call("Runtime.getHeapUsage", session)
                found.append(usage["usedSize"] + usage.get("backingStorageSize", 0))
            return found

        async def show(count: int) -> None:
            await reply(
                browser,
                f"""for (let i = 0; i < {count}; i++) {{
                    player.currentTime = 0.04 * (i % 4);
                    await settle(player);
                }}""",
            )
            # The GPU may still be at the last picture.
            await browser.until("alive.Sync === 0")

        await show(40)
        before, alive = await used(), await browser.run("alive")
        await show(300)
        after, still = await used(), await browser.run("alive")
        assert len(before) == 2
        assert still == alive
        # Less than 1 kB a frame: code that is compiled meanwhile takes some of it.
        for now, then in zip(after, before, strict=True):
            assert now - then < 300_000
        # Of a file that is closed, nothing stays.
        await browser.run(f"{ELEMENT}.removeAttribute('src')")
        await browser.until(f"{STATE}.frames === 0")
        assert set((await browser.run("alive")).values()) == {0}

    player.run(path, play, attributes="", size=(64, 48), before=FAKE_CLOCK + ALIVE)


# network


@needs_chromium
def test_a_moment_of_a_long_file_takes_what_its_picture_needs_and_nothing_else(player: Player, tmp_path: Path) -> None:
    path = long_file(tmp_path)
    with Reader(path) as reader:
        entries = list(reader.frames)
    size = path.stat().st_size

    async def play(browser: Browser) -> None:
        await browser.until(f"{STATE}.settled && {STATE}.frame === 4")
        await browser.until(f"{STATE}.frames === 6")
        # What playback needs next is asked for once the frame was told.
        async with asyncio.timeout(PATIENCE):
            while len(player.asked) < 4:
                await asyncio.sleep(0.05)

    player.run(path, play, size=(64, 48), attributes="", link="#t=0.16")
    # The header, the index, the keyframe and the delta; then what playback would need next.
    key, _, following = entries[3:]
    end = following.offset + following.length
    spans = [(0, 2**16), (size - 2**16, size), (key.offset, following.offset), (following.offset, end)]
    assert [each.span for each in player.asked] == [f"bytes={first}-{end - 1}" for first, end in spans]
    assert [each.sent for each in player.asked] == [end - first for first, end in spans]


@needs_chromium
def test_a_file_that_grows_on_a_server_that_knows_nothing_of_it_is_followed(player: Player, tmp_path: Path) -> None:
    head, key, delta, second, *rest = records_of(CLIP.read_bytes())
    path = tmp_path / "live.inv"
    path.write_bytes(head + key)
    shutil.copy(BUILT / "inv-player.js", tmp_path)
    (tmp_path / "index.html").write_text(
        '<!doctype html><script type="module" src="inv-player.js"></script>'
        '<inv-player src="live.inv?follow" controls></inv-player>'
    )

    async def play(browser: Browser) -> None:
        def add(data: bytes) -> None:
            with path.open("ab") as file:
                file.write(data)

        await browser.until(f"{STATE}.frame === 0 && {STATE}.following")
        add(delta + second[:9])
        await browser.until(f"{STATE}.frame === 1 && {STATE}.frames === 2")
        add(second[9:])
        await browser.until(f"{STATE}.frame === 2 && !{INSIDE}.getElementById('live').hidden")
        add(b"".join(rest))
        await browser.until(f"{INSIDE}.getElementById('live').hidden && !{STATE}.following")
        assert await text(browser, "note") == ""

    with served(tmp_path) as url:
        player.visit(url, play)


# what is told


@needs_chromium
def test_statistics_are_those_of_the_file(player: Player, tmp_path: Path) -> None:
    made = make_vectors.Maker(make_vectors.header([make_vectors.grid("ndc")], make_vectors.cameras("ndc")), 3)
    made.key(0, 0, stats=Stats("key", 100, 3142, None, 0)).delta(1, 40, stats=Stats("all", 10, 3078, 2901, 12))
    path = tmp_path / "clip.inv"
    path.write_bytes(made.finish())
    with Reader(path) as reader:
        sizes = [entry.length for entry in reader.frames]

    async def play(browser: Browser) -> None:
        await browser.run(f"{INSIDE}.getElementById('stats').click()")
        for frame, told in enumerate(
            (
                {"Frame": "0", "Record": f"{sizes[0]} B, key", "PSNR": "31.42 dB"},
                {"Frame": "1", "Record": f"{sizes[1]} B", "PSNR": "30.78 dB", "Moving": "29.01 dB"},
            )
        ):
            await browser.run(f"{ELEMENT}.currentTime = {0.04 * frame}")
            await browser.until(f"{STATE}.settled && {STATE}.frame === {frame}")
            width, height = await browser.run(f"{STATE}.size")
            # Once it is known how long the picture took.
            await browser.until(f"{INSIDE}.getElementById('facts').innerText.includes('{width} × {height}')")
            lines = (await text(browser, "facts")).split("\n")
            found = dict(zip(lines[::2], lines[1::2], strict=True))
            assert re.fullmatch(rf"{width} × {height}, \d+ ms", found.pop("Picture"))
            rate = f"{8e-3 * sum(sizes) / 0.08:.3g} kbit/s"
            fetched = f"{path.stat().st_size / 1000:.3g} kB, 1 request"
            assert found == told | {"Bit rate": rate, "Fetched": fetched}

    player.run(path, play)


TITLES = {
    "usage": "This cannot be opened",
    "damaged": "The file is damaged",
    "unsupported": "This cannot be played here",
    "limit": "This is too large to play here",
}


@needs_chromium
def test_hostile_files_end_in_a_message_and_others_play_after_them(player: Player, tmp_path: Path) -> None:
    expected: dict[str, Any] = {}
    kinds = Counter[tuple[str, str]]()
    for folder in sorted(SPEC.glob("vectors/faulty/*/")):
        wanted = json.loads((folder / "expect.json").read_text())
        kind = wanted["refused"], wanted.get("status")
        kinds[kind] += 1
        # What all of them are is tested without a page.
        if kinds[kind] <= 2:
            shutil.copy(folder / "input.inv", tmp_path / f"{folder.name}.inv")
            expected[folder.name] = wanted
    shutil.copy(CLIP, tmp_path)

    async def play(browser: Browser) -> None:
        await browser.until(f"{STATE}.settled")
        found = await reply(
            browser,
            f"""
            const found = {{}};
            const note = player.shadowRoot.getElementById('note');
            for (const name of {json.dumps(list(expected))}) {{
                player.src = `files/${{name}}.inv`;
                while (note.hidden && !player.state.settled) await new Promise(go => setTimeout(go));
                found[name] = note.innerText;
            }}
            return found;
            """,
        )
        for name, wanted in expected.items():
            refused = wanted["refused"] or wanted.get("render", {}).get("refused")
            if refused:
                assert found[name].startswith(TITLES[refused] + "\n"), name
            elif wanted["status"] == "truncated":
                assert found[name].startswith("The file is truncated"), name
        await browser.run(f"{ELEMENT}.src = 'files/input.inv'")
        await browser.until(f"{STATE}.settled && {STATE}.frame === 0 && {INSIDE}.getElementById('note').hidden")

    player.run(tmp_path / "input.inv", play, attributes="", size=(64, 48))
