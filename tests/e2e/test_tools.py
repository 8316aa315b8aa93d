"""Tool calls of the real model: forced, conforming, and through a whole turn of the real client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import jsonschema
import pytest

from mlxdeck.telemetry.schema.events import ToolCall
from tests.e2e.client import claude
from tests.e2e.proxy import proxy
from tests.e2e.schemas import SCHEMAS
from tests.real import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_forced_call_conforms(server: Server, temperature: float) -> None:
    """Fifty schemas, fifty answers that `jsonschema` finds nothing wrong with."""
    n_before = len(calls_of(server))
    with (
        anthropic.Anthropic(base_url=server.url, api_key="dummy") as sdk,
        ThreadPoolExecutor(8) as clients,
    ):

        def call(number: int) -> anthropic.types.Message:
            tool: Any = {"name": f"tool_{number}", "input_schema": SCHEMAS[number]}
            return sdk.messages.create(
                model="local",
                max_tokens=400,
                extra_body={"temperature": temperature},
                tools=[tool],
                tool_choice={"type": "tool", "name": tool["name"]},
                messages=[{"role": "user", "content": "Call the tool with any values."}],
            )

        answers = list(clients.map(call, range(len(SCHEMAS))))
    wrong: list[Any] = []
    for schema, message in zip(SCHEMAS, answers, strict=True):
        (block,) = message.content
        if message.stop_reason != "tool_use" or block.type != "tool_use":
            wrong.append((schema, message.stop_reason, block))
        elif not jsonschema.Draft202012Validator(schema).is_valid(block.input):
            wrong.append((schema, block.input))
    assert wrong == []
    calls = calls_of(server)[n_before:]
    assert len(calls) == len(SCHEMAS)
    assert all(call.constrained and call.schema_valid and not call.repaired for call in calls)


def calls_of(server: Server) -> list[ToolCall]:
    """What telemetry says of the tool calls."""
    server.ended(sum(line.event == "request.start" for line in server.events()))
    return [line.attrs for line in server.events() if isinstance(line.attrs, ToolCall)]


def test_a_whole_agent_loop(server: Server, tmp_path: Path) -> None:
    """The real client reads a file because the model asks for it, and the turn comes to its end.

    The proxy forces the first turn to call a tool, which a model of 135M does not do by itself,
    and names the file that the model is to read.
    """
    note = tmp_path / "note.txt"
    note.write_text("The sea is blue.\n")
    seen: list[dict[str, Any]] = []

    def change(fields: dict[str, Any]) -> None:
        results = "tool_result" in str(fields["messages"])
        if fields.get("tools") and not results:
            fields["tool_choice"] = {"type": "any"}
            # What a larger model would work out from the question.
            for tool in fields["tools"]:
                tool["input_schema"]["properties"] = {"file_path": {"const": str(note)}}
        seen.append(fields)

    with proxy(server.url, change) as url:
        report = claude(
            url,
            *["--bare", "-p", f"Read {note}.", "--tools", "Read", "--allowedTools", "Read"],
            *["--system-prompt", "You answer in one short sentence."],
            cwd=tmp_path,
            max_output_tokens=100,
        )
    assert len(seen) >= 2, report
    (result,) = [
        block
        for message in seen[1]["messages"]
        for block in message["content"]
        if isinstance(block, dict) and block["type"] == "tool_result"
    ]
    assert "The sea is blue." in str(result["content"])
    assert not result.get("is_error")
    assert report["num_turns"] >= 2
    call = calls_of(server)[-1]
    assert (call.name, call.constrained, call.schema_valid) == ("Read", True, True)
