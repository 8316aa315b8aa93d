"""A server in front of another one: what goes out, what comes back, and what is remembered."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from mlxdeck.server.dialects.anthropic.whole_message import SIGNATURE
from mlxdeck.telemetry.schema.events import RequestStart, ToolCall
from tests.server.backends.upstream.scripted import (
    HANG,
    HEAD,
    KEY,
    PING,
    chunks,
    event,
    in_front_of,
    message,
    response,
    scripted,
    text,
)
from tests.server.http import Running, body, events, until

HELLO = message(text("Hello."), cache_read_input_tokens=4, cache_creation_input_tokens=2)
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u"}]}
CITED: dict[str, Any] = {"type": "text", "text": "", "citations": []}
CITATION = {"type": "char_location", "cited_text": "x"}
BLOCKS: list[list[dict[str, Any]]] = [
    [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm."},
        {"type": "signature_delta", "signature": "c2lnbmVk"},
    ],
    [{"type": "redacted_thinking", "data": "b3BhcXVl"}],
    [SEARCH, {"type": "input_json_delta", "partial_json": '{"query": "x"}'}],
    [FOUND],
    [
        CITED,
        {"type": "text_delta", "text": "One."},
        {"type": "citations_delta", "citation": CITATION},
    ],
    [{"type": "text", "text": ""}, {"type": "text_delta", "text": "Two."}],
]
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
OTHER_PNG = {**PNG, "data": "iVBORw0KGgp="}
TOOL = {
    "name": "read",
    "description": "Reads.",
    "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
}


def shown(blocks: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Blocks as events, without what other events say."""
    found = []
    for index, (start, *deltas) in enumerate(blocks):
        found.append({"type": "content_block_start", "index": index, "content_block": start})
        found += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        found.append({"type": "content_block_stop", "index": index})
    return found


async def test_unknown_blocks_reach_clients_of_the_same_api_unchanged() -> None:
    """Also those who join, and those who get the answer from the cache; others get the texts."""
    async with scripted(lambda _: [message(*BLOCKS)]) as up, in_front_of(up.url) as server:
        asked = [server.ask("q", stream=True) for _ in range(3)]
        for answer in [*await asyncio.gather(*asked), await server.ask("q", stream=True)]:
            got = [data for _, data in events(answer.text) if "block" in data["type"]]
            assert got == shown(BLOCKS)
        assert len(up.answered) == 1
        whole = (await server.ask("q")).json()
        assert [block["type"] for block in whole["content"]] == [each[0]["type"] for each in BLOCKS]
        assert whole["content"][0]["signature"] == "c2lnbmVk"
        assert whole["content"][2]["input"] == {"query": "x"}
        assert whole["content"][4] == {**CITED, "text": "One.", "citations": [CITATION]}
        chat = await server.http.post("/v1/chat/completions", json=body("q"))
        said = chat.json()["choices"][0]["message"]
        assert (said["content"], said["reasoning_content"]) == ("One.Two.", "Hm.")


async def test_the_clients_own_body_goes_out() -> None:
    """With pictures, cache marks, unknown fields and beta headers; our key stays here."""
    async with (
        scripted(lambda _: [HELLO]) as up,
        in_front_of(up.url, api_key="ours", model="up-model") as server,
    ):
        marked = {"type": "text", "text": "q", "cache_control": {"type": "ephemeral"}}
        content = [marked, {"type": "image", "source": PNG}, {"type": "new_kind", "x": 1.0}]
        sent = body("", messages=[{"role": "user", "content": content}], container={"id": "c"})
        sent |= {
            "metadata": {"user_id": "u"},
            "tools": [{"type": "web_search_20250305", "name": "w"}],
        }
        headers = {"x-api-key": "ours", "anthropic-beta": "b1,b2", "cookie": "c=1"}
        answer = await server.http.post("/v1/messages", json=sent, headers=headers)
        assert answer.json()["usage"]["cache_read_input_tokens"] == 4
        (asked,) = up.answered
        assert asked.body == {**sent, "model": "up-model", "stream": True}
        assert asked.path == "/v1/messages?beta=true"
        assert asked.headers["anthropic-beta"] == "b1,b2"
        assert asked.headers["x-api-key"] == KEY
        assert "ours" not in json.dumps(dict(asked.headers))
        assert "cookie" not in asked.headers
        (start,) = [line.attrs for line in server.telemetry.named("request.start")]
        assert isinstance(start, RequestStart)
        assert start.history_notes == ()
        server.service.observer.tick(server.service.load, 0)
        assert [line.attrs.queued for line in server.telemetry.named("tick")][-1] is None  # type: ignore[union-attr]
        (end,) = await server.ended(1)
        assert (end.input_tokens, end.cached_tokens, end.output_tokens) == (16, 4, 7)
        assert (end.queue_s, end.prefill_s, end.provider) == (None, None, "anthropic")


SAME: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "accounts": ({"metadata": {"user_id": "another"}}, {}),
    "streams": ({"stream": True}, {}),
    "sessions": ({}, {"x-claude-code-session-id": "another"}),
    "cache marks": (
        {"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]},
        {},
    ),
    "billing": (
        {"system": [{"type": "text", "text": "x-anthropic-billing-header: 1\ns"}]},
        {},
    ),
}
DIFFERENT: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "pictures": (
        {"messages": [{"role": "user", "content": [{"type": "image", "source": OTHER_PNG}]}]},
        {},
    ),
    "thinking": ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {}),
    "tools of the server": ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, {}),
    "unknown fields": ({"service_tier": "auto"}, {}),
    "betas": ({}, {"anthropic-beta": "another"}),
    "models": ({"model": "another"}, {}),
}
FIRST = {
    "messages": [{"role": "user", "content": [{"type": "image", "source": PNG}]}],
    "system": [{"type": "text", "text": "s"}],
}


@pytest.mark.parametrize(("cases", "n_asked"), [(SAME, 1), (DIFFERENT, 1 + len(DIFFERENT))])
async def test_what_decides_an_answer_decides_its_key(
    cases: dict[str, tuple[dict[str, Any], dict[str, str]]], n_asked: int
) -> None:
    """And nothing else does."""
    async with (
        scripted(lambda _: [HELLO]) as up,
        in_front_of(up.url, hosted=True) as server,
    ):
        for fields, headers in [({}, {}), *cases.values()]:
            sent = body("", **{**FIRST, **fields})
            await server.http.post("/v1/messages", json=sent, headers=headers)
        assert len(up.answered) == n_asked


@pytest.mark.parametrize(("shares", "n_asked"), [(False, 2), (True, 1)])
async def test_keys_of_ours_share_answers_only_if_they_may(shares: bool, n_asked: int) -> None:
    """One client must not see what another was answered."""
    async with (
        scripted(lambda _: [HELLO]) as up,
        in_front_of(up.url, api_key="a,b", shares_answers=shares) as server,
    ):
        for key in ("a", "b", "a"):
            answer = await server.ask("q", headers={"x-api-key": key})
            assert answer.status_code == 200
        assert len(up.answered) == n_asked


async def test_pings_come_while_the_upstream_is_silent() -> None:
    """Before its first byte, and between events; its own pings are passed on."""
    silent = asyncio.Event()

    def script(_: object) -> list[bytes | str]:
        return [HELLO] if silent.is_set() else [HANG]

    async with scripted(script) as up, in_front_of(up.url, ping_s=0.02) as server:
        async with server.http.stream("POST", "/v1/messages", json=body("q", stream=True)) as got:
            seen = b""
            async for piece in got.aiter_bytes():
                seen += piece
                if seen.count(b"event: ping") > 2:
                    break
        assert seen.startswith(b"event: message_start")
        await until(lambda: up.n_left == 1)
        (end,) = await server.ended(1)
        assert (end.outcome, end.status, end.input_tokens) == ("cancelled", 499, None)


async def test_pings_in_front_of_the_answer_are_ours() -> None:
    """The upstream's say nothing of what it will do; later ones are passed on."""
    start, rest = HELLO.split(b"\n\n", 1)
    begun, rest = rest.split(b"\n\n", 1)
    told = [start + b"\n\n" + PING + begun + b"\n\n" + PING + rest]
    async with scripted(lambda _: told) as up, in_front_of(up.url) as server:
        names = [name for name, _ in events((await server.ask("q", stream=True)).text)]
        assert names[:3] == ["message_start", "content_block_start", "ping"]
        assert names.count("ping") == 1


async def test_a_client_that_leaves_ends_the_upstreams_work() -> None:
    """The connection is closed in the middle of the answer."""
    begun = HELLO[: HELLO.index(b"content_block_stop")].rpartition(b"data:")[0]
    async with scripted(lambda _: [begun, HANG]) as up, in_front_of(up.url) as server:
        async with server.http.stream("POST", "/v1/messages", json=body("q", stream=True)) as got:
            async for piece in got.aiter_bytes():
                if b"Hello." in piece:
                    break
        await until(lambda: up.n_left == 1)
        (end,) = await server.ended(1)
        assert (end.outcome, end.input_tokens, end.output_tokens) == ("cancelled", 16, None)


async def test_calls_are_judged_by_their_schemas() -> None:
    """A call with wrong arguments, or with none that can be read, is no answer to repeat."""
    start = {"type": "tool_use", "id": "t", "name": "read", "input": {}}
    asked = 0

    def script(_: object) -> list[bytes]:
        nonlocal asked
        asked += 1
        arguments = ['{"n": 1}', '{"n": "x"}', '{"n": '][asked - 1]
        delta = {"type": "input_json_delta", "partial_json": arguments}
        return [message((start, delta), reason="tool_use")]

    async with scripted(script) as up, in_front_of(up.url) as server:
        for prompt in ("a", "b", "c"):
            answer = (await server.ask(prompt, tools=[TOOL])).json()
            assert answer["stop_reason"] == "tool_use"
        attrs = [line.attrs for line in server.telemetry.named("tool_call")]
        calls = [each for each in attrs if isinstance(each, ToolCall)]
        assert [(call.parse_ok, call.schema_valid) for call in calls] == [
            (True, True),
            (True, False),
            (False, None),
        ]
        assert len(server.service.caches.tiers.ram) == 1


async def test_an_openai_upstream_gets_the_conversation_in_its_words() -> None:
    """Calls, results, pictures and thinking; its answer comes back in the client's."""
    call = {
        "index": 0,
        "id": "c1",
        "type": "function",
        "function": {"name": "read", "arguments": ""},
    }
    more = {"index": 0, "function": {"arguments": '{"n": 2}'}}
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    told = chunks(
        {"role": "assistant", "reasoning": "Hm."},
        {"tool_calls": [call]},
        {"tool_calls": [more]},
        usage=usage,
    )
    use = {"type": "tool_use", "id": "t1", "name": "read", "input": {"n": 1}}
    result = {"type": "tool_result", "tool_use_id": "t1"}
    sent = body(
        "",
        system="s",
        tools=[TOOL],
        tool_choice={"type": "any"},
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "content": [use]},
            {
                "role": "user",
                "content": [{**result, "content": [{"type": "image", "source": PNG}]}],
            },
        ],
    )
    async with scripted(lambda _: [told]) as up, in_front_of(up.url, dialect="openai") as server:
        answer = (await server.http.post("/v1/messages", json=sent)).json()
        assert [block["type"] for block in answer["content"]] == ["thinking", "tool_use"]
        assert (answer["content"][1]["input"], answer["stop_reason"]) == ({"n": 2}, "tool_use")
        assert answer["usage"]["cache_read_input_tokens"] == 4
        (asked,) = up.answered
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        assert asked.body["tool_choice"] == "required"
        roles = [each["role"] for each in asked.body["messages"]]
        assert roles == ["system", "user", "assistant", "tool", "user"]
        assert asked.body["messages"][4]["content"][0]["image_url"]["url"].startswith(
            "data:image/png"
        )


async def test_an_anthropic_upstream_gets_an_openai_clients_conversation() -> None:
    """In the words of the Messages API; the answer comes back as chunks."""
    start = {"type": "tool_use", "id": "t", "name": "read", "input": {}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    function = {"name": "read", "parameters": TOOL["input_schema"]}
    made = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": '{"n": 1}'}}
    sent = {
        "model": "m",
        "temperature": 1.5,
        "tools": [{"type": "function", "function": function}],
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "q"}, picture]},
            {"role": "assistant", "content": None, "tool_calls": [made]},
            {"role": "tool", "tool_call_id": "c1", "content": "r"},
        ],
    }
    told = message((start,), reason="tool_use")
    async with scripted(lambda _: [told]) as up, in_front_of(up.url) as server:
        answer = (await server.http.post("/v1/chat/completions", json=sent)).json()
        assert answer["choices"][0]["finish_reason"] == "tool_calls"
        assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
        (asked,) = up.answered
        assert asked.body["temperature"] == 1.0
        assert asked.body["system"] == [{"type": "text", "text": "s"}]
        assert asked.body["messages"][0]["content"][1] == {"type": "image", "source": PNG}
        assert [
            block["type"] for each in asked.body["messages"][1:] for block in each["content"]
        ] == [
            "tool_use",
            "tool_result",
        ]


async def test_an_openai_clients_own_body_goes_to_an_openai_upstream() -> None:
    """With fields that no model here takes; parts that only its clients know come back."""
    probabilities = {"content": [{"token": "Hi", "logprob": -0.1}]}
    head = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": probabilities}]}
    told = HEAD + event(head) + event({"choices": [{"index": 0, "delta": {"refusal": "No."}}]})
    told += event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    sent = {**body("q"), "logprobs": True, "vendor_field": {"x": [1]}}
    async with scripted(lambda _: [told]) as up, in_front_of(up.url, dialect="openai") as server:
        answer = (await server.http.post("/v1/chat/completions", json=sent)).json()
        (choice,) = answer["choices"]
        assert choice["logprobs"] == probabilities
        assert choice["message"] == {"role": "assistant", "content": "Hi", "refusal": "No."}
        (asked,) = up.answered
        options = {"stream": True, "stream_options": {"include_usage": True}}
        assert asked.body == {**sent, "model": "up", **options}
        # What the upstream doesn't tell is unknown.
        (end,) = await server.ended(1)
        assert (end.input_tokens, end.cached_tokens, end.output_tokens) == (None, None, None)
    async with scripted(lambda _: [HELLO]) as up, in_front_of(up.url) as server:
        refused = await server.http.post("/v1/chat/completions", json=sent)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logprobs")


@pytest.mark.parametrize("number", [-1, 2**29, 2**30, 2**31, 10**30, "7", None, 1.5])
async def test_a_count_that_nobody_can_have_made_is_unknown(number: Any) -> None:
    """What is recorded of the request can still be read."""
    told = message(text("Hi."), input_tokens=number, cache_read_input_tokens=number)
    async with scripted(lambda _: [told]) as up, in_front_of(up.url) as server:
        assert (await server.ask("q")).status_code == 200
        (end,) = await server.ended(1)
        assert (end.outcome, end.input_tokens, end.output_tokens) == ("ok", None, 7)


async def test_one_body_is_an_answer_too() -> None:
    """For a server that doesn't stream."""
    whole = {
        "type": "message",
        "content": [{"type": "text", "text": "Hi."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    async with scripted(lambda _: [response(whole)]) as up, in_front_of(up.url) as server:
        answer = (await server.ask("q")).json()
        assert answer["content"] == [{"type": "text", "text": "Hi."}]
        assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (3, 2)
    said = {"choices": [{"message": {"content": "Hi."}, "finish_reason": "length"}]}
    async with (
        scripted(lambda _: [response(said)]) as up,
        in_front_of(up.url, dialect="openai") as server,
    ):
        answer = (await server.ask("q")).json()
        assert (answer["content"][0]["text"], answer["stop_reason"]) == ("Hi.", "max_tokens")


async def test_counts_are_asked_for_where_there_are_some() -> None:
    """An upstream that has none is an honest error."""

    def script(asked: Any) -> list[bytes]:
        assert asked.path == "/v1/messages/count_tokens"
        return [response({"input_tokens": 42})]

    async def count(server: Running) -> Any:
        asked = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
        return await server.http.post("/v1/messages/count_tokens", json=asked)

    async with scripted(script) as up, in_front_of(up.url) as server:
        assert (await count(server)).json() == {"input_tokens": 42}
        messages = [{"role": "user", "content": "q"}]
        assert up.answered[0].body == {"model": "up", "messages": messages}
    async with (
        scripted(lambda _: [response("", "404 Not Found")]) as up,
        in_front_of(up.url) as server,
    ):
        refused = await count(server)
        assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found_error")


async def test_the_api_is_found_by_asking() -> None:
    """A server that speaks both gets each client's own words."""

    def both(asked: Any) -> list[bytes]:
        if asked.body == {}:
            return [response({"type": "error", "error": {}}, "400 Bad Request")]
        return [HELLO if asked.path.startswith("/v1/messages") else chunks({"content": "Hi"})]

    async with scripted(both) as up, in_front_of(up.url, dialect="") as server:
        await server.ask("q")
        await server.http.post("/v1/chat/completions", json=body("q"))
        assert [each.path for each in up.answered[2:]] == ["/v1/messages", "/v1/chat/completions"]
        status = (await server.http.get("/v1/status")).json()
        assert status["upstream"]["apis"] == ["anthropic", "openai"]
        assert (status["context_tokens"], status["queued"]) == (None, None)


async def test_pings_of_the_upstream_alone_are_no_progress() -> None:
    """A stream that never gets on ends in one error."""

    async with (
        scripted(lambda _: [HELLO.partition(b"\n\ndata")[0] + b"\n\n", PING, HANG]) as up,
        in_front_of(up.url, progress_timeout_s=0.05) as server,
    ):
        answer = await server.ask("q")
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout_error")
        assert "makes no progress" in answer.json()["error"]["message"]


async def test_thinking_of_a_model_here_is_not_sent_to_a_company() -> None:
    """A conversation that began here goes on there: its signature would be refused."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE}
    theirs = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}
    said = {"type": "text", "text": "Yes?"}
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [thought, said]},
        {"role": "assistant", "content": [theirs, said]},
        {"role": "user", "content": "r"},
    ]
    async with scripted(lambda _: [HELLO]) as up, in_front_of(up.url, hosted=True) as server:
        await server.http.post("/v1/messages", json=body("", messages=messages))
        sent = up.answered[0].body["messages"]
        assert sent == [messages[0], {"role": "assistant", "content": [said]}, *messages[2:]]


async def test_the_environment_leads_nothing_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies are not for this machine; a variable that holds no key is an error without it."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with (
        scripted(lambda _: [HELLO]) as up,
        in_front_of(up.url) as server,
        httpx2.AsyncClient(trust_env=False) as client,
    ):
        url = f"{server.service.settings.url}/v1/messages"
        assert (await client.post(url, json=body("q"))).status_code == 200
    monkeypatch.undo()
    bad = {"UP_KEY": "sk-\u00e4\u00f6\u00fc-0123456789"}
    async with scripted(lambda _: [HELLO]) as up, in_front_of(up.url, environ=bad) as server:
        refused = await server.ask("q")
        assert refused.status_code == 500
        assert "UP_KEY holds no key" in refused.text
        assert "0123456789" not in refused.text
        assert up.answered == []


async def test_the_system_prompts_rules_apply_only_if_they_are_asked_for() -> None:
    """Accounting goes out as it came, or not at all."""
    system = [{"type": "text", "text": "x-anthropic-billing-header: 1\ns"}]
    for canonical in (False, True):
        async with (
            scripted(lambda _: [HELLO]) as up,
            in_front_of(up.url, canonical=canonical) as server,
        ):
            await server.ask("q", system=system)
            sent = up.answered[0].body["system"][0]["text"]
            assert sent == ("s" if canonical else system[0]["text"])


async def test_calls_of_openais_own_kinds_reach_its_clients() -> None:
    """In pieces and as a whole; the old form of calls too."""
    first = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "run", "input": "l"}}
    more = {"index": 0, "custom": {"input": "s"}}
    told = chunks({"tool_calls": [first]}, {"tool_calls": [more]}, reason="tool_calls")
    old = chunks({"function_call": {"name": "f", "arguments": "{}"}}, reason="function_call")
    sent = {**body("q"), "tools": [{"type": "custom", "custom": {"name": "run"}}]}
    async with scripted(lambda _: [told]) as up, in_front_of(up.url, dialect="openai") as server:
        (choice,) = (await server.http.post("/v1/chat/completions", json=sent)).json()["choices"]
        call = {"id": "c", "type": "custom", "custom": {"name": "run", "input": "ls"}}
        assert choice["message"]["tool_calls"] == [call]
        assert choice["finish_reason"] == "tool_calls"
        answer = await server.http.post("/v1/chat/completions", json={**sent, "stream": True})
        assert '"custom":{"input":"s"}' in answer.text
    async with scripted(lambda _: [old]) as up, in_front_of(up.url, dialect="openai") as server:
        (choice,) = (await server.http.post("/v1/chat/completions", json=sent)).json()["choices"]
        assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
        assert choice["finish_reason"] == "function_call"


async def test_the_model_that_answered_is_recorded() -> None:
    """A server may know it by a longer name than the one that it was asked for."""
    told = message(text("Hi.")).replace(b'"model": "up"', b'"model": "up-2026"')
    async with scripted(lambda _: [told]) as up, in_front_of(up.url) as server:
        await server.ask("q")
        (end,) = await server.ended(1)
        assert end.model == "up-2026"
