"""The element `inv-player` in Chromium: what people see, and what they do with it."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from browser import Browser, needs_chromium
from PIL import Image
from playing import CLIP, ELEMENT, INSIDE, STATE, WITHOUT_WEBGL, Player, text
from test_player_render import LEAST_PSNR, MOST_BEYOND, differences

from invcodec.decoding.video import Video


@needs_chromium
def test_it_shows_in_the_end_what_decode_renders(player: Player) -> None:
    async def play(browser: Browser) -> None:
        await browser.until(f"{STATE}.settled")
        shown = np.array(Image.open(io.BytesIO(await browser.screenshot())).convert("RGB"))
        with Video(CLIP, device="cpu", threads=1) as video:
            camera = video[0].camera("cam00").resized(120, 90)
            wanted = video[0].render(camera).rgb
        psnr, beyond = differences(shown, wanted)
        assert psnr >= LEAST_PSNR
        assert beyond <= MOST_BEYOND

    player.run(CLIP, play, attributes="", size=(120, 90))


@needs_chromium
def test_hands_and_keys_move_the_view_and_the_time(player: Player) -> None:
    async def play(browser: Browser) -> None:
        await browser.until(f"{STATE}.settled")
        first = await browser.run(STATE)
        assert (first["frame"], first["frames"]) == (0, 3)

        async def moved(before: str) -> str:
            await browser.until(f"JSON.stringify({STATE}.pose) != {before!r}")
            after: str = await browser.run(f"JSON.stringify({STATE}.pose)")
            return after

        pose = json.dumps(first["pose"], separators=(",", ":"))
        await browser.drag((200, 100), (240, 120))
        pose = await moved(pose)
        assert await browser.run(f"{STATE}.through") == "own"
        await browser.drag((200, 100), (240, 120), button="right")
        pose = await moved(pose)
        await browser.mouse("mouseWheel", 200, 100, deltaX=0, deltaY=-200)
        pose = await moved(pose)
        await browser.run(f"{INSIDE}.getElementById('picture').focus()")
        await browser.call("Input.dispatchKeyEvent", type="keyDown", key="w")
        pose = await moved(pose)
        await browser.call("Input.dispatchKeyEvent", type="keyUp", key="w")
        await browser.key("v")
        await browser.until(f"{STATE}.through === 0")
        for key, frame in ((".", 1), ("ArrowRight", 2), ("ArrowRight", 2), (",", 1), ("Home", 0), ("End", 2), ("0", 0)):
            await browser.key(key)
            await browser.until(f"{STATE}.frame === {frame} && {STATE}.settled")
        slider = f"{INSIDE}.getElementById('slider')"
        await browser.run(f"{slider}.value = 1; {slider}.dispatchEvent(new Event('input'))")
        await browser.until(f"{STATE}.frame === 1")
        await browser.key("g")
        await browser.drag((200, 100), (240, 120))
        await browser.until(f"{STATE}.through === 'own'")
        after = await browser.run(f"{STATE}.pose")
        assert after[3::4] == pytest.approx(first["pose"][3::4]), "in flight, one looks around on the spot"
        await browser.key("i")
        assert "Frame" in await text(browser, "facts")
        await browser.key("?")
        assert "full screen" in await text(browser, "keys")
        await browser.key("Escape", "Escape")
        assert await browser.run(f"{INSIDE}.getElementById('keys').hidden")

    player.run(CLIP, play)


@needs_chromium
def test_it_plays_to_the_end_and_over_again(player: Player) -> None:
    async def play(browser: Browser) -> None:
        await browser.until(f"{STATE}.frame === 0")
        await browser.run(f"{ELEMENT}.addEventListener('ended', () => {{ window.ended = true }})")
        await browser.run(f"{ELEMENT}.play()")
        await browser.until(f"window.ended && {STATE}.frame === 2 && {ELEMENT}.paused")
        await browser.run(f"{ELEMENT}.setAttribute('loop', ''); {ELEMENT}.play()")
        await browser.until(f"{STATE}.frame === 0")
        await browser.until(f"{STATE}.frame === 2")
        await browser.until(f"{STATE}.frame === 0")
        assert not await browser.run(f"{ELEMENT}.paused")

    player.run(CLIP, play)


@needs_chromium
def test_a_link_leads_to_its_moment_and_view(player: Player) -> None:
    async def play(browser: Browser) -> None:
        await browser.until(f"{STATE}.settled")
        state = await browser.run(STATE)
        assert (state["frame"], state["through"]) == (1, 1)
        await browser.run(f"{INSIDE}.getElementById('picture').focus()")
        await browser.drag((200, 100), (230, 110))
        await browser.until(f"{STATE}.through === 'own'")
        await browser.key("c")
        await browser.until("location.hash.includes('pose=')")
        pose = await browser.run(f"{STATE}.pose")
        await browser.key("r")
        link = await browser.run("location.href")
        await browser.open("about:blank")
        await browser.open(link)
        await browser.until(f"location.href === {link!r} && {STATE}.settled && {STATE}.frame === 1")
        assert await browser.run(f"{STATE}.pose") == pytest.approx(pose, abs=1e-4)

    player.run(CLIP, play, link="#t=0.04&camera=cam01")


@needs_chromium
def test_everything_has_a_name_and_a_place_on_a_phone(player: Player) -> None:
    async def play(browser: Browser) -> None:
        await browser.until(f"{STATE}.settled")
        await browser.run(f"{INSIDE}.getElementById('more').click()")
        found = await browser.run(
            f"""[...{INSIDE}.querySelectorAll('button, select, input, canvas[tabindex]')].map(each => {{
                const box = each.getBoundingClientRect();
                const name = each.getAttribute('aria-label') || each.closest('label')?.innerText || each.innerText;
                return [each.id, name?.trim(), box.width, box.height, box.left, box.right, box.top, box.bottom];
            }})"""
        )
        assert len(found) > 15
        assert [row[0] for row in found if not row[1]] == [], "without a name"
        seen = [row for row in found if row[2]]
        outside = [row[0] for row in seen if row[4] < 0 or row[5] > 390 or row[6] < 0 or row[7] > 700]
        assert outside == []
        small = [row[0] for row in seen if row[0] not in ("slider", "picture") and min(row[2], row[3]) < 34]
        assert small == [], "too small for a finger"

    player.run(CLIP, play, size=(390, 700))


@needs_chromium
def test_what_cannot_be_shown_is_explained(player: Player) -> None:
    async def explained(browser: Browser) -> None:
        for address, wanted in (
            ("files/expect.json", "not an .inv file"),
            ("files/none.inv", "404"),
            ("/player/index.html", "not an .inv file"),
        ):
            await browser.run(f"{ELEMENT}.src = {address!r}")
            await browser.until(f"{INSIDE}.getElementById('note').innerText.includes({wanted!r})")
            assert await browser.run(f"{INSIDE}.getElementById('picture').width") == 1, "the last picture is gone"
        await browser.run(f"{ELEMENT}.src = 'files/input.inv'")
        await browser.until(f"{STATE}.settled && {INSIDE}.getElementById('note').hidden")

    async def without(browser: Browser) -> None:
        await browser.until(f"{INSIDE}.getElementById('note').innerText.includes('WebGL 2')")
        await browser.until(f"{INSIDE}.getElementById('busy').hidden")

    player.run(CLIP, explained)
    player.run(CLIP, without, before=WITHOUT_WEBGL)
