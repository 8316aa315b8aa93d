"""`mlxdeck check`: realistic scenarios against a running server, a line each.

It is a client like any other: it knows the wire format and nothing of the server's internals. So it
works with any server that has Anthropic's Messages API.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Literal

from mlxdeck.server.ops.check_client import Client, Failed, Json, conversation, expect
from mlxdeck.settings.errors import UserError

Say = Callable[[str], None]
STOP_S = 30.0
"""A cancelled request has to end within this time; a step may take a while on a slow machine."""
POLL_S = 0.1


CAPITAL = "What is the capital of France? Answer in one short sentence."
WEATHER_TOOL = {
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


def simple_chat(client: Client) -> str:
    """One question, one answer."""
    reply = client.ask(CAPITAL, fresh=True)
    expect(reply.text.strip(), "no text")
    usage = reply.body["usage"]
    expect(reply.input_tokens > 5 and usage["output_tokens"] > 0, f"usage {usage}")
    return repr(reply.text.strip()[:40])


def identical_repeat(client: Client) -> str:
    """The same request again is answered from the cache, with the same answer."""
    began_s = time.monotonic()
    first = client.ask(CAPITAL, fresh=True)
    cold_s = time.monotonic() - began_s
    stop = first.body["stop_reason"]
    expect(stop != "max_tokens", "the model didn't end its answer, so it may not be repeated")
    began_s = time.monotonic()
    second = client.ask(CAPITAL)
    warm_s = time.monotonic() - began_s
    expect(second.body["content"] == first.body["content"], "another answer")
    expect(second.headers.get("x-mlxdeck-cache") == "hit", "not from the cache")
    return f"{cold_s / warm_s:,.0f} times as fast ({1000 * warm_s:.1f} ms)"


def system_prompt(client: Client) -> str:
    """A system prompt is counted, as text and as blocks alike."""
    bare = client.ask("Hello!", max_tokens=8)
    rule = "You are a pirate. Always say ahoy."
    plain = client.ask("Hello!", system=rule, max_tokens=8)
    blocks = client.ask("Hello!", system=[{"type": "text", "text": rule}], max_tokens=8)
    expect(plain.input_tokens != bare.input_tokens, "the system prompt changed no token")
    expect(plain.input_tokens == blocks.input_tokens, "text and blocks differ")
    return f"{plain.input_tokens} tokens"


def several_turns(client: Client) -> str:
    """A conversation grows, and its known prefix is reused."""
    turns = ["My name is Ada. Remember it, please.", "I will.", "What is my name?"]
    first = client.ask(*turns, fresh=True, max_tokens=24)
    more = [*turns, first.text or "Ada.", "Thank you. Say goodbye."]
    second = client.ask(*more, fresh=True, max_tokens=24)
    cached = second.body["usage"].get("cache_read_input_tokens", 0)
    expect(second.input_tokens > first.input_tokens, "the second turn is not longer")
    expect(cached > 0, "nothing of the first turn was reused")
    return f"{cached} of {second.input_tokens} tokens reused"


def tool_turn(client: Client) -> str:
    """A forced call has arguments that conform; with its result, the model continues."""
    question = "What is the weather in Paris?"
    forced = {"type": "tool", "name": WEATHER_TOOL["name"]}
    reply = client.ask(question, tools=[WEATHER_TOOL], tool_choice=forced)
    calls = [block for block in reply.body["content"] if block["type"] == "tool_use"]
    expect(calls, f"no call, though one is forced: {reply.body['content']}")
    call = calls[0]
    expect(call["name"] == WEATHER_TOOL["name"], f"a call of {call['name']!r}")
    expect(isinstance(call["input"].get("city"), str), f"arguments {call['input']}")
    expect(reply.body["stop_reason"] == "tool_use", f"stop_reason {reply.body['stop_reason']}")
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "18 degrees, sunny"}
    after = client.ask(
        question,
        {"role": "assistant", "content": reply.body["content"]},
        {"role": "user", "content": [result]},
        tools=[WEATHER_TOOL],
        max_tokens=48,
    )
    expect(after.body["content"], "no answer to the result")
    return f"{call['name']}({json.dumps(call['input'])[:40]})"


def streaming_order(client: Client) -> str:
    """Events arrive in the order of the API, and the stream equals the plain answer."""
    names, text, open_blocks = [], "", 0
    for name, data in client.stream(CAPITAL):
        expect(data["type"] == name, f"{name} holds {data['type']}")
        if name != "ping":
            names.append(name)
        open_blocks += {"content_block_start": 1, "content_block_stop": -1}.get(name, 0)
        expect(open_blocks in (0, 1), "blocks overlap")
        if name == "content_block_delta":
            expect(open_blocks == 1, "a delta outside of a block")
            text += data["delta"].get("text", "")
    expect(names[:1] == ["message_start"], f"begins with {names[:1]}")
    expect(names[-2:] == ["message_delta", "message_stop"], f"ends with {names[-2:]}")
    expect(text == client.ask(CAPITAL).text, "the plain answer differs")
    return f"{len(names)} events"


def cancelling(client: Client) -> str:
    """A client that leaves in the middle of an answer frees the server."""
    before = _active(client)
    events = client.stream("Tell a very long story.", max_tokens=2_000, fresh=True)
    for name, _ in events:
        if name == "content_block_delta":
            break
    events.close()
    began_s = time.monotonic()
    while (now := _active(client)) > before:
        expect(time.monotonic() - began_s < STOP_S, f"{now} requests still run")
        time.sleep(POLL_S)
    return f"after {time.monotonic() - began_s:.1f} s"


def _active(client: Client) -> int:
    return int(client.send("GET", "/v1/status").body.get("active", 0))


def long_prompt(client: Client) -> str:
    """A long prompt is counted exactly; one beyond the window is refused in so many words."""
    body = conversation("The quick brown fox is number 17. " * 100 + CAPITAL, max_tokens=8)
    counted = client.send("POST", "/v1/messages/count_tokens", body).body["input_tokens"]
    reply = client.send("POST", "/v1/messages", body)
    expect(reply.status == 200, f"status {reply.status}: {reply.body}")
    expect(reply.input_tokens == counted, f"counted {counted}, then {reply.input_tokens}")
    limit = client.send("GET", "/v1/status").body.get("context_tokens", 0)
    over = conversation("seventeen " * (limit + 10))
    refused = client.send("POST", "/v1/messages", over)
    message = refused.body["error"]["message"] if refused.status == 400 else ""
    expect("prompt is too long" in message, f"{limit + 10} words gave {refused.status}")
    return f"{counted} tokens"


def eight_at_once(client: Client) -> str:
    """Eight different requests at the same time each get an answer of their own."""
    with ThreadPoolExecutor(8) as pool:
        asked = [f"Count from {n} to {n + 3}." for n in range(8)]
        replies = list(pool.map(lambda text: client.ask(text, max_tokens=24), asked))
    expect(all(reply.body["content"] for reply in replies), "an answer is empty")
    expect(len({reply.body["id"] for reply in replies}) == 8, "answers share an id")
    return f"{sum(reply.body['usage']['output_tokens'] for reply in replies)} tokens"


def bad_input(client: Client) -> str:
    """Malformed requests are 400s that name the field; an unknown path is a 404."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
    cases: list[tuple[Json, str]] = [
        (b"{not json", ""),
        ({"model": "m", "max_tokens": 5}, "messages"),
        (conversation("Hi", max_tokens=0), "max_tokens"),
        (conversation({"role": "judge", "content": "Hi"}), "messages.0.role"),
        (conversation({"role": "user", "content": [image]}), "messages.0.content.0"),
        (conversation("Hi", temperature="warm"), "temperature"),
    ]
    for body, field in cases:
        reply = client.send("POST", "/v1/messages", body)
        expect(reply.status == 400, f"{body} gave {reply.status}")
        error = reply.body["error"]
        expect(error["type"] == "invalid_request_error", f"{error['type']}")
        expect(field in error["message"], f"{error['message']!r} doesn't name {field}")
    expect(client.send("GET", "/v1/nothing").status == 404, "an unknown path is no 404")
    return f"{len(cases) + 1} refused"


def health_and_cache(client: Client) -> str:
    """The health figures have their shape and add up."""
    health = client.send("GET", "/health")
    expect(health.status == 200 and health.body["status"] == "healthy", f"{health.body}")
    cache = health.body["cache"]
    expect(cache["hits"] + cache["misses"] == cache["total_requests"], f"{cache}")
    expect(cache["hits"] > 0 and cache["hit_rate"].endswith("%"), f"{cache}")
    expect(client.send("GET", "/v1/models").body["data"], "no model is listed")
    return f"{cache['hits']} hits, {cache['misses']} misses"


SCENARIOS: tuple[Callable[[Client], str], ...] = (
    simple_chat,
    identical_repeat,
    system_prompt,
    several_turns,
    tool_turn,
    streaming_order,
    cancelling,
    long_prompt,
    eight_at_once,
    bad_input,
    health_and_cache,
)


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """How one scenario went."""

    scenario: str
    verdict: Literal["PASS", "FAIL"]
    duration_s: float
    seen: str


def names() -> list[str]:
    """The scenarios' names, in order."""
    return [_name(each) for each in SCENARIOS]


def _name(scenario: Callable[[Client], str]) -> str:
    return scenario.__name__.replace("_", " ")


def run(
    url: str, api_key: str, say: Say, *, only: Collection[str] = (), as_json: bool = False
) -> int:
    """Run the scenarios, or those in `only`; return 1 if one failed, or if no server answers.

    Raises:
        UserError: There is no such scenario.
    """
    wanted = {name.strip().replace("-", " ").replace("_", " ") for name in only}
    if unknown := wanted - set(names()):
        raise UserError(f"no scenario {sorted(unknown)[0]!r}; there are: {', '.join(names())}")
    try:
        client = Client(url, api_key)
        client.reach()
    except Failed as failure:
        say(str(failure))
        return 1
    except OSError as error:
        reason = error.strerror or str(error)
        say(f"no server answers at {url}: {reason}. mlxdeck serve starts one")
        return 1
    results = []
    for scenario in SCENARIOS:
        if wanted and _name(scenario) not in wanted:
            continue
        results.append(result := _tried(scenario, client))
        if not as_json:
            say(
                f"{result.verdict}  {result.scenario:<18}{result.duration_s:>8.2f} s  {result.seen}"
            )
    n_passed = sum(result.verdict == "PASS" for result in results)
    if as_json:
        say(json.dumps({"url": url, "results": [asdict(result) for result in results]}, indent=1))
    else:
        say(f"{n_passed} of {len(results)} passed")
    return int(n_passed < len(results))


def _tried(scenario: Callable[[Client], str], client: Client) -> ScenarioResult:
    began_s = time.monotonic()
    verdict: Literal["PASS", "FAIL"] = "FAIL"
    try:
        verdict, seen = "PASS", scenario(client)
    except Failed as failure:
        seen = str(failure)
    except (OSError, http.client.HTTPException) as error:
        seen = f"no answer: {error}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        seen = f"unexpected answer: {type(error).__name__}: {error}"
    return ScenarioResult(_name(scenario), verdict, round(time.monotonic() - began_s, 3), seen)
