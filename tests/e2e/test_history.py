"""Sessions that a picture must not end, with the real client; histories with the real SDKs."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from mlxdeck.telemetry.schema.events import Error, RequestStart
from tests.e2e.client import claude, talk
from tests.e2e.proxy import proxy
from tests.real import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TERSE = ["--bare", "-p", "--system-prompt", "You answer in one word."]


def picture() -> bytes:
    """A PNG of a few red pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    head = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\xff\0\0" * 16) * 16)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(name, data) for name, data in ((b"IHDR", head), (b"IDAT", pixels), (b"IEND", b""))
    )


def notes(server: Server) -> set[str]:
    """What telemetry says was done to histories."""
    starts = [line.attrs for line in server.events() if isinstance(line.attrs, RequestStart)]
    return {note for start in starts for note in start.history_notes}


def test_a_picture_that_the_user_sends_is_taken_out(server: Server, tmp_path: Path) -> None:
    """The client is told so in words that it knows, asks again without it, and goes on."""
    data = base64.b64encode(picture()).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    seen: list[dict[str, Any]] = []

    def change(fields: dict[str, Any]) -> None:
        # A model of 135M often comes to no end by itself, for which the client has an error.
        fields["stop_sequences"] = [".", "!"]
        seen.append(fields)

    with proxy(server.url, change) as url:
        reports = talk(
            url,
            [
                [{"type": "text", "text": "Say yes."}, {"type": "image", "source": source}],
                [{"type": "text", "text": "Say hello."}],
            ],
            *TERSE,
            *["--tools", ""],
            cwd=tmp_path,
        )
    assert len(reports) == 2
    assert reports[1]["is_error"] is False, reports
    with_picture = ["'image'" in str(fields["messages"]) for fields in seen]
    assert with_picture[0] and not any(with_picture[1:])
    assert "[Image removed" in str(seen[1]["messages"])
    errors = [line.attrs for line in server.events() if isinstance(line.attrs, Error)]
    assert any(".image.source: Could not process image" in error.message for error in errors)


def test_a_picture_that_a_tool_returns_is_passed_over(server: Server, tmp_path: Path) -> None:
    """Read on a PNG: nobody could take it back, so the turn goes on."""
    file = tmp_path / "red.png"
    file.write_bytes(picture())
    seen: list[dict[str, Any]] = []

    def change(fields: dict[str, Any]) -> None:
        if fields.get("tools") and "tool_result" not in str(fields["messages"]):
            fields["tool_choice"] = {"type": "any"}
            for tool in fields["tools"]:
                tool["input_schema"]["properties"] = {"file_path": {"const": str(file)}}
        seen.append(fields)

    with proxy(server.url, change) as url:
        report = claude(
            url,
            *[*TERSE, f"Read {file}.", "--tools", "Read", "--allowedTools", "Read"],
            cwd=tmp_path,
        )
    assert "'image'" in str(seen[1]["messages"]), report
    assert report["num_turns"] >= 2
    assert "replaced image 1" in notes(server)


def test_a_picture_that_a_tool_returned_ends_no_session(server: Server) -> None:
    """Inside its result and behind it, over each API; the next turn goes on."""
    data = base64.b64encode(picture()).decode()
    url = f"data:image/png;base64,{data}"
    block: Any = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": data},
    }
    ask: Any = {"role": "user", "content": "What is in it? Answer in one word."}
    with anthropic.Anthropic(base_url=server.url, api_key="dummy", max_retries=0) as sdk:
        call = {"type": "tool_use", "id": "t", "name": "Read", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "t", "content": [block]}
        messages: Any = [
            ask,
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result, block]},
        ]
        said = sdk.messages.create(model="local", max_tokens=4, messages=messages)
        messages += [{"role": "assistant", "content": said.content or "?"}, ask]
        assert sdk.messages.create(model="local", max_tokens=4, messages=messages).usage
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="dummy", max_retries=0) as client:
        part = {"type": "image_url", "image_url": {"url": url}}
        function = {"name": "read", "arguments": "{}"}
        chat: Any = [
            ask,
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "c", "content": [part]},
            {"role": "user", "content": [{"type": "text", "text": "The picture:"}, part]},
        ]
        answer = client.chat.completions.create(model="local", max_tokens=4, messages=chat)
        chat += [{"role": "assistant", "content": answer.choices[0].message.content}, ask]
        assert client.chat.completions.create(model="local", max_tokens=4, messages=chat).usage
        image = {"type": "input_image", "image_url": url, "detail": "auto"}
        items: Any = [
            ask,
            {"type": "function_call", "call_id": "c", "name": "view", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [image]},
            {"role": "user", "content": [image]},
        ]
        first = client.responses.create(model="local", max_output_tokens=16, input=items)
        again = client.responses.create(
            model="local", max_output_tokens=16, input=[ask], previous_response_id=first.id
        )
        assert again.usage is not None and again.usage.output_tokens > 0
    assert {"replaced image 2", "replaced image_url 2", "replaced input_image 2"} <= notes(server)


def test_the_sdks_get_answers_to_any_history(server: Server) -> None:
    """What other servers and clients wrote, as the SDKs send it."""
    ours: list[Any] = [
        {"role": "user", "content": "Say hi."},
        {
            "role": "assistant",
            "content": [
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": "x"}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                {"type": "tool_use", "id": "t", "name": "Read", "input": '{"file_path": "x'},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
    ]
    with anthropic.Anthropic(base_url=server.url, api_key="dummy") as sdk:
        message = sdk.messages.create(model="local", max_tokens=4, messages=ours)
    assert message.usage.output_tokens > 0
    theirs: list[Any] = [
        {"role": "user", "content": "Say hi."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}},
                {"id": "d", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "error: invalid JSON"},
        {"role": "tool", "tool_call_id": "d", "content": "1"},
    ]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="dummy") as client:
        answer = client.chat.completions.create(model="local", max_tokens=4, messages=theirs)
    assert answer.usage is not None and answer.usage.completion_tokens > 0
    assert {"told server_tool_use 1", "repaired arguments 1"} <= notes(server)
