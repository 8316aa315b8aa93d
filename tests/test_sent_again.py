"""A request that was captured whole, sent again by the command that the dashboard copies."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.telemetry.analyze.request_detail import curl, detail
from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.telemetry.schema import codec
from tests.server.http import body, running

CALL = '<tool_call>{"name": "Read", "arguments": {"path": "a.py"}}</tool_call>'
READ = {"name": "Read", "description": "Reads.", "input_schema": {"type": "object"}}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
SENT: list[dict[str, Any]] = [
    {"system": "Be brief.", "temperature": 0.5, "top_p": 0.9, "top_k": 4},
    {"tools": [READ], "tool_choice": {"type": "tool", "name": "Read"}},
    {"tools": [READ], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    {"stop_sequences": ["it's", "END\n"], "thinking": {"type": "enabled", "budget_tokens": 50}},
    {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
]


@pytest.mark.parametrize("fields", SENT, ids=lambda fields: ",".join(fields))
async def test_it_is_the_same_request(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Decoded, it is what it was the first time, whatever the client had asked for."""
    async with running(EchoEngine(lambda _: CALL), capture="full") as server:
        await server.ask("it's a question", **fields)
        await server.ended(1)
        lines = server.telemetry.lines
    path = tmp_path / "stream.jsonl"
    path.write_bytes(b"".join(_encoded(line) for line in lines if line.attrs))
    command = shlex.split(curl(detail(read([path]), 0)))
    anthropic = DIALECTS["anthropic"]
    again = anthropic.decode(command[command.index("-d") + 1].encode(), {})
    first = anthropic.decode(json.dumps(body("it's a question", **fields)).encode(), {})
    assert again == replace(first, session_id=again.session_id)


def _encoded(line: codec.Line) -> bytes:
    assert line.attrs
    return codec.encode(
        line.attrs,
        ts=line.ts,
        mono=line.mono,
        seq=line.seq,
        pid=line.pid,
        request_id=line.request_id,
        session_id=line.session_id,
    )
