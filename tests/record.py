"""`make record`: the real server and the real client at work, kept as telemetry.

Writes into `tests/data/`, from which screenshots are made and against which the dashboard is
tested: `recording.jsonl`, a session with the real model; `captured.jsonl`, a short one with its
texts; `day.jsonl`, a day of agents against scripted answers. `ARGS="day"` makes one of them alone.
All that happens in them happened; only what names this machine is taken out.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlxdeck.telemetry.schema.events import StreamStart
from tests.e2e.client import claude
from tests.real import ROOT, Server, serving
from tests.scripted.day import record as scripted_day

FOLDER = ROOT / "tests" / "data"
HOME = "/home/me"
"""What the temporary folder of a recording is called in it."""

WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
        "required": ["city"],
    },
}
READ = {
    "name": "Read",
    "description": "Reads a file.",
    "input_schema": {
        "type": "object",
        "properties": {"file_path": {"type": "string"}},
        "required": ["file_path"],
    },
}
TOPICS = ("the sea", "a small dog", "winter", "bread", "the moon", "trains", "an old map", "tea")
RULES = "You help with a Python project. Answer in one sentence. Read files before you edit. "
GUIDE = "You are a helpful guide. "
GUIDED = "5f0c2d7e-guide"
PAUSE_S = 6.0
"""How long somebody thinks."""


def ask(server: Server, *turns: str, session: str = GUIDED, **fields: Any) -> Any:
    """A conversation over the Messages API; None if it is refused."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    body = {"model": "local", "max_tokens": 48, "temperature": 0, "messages": messages, **fields}
    request = urllib.request.Request(f"{server.url}/v1/messages", json.dumps(body).encode())
    request.add_header("X-Claude-Code-Session-Id", session)
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            return json.load(response)
    except urllib.error.HTTPError as refused:
        refused.close()
        return None


def leave(server: Server, text: str) -> None:
    """Ask, and hang up while the prompt is read."""
    messages = [{"role": "user", "content": text}]
    body = json.dumps({"model": "local", "max_tokens": 500, "messages": messages}).encode()
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        head = f"POST /v1/messages HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(2)


def conversation(
    server: Server, *questions: str, system: str = GUIDE * 20, times: int = 1, **fields: Any
) -> None:
    """Several turns that grow, each asked so many times."""
    turns = list[str]()
    for question in questions:
        turns.append(question)
        for _ in range(times):
            answer = ask(server, *turns, system=system, **fields)
        text = "".join(block.get("text", "") for block in answer["content"])
        turns.append(text or "Yes.")
        time.sleep(PAUSE_S)


def guided(server: Server) -> None:
    """One that is known by heart after the first time."""
    questions = ("What is the capital of France?", "And of Italy?", "Which one is larger?")
    conversation(server, *questions, times=2)


def coding(server: Server, session: str, first: str = "") -> None:
    """A long system prompt, short turns: what a coding agent sends. `first` stands before all."""
    conversation(
        server,
        "The tests fail. What should I look at first?",
        "It says that a file is missing.",
        "The file is there now.",
        "Now they are slow.",
        "What else?",
        system=first + RULES * 60,
        session=session,
        tools=[READ],
    )


def tools(server: Server, session: str = GUIDED) -> None:
    """Calls whose beginning the client writes, as far as this small model needs it, and results."""
    for tool, argument in ((WEATHER, "city"), (READ, "file_path")):
        name = tool["name"]
        for begun in (
            f'<tool_call>{{"name": "{name}", "arguments": {{"{argument}": "',
            f'I will look. <tool_call>{{"name": "{name}", "arguments": {{"{argument}": "',
            f"<tool_call>{name}(",
        ):
            ask(server, f"Use {name}, please.", begun, tools=[tool], session=session)
        forced = {"type": "tool", "name": name}
        ask(
            server,
            f"Use {name} for Paris.",
            tools=[tool],
            tool_choice=forced,
            max_tokens=64,
            session=session,
        )


def together(server: Server, max_tokens: int, session: str) -> None:
    """Several clients at once."""
    with ThreadPoolExecutor(len(TOPICS)) as pool:
        prompts = [f"Tell me a story about {topic}." for topic in TOPICS]
        list(
            pool.map(
                lambda text: ask(server, text, max_tokens=max_tokens, session=session), prompts
            )
        )


def session(server: Server, folder: Path) -> None:
    """What somebody does in five minutes, with Claude Code and with programs of their own."""
    rule = ["--tools", "", "--system-prompt", "You answer in one short sentence."]
    for question in ("Say hello.", "Say hello.", "What is the capital of France?"):
        claude(server.url, "--bare", "-p", question, *rule, cwd=folder)
    guided(server)
    coding(server, "c0de0001-first")
    tools(server, "70015e70-tools")
    for temperature in (0, 0.7, 9):
        ask(server, "Tell me about " + TOPICS[0], temperature=temperature)
    together(server, 32, "57041e50-stories")
    leave(server, "A long text follows. " * 150)
    claude(server.url, "-p", "What is in this folder?", cwd=folder)
    # The same rules for another one: what both share is known.
    coding(server, "c0de0002-second")
    ask(server, "seventeen " * 9000)
    guided(server)
    tools(server, "70015e70-tools")
    # A line that changes each day, in front: nothing behind it is known any more.
    coding(server, "c0de0003-next-day", "Today is Tuesday. ")
    together(server, 24, "57041e51-more-stories")
    guided(server)


def recording() -> None:
    """A session with the real model."""
    with tempfile.TemporaryDirectory() as home:
        with serving(home=Path(home)) as server:
            session(server, Path(home))
            time.sleep(1.5)
            server.stop()
        write(files(Path(home)), "recording.jsonl", Path(home))


def captured() -> None:
    """A small recording of our own words with everything in it that was said."""
    with tempfile.TemporaryDirectory() as home:
        with serving("--capture", "full", home=Path(home)) as server:
            guided(server)
            tools(server)
            time.sleep(1.5)
            server.stop()
        write(files(Path(home)), "captured.jsonl", Path(home))


def day() -> None:
    """Agents all day long, and whatever may happen to them."""
    with tempfile.TemporaryDirectory() as folder:
        write(scripted_day(Path(folder)), "day.jsonl", Path(folder))


def files(home: Path) -> list[Path]:
    """What a server has recorded, in the order of its files."""
    return sorted((home / "telemetry").glob("*.jsonl"))


def write(recorded: list[Path], name: str, folder: Path) -> None:
    """Put files of telemetry into one, without what names this machine."""
    lines = []
    for raw in (raw for path in recorded for raw in path.read_text("utf-8").splitlines()):
        line = json.loads(raw.replace(str(folder), HOME))
        if line["event"] == StreamStart.NAME:
            line["attrs"] |= {"host.name": "host", "host.cpu.model.name": "x86_64"}
            line["attrs"]["server.port"] = 8081
        lines.append(json.dumps(line, separators=(",", ":")))
    target = FOLDER / name
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {len(lines)} lines, {target.stat().st_size // 1000} KB")


KINDS = {"recording": recording, "captured": captured, "day": day}


def main() -> None:
    """Make all recordings, or those that are named."""
    for name in sys.argv[1:] or KINDS:
        KINDS[name]()


if __name__ == "__main__":
    main()
