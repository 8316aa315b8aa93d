"""`mlxdeck check`: eleven realistic scenarios against a running server, a line each.

It is a client like any other: it knows the wire format and nothing of the server's internals. So it
works with any server that has Anthropic's Messages API.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Json = Any
Say = Callable[[str], None]

ANSWER_TOKENS = 256
TIMEOUT_S = 600.0
CONNECT_TIMEOUT_S = 10.0


class Failed(Exception):
    """A scenario failed; the text describes the response."""


def expect(condition: object, seen: str) -> None:
    """Fail the scenario unless `condition` holds."""
    if not condition:
        raise Failed(seen)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: Json

    @property
    def text(self) -> str:
        """All text blocks of an answer."""
        blocks = self.body.get("content", [])
        return "".join(block.get("text", "") for block in blocks)

    @property
    def input_tokens(self) -> int:
        """All prompt tokens, cached or not."""
        usage = self.body["usage"]
        return int(usage["input_tokens"] + usage.get("cache_read_input_tokens", 0))


class Client:
    """Sends requests to one server, each on its own connection."""

    def __init__(self, url: str, api_key: str = "") -> None:
        parts = urlsplit(url if "//" in url else f"//{url}")
        expect(parts.hostname, f"{url!r} is no address")
        self._host, self._port = str(parts.hostname), parts.port or 80
        self._headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
        if api_key:
            self._headers["x-api-key"] = api_key

    def reach(self) -> None:
        """Connect, and close the connection.

        Raises:
            OSError: Nobody listens.
        """
        socket.create_connection((self._host, self._port), CONNECT_TIMEOUT_S).close()

    def _open(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        connection.request(method, path, body, {**self._headers, **headers})
        return connection, connection.getresponse()

    def send(self, method: str, path: str, body: Json = None, **headers: str) -> Reply:
        """One request, its whole answer; bytes are sent as they are."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection, response = self._open(method, path, raw, headers)
        try:
            content = response.read()
            lowered = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, lowered, json.loads(content) if content else None)
        finally:
            connection.close()

    def ask(self, *turns: Json, fresh: bool = False, **fields: Json) -> Reply:
        """A conversation, given as texts (user and assistant in turns) or as messages."""
        headers = {"cache-control": "no-cache"} if fresh else {}
        reply = self.send("POST", "/v1/messages", conversation(*turns, **fields), **headers)
        expect(reply.status == 200, f"status {reply.status}: {reply.body}")
        return reply

    def stream(self, *turns: Json, **fields: Json) -> Iterator[tuple[str, Json]]:
        """The events of a streamed answer, as they come."""
        body = json.dumps(conversation(*turns, stream=True, **fields)).encode()
        connection, response = self._open("POST", "/v1/messages", body, {})
        try:
            expect(response.status == 200, f"status {response.status}")
            name = ""
            for line in response:
                field, _, value = line.decode().strip().partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)
        finally:
            connection.close()


def conversation(*turns: Json, **fields: Json) -> Json:
    """A request body with greedy sampling and a small answer, unless `fields` change that."""
    roles = ("user", "assistant")
    messages = [
        turn if isinstance(turn, dict) else {"role": roles[index % 2], "content": turn}
        for index, turn in enumerate(turns)
    ]
    defaults = {"model": "local", "max_tokens": ANSWER_TOKENS, "temperature": 0}
    return {**defaults, "messages": messages, **fields}


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


def tools_offered(client: Client) -> str:
    """Tools are read, and the answer is text or a call of an offered tool."""
    bare = client.ask("What is the weather in Paris?", max_tokens=64)
    reply = client.ask("What is the weather in Paris?", tools=[WEATHER_TOOL], max_tokens=64)
    expect(reply.input_tokens > bare.input_tokens + 20, "the tool is not in the prompt")
    calls = [block for block in reply.body["content"] if block["type"] == "tool_use"]
    for call in calls:
        expect(call["name"] == WEATHER_TOOL["name"], f"a call of {call['name']!r}")
        expect(isinstance(call["input"], dict), "the arguments are no object")
    ends = reply.body["stop_reason"]
    expect(not calls or ends in ("tool_use", "max_tokens"), f"stop_reason {ends}")
    return f"{len(calls)} calls, stop_reason {ends}"


def tool_result(client: Client) -> str:
    """A call and its result are sent back, and the model continues."""
    call = {
        "type": "tool_use",
        "id": "toolu_check",
        "name": WEATHER_TOOL["name"],
        "input": {"city": "Paris"},
    }
    result = {"type": "tool_result", "tool_use_id": "toolu_check", "content": "18 degrees, sunny"}
    reply = client.ask(
        "What is the weather in Paris?",
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
        tools=[WEATHER_TOOL],
        max_tokens=48,
    )
    expect(reply.body["content"], "no answer to the result")
    return repr(reply.text.strip()[:40])


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
    tools_offered,
    tool_result,
    streaming_order,
    long_prompt,
    eight_at_once,
    bad_input,
    health_and_cache,
)


def run(url: str, api_key: str, say: Say) -> int:
    """Run every scenario; return 1 if one failed, or if no server is there to ask."""
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
    n_failed = 0
    for scenario in SCENARIOS:
        began_s = time.monotonic()
        try:
            verdict, seen = "PASS", scenario(client)
        except Failed as failure:
            verdict, seen = "FAIL", str(failure)
        except (OSError, http.client.HTTPException) as error:
            verdict, seen = "FAIL", f"no answer: {error}"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            verdict, seen = "FAIL", f"unexpected answer: {type(error).__name__}: {error}"
        n_failed += verdict == "FAIL"
        name = scenario.__name__.replace("_", " ")
        say(f"{verdict}  {name:<18}{time.monotonic() - began_s:>8.2f} s  {seen}")
    say(f"{len(SCENARIOS) - n_failed} of {len(SCENARIOS)} passed")
    return int(n_failed > 0)
