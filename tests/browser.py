"""A headless Chromium, driven by its DevTools protocol: sizes, colour schemes, what it fetches."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_S = 60.0


def found() -> str:
    """The program, if this machine has one."""
    return next((path for name in NAMES if (path := shutil.which(name))), "")


class Page:
    """One page of it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.fetched: list[str] = []
        """Addresses of all that it asked for."""

    async def do(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            told = await self._next()
            if told.get("id") == number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result

    async def _next(self) -> dict[str, Any]:
        told: dict[str, Any] = await self._socket.receive_json()
        if told.get("method") == "Network.requestWillBeSent":
            url = told["params"]["request"]["url"]
            # The browser's own fonts, for an empty tab.
            if not url.startswith("chrome:"):
                self.fetched.append(url)
        return told

    async def open(self, path: Path, width: int, scheme: str) -> None:
        """Show a file at a width, in a colour scheme."""
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.do("Emulation.setEmulatedMedia", features=media)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.do("Emulation.setDeviceMetricsOverride", **size)
        await self.do("Page.enable")
        await self.do("Network.enable")
        await self.do("Page.navigate", url=path.as_uri())
        while (await self._next()).get("method") != "Page.loadEventFired":
            pass

    async def value(self, script: str) -> Any:
        """What a script gives."""
        found = await self.do("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def picture(self) -> bytes:
        """The whole page as a PNG."""
        shot = await self.do("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


@asynccontextmanager
async def page() -> AsyncGenerator[Page]:
    """A browser of its own with one page, ended afterwards."""
    # Its other processes may still write when it has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run")
        browser = await asyncio.create_subprocess_exec(
            *(
                found(),
                *flags,
                f"--user-data-dir={home}",
                "--remote-debugging-port=0",
                "about:blank",
            ),
            start_new_session=True,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            told = Path(home) / "DevToolsActivePort"
            async with asyncio.timeout(START_S):
                while not (told.exists() and len(told.read_text().split()) == 2):
                    await asyncio.sleep(0.1)
            port = told.read_text().split()[0]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    (target,) = [each for each in await answer.json() if each["type"] == "page"]
                url = target["webSocketDebuggerUrl"]
                async with session.ws_connect(url, max_msg_size=0) as socket:
                    yield Page(socket)
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            await browser.wait()
