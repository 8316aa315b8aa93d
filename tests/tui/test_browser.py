"""The dashboard in a browser: the real one, behind the real server for it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.real import free_port

RECORDING = Path(__file__).parents[1] / "data" / "recording.jsonl"


@asynccontextmanager
async def served(home: Path) -> AsyncIterator[str]:
    """`mlxdeck tui --serve` on a recording; the host and port that it listens on."""
    port = free_port()
    command = ["-m", "mlxdeck.cli.main", "tui", str(RECORDING), "--serve", str(port)]
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"MLXDECK_HOME": str(home), "PATH": "/usr/bin:/bin"},
    )
    try:
        for _ in range(600):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        await server.wait()


async def test_a_browser_shows_the_dashboard_and_only_its_own_page(tmp_path: Path) -> None:
    """Its page, its screen and its keys; pages of others and other names are turned away."""
    async with served(tmp_path) as host, aiohttp.ClientSession(f"http://{host}") as session:
        async with session.get("/") as page:
            assert page.status == 200 and "textual-terminal" in await page.text()
            assert f"ws://{host}" in page.headers["Content-Security-Policy"]
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            async with session.get("/", headers=headers) as page:
                assert page.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await session.ws_connect("/ws", origin="https://evil.example")
        async with session.ws_connect("/ws?width=120&height=36", origin=f"http://{host}") as socket:
            await until_shown(socket, "latency")
            await socket.send_json(["stdin", "?"])
            await until_shown(socket, "Next window")


async def until_shown(socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
    """Read what is drawn until a text is among it."""
    async with asyncio.timeout(30):
        async for message in socket:
            if text.encode() in message.data:
                return
