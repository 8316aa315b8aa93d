"""What is on disk survives the process; what is damaged there costs a miss and nothing else."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from mlxdeck.server.backends.local.engine.api import State
from mlxdeck.server.backends.local.engine.echo import EchoStates
from mlxdeck.server.backends.local.kv import disk_prefix_cache as vaults
from mlxdeck.server.backends.local.kv.disk_prefix_cache import DiskPrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import pack
from mlxdeck.server.cache.answers.codec import Damaged, decode, encode
from mlxdeck.server.cache.answers.disk import Disk, DiskAnswers
from mlxdeck.server.cache.answers.memory import Answer, MemoryAnswers, answer_of
from mlxdeck.server.cache.answers.tiered import TieredAnswers
from mlxdeck.server.cache.sqlite_index import NAME, SqliteIndex
from mlxdeck.server.chat import (
    Event,
    Finished,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)

TOKENS = list(range(100))
# Without a fraction, so that every answer is as long in bytes.
NOW_S = float(int(time.time()))


def answer(text: str = "Hello") -> Answer:
    """An answer with everything that one can have."""
    call: list[Event] = [
        ToolCallStart("toolu_1", "Read"),
        ToolCallDelta('{"a":1}'),
        ToolCallEnd("json_tags"),
    ]
    end = Finished("tool_use", Usage(10, 0, 5))
    return answer_of([ThinkingDelta("Hm"), TextDelta(text), *call, end], 1.5, NOW_S)


@asynccontextmanager
async def opened(
    folder: Path, limit: int = 1 << 20
) -> AsyncIterator[tuple[DiskAnswers, DiskPrefixCache]]:
    """Both kinds of cache in a folder; closing writes what is pending."""
    disk = Disk(SqliteIndex(folder))
    vault = DiskPrefixCache(disk, folder / "states", EchoStates(), "model", limit)
    try:
        yield DiskAnswers(disk, limit), vault
    finally:
        vault.write_due(everything=True)
        await asyncio.to_thread(disk.close)


def test_an_answer_survives_its_bytes() -> None:
    """Every event, the cost and the size come back; a flipped bit or another version doesn't."""
    made = answer()
    data = encode(made)
    assert decode(data) == made
    for broken in (data[:-1], data[:-2] + b"??", b"mlxdeck-answer-9\n" + data[17:], b""):
        with pytest.raises(Damaged):
            decode(broken)


async def test_answers_survive_a_restart(tmp_path: Path) -> None:
    """Stored by one process, found by the next; another model's answer is known as such."""
    key = "a" * 64 + "m" * 16
    async with opened(tmp_path) as (answers, _):
        assert await answers.get(key) is None
        made = answer()
        answers.put(key, made)
        assert await answers.get(key) == made
    async with opened(tmp_path) as (answers, _):
        assert await answers.get(key) == made
        assert answers.knows_request("a" * 64) and not answers.knows_request("b" * 64)
        assert await answers.clear() == 1
        assert await answers.get(key) is None
    async with opened(tmp_path) as (answers, _):
        assert len(answers) == 0


async def test_answers_keep_to_their_bytes(tmp_path: Path) -> None:
    """The longest unused go first, where a hit counts as use."""
    one = len(encode(answer()))
    async with opened(tmp_path, limit=3 * one) as (answers, _):
        for key in "abc":
            answers.put(key * 80, answer())
        assert await answers.get("a" * 80)
        answers.put("d" * 80, answer())
        assert answers.n_bytes <= 3 * one
        assert await answers.get("b" * 80) is None
        assert await answers.get("a" * 80) and await answers.get("d" * 80)
        answers.put("e" * 80, answer("x" * 4 * one))
        assert len(answers) == 3
    async with opened(tmp_path, limit=3 * one) as (answers, _):
        assert len(answers) == 3 and answers.n_bytes == 3 * one


async def test_a_damaged_answer_is_a_miss_and_removed(tmp_path: Path) -> None:
    """And counted."""
    async with opened(tmp_path) as (answers, _):
        answers.put("a" * 80, answer())
    database = SqliteIndex(tmp_path)
    with database.begin() as connection:
        connection.execute("update answers set body = x'00'")
    database.close()
    async with opened(tmp_path) as (answers, _):
        assert await answers.get("a" * 80) is None
        assert (len(answers), answers.tally.evictions) == (0, {"damaged": 1})


async def test_a_damaged_database_is_begun_anew(tmp_path: Path) -> None:
    """Nothing in it is worth refusing to start."""
    async with opened(tmp_path) as (answers, _):
        answers.put("a" * 80, answer())
    (tmp_path / NAME).write_bytes(b"this is no database" * 1000)
    async with opened(tmp_path) as (answers, _):
        assert len(answers) == 0
        made = answer()
        answers.put("b" * 80, made)
    async with opened(tmp_path) as (answers, _):
        assert await answers.get("b" * 80) == made


async def test_answers_have_an_age_on_disk(tmp_path: Path) -> None:
    """It counts through a restart; what has become too old is removed, and the miss says so."""
    now_s = time.time()
    old, new = replace(answer(), made_s=now_s - 100), replace(answer(), made_s=now_s)
    async with opened(tmp_path) as (answers, _):
        for key, each in (("a", old), ("b", new), ("c", old)):
            answers.put(key * 80, each)
    async with opened(tmp_path) as (answers, _):
        assert len(answers) == 3
    disk = Disk(SqliteIndex(tmp_path))
    answers = DiskAnswers(disk, 1 << 20, max_age_s=60)
    assert await answers.get("a" * 80) is None
    assert await answers.get("b" * 80) == new
    answers.expire()
    assert (len(answers), answers.tally.evictions) == (1, {"expired": 2})
    cache = TieredAnswers(MemoryAnswers(10, 1 << 20), [answers])
    assert [cache.miss_reason(key * 80) for key in "acd"] == ["expired", "expired", "cold"]
    await asyncio.to_thread(disk.close)
    async with opened(tmp_path) as (answers, _):
        assert len(answers) == 1


async def test_answers_of_an_earlier_version_are_dropped_and_states_kept(tmp_path: Path) -> None:
    """Nobody asks for their keys any more."""
    async with opened(tmp_path) as (_, vault):
        vault.offer(pack(TOKENS), tuple(TOKENS), 20)
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        connection.executescript(
            "drop table answers; create table answers (key text primary key, body blob not null,"
            " n_bytes integer not null, used_s real not null);"
            "insert into answers values ('k', x'00', 1, 0); pragma user_version = 1;"
        )
    async with opened(tmp_path) as (answers, vault):
        assert (len(answers), len(vault)) == (0, 1)
        made = answer()
        answers.put("b" * 80, made)
    async with opened(tmp_path) as (answers, vault):
        assert await answers.get("b" * 80) == made and len(vault) == 1


async def test_states_survive_a_restart(tmp_path: Path) -> None:
    """The nearest one is found by its tokens, checked, and cut to what is wanted."""
    async with opened(tmp_path) as (_, vault):
        vault.offer(pack(TOKENS), tuple(TOKENS), 20)
    async with opened(tmp_path) as (_, vault):
        stored, n = vault.nearest(pack([*TOKENS[:70], 7, 8]))
        assert stored is not None and (n, stored.shared_tokens) == (70, 20)
        assert await vault.intact(stored)
        assert vault.load(stored, n) == tuple(TOKENS[:70])
    files = [tmp_path, tmp_path / "states", tmp_path / NAME, *(tmp_path / "states").iterdir()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o700, 0o700, 0o600, 0o600]


async def test_a_state_is_written_once_its_conversation_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a longer one replaces meanwhile is never written; a written one it replaces goes."""
    async with opened(tmp_path) as (_, vault):
        vault.offer(pack(TOKENS), tuple(TOKENS), 20)
        vault.write_due()
        assert len(vault) == 0
        longer = [*TOKENS, 1, 2, 3]
        vault.offer(pack(longer), tuple(longer), 20)
        monkeypatch.setattr(vaults, "QUIET_S", 0.0)
        other = [5, *TOKENS]
        vault.offer(pack(other), tuple(other), 20)
        vault.write_due()
        vault.offer(pack([3] * 10), (3,) * 10, 0)
    async with opened(tmp_path) as (_, vault):
        assert {stored.tokens for stored in vault._stored.values()} == {pack(longer), pack(other)}
        assert len(list((tmp_path / "states").iterdir())) == 2
        longest = [*longer, 9]
        vault.offer(pack(longest), tuple(longest), 20)
        # Known already: not written again.
        vault.offer(pack(TOKENS), tuple(TOKENS), 20)
    assert len(list((tmp_path / "states").iterdir())) == 2


async def test_states_keep_to_their_bytes(tmp_path: Path) -> None:
    """Files of the longest unused states are removed."""
    states = [[n, *TOKENS] for n in range(5)]
    size = len(str(states[0]))
    async with opened(tmp_path, limit=int(2.5 * size)) as (_, vault):
        for tokens in states:
            vault.offer(pack(tokens), tuple(tokens), 0)
            vault.write_due(everything=True)
    files = list((tmp_path / "states").iterdir())
    assert sum(path.stat().st_size for path in files) <= 2.5 * size
    async with opened(tmp_path, limit=int(2.5 * size)) as (_, vault):
        assert [stored.tokens for stored in vault._stored.values()] == [
            pack(tokens) for tokens in states[-2:]
        ]


async def test_a_damaged_state_is_removed(tmp_path: Path) -> None:
    """Cut off, changed or gone: it is found out before it is used, and counted."""
    async with opened(tmp_path) as (_, vault):
        for n in range(3):
            vault.offer(pack([n, *TOKENS]), (n, *TOKENS), 0)
    files = sorted((tmp_path / "states").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:-5])
    files[1].write_bytes(files[1].read_bytes().replace(b"9", b"8", 1))
    files[2].unlink()
    async with opened(tmp_path) as (_, vault):
        for stored in list(vault._stored.values()):
            assert not await vault.intact(stored)
        assert (len(vault), vault.tally.evictions) == (0, {"damaged": 3})
    assert list((tmp_path / "states").iterdir()) == []


async def test_files_that_nobody_knows_are_removed(tmp_path: Path) -> None:
    """Drafts of a process that died, foreign files; not what another process just began."""
    async with opened(tmp_path):
        pass
    old, new = tmp_path / "states" / ".draft-1.safetensors", tmp_path / "states" / "new"
    old.write_text("half")
    new.write_text("half")
    os.utime(old, (time.time() - 1000, time.time() - 1000))
    async with opened(tmp_path) as (_, vault):
        assert vault.tally.evictions == {"foreign": 1}
    assert list((tmp_path / "states").iterdir()) == [new]


async def test_states_of_another_model_are_left_alone(tmp_path: Path) -> None:
    """Neither found nor removed: who switches back finds them again."""
    async with opened(tmp_path) as (_, vault):
        vault.offer(pack(TOKENS), tuple(TOKENS), 20)
    disk = Disk(SqliteIndex(tmp_path))
    other = DiskPrefixCache(disk, tmp_path / "states", EchoStates(), "another model", 1 << 20)
    assert other.nearest(pack(TOKENS)) == (None, 0)
    disk.close()
    async with opened(tmp_path) as (_, vault):
        assert len(vault) == 1


class FullDisk(EchoStates):
    """Nothing can be written."""

    def save(self, state: State, path: Path) -> None:
        raise OSError(28, "No space left on device")


async def test_a_full_disk_is_counted_and_done_without(tmp_path: Path) -> None:
    """The state is not kept, no draft is left, and reading still works."""
    disk = Disk(SqliteIndex(tmp_path))
    vault = DiskPrefixCache(disk, tmp_path / "states", FullDisk(), "model", 1 << 20)
    vault.offer(pack(TOKENS), tuple(TOKENS), 20)
    vault.write_due(everything=True)
    assert await disk.read(lambda _: 1, 0) == 1
    disk.close()
    assert (disk.errors, len(vault)) == (1, 0)
    assert list((tmp_path / "states").iterdir()) == []
