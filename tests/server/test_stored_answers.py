"""Responses that later requests continue: how they are kept, and the API over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.local.engine.api import Read, Step
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.dialects.base import StoredAnswer
from mlxdeck.server.errors import EngineFailed, UnknownStored
from mlxdeck.server.stored_answers import StoredAnswers
from tests.server.http import Running, events, running, until

PATH = "/v1/responses"


def last_turns(prompt: str) -> str:
    """All that the user has said, so that an answer shows what it continues."""
    return "+".join(turn.split("</user>")[0] for turn in prompt.split("<user>")[1:])


async def create(server: Running, said: Any, **fields: Any) -> httpx2.Response:
    """One request."""
    headers = fields.pop("headers", {})
    body = {"model": "local", "input": said, **fields}
    return await server.http.post(PATH, json=body, headers=headers)


def text_of(response: dict[str, Any]) -> str:
    """What an answer says."""
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


async def test_a_conversation_by_ids() -> None:
    """Streamed or not, from the cache or not; each answer is found as it was sent."""
    async with running(EchoEngine(last_turns)) as server:
        first = (await create(server, "a", instructions="i", metadata={"k": "v"})).json()
        assert (first["object"], first["status"], text_of(first)) == ("response", "completed", "a")
        assert (first["instructions"], first["metadata"], first["store"]) == ("i", {"k": "v"}, True)
        streamed = await create(server, "b", previous_response_id=first["id"], stream=True)
        told = events(streamed.text)
        assert [data["sequence_number"] for _, data in told] == list(range(len(told)))
        second = told[-1][1]["response"]
        assert text_of(second) == "a+b"
        again = await create(server, "b", previous_response_id=first["id"])
        assert again.headers["x-mlxdeck-cache"] == "hit"
        third = (await create(server, "c", previous_response_id=again.json()["id"])).json()
        assert text_of(third) == "a+b+c"
        assert len({each["id"] for each in (first, second, again.json(), third)}) == 4
        for response in (first, second, again.json(), third):
            found = await server.http.get(f"{PATH}/{response['id']}")
            assert found.json() == response
        streamed = await server.http.get(f"{PATH}/{first['id']}", params={"stream": "true"})
        assert (streamed.status_code, streamed.json()["error"]["param"]) == (400, "stream")
        memory = (await server.http.get("/v1/status")).json()["memory"]
        assert memory["stored_response_bytes"] == server.service.stored.n_bytes > 0
        ends = await server.ended(4)
        assert [end.cache_result for end in ends] == ["miss", "prefix", "exact", "prefix"]


async def test_what_is_deleted_or_not_stored_is_unknown() -> None:
    """What continued it goes on; the errors are the API's own."""
    async with running(EchoEngine(last_turns)) as server:
        first = (await create(server, "a")).json()["id"]
        second = (await create(server, "b", previous_response_id=first)).json()["id"]
        deleted = await server.http.delete(f"{PATH}/{first}")
        assert deleted.json() == {"id": first, "object": "response", "deleted": True}
        kept_out = (await create(server, "x", store=False)).json()
        assert kept_out["store"] is False
        for gone in (first, kept_out["id"], "resp_nothing"):
            for found in (
                await server.http.get(f"{PATH}/{gone}"),
                await server.http.delete(f"{PATH}/{gone}"),
                await server.http.get(f"{PATH}/{gone}/input_items"),
            ):
                assert found.status_code == 404
                assert gone in found.json()["error"]["message"]
            refused = await create(server, "c", previous_response_id=gone)
            assert refused.status_code == 400
            assert refused.json()["error"]["code"] == "previous_response_not_found"
        third = await create(server, "c", previous_response_id=second)
        assert text_of(third.json()) == "a+b+c"


async def test_the_input_of_an_answer_is_listed_in_pages() -> None:
    """All of the conversation, the newest first unless asked otherwise."""
    async with running(EchoEngine(last_turns)) as server:
        first = (await create(server, "a")).json()["id"]
        second = (await create(server, "b", previous_response_id=first)).json()["id"]
        path = f"{PATH}/{second}/input_items"
        page = (await server.http.get(path, params={"limit": 2})).json()
        said = [item["content"][0]["text"] for item in page["data"]]
        assert (said, page["has_more"], page["object"]) == (["b", "a"], True, "list")
        rest = (await server.http.get(path, params={"after": page["last_id"]})).json()
        assert [item["content"][0]["text"] for item in rest["data"]] == ["a"]
        assert (rest["has_more"], rest["data"][0]["role"]) == (False, "user")
        oldest = (await server.http.get(path, params={"order": "asc"})).json()
        assert oldest["data"] == [*page["data"], *rest["data"]][::-1]
        for query in ({"limit": "0"}, {"limit": "x"}, {"after": "nothing"}, {"order": "up"}):
            assert (await server.http.get(path, params=query)).status_code == 400


async def test_pages_end_whatever_ids_the_items_have() -> None:
    """A client's own ids may be missing, alike, or no texts."""
    ids = ["twin", "twin", "twin", None, 7, {"a": 1}, "", "lone"]
    said = [{"role": "user", "content": str(i), "id": each} for i, each in enumerate(ids)]
    async with running(EchoEngine(last_turns)) as server:
        path = f"{PATH}/{(await create(server, said)).json()['id']}/input_items"
        seen: list[str] = []
        query = {"order": "asc", "limit": "1"}
        for _ in said:
            page = (await server.http.get(path, params=query)).json()
            seen.append(page["data"][0]["content"])
            query["after"] = page["last_id"]
        assert seen == [each["content"] for each in said]
        assert page["has_more"] is False


async def test_a_prompt_is_counted_with_what_it_continues() -> None:
    """As it is for an answer."""
    async with running() as server:
        first = (await create(server, "a")).json()
        body = {"model": "local", "input": "b", "previous_response_id": first["id"]}
        counted = (await server.http.post(f"{PATH}/input_tokens", json=body)).json()
        answered = (await create(server, "b", previous_response_id=first["id"])).json()
        assert counted["object"] == "response.input_tokens"
        assert counted["input_tokens"] == answered["usage"]["input_tokens"]


async def test_an_answer_at_its_limit_is_incomplete_and_can_be_continued() -> None:
    """It says why, in the stream and in the body."""
    async with running(EchoEngine(last_turns)) as server:
        plain = (await create(server, "abcdef", max_output_tokens=3)).json()
        assert (plain["status"], text_of(plain)) == ("incomplete", "abc")
        assert plain["incomplete_details"] == {"reason": "max_output_tokens"}
        streamed = await create(server, "abcdef", max_output_tokens=3, stream=True)
        name, last = events(streamed.text)[-1]
        assert name == "response.incomplete"
        assert last["response"]["output"][0]["status"] == "incomplete"
        following = await create(server, "g", previous_response_id=last["response"]["id"])
        assert text_of(following.json()) == "abcdef+g"


class Broken(EchoEngine):
    """Fails once it says an exclamation mark."""

    def step(self, reads: Sequence[Read] | None = None) -> list[Step]:
        steps = super().step(reads)
        if any(getattr(step, "text", "") == "!" for step in steps):
            raise EngineFailed("the model failed: boom")
        return steps


async def test_a_failed_answer_says_so_and_is_found() -> None:
    """The last event has the error; what was said before it can be continued."""
    async with running(Broken()) as server:
        failed = events((await create(server, "ab!", stream=True)).text)
        name, last = failed[-1]
        response = last["response"]
        assert (name, response["status"]) == ("response.failed", "failed")
        assert response["error"] == {"code": "server_error", "message": "the model failed: boom"}
        assert (await server.http.get(f"{PATH}/{response['id']}")).json() == response
        following = await create(server, "c", previous_response_id=response["id"])
        assert text_of(following.json()) == "c"
        plain = await create(server, "!")
        assert plain.status_code == 500
        assert plain.json()["error"]["type"] == "api_error"


async def test_an_answer_whose_client_left_is_found_as_far_as_it_was_sent() -> None:
    """By the id in its first event; a client that stops an answer may go on from there."""
    said = " ".join(map(str, range(60)))
    async with running(EchoEngine(last_turns, step_s=0.005)) as server:
        body = {"model": "local", "input": said, "stream": True}
        async with server.http.stream("POST", PATH, json=body) as response:
            lines = response.aiter_lines()
            seen = [json.loads(line[6:]) async for line in lines_until(lines, "output_text.delta")]
            answer_id = seen[0]["response"]["id"]
        await server.ended(1)
        await until(lambda: len(server.service.stored))
        found = (await server.http.get(f"{PATH}/{answer_id}")).json()
        assert (found["status"], found["output"][0]["status"]) == ("cancelled", "incomplete")
        assert text_of(found) != said and said.startswith(text_of(found))
        following = (await create(server, "r", previous_response_id=answer_id)).json()
        assert text_of(following) == f"{said}+r"


async def lines_until(lines: Any, wanted: str) -> Any:
    """The data of a stream up to the first event of a name."""
    async for line in lines:
        if line.startswith("data: "):
            yield line
            if wanted in line:
                return


async def test_each_key_has_its_own_answers() -> None:
    """Nobody else can read, continue or delete one."""
    one, other = ({"authorization": f"Bearer {key}"} for key in ("k1", "k2"))
    async with running(api_key="k1,k2") as server:
        answer_id = (await create(server, "a", headers=one)).json()["id"]
        path = f"{PATH}/{answer_id}"
        assert (await server.http.get(path, headers=other)).status_code == 404
        assert (await server.http.delete(path, headers=other)).status_code == 404
        refused = await create(server, "b", previous_response_id=answer_id, headers=other)
        assert refused.status_code == 400
        assert (await server.http.get(path, headers=one)).status_code == 200


async def test_thoughts_are_counted_and_can_be_sent_back() -> None:
    """As they are or as a summary; what hides them is opened again, also when it is known."""
    engine = EchoEngine(lambda prompt: f"<think>{'hm' * prompt.count('<user>')}</think>\n\nYes.")
    async with running(engine) as server:
        for cache in ("miss", "hit"):
            answered = await create(
                server, "a", include=["reasoning.encrypted_content"], reasoning={"summary": "auto"}
            )
            assert answered.headers["x-mlxdeck-cache"] == cache
            first = answered.json()
            assert first["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}
        thought, said = first["output"]
        assert thought["summary"] == [{"type": "summary_text", "text": "hm"}]
        turns = [{"role": "user", "content": each} for each in "ab"]
        sent = [turns[0], {**thought, "summary": []}, said, turns[1]]
        by_hand = (await create(server, sent)).json()
        by_id = (await create(server, "b", previous_response_id=first["id"])).json()
        assert by_hand["usage"]["input_tokens"] == by_id["usage"]["input_tokens"]
        assert by_hand["output"][0]["content"] == [{"type": "reasoning_text", "text": "hmhm"}]


async def test_many_conversations_at_once_stay_apart() -> None:
    """Each sees its own turns, also where one answer is continued twice."""
    async with running(EchoEngine(last_turns)) as server:

        async def talk(name: str) -> list[str]:
            said, previous = [], None
            for number in range(4):
                stream = bool(number % 2)
                answer = await create(
                    server, f"{name}{number}", previous_response_id=previous, stream=stream
                )
                body = events(answer.text)[-1][1]["response"] if stream else answer.json()
                said.append(text_of(body))
                previous = body["id"]
            return said

        told = await asyncio.gather(*map(talk, "abcde"))
        for name, said in zip("abcde", told, strict=True):
            turns = [f"{name}{number}" for number in range(4)]
            assert said == ["+".join(turns[: number + 1]) for number in range(4)]
        assert len(server.service.stored) == 20


@pytest.mark.parametrize("settings_", [{"stored_responses": 0}, {"stored_responses_bytes": 10}])
async def test_nothing_is_stored_without_room(settings_: dict[str, Any]) -> None:
    """Answers come all the same."""
    async with running(**settings_) as server:
        answer = (await create(server, "a")).json()
        assert text_of(answer) == "a"
        assert (await server.http.get(f"{PATH}/{answer['id']}")).status_code == 404
        assert (len(server.service.stored), server.service.stored.n_bytes) == (0, 0)


def answer(name: int, previous: StoredAnswer | None, n_bytes: int) -> StoredAnswer:
    """An answer of a size."""
    return StoredAnswer(f"resp_{name}", previous, b"x" * n_bytes, b"", b"")


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from("pgd"), st.integers(0, 9), st.integers(0, 40)), max_size=40),
    st.integers(0, 5),
    st.integers(0, 120),
)
def test_the_store_holds_whole_conversations_within_its_limits(
    actions: list[tuple[str, int, int]], max_entries: int, max_bytes: int
) -> None:
    """Whatever is put, read and deleted: bytes are those of all that can still be reached."""
    store = StoredAnswers(max_entries, max_bytes)
    made: list[StoredAnswer] = []
    for action, number, n_bytes in actions:
        known = made[number % len(made)] if made else None
        if action == "p":
            made.append(answer(len(made), known if number % 3 else None, n_bytes))
            store.put(made[-1], "")
        elif known is not None:
            try:
                found = store.get(known.id, "")
            except UnknownStored:
                continue
            if action == "d":
                store.delete(found)
        reached: dict[str, int] = {}
        n_listed = 0
        for each in made:
            try:
                found = store.get(each.id, "")
            except UnknownStored:
                continue
            n_listed += 1
            reached |= {link.id: link.n_bytes for link in found.conversation()}
        assert (len(store), store.n_bytes) == (n_listed, sum(reached.values()))
        assert len(store) <= max_entries
        assert store.n_bytes <= max_bytes
