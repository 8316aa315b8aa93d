"""A conversation of the real Claude Code, recorded against a model that follows a script.

The echo engine plays the model: it asks for one file after another, then ends. What the client
sends is what it would send to any model, with its full system prompt and all its tools.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.chat import ToolUse
from tests.e2e.client import claude
from tests.server.http import running

FILES = ("one.txt", "two.txt", "three.txt", "four.txt")
CONTENT = "A line of text that says nothing much.\n" * 20
TASK = "Read the four text files in this folder, then say what they have in common."


def script(folder: Path) -> EchoEngine:
    """A model that reads the files in turn, whatever it is told."""
    writing = FORMATS["json_tags"]

    def reply(prompt: str) -> str:
        n_read = prompt.count("<tool_response")
        if n_read >= len(FILES):
            return "They are all alike."
        call = ToolUse("", "Read", {"file_path": str(folder / FILES[n_read])})
        return f"I read file {n_read + 1}.\n{writing.write_call(call)}"

    return EchoEngine(reply, context_tokens=1 << 20, prefill_chunk_tokens=1 << 16)


async def record(folder: Path, task: str = TASK) -> list[bytes]:
    """Bodies of the client's requests to the Messages API, in their order.

    The client works in `folder`, and lives in it too, as in one user's home.
    """
    bodies: list[bytes] = []
    for file in FILES:
        (folder / file).write_text(CONTENT)
    async with running(script(folder), bodies=bodies, tool_format="json_tags") as server:
        arguments = ["-p", task, "--allowedTools", "Read"]
        url = str(server.http.base_url).rstrip("/")
        report = await asyncio.to_thread(
            claude, url, *arguments, cwd=folder, home=folder / "home", max_output_tokens=1000
        )
    assert report["result"] == "They are all alike.", report
    return bodies
