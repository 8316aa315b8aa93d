"""The server over HTTP, from bytes to bytes, on the echo engine."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.api import ModelInfo, Progress, Reads, Sampled, Step
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.chat import Event, TextDelta
from mlxdeck.server.dialects.anthropic.answers import AnthropicEncoder
from mlxdeck.server.errors import EngineFailed
from tests.server.http import body, events, running, until

CALL = 'Let me look.\n<tool_call>{"name": "Read", "arguments": {"path": "a.py"}}</tool_call>'
READ = {"name": "Read", "input_schema": {"type": "object"}}


async def test_plain_and_streamed_answers_say_the_same() -> None:
    """One body, and the events that add up to it, with true token counts from the start."""
    async with running(exact_cache_entries=0) as server:
        plain = (await server.ask("hello")).json()
        assert plain["content"] == [{"type": "text", "text": "hello"}]
        assert plain["stop_reason"] == "end_turn"
        streamed = events((await server.ask("hello", stream=True)).text)
        assert streamed[0][0] == "message_start"
        usage = streamed[0][1]["message"]["usage"]
        n_prompt = plain["usage"]["input_tokens"]
        assert usage["input_tokens"] + usage["cache_read_input_tokens"] == n_prompt
        assert usage["cache_read_input_tokens"] == n_prompt - 1
        deltas = [data["delta"]["text"] for name, data in streamed if name.endswith("_delta")
                  and "text" in data["delta"]]  # fmt: skip
        assert "".join(deltas) == "hello"
        assert [name for name, _ in streamed[-2:]] == ["message_delta", "message_stop"]


async def test_an_identical_request_never_reaches_the_engine() -> None:
    """Streamed or not, it is repeated from the cache, tool calls included, and says so."""
    engine = EchoEngine(lambda _: CALL)
    async with running(engine) as server:
        first = await server.ask("x", tools=[READ])
        n_prefilled, n_tokens = engine.n_prefilled_tokens, server.service.backend.status.load
        second = await server.ask("x", tools=[READ], metadata={"user_id": "someone else"})
        third = await server.ask("x", tools=[READ], stream=True)
        assert [r.headers["x-mlxdeck-cache"] for r in (first, second, third)] == [
            "miss",
            "hit",
            "hit",
        ]
        assert second.json()["content"] == first.json()["content"]
        assert first.json()["stop_reason"] == second.json()["stop_reason"] == "tool_use"
        assert first.json()["id"] != second.json()["id"]
        usage = second.json()["usage"]
        assert usage["cache_read_input_tokens"] == first.json()["usage"]["input_tokens"]
        streamed = events(third.text)
        (start,) = [d for name, d in streamed if name == "content_block_start" and d["index"] == 1]
        assert start["content_block"]["id"] == first.json()["content"][1]["id"]
        assert engine.n_prefilled_tokens == n_prefilled
        assert server.service.backend.status.load == n_tokens
        ends = await server.ended(3)
        assert [end.cache_result for end in ends] == ["miss", "exact", "exact"]
        assert len(server.telemetry.named("tool_call")) == 3


async def test_identical_requests_at_the_same_time_share_one_generation() -> None:
    """Each gets the whole answer in its own form; the first one leaving ends it for nobody."""
    engine = EchoEngine(step_s=0.01)
    async with running(engine) as server:
        first = asyncio.create_task(server.ask("shared " * 8))
        await until(lambda: server.service.backend.status.load.output_tokens)
        n_prefilled = engine.n_prefilled_tokens
        others = [
            asyncio.create_task(server.ask("shared " * 8, stream=stream))
            for stream in (True, False)
        ]
        await until(lambda: server.service.observer.totals.requests == 3)
        first.cancel()
        streamed, plain = await asyncio.gather(*others)
        assert plain.json()["content"][0]["text"] == "shared " * 8
        assert streamed.headers["x-mlxdeck-cache"] == "hit"
        assert (
            "".join(
                data["delta"].get("text", "")
                for name, data in events(streamed.text)
                if name == "content_block_delta"
            )
            == "shared " * 8
        )
        assert engine.n_prefilled_tokens == n_prefilled
        ends = await server.ended(3)
        assert sorted(end.outcome for end in ends) == ["cancelled", "ok", "ok"]
        assert (await server.ask("shared " * 8)).headers["x-mlxdeck-cache"] == "hit"


async def test_no_cache_asks_for_a_new_answer() -> None:
    """The request header bypasses the cache for this request, and the new answer is kept."""
    async with running() as server:
        await server.ask("x")
        fresh = await server.ask("x", headers={"cache-control": "no-cache"})
        assert fresh.headers["x-mlxdeck-cache"] == "bypass"
        assert (await server.ask("x")).headers["x-mlxdeck-cache"] == "hit"


async def test_answers_that_were_cut_off_are_repeated() -> None:
    """What ended at max_tokens is what an identical request asks for; another limit is another."""
    async with running() as server:
        for max_tokens, cache in ((3, "miss"), (3, "hit"), (4, "miss")):
            answer = await server.ask("abcdef", max_tokens=max_tokens)
            assert answer.json()["stop_reason"] == "max_tokens"
            assert answer.json()["content"][0]["text"] == "abcdef"[:max_tokens]
            assert answer.headers["x-mlxdeck-cache"] == cache


@pytest.mark.parametrize(
    "said",
    [
        "",
        " \n",
        "<think>Hm.</think>",
        "<tool_call>oops</tool_call>",
        CALL + "<tool_call>oops</tool_call>",
    ],
)
async def test_answers_that_are_no_use_are_not_repeated(said: str) -> None:
    """Empty ones, thoughts alone and bad calls: a retry gets a new one, and the miss says why."""
    async with running(EchoEngine(lambda _: said)) as server:
        for _ in range(2):
            answer = await server.ask("x", tools=[READ])
            assert answer.headers["x-mlxdeck-cache"] == "miss"
        found: list[Any] = [line.attrs for line in server.telemetry.named("cache.lookup")]
        reasons = [each.miss_reason for each in found if each.cache == "exact"]
        assert reasons == ["cold", "not_kept"]


async def test_a_bad_bias_is_refused_by_name() -> None:
    """A token that the model lacks; there is no telling what was meant."""
    async with running(Numbered()) as server:
        assert (await server.ask("x", logit_bias={"256": 1})).status_code == 200
        refused = await server.ask("x", logit_bias={"257": 1})
        assert refused.status_code == 400
        assert "logit_bias.257: the model's tokens are 0 to 256" in refused.text


class Numbered(EchoEngine):
    """It says how many tokens it knows."""

    def load(self, progress: Progress) -> ModelInfo:
        """Bytes, and one more."""
        return replace(super().load(progress), vocab_tokens=257)


class Dated(EchoEngine):
    """Its template prints the year, as far as it says."""

    def load(self, progress: Progress) -> ModelInfo:
        """Say so."""
        traits = replace(self.tokenizer.traits, clock_formats=("%Y",))
        self.tokenizer.traits = traits
        return super().load(progress)


async def test_a_template_that_reads_the_clock_gives_a_new_answer_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the same one until what it prints changes."""
    years = [2026]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls(years[-1], 5, 5, tzinfo=tz)

    monkeypatch.setattr("mlxdeck.server.pipeline.datetime", Clock)
    async with running(Dated()) as server:
        told = [(await server.ask("x")).headers["x-mlxdeck-cache"] for _ in range(2)]
        years.append(2027)
        told.append((await server.ask("x")).headers["x-mlxdeck-cache"])
        assert told == ["miss", "hit", "miss"]


class SeveralATime(EchoEngine):
    """Writes all that it has to say in one step, as a draft that is right does."""

    def step(self, reads: Reads = None) -> list[Step]:
        """Until nobody writes any more."""
        found = super().step(reads)
        while self._running and any(isinstance(each, Sampled) for each in found):
            found += super().step(reads)
        return found


async def test_tokens_behind_a_stop_sequence_do_not_count() -> None:
    """Also those that came with the same step."""
    async with running(SeveralATime(lambda _: "one END two three")) as server:
        answer = (await server.ask("x", stop_sequences=["END"])).json()
        assert answer["content"][0]["text"] == "one "
        assert answer["usage"]["output_tokens"] == len("one END")


async def test_a_stop_sequence_ends_the_answer() -> None:
    """It is reported by its text, and frees the engine at once."""
    async with running(EchoEngine(lambda _: "one END two")) as server:
        answer = (await server.ask("x", stop_sequences=["END"])).json()
        assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "END")
        assert answer["content"] == [{"type": "text", "text": "one "}]


async def test_a_call_becomes_a_tool_use_block() -> None:
    """Streamed as start, JSON pieces and stop, with contiguous indexes and the right reason."""
    async with running(EchoEngine(lambda _: CALL)) as server:
        streamed = events((await server.ask("x", tools=[READ], stream=True)).text)
        starts = [d for name, d in streamed if name == "content_block_start"]
        assert [d["index"] for d in starts] == [0, 1]
        assert [d["content_block"]["type"] for d in starts] == ["text", "tool_use"]
        pieces = [
            d["delta"]["partial_json"]
            for name, d in streamed
            if name == "content_block_delta" and d["delta"]["type"] == "input_json_delta"
        ]
        assert json.loads("".join(pieces)) == {"path": "a.py"}
        (call,) = server.telemetry.named("tool_call")
        assert call.attrs is not None
        assert (call.attrs.name, call.attrs.arguments) == ("Read", '{"path": "a.py"}')  # type: ignore[attr-defined]


async def test_a_call_that_the_client_began_is_finished_by_the_model() -> None:
    """The answer goes on inside the call, and comes out as one."""
    rest = 'Read", "arguments": {"path": "b.py"}}</tool_call>'
    async with running(EchoEngine(lambda _: rest)) as server:
        asked = body("x", tools=[READ])
        begun = {"role": "assistant", "content": 'Yes: <tool_call>{"name": "'}
        asked["messages"].append(begun)
        answer = (await server.http.post("/v1/messages", json=asked)).json()
        (call,) = answer["content"]
        assert (call["type"], call["name"], call["input"]) == ("tool_use", "Read", {"path": "b.py"})


async def test_a_call_that_cannot_be_read_is_text_and_is_counted() -> None:
    """Nothing is dropped: the client sees the text, telemetry the reason."""
    async with running(EchoEngine(lambda _: "<tool_call>oops</tool_call>")) as server:
        answer = (await server.ask("x", tools=[READ])).json()
        assert answer["content"] == [{"type": "text", "text": "<tool_call>oops</tool_call>"}]
        assert answer["stop_reason"] == "end_turn"
        (call,) = server.telemetry.named("tool_call")
        assert call.attrs is not None and call.attrs.parse_ok is False  # type: ignore[attr-defined]


async def test_pings_come_while_the_prompt_is_read() -> None:
    """During a long prefill the stream is open and carries pings after message_start."""
    engine = EchoEngine(step_s=0.05, prefill_chunk_tokens=8)
    async with running(engine, ping_s=0.06) as server:
        streamed = events((await server.ask("p" * 60, max_tokens=1, stream=True)).text)
        names = [name for name, _ in streamed]
        assert names[0] == "message_start"
        assert "ping" in names[: names.index("content_block_start")]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("n_more", [0, 200_000])
async def test_a_client_that_leaves_cancels(stream: bool, n_more: int) -> None:
    """The engine is free soon after, however long the body was; telemetry tells how far it came."""
    async with running(EchoEngine(step_s=0.005)) as server:
        asking = asyncio.create_task(server.ask("q" * 500, stream=stream, more="x" * n_more))
        await until(lambda: server.service.backend.status.load.output_tokens)
        asking.cancel()
        (end,) = await server.ended(1)
        assert (end.outcome, end.status) == ("cancelled", 499)
        assert 0 < end.output_tokens < 500
        await until(lambda: not server.service.backend.status.load.active)


class Broken(EchoEngine):
    """Fails after a few tokens, once."""

    broken = True

    def step(self, reads: Reads = None) -> list[Step]:
        if self.broken and any(job.n_sampled > 2 for job in self._running.values()):
            self.broken = False
            raise EngineFailed("the model failed: boom")
        return super().step(reads)


async def test_a_failure_before_the_first_byte_is_a_status() -> None:
    """A plain answer that fails is a 500 in the API's shape, and the next request is served."""
    async with running(Broken()) as server:
        failed = await server.ask("hello")
        assert failed.status_code == 500
        assert failed.json()["error"] == {"type": "api_error", "message": "the model failed: boom"}
        assert (await server.ask("hello")).json()["content"][0]["text"] == "hello"
        ends = await server.ended(2)
        assert [end.outcome for end in ends] == ["error", "ok"]


async def test_a_failure_after_the_first_byte_is_an_event() -> None:
    """A stream that fails ends in an error event, and nothing follows it."""
    async with running(Broken()) as server:
        streamed = events((await server.ask("hello", stream=True)).text)
        assert streamed[0][0] == "message_start"
        assert streamed[-1] == (
            "error",
            {"type": "error", "error": {"type": "api_error", "message": "the model failed: boom"}},
        )
        (end,) = await server.ended(1)
        assert end.outcome == "error"
        assert (await server.ask("hello")).headers["x-mlxdeck-cache"] == "miss"


async def test_a_bug_after_the_first_byte_is_an_event_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a stream that ends as if it were whole; its end is told once."""
    encode = AnthropicEncoder.encode

    def fail(encoder: AnthropicEncoder, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            raise ZeroDivisionError
        return encode(encoder, event)

    monkeypatch.setattr(AnthropicEncoder, "encode", fail)
    async with running() as server:
        streamed = events((await server.ask("hello", stream=True)).text)
        assert [name for name, _ in streamed] == ["message_start", "error"]
        assert streamed[-1][1]["error"] == {"type": "api_error", "message": "internal error"}
        (end,) = await server.ended(1)
        assert (end.outcome, end.status) == ("error", 500)


async def test_too_long_a_prompt_is_refused_before_anything_is_sent() -> None:
    """As a status with the sentence that Claude Code compacts on, streamed or not."""
    async with running(EchoEngine(context_tokens=50)) as server:
        for stream in (True, False):
            refused = await server.ask("x" * 100, stream=stream)
            assert refused.status_code == 400
            message = refused.json()["error"]["message"]
            assert message.startswith("prompt is too long: ") and message.endswith("49 maximum")


async def test_a_full_queue_is_529_with_a_time_to_come_back() -> None:
    """Overload is told at once, in a way that clients retry."""
    async with running(EchoEngine(step_s=0.02), max_batch=1, max_waiting=0) as server:
        first = asyncio.create_task(server.ask("a" * 60))
        await until(lambda: server.service.backend.status.load.active)
        refused = await server.ask("b")
        assert refused.status_code == 529
        assert refused.json()["error"]["type"] == "overloaded_error"
        assert int(refused.headers["retry-after"]) > 0
        assert (await first).status_code == 200


async def test_every_accepted_request_ends_once() -> None:
    """One request.start and one request.end each, whatever became of it, in that order."""
    async with running(Broken()) as server:
        await asyncio.gather(*(server.ask(text) for text in ("one", "two", "three")))
        await server.ask("bad", temperature=9)
        await server.http.post("/v1/messages", content=b"{")
        await server.ended(5)
        per_request: dict[str, list[str]] = {}
        for line in server.telemetry.lines:
            per_request.setdefault(line.request_id, []).append(line.event)
        per_request.pop("", None)
        assert len(per_request) == 5
        for names in per_request.values():
            assert names[0] == "request.start" and names[-1] == "request.end"
            assert names.count("request.start") == names.count("request.end") == 1


async def test_requests_of_check_stay_out_of_the_users_figures() -> None:
    """They are answered like any other."""
    async with running() as server:
        marked = await server.ask("a", headers={"x-mlxdeck-check": "1"})
        assert marked.json()["content"] == [{"type": "text", "text": "a"}]
        await server.ask("b")
        (end,) = await server.ended(1)
        assert end.outcome == "ok"
        assert len(server.telemetry.named("request.start")) == 1
        assert "mlxdeck_requests_total 1.0\n" in (await server.http.get("/metrics")).text


async def test_counting_counts_the_real_prompt() -> None:
    """count_tokens agrees with what an answer reports, tools and system prompt included."""
    async with running() as server:
        asked = body("hello", system="Be kind.", tools=[READ])
        counted = await server.http.post("/v1/messages/count_tokens", json=asked)
        answered = await server.http.post("/v1/messages", json=asked)
        assert counted.json() == {"input_tokens": answered.json()["usage"]["input_tokens"]}


async def test_the_other_routes() -> None:
    """Claude Code's probe, health in its agreed shape, models, status and metrics."""
    async with running() as server:
        await server.ask("x")
        await server.ask("x")
        assert (await server.http.head("/")).status_code == 200
        health = (await server.http.get("/health")).json()
        assert health == {
            "status": "healthy",
            "model": "echo",
            "model_loaded": True,
            "cache": {
                "hits": 1,
                "misses": 1,
                "total_requests": 2,
                "hit_rate": "50.0%",
                "cached_items": 1,
            },
        }
        models = (await server.http.get("/v1/models")).json()
        assert [entry["id"] for entry in models["data"]] == ["echo"]
        status = (await server.http.get("/v1/status")).json()
        assert status["model_path"] == "" and status["active"] == 0 and status["versions"]["sanic"]
        metrics = (await server.http.get("/metrics")).text
        assert "mlxdeck_requests_total 2.0\n" in metrics
        assert "mlxdeck_exact_cache_hits_total 1.0\n" in metrics


async def test_caches_tell_what_they_hold_and_can_be_emptied() -> None:
    """Entries, hits and token-weighted rates a tier; each can be cleared alone."""
    async with running() as server:
        for text in ("hello", "hello", "hello there"):
            await server.ask(text)
        told = (await server.http.get("/v1/cache")).json()
        assert (told["exact"]["entries"], told["exact"]["hits"], told["exact"]["misses"]) == (
            2,
            1,
            2,
        )
        assert told["prefix"]["entries"] == 2 and 0 < told["prefix"]["token_hit_rate"] < 1
        cleared = await server.http.delete("/v1/cache", params={"tier": "prefix"})
        assert cleared.json() == {"cleared": {"prefix": 2}}
        assert (await server.ask("hello")).headers["x-mlxdeck-cache"] == "hit"
        assert (await server.http.delete("/v1/cache")).json()["cleared"]["exact"] == 2
        assert (await server.ask("hello")).headers["x-mlxdeck-cache"] == "miss"
        wrong = await server.http.delete("/v1/cache", params={"tier": "moon"})
        assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_unknown_routes_and_oversized_bodies_have_the_apis_shape() -> None:
    """404 and 413 are JSON errors too."""
    async with running(max_body_bytes=2000) as server:
        missing = await server.http.get("/v1/nothing")
        assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
        large = await server.ask("x" * 3000)
        assert (large.status_code, large.json()["error"]["type"]) == (413, "request_too_large")


async def test_a_key_is_asked_for_in_either_header() -> None:
    """x-api-key and Bearer both work; without it only the health is shown."""
    async with running(api_key="s3cret") as server:
        assert (await server.ask("x")).status_code == 401
        for headers in ({"x-api-key": "s3cret"}, {"authorization": "Bearer s3cret"}):
            assert (await server.ask("x", headers=headers)).status_code == 200
        assert (await server.ask("x", headers={"x-api-key": "wrong"})).status_code == 401
        assert (await server.http.get("/health")).status_code == 200
        assert (await server.http.get("/v1/status")).status_code == 401
        assert not any("s3cret" in repr(line) for line in server.telemetry.lines)


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"host": "rebound.example:8081"}]
)
async def test_web_pages_are_kept_out(headers: dict[str, str]) -> None:
    """A foreign origin, or a foreign name for this machine, is refused."""
    async with running() as server:
        refused = await server.http.get("/health", headers=headers)
        assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")


class Slow(EchoEngine):
    """Takes a while to load."""

    def load(self, progress: Progress) -> ModelInfo:
        import time

        time.sleep(0.3)
        return super().load(progress)


async def test_requests_wait_for_a_model_that_still_loads() -> None:
    """Health answers meanwhile; the request is served as soon as the model is there."""
    async with running(Slow(), loaded=False) as server:
        health = (await server.http.get("/health")).json()
        assert (health["status"], health["model_loaded"]) == ("loading", False)
        assert "mlxdeck_up 0.0\n" in (await server.http.get("/metrics")).text
        assert (await server.ask("hi")).json()["content"][0]["text"] == "hi"
        assert any(line.startswith("mlxdeck ready on http://127.0.0.1:") for line in server.said)


class Unloadable(EchoEngine):
    """Can't be loaded."""

    def load(self, progress: Progress) -> ModelInfo:
        raise EngineFailed("cannot load it: no such file")


async def test_a_model_that_cannot_be_loaded_is_told_to_everyone() -> None:
    """Clients get an error rather than silence; `serve` tells the user (test_launch)."""
    async with running(Unloadable(), loaded=False) as server:
        failed = await server.ask("hi")
        assert failed.status_code == 500
        assert "no such file" in failed.json()["error"]["message"]
        health = await server.http.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unhealthy")


CAPTURED: list[tuple[str, dict[str, Any]]] = [
    ("off", {"arguments": "", "last": ""}),
    ("tools", {"arguments": '{"path": "a.py"}', "last": ""}),
    ("full", {"arguments": '{"path": "a.py"}', "last": "my question"}),
]


@pytest.mark.parametrize(("capture", "expected"), CAPTURED)
async def test_telemetry_keeps_as_much_content_as_it_may(
    capture: str, expected: dict[str, Any]
) -> None:
    """Content appears only at the level that allows it."""
    async with running(EchoEngine(lambda _: CALL), capture=capture) as server:
        await server.ask("my question", tools=[READ])
        await server.ended(1)
        (call,), (start,) = (server.telemetry.named(n) for n in ("tool_call", "request.start"))
        assert call.attrs.arguments == expected["arguments"]  # type: ignore[union-attr]
        assert start.attrs.last_user_text == expected["last"]  # type: ignore[union-attr]
        told = [line.attrs.kind for line in server.telemetry.named("request.content")]  # type: ignore[union-attr]
        assert told == (["tools", "message", "answer"] if capture == "full" else [])


async def test_what_a_conversation_says_is_told_once() -> None:
    """The second turn tells only what is new, and its own answer."""
    async with running(EchoEngine(), capture="full") as server:
        first = [{"role": "user", "content": "one"}]
        more = [{"role": "assistant", "content": "one"}, {"role": "user", "content": "two"}]
        await server.ask("", messages=first)
        await server.ended(1)
        await server.ask("", messages=[*first, *more])
        await server.ended(2)
        told = [line.attrs for line in server.telemetry.named("request.content")]
        texts = [json.loads(part.content)[0]["text"] for part in told]  # type: ignore[union-attr]
        assert texts == ["one", "one", "one", "two", "two"]


async def test_a_call_that_was_demanded_and_not_made_is_an_error() -> None:
    """Never a text with status 200, nor a stream that ends as if all were well."""
    async with running(EchoEngine(lambda _: "I'd rather not.")) as server:
        asked = {"tools": [READ], "tool_choice": {"type": "any"}}
        refused = await server.ask("read it", **asked)
        assert refused.status_code == 500
        assert "no call" in refused.json()["error"]["message"]
        stream = (await server.ask("read it", stream=True, **asked)).text
        assert [name for name, _ in events(stream)][-1] == "error"
        ends = await server.ended(2)
        assert {each.outcome for each in ends} == {"error"}


async def test_a_demanded_call_that_is_whole_at_the_limit_is_a_call() -> None:
    """Only the tag that closes it is missing."""
    whole = CALL.rstrip().removesuffix("</tool_call>")
    async with running(EchoEngine(lambda _: CALL)) as server:
        for n_missing in (1, 5):
            asked = {"tools": [READ], "tool_choice": {"type": "any"}}
            limit = len(whole.encode()) + 12 - n_missing
            answer = await server.ask("read it", max_tokens=limit, **asked)
            assert answer.json()["stop_reason"] == "tool_use"
            assert [each["type"] for each in answer.json()["content"]] == ["text", "tool_use"]
