"""The element `inv-player` in a page of Chromium, which all tests of a worker share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from browser import Browser
from files import ROOT, SPEC

BUILT = ROOT / "player" / "dist"
CLIP = SPEC / "vectors" / "valid" / "grid-ndc" / "input.inv"
PAGE = """<!doctype html><style>body {{ margin: 0 }} inv-player {{ height: 100vh; aspect-ratio: auto }}</style>
<script type="module" src="/player/inv-player.js"></script><inv-player src="{source}" {attributes}></inv-player>"""
ELEMENT = "document.querySelector('inv-player')"
STATE = f"({ELEMENT}?.state ?? {{}})"
INSIDE = f"{ELEMENT}.shadowRoot"
WITHOUT_WEBGL = """
const getContext = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
    return kind === "webgl2" ? null : getContext.call(this, kind, ...more);
};"""


Story = Callable[[Browser], Awaitable[None]]


@dataclass(frozen=True)
class Asked:
    """A request for a file; `span` is what it asks for, such as `bytes=0-99`, and `sent` how many bytes it got."""

    name: str
    span: str | None
    sent: int


class Player:
    """Runs stories of what happens in the page.

    Attributes:
        asked: the requests for files since the page was opened, in order.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._browser: Browser | None = None
        self._folder = Path()
        self._opened = 0

    def run(
        self,
        file: Path,
        story: Story,
        *,
        attributes: str = "controls",
        size: tuple[int, int] = (400, 300),
        link: str = "",
        query: str = "",
        before: str = "",
    ) -> None:
        """Open a page that plays a file, whose folder is `files` there, and run the story.

        Args:
            size: of the window, in pixels.
            link: what follows the address of the page.
            query: what follows that of the file.
            before: a script to run in the page before its own.
        """

        async def run() -> None:
            browser = await self._start()
            # No page gets what the browser remembers of another one.
            self._opened += 1
            self._folder = file.parent
            self._page = PAGE.format(source=f"files/{file.name}{query}", attributes=attributes)
            self.asked.clear()
            await self._visit(browser, f"{self._url}/{self._opened}/{link}", story, size, before)

        self._runner.run(run())

    def visit(self, url: str, story: Story, *, size: tuple[int, int] = (400, 300), before: str = "") -> None:
        """Open any page that has the element, and run the story."""

        async def run() -> None:
            await self._visit(await self._start(), url, story, size, before)

        self._runner.run(run())

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _visit(self, browser: Browser, url: str, story: Story, size: tuple[int, int], before: str) -> None:
        await browser.resize(*size)
        script = await browser.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        try:
            await browser.open(url)
            await browser.until(f"location.href === {url!r} && {ELEMENT}?.shadowRoot")
            await story(browser)
        finally:
            browser.listen = lambda method, params: None
            await browser.call("Page.removeScriptToEvaluateOnNewDocument", **script)
            await browser.open("about:blank")

    async def _start(self) -> Browser:
        if self._browser:
            return self._browser
        app = web.Application()
        app.router.add_static("/player", BUILT)
        app.router.add_get("/{opened}/files/{name}", self._send)
        app.router.add_get("/{opened}/", self._send_page)
        app.on_response_prepare.append(self._note)
        runner = web.AppRunner(app)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._browser = await self._stack.enter_async_context(Browser())
        await self._browser.call("Page.enable")
        return self._browser

    async def _send_page(self, request: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html")

    async def _send(self, request: web.Request) -> web.FileResponse:
        path = self._folder / request.match_info["name"]
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _note(self, request: web.Request, answer: web.StreamResponse) -> None:
        # A page that was left may still ask.
        if (name := request.match_info.get("name")) and request.match_info["opened"] == str(self._opened):
            self.asked.append(Asked(name, request.headers.get("Range"), answer.content_length or 0))


async def text(browser: Browser, name: str) -> str:
    """What a part of the element says."""
    found: str = await browser.run(f"{INSIDE}.getElementById({name!r}).innerText")
    return found


async def reply(browser: Browser, script: str) -> Any:
    """The value that an asynchronous function of the page with this body returns; `player` is the element."""
    return await browser.run(f"(async () => {{ const player = {ELEMENT}; {script} }})()")
