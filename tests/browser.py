"""A headless Chromium that is driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import pytest
from files import PATIENCE

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
_PLAYER = "document.querySelector('inv-player')?.state"
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


class Browser:
    """One page; an async context manager.

    Args:
        size: width and height of the window in pixels.

    Attributes:
        listen: called with the name and the parameters of each event that arrives during a call.
    """

    listen: Callable[[str, dict[str, Any]], None] = staticmethod(lambda method, params: None)

    def __init__(self, size: tuple[int, int] = (320, 300)) -> None:
        assert CHROMIUM is not None
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        width, height = size
        self._process = subprocess.Popen(
            [
                CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--no-first-run", "--hide-scrollbars", "--force-device-scale-factor=1", "--force-color-profile=srgb",
                f"--window-size={width},{height}", f"--user-data-dir={self._folder.name}", "--remote-debugging-port=0",
                "about:blank",
            ],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self._size = size
        self._number = 0

    async def __aenter__(self) -> Browser:
        told = Path(self._folder.name) / "DevToolsActivePort"
        end = time.monotonic() + PATIENCE
        while not told.exists() or "\n" not in told.read_text():
            assert time.monotonic() < end, "Chromium does not start"
            await asyncio.sleep(0.1)
        port = told.read_text().splitlines()[0]
        self._session = aiohttp.ClientSession()
        pages: list[dict[str, Any]] = []
        while not pages:
            assert time.monotonic() < end, "Chromium opens no page"
            async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [page for page in await answer.json() if page["type"] == "page"]
            await asyncio.sleep(0.1)
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
        await self.resize(*self._size)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._socket.close()
        await self._session.close()
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._folder.cleanup()

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The result of a method of the DevTools protocol.

        Args:
            session: of another target than the page, such as a worker.
        """
        self._number += 1
        target = {"sessionId": session} if session else {}
        await self._socket.send_json({"id": self._number, "method": method, "params": params} | target)
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            if "method" in message:
                self.listen(message["method"], message["params"])

    async def resize(self, width: int, height: int) -> None:
        """Give the window another size, in pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        done = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression in the page is true."""
        end = time.monotonic() + PATIENCE
        while not await self.run(f"!!({condition})"):
            if time.monotonic() > end:
                raise AssertionError(f"never came true: {condition}; the page: {await self.run(_PLAYER)}")
            await asyncio.sleep(0.05)

    async def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    async def drag(
        self, start: tuple[float, float], end: tuple[float, float], steps: int = 5, button: str = "left"
    ) -> None:
        await self.mouse("mousePressed", *start, button=button, clickCount=1)
        for step in range(1, steps + 1):
            x, y = (a + (b - a) * step / steps for a, b in zip(start, end, strict=True))
            await self.mouse("mouseMoved", x, y, button=button, buttons=1 if button == "left" else 2)
        await self.mouse("mouseReleased", *end, button=button, clickCount=1)

    async def touch(self, *path: list[tuple[float, float]]) -> None:
        """Put fingers down, move them, and lift them: where they all are, at one moment after the other."""
        for number, fingers in enumerate([*path, []]):
            kind = "touchStart" if number == 0 else "touchMove" if fingers else "touchEnd"
            points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(fingers)]
            await self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    async def key(self, key: str, code: str = "") -> None:
        text = {"text": key} if len(key) == 1 else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=code)

    async def screenshot(self) -> bytes:
        """PNG of the window."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])
