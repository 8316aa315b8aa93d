"""`make record`: the real server and the real client at work, kept as telemetry.

Writes into `tests/data/`, from which screenshots are made and against which the dashboard is
tested: `recording.jsonl`, a session with the real model; `captured.jsonl`, a short one with its
texts; `day.jsonl` and `afternoon.jsonl`, agents against scripted answers; `families.jsonl`, tiny
models of several families. `ARGS="day"` makes one of them alone.
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

from tests.cleaned import cleaned
from tests.e2e.client import claude
from tests.real import ROOT, Server, serving
from tests.scripted.afternoon import record as scripted_afternoon
from tests.scripted.day import record as scripted_day
from tests.zoo.models import build

FOLDER = ROOT / "tests" / "data"

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
FAMILIES = {"qwen3": "qwen3", "llama": "llama3_1"}
"""Architectures, and whose tokenizer and template each gets."""
PAUSE_S = 6.0
"""How long somebody thinks."""


def ask(server: Server, *turns: Any, session: str = GUIDED, **fields: Any) -> Any:
    """A conversation over the Messages API, of texts or blocks; None if it is refused."""
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
        asked = f"Use {name} for Paris."
        told: dict[str, Any] = {"tools": [tool], "max_tokens": 64, "session": session}
        answer = ask(server, asked, tool_choice=forced, **told)
        for failed in (False, True):
            results = [
                {
                    "type": "tool_result",
                    "tool_use_id": each["id"],
                    "content": "It is not there." if failed else "Rain, 12 degrees.",
                    "is_error": failed,
                }
                for each in answer["content"]
                if each["type"] == "tool_use"
            ]
            ask(server, asked, answer["content"], results, **told)


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


def afternoon() -> None:
    """Three people with Claude Code, at the pace of a large model, with what was said."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        write(scripted_afternoon(Path(folder)), "afternoon.jsonl", Path(folder), theirs=True)


def families() -> None:
    """Tiny models of several families, one server after the other at the same address."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        for name, vocabulary in FAMILIES.items():
            model = build(Path(folder) / f"tiny-{name}", name, vocabulary)
            with serving("--model", str(model), home=home) as server:
                rules = RULES * 4
                for text in ("Say something.", "Say something.", "Say something else."):
                    ask(server, text, system=rules, session=f"{name}-tries", temperature=1, seed=7)
                ask(server, "Read it.", tools=[READ], tool_choice={"type": "any"}, system=rules)
                together(server, 16, f"{name}-stories")
                ask(server, "Too much.", temperature="hot")
                time.sleep(1.5)
        write(files(home), "families.jsonl", Path(folder))


def files(home: Path) -> list[Path]:
    """What a server has recorded, in the order of its files."""
    return sorted((home / "telemetry").glob("*.jsonl"))


def write(recorded: list[Path], name: str, folder: Path, *, theirs: bool = False) -> None:
    """Put files of telemetry into one, without what isn't ours, see `cleaned`."""
    raw = (line for path in recorded for line in path.read_text("utf-8").splitlines())
    lines = list(cleaned(raw, folder, theirs=theirs))
    target = FOLDER / name
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {len(lines)} lines, {target.stat().st_size // 1000} KB")


KINDS = {
    "recording": recording,
    "captured": captured,
    "day": day,
    "afternoon": afternoon,
    "families": families,
}


def main() -> None:
    """Make all recordings, or those that are named."""
    for name in sys.argv[1:] or KINDS:
        KINDS[name]()


if __name__ == "__main__":
    main()
