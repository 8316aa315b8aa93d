"""Every dialect against golden files: what it decodes to, what it streams, what it answers.

A case is a folder in golden/DIALECT/ with request.json and events.json; the other files are what
comes out. MLXDECK_TEST_UPDATE=1 writes them anew, to be read before they are committed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from pprint import pformat
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server import chat as m
from mlxdeck.server.dialects.base import Dialect, StoringEncoder
from mlxdeck.server.dialects.openai_chat import answers
from mlxdeck.server.dialects.openai_completions import answers as completions
from mlxdeck.server.dialects.openai_responses import answers as responses
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.errors import BadRequest, EngineFailed

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("MLXDECK_TEST_UPDATE"))
CASES = [(path.parent.name, path.name) for path in sorted(GOLDEN.glob("*/*"))]


def events(path: Path) -> Iterator[m.Event]:
    """Events from their JSON form: [name, fields]."""
    for name, fields in json.loads(path.read_text(encoding="utf-8")):
        if "usage" in fields:
            fields["usage"] = m.Usage(**fields["usage"])
        yield getattr(m, name)(**fields)


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that name the second they were made in."""
    for module in (answers, completions, responses):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: 1_700_000_000.5))


def compare(path: Path, got: bytes) -> None:
    """Compare with a golden file, or write it."""
    if UPDATE:
        path.write_bytes(got)
    assert path.read_bytes().decode() == got.decode()


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_request_decodes_to_what_it_means(name: str, case: str) -> None:
    """The decoded request, as it is written down."""
    folder = GOLDEN / name / case
    raw = (folder / "request.json").read_bytes()
    headers = {"x-claude-code-session-id": "11111111-2222-3333-4444-555555555555"}
    decoded = DIALECTS[name].decode(raw, headers if case == "claude_code" else {})
    compare(folder / "request.txt", pformat(decoded, width=100).encode() + b"\n")


@pytest.mark.parametrize(("name", "case"), CASES)
def test_events_encode_to_the_stream_and_to_the_body(name: str, case: str) -> None:
    """Byte for byte what clients were tested with."""
    folder, dialect = GOLDEN / name / case, DIALECTS[name]
    request = dialect.decode((folder / "request.json").read_bytes(), {})
    encoder = dialect.encoder(request, "msg_1")
    stream = b"".join(encoder.encode(event) for event in events(folder / "events.json"))
    compare(folder / "stream.sse", stream)
    body = dialect.encoder(request, "msg_1").collect(events(folder / "events.json"))
    compare(folder / "response.json", json.dumps(json.loads(body), indent=1).encode() + b"\n")


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_errors_have_the_apis_shape(dialect: Dialect) -> None:
    """As a body and as the last event of a stream, with the message in it."""
    error = EngineFailed("the model failed")
    assert b"the model failed" in dialect.encode_error(error, "req_1")
    request = m.ChatRequest("m", (), (m.Message("user", ()),), m.Sampling(1))
    assert b"the model failed" in dialect.encoder(request, "msg_1").error(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
ANTHROPIC = {
    "model": "m",
    "max_tokens": 10,
    "system": [{"type": "text", "text": "s"}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "Read", "input": {"a": 1}}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "text", "text": "x"}],
                }
            ],
        },
    ],
    "tools": [{"name": "Read", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "tool", "name": "Read"},
    "thinking": {"type": "enabled"},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["x"],
}
OPENAI = {
    "model": "m",
    "max_tokens": 10,
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "t", "type": "function", "function": {"name": "Read", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "t", "content": [{"type": "text", "text": "x"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "Read", "parameters": {}}}],
    "tool_choice": {"type": "function", "function": {"name": "Read"}},
    "response_format": {"type": "json_schema", "json_schema": {"schema": {}}},
    "stream_options": {"include_usage": True},
    "stop": ["x"],
}
RESPONSES = {
    "model": "m",
    "instructions": "s",
    "max_output_tokens": 10,
    "input": [
        {"role": "developer", "content": "s"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "mlxdeck:aG0=",
        },
        {"type": "function_call", "call_id": "t", "name": "Read", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "t", "output": "x"},
        {"type": "custom_tool_call", "call_id": "u", "name": "patch", "input": "+ x"},
        {
            "type": "custom_tool_call_output",
            "call_id": "u",
            "output": [{"type": "input_text", "text": "x"}],
        },
        {
            "type": "web_search_call",
            "id": "ws_1",
            "action": {"type": "search", "query": "x"},
        },
        {
            "type": "local_shell_call",
            "call_id": "v",
            "action": {"type": "exec", "command": ["ls"]},
        },
        {"type": "local_shell_call_output", "id": "v", "output": "x"},
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]},
    ],
    "tools": [
        {"type": "function", "name": "Read", "parameters": {}},
        {
            "type": "custom",
            "name": "patch",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
        },
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "g"}]},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "Read"}]},
    "parallel_tool_calls": True,
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}, "verbosity": "low"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "store": True,
    "truncation": "auto",
    "prompt_cache_key": "k",
}
COMPLETIONS = {
    "model": "m",
    "max_tokens": 10,
    "prompt": ["Hi"],
    "suffix": "s",
    "echo": True,
    "n": 1,
    "best_of": 1,
    "logprobs": None,
    "logit_bias": {"5": 1},
    "stream_options": {"include_usage": True},
    "stop": ["x"],
}
VALID: dict[str, Any] = {
    "anthropic": ANTHROPIC,
    "openai": OPENAI,
    "openai_responses": RESPONSES,
    "openai_completions": COMPLETIONS,
}


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every part of a value is."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inner, (*path, key))


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=200)
@given(st.data(), json_values, st.booleans())
def test_no_body_does_more_than_be_refused(
    name: str, data: st.DataObject, value: Any, whole: bool
) -> None:
    """Anything at any place of a request is served or a BadRequest, never another error."""
    dialect = DIALECTS[name]
    body: Any = json.loads(json.dumps(VALID[name]))
    dialect.decode(json.dumps(body).encode(), {})
    path = data.draw(st.sampled_from([path for path in paths(body) if path]))
    if whole:
        body = value
    else:
        place = body
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    try:
        request = dialect.decode(json.dumps(body).encode(), {})
    except BadRequest as refused:
        assert refused.message
        return
    # What is accepted can be answered, and told again.
    told: list[m.Event] = [
        m.Started(m.Usage(1)),
        m.TextDelta("x"),
        m.Finished("end_turn", m.Usage(1)),
    ]
    encoder = dialect.encoder(request, "msg_1")
    assert json.loads(encoder.collect(told))
    if isinstance(encoder, StoringEncoder):
        encoder.stored()
