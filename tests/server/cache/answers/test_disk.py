"""Answers on disk survive the process; what is damaged there costs a miss and nothing else."""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.cache.answers import disk as module
from mlxdeck.server.cache.answers.codec import VERSION, Damaged, decode, encode
from mlxdeck.server.cache.answers.disk import DiskAnswers
from mlxdeck.server.cache.answers.memory import Answer, MemoryAnswers, answer_of
from mlxdeck.server.cache.answers.tiered import TieredAnswers
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.cache.sqlite_index import NAME, SqliteIndex
from mlxdeck.server.chat import (
    Event,
    Finished,
    Foreign,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)

# Without a fraction, so that every answer is as long in bytes.
NOW_S = float(int(time.time()))


def answer(text: str = "Hello") -> Answer:
    """An answer with everything that one can have."""
    call: list[Event] = [
        ToolCallStart("toolu_1", "Read"),
        ToolCallDelta('{"a":1}'),
        ToolCallEnd("json_tags"),
    ]
    cited = Foreign("anthropic", {"type": "content_block_stop", "x": [1, {"y": None}]})
    end = Finished("tool_use", Usage(10, None, 5, foreign=cited), foreign=cited)
    return answer_of([ThinkingDelta("Hm"), TextDelta(text), cited, *call, end], 1.5, NOW_S)


@asynccontextmanager
async def opened(
    folder: Path, limit: int = 1 << 20, max_age_s: float = 0.0
) -> AsyncIterator[DiskAnswers]:
    """The answers in a folder; closing writes what is pending."""
    disk = DiskIO(SqliteIndex(folder))
    answers = DiskAnswers(disk, limit, max_age_s)
    try:
        yield answers
    finally:
        answers.tick()
        await asyncio.to_thread(disk.close)


async def written(answers: DiskAnswers) -> None:
    """Wait until everything that was asked to be written is."""
    await asyncio.wrap_future(answers._disk.write(lambda _: None))


def test_an_answer_survives_its_bytes() -> None:
    """Every event, the cost and the size come back; a flipped bit or another version doesn't."""
    made = answer()
    data = encode(made, "k")
    assert decode(data, "k") == made
    for broken in (data[:-1], data[:-2] + b"??", b"mlxdeck-answer-9\n" + data[17:], b"", "", None):
        with pytest.raises(Damaged):
            decode(broken, "k")


def test_an_answer_belongs_to_its_key_and_its_maker() -> None:
    """Under another key, or made with another secret, it is none."""
    data = encode(answer(), "k", b"ours")
    assert decode(data, "k", b"ours") == answer()
    for key, secret in (("other", b"ours"), ("k", b"theirs"), ("k", b"")):
        with pytest.raises(Damaged):
            decode(data, key, secret)


USAGE = {"input_tokens": 1, "cached_tokens": 0, "output_tokens": 1}
END = ("Finished", {"reason": "end_turn", "usage": USAGE})
TEXT = ("TextDelta", {"text": "x"})
START = ("ToolCallStart", {"id": "a", "name": "b"})


@pytest.mark.parametrize(
    "events",
    [
        [],
        [TEXT],
        [END, TEXT],
        [END, END],
        [TEXT, ("Finished", {"reason": "banana", "usage": USAGE})],
        [TEXT, ("Finished", {"reason": "end_turn", "usage": None})],
        [TEXT, ("Finished", {"reason": "end_turn", "usage": {**USAGE, "input_tokens": -1}})],
        [TEXT, ("Finished", {"reason": "end_turn", "usage": {**USAGE, "input_tokens": "1"}})],
        [("TextDelta", {"text": None}), END],
        [("TextDelta", {}), END],
        [("Started", {"usage": USAGE}), END],
        [("Text", {"text": "x"}), END],
        [("ToolCallDelta", {"json": "{}"}), END],
        [("ToolCallEnd", {"format": "json_tags"}), END],
        [START, END],
        [START, TEXT, ("ToolCallEnd", {"format": "json_tags"}), END],
        [START, START, ("ToolCallEnd", {"format": "json_tags"}), END],
        [["TextDelta"], END],
        "text",
        {"a": 1},
        [TEXT, ("Finished", {"reason": "end_turn", "usage": "deep"})],
    ],
)
def test_what_no_stream_could_be_is_no_answer(events: object) -> None:
    """Even with the right code: whoever knows the secret may still have made a mistake."""
    body = msgspec.json.encode({"cost_s": 1.0, "made_s": 1.0, "events": events})
    with pytest.raises(Damaged):
        decode(VERSION + hmac.digest(b"", VERSION + b"k\n" + body, "sha256") + body, "k")


@given(st.binary(max_size=200))
def test_any_bytes_are_damaged_or_an_answer(body: bytes) -> None:
    """Nothing else is ever raised, whatever was signed."""
    signed = VERSION + hmac.digest(b"", VERSION + b"k\n" + body, "sha256") + body
    for data in (body, VERSION + body, signed):
        with pytest.raises(Damaged):
            decode(data, "k")


async def test_answers_survive_a_restart(tmp_path: Path) -> None:
    """Stored by one process, found by the next; another model's answer is known as such."""
    key = "a" * 64 + "m" * 16
    async with opened(tmp_path) as answers:
        assert await answers.get(key) is None
        made = answer()
        answers.put(key, made)
        assert await answers.get(key) == made
    async with opened(tmp_path) as answers:
        assert await answers.get(key) == made
        for request, reason in (("a", "model_changed"), ("b", "cold")):
            other = request * 64 + "o" * 16
            assert await answers.get(other) is None
            assert TieredAnswers(MemoryAnswers(9, 99), [answers]).miss_reason(other) == reason
        assert await answers.clear() == 1
        assert await answers.get(key) is None
    async with opened(tmp_path) as answers:
        assert len(answers) == 0


async def test_answers_keep_to_their_bytes(tmp_path: Path) -> None:
    """The longest unused go first, where a hit counts as use."""
    one = len(encode(answer(), "a" * 80))
    async with opened(tmp_path, limit=3 * one) as answers:
        for key in "abc":
            answers.put(key * 80, answer())
        assert await answers.get("a" * 80)
        answers.put("d" * 80, answer())
        await written(answers)
        assert answers.n_bytes <= 3 * one
        assert await answers.get("b" * 80) is None
        assert await answers.get("a" * 80) and await answers.get("d" * 80)
        answers.put("e" * 80, answer("x" * 4 * one))
        await written(answers)
        assert len(answers) == 3
    async with opened(tmp_path, limit=3 * one) as answers:
        assert len(answers) == 3 and answers.n_bytes == 3 * one


async def test_a_damaged_answer_is_a_miss_and_removed(tmp_path: Path) -> None:
    """And counted."""
    async with opened(tmp_path) as answers:
        answers.put("a" * 80, answer())
    database = SqliteIndex(tmp_path)
    with database.begin() as connection:
        connection.execute("update answers set body = x'00'")
    database.close()
    async with opened(tmp_path) as answers:
        assert await answers.get("a" * 80) is None
        await written(answers)
        assert (len(answers), answers.stats.evictions) == (0, {"damaged": 1})


async def test_a_damaged_database_is_begun_anew(tmp_path: Path) -> None:
    """Nothing in it is worth refusing to start."""
    async with opened(tmp_path) as answers:
        answers.put("a" * 80, answer())
    (tmp_path / NAME).write_bytes(b"this is no database" * 1000)
    async with opened(tmp_path) as answers:
        assert len(answers) == 0
        made = answer()
        answers.put("b" * 80, made)
    async with opened(tmp_path) as answers:
        assert await answers.get("b" * 80) == made


async def test_answers_have_an_age_on_disk(tmp_path: Path) -> None:
    """It counts through a restart; what has become too old is removed, and the miss says so."""
    now_s = time.time()
    old, new = replace(answer(), made_s=now_s - 100), replace(answer(), made_s=now_s)
    async with opened(tmp_path) as answers:
        for key, each in (("a", old), ("b", new), ("c", old)):
            answers.put(key * 80, each)
    async with opened(tmp_path) as answers:
        assert len(answers) == 3
    async with opened(tmp_path, max_age_s=1e6) as answers:
        answers.expire()
        await written(answers)
        assert dict(answers.stats.evictions) == {}
    async with opened(tmp_path, max_age_s=60) as answers:
        assert await answers.get("a" * 80) is None
        assert await answers.get("b" * 80) == new
        answers.expire()
        await written(answers)
        assert (len(answers), answers.stats.evictions) == (1, {"expired": 2})
        cache = TieredAnswers(MemoryAnswers(10, 1 << 20), [answers])
        assert [cache.miss_reason(key * 80) for key in "acd"] == ["expired", "expired", "cold"]
    async with opened(tmp_path) as answers:
        assert len(answers) == 1


async def test_what_is_repeated_from_ram_stays_longest_on_disk(tmp_path: Path) -> None:
    """Also across a restart: the order is that of use, in whatever tier, not of storing."""
    one = len(encode(answer(), "a" * 80))
    async with opened(tmp_path, limit=3 * one) as answers:
        cache = TieredAnswers(MemoryAnswers(10, 1 << 20), [answers])
        for key in "abc":
            cache.put(key * 80, answer())
        await written(answers)
        assert cache.known("a" * 80)
    async with opened(tmp_path, limit=3 * one) as answers:
        answers.put("d" * 80, answer())
        await written(answers)
        assert [bool(await answers.get(key * 80)) for key in "abcd"] == [True, False, True, True]


async def test_uses_are_noted_together(tmp_path: Path) -> None:
    """A hit writes nothing; a thousand of them are one write."""
    async with opened(tmp_path) as answers:
        answers.put("a" * 80, answer())
        await written(answers)
        writes = []
        write = answers._disk.write
        answers._disk.write = lambda work: writes.append(work) or write(work)  # type: ignore[func-returns-value,method-assign]
        for n in range(2500):
            answers.used(f"{n:080}")
        assert len(writes) == 2


class Slow:
    """Holds up the reading thread."""

    def __init__(self, answers: DiskAnswers) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self.held = asyncio.create_task(answers._disk.read(self._hold, None))

    def _hold(self, _: sqlite3.Connection) -> None:
        self.entered.set()
        assert self.go.wait(10)


@pytest.mark.parametrize("put_again", [False, True])
async def test_a_clear_while_an_answer_is_read_is_a_miss(tmp_path: Path, put_again: bool) -> None:
    """Never what was cleared; what came since is found."""
    key, made, new = "a" * 80, answer("old"), answer("new")
    async with opened(tmp_path) as answers:
        answers.put(key, made)
        await written(answers)
        slow = Slow(answers)
        asking = asyncio.create_task(answers.get(key))
        await asyncio.to_thread(slow.entered.wait, 10)
        assert await answers.clear() == 1
        if put_again:
            answers.put(key, new)
        slow.go.set()
        assert await asking is None
        assert await answers.get(key) == (new if put_again else None)
        await slow.held
        await written(answers)
        assert await answers.get(key) == (new if put_again else None)
        assert len(answers) == put_again


async def test_what_waits_for_the_disk_has_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing can be written, answers wait within their bytes; the rest is counted."""
    made = answer()
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 3 * made.n_bytes)
    async with opened(tmp_path) as answers:
        go = threading.Event()
        answers._disk.write(lambda _: go.wait(10))
        for n in range(5):
            answers.put(f"{n:080}", made)
        answers.put(f"{0:080}", made)
        assert (len(answers), answers.dropped) == (3, 3)
        assert answers.waiting_bytes == 3 * made.n_bytes
        go.set()
        await written(answers)
        assert (len(answers), answers.waiting_bytes) == (3, 0)


async def test_an_answer_does_not_wait_for_the_checksum_of_a_state(tmp_path: Path) -> None:
    """Files are checked on a thread of their own."""
    async with opened(tmp_path) as answers:
        answers.put("a" * 80, answer())
        await written(answers)
        go = threading.Event()
        checking = asyncio.create_task(answers._disk.check(lambda _: go.wait(10), False))
        assert await answers.get("a" * 80)
        assert not checking.done()
        go.set()
        assert await checking


@pytest.mark.parametrize("column", ["n_bytes", "made_s", "used_s", "body", "key"])
@pytest.mark.parametrize("value", ["text", b"\x00", -1, 1 << 62])
async def test_any_value_in_the_index_is_a_miss(tmp_path: Path, column: str, value: object) -> None:
    """Of any type in any column, before the start or meanwhile; new answers are stored as ever."""
    key = "a" * 80
    async with opened(tmp_path) as answers:
        answers.put(key, answer())
        await written(answers)
        with closing(sqlite3.connect(tmp_path / NAME)) as connection, connection:
            connection.execute(f"update answers set {column} = ?", (value,))
        found = await answers.get(key)
        assert found is None or column in ("n_bytes", "made_s", "used_s")
        answers.expire()
    async with opened(tmp_path, max_age_s=1e9) as answers:
        assert await answers.get(key) in (None, answer())
        answers.put("b" * 80, answer())
        answers.expire()
        await written(answers)
        assert await answers.get("b" * 80)
        assert answers._disk.errors == 0
        assert 0 <= answers.n_bytes < 1 << 51


async def test_a_lower_limit_shrinks_what_is_there(tmp_path: Path) -> None:
    """At the next start, the longest unused first."""
    async with opened(tmp_path) as answers:
        for n in range(20):
            answers.put(f"k{n}", answer("x" * 1000))
            await written(answers)
        full = answers.n_bytes
    async with opened(tmp_path, full // 4) as answers:
        await written(answers)
        assert 0 < answers.n_bytes <= full // 4
        assert answers.stats.evictions["room"] == 20 - len(answers)
        assert await answers.get("k19") and not await answers.get("k0")
