"""KV states on disk survive the process; what is damaged there costs a miss and nothing else."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest

from mlxdeck.server.backends.local.engine.api import PackedPart, StatePart
from mlxdeck.server.backends.local.engine.echo import EchoStates
from mlxdeck.server.backends.local.kv import write_queue
from mlxdeck.server.backends.local.kv.blocks import (
    BLOCK_TOKENS,
    BlockTree,
    KVPart,
    block_key,
    root_key,
)
from mlxdeck.server.backends.local.kv.disk_prefix_cache import FOLDER, DiskPrefixCache
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.restoring import Restoring
from mlxdeck.server.backends.local.kv.run_index import StoredRun, decoded
from mlxdeck.server.backends.local.kv.token_bytes import n_tokens, pack, unpack
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.cache.sqlite_index import NAME, SqliteIndex
from tests.server.backends.local.kv.states import KINDS

TOKENS = list(range(100))
LONG = list(range(3 * BLOCK_TOKENS + 50))
SUFFIX = ".kv"


@asynccontextmanager
async def opened(
    folder: Path,
    limit: int = 1 << 20,
    states: EchoStates | None = None,
    signature: str = "model",
    ram_bytes: int = 1 << 20,
) -> AsyncIterator[DiskPrefixCache]:
    """The states in a folder, with their rows read; closing writes what is pending."""
    states = states or EchoStates()
    disk = DiskIO(SqliteIndex(folder))
    ram = PrefixCache(states, ram_bytes, tree=BlockTree(signature))
    try:
        stored = DiskPrefixCache(disk, folder, states, ram, signature, limit)
        await stored.refresh()
        yield stored
        stored.write_due(everything=True)
    finally:
        await asyncio.to_thread(disk.close)


def offer(stored: DiskPrefixCache, tokens: Sequence[int], shared_tokens: int = 0) -> None:
    """A sequence has ended: its state waits in RAM to be written."""
    stored._ram.add(pack(tokens), tuple(tokens), shared_tokens, store=True)


async def written(stored: DiskPrefixCache) -> None:
    """Have everything written, and wait for it."""
    stored.write_due(everything=True)
    await settled(stored)


async def settled(stored: DiskPrefixCache) -> None:
    """Wait for what is being written."""
    await asyncio.wrap_future(stored._disk.write(lambda _: None))


def is_on_disk(part: KVPart) -> bool:
    """Whether a part has been written."""
    return part.place is not None


async def nearest(stored: DiskPrefixCache, tokens: Sequence[int]) -> int:
    """How many leading tokens of a prompt the disk knows."""
    await stored.refresh()
    match = stored._tree.find(pack(tokens[:-1]), is_on_disk)
    return match.n_tokens if match else 0


async def restored(stored: DiskPrefixCache, tokens: Sequence[int]) -> object:
    """The state of what the disk knows of a prompt, in an empty RAM; None if nothing comes."""
    stored._ram.clear()

    async def on_engine(work: Callable[[], object]) -> None:
        work()

    restoring = Restoring(stored._states, stored._ram, stored, on_engine)
    if not await restoring.restore(tokens, lambda: None):
        return None
    lease = stored._ram.lease(tokens)
    lease.release()
    return lease.state


def runs_in(folder: Path) -> list[StoredRun]:
    """The rows of the index, in the order of their use."""
    with closing(sqlite3.connect(folder / NAME)) as connection:
        rows = connection.execute("select parts from runs order by used_s, n").fetchall()
    return [decoded(parts, BLOCK_TOKENS) for (parts,) in rows]


def on_disk(folder: Path, signature: str = "model") -> list[list[int]]:
    """The tokens of the states that the index knows, in the order of their use."""
    parts = [part for run in runs_in(folder) for part in run.parts if not part.is_checkpoint]
    paths = {root_key(signature): b""}
    while len(paths) <= len(parts):
        for part in parts:
            if part.parent in paths:
                paths[block_key(part.parent, part.tokens)] = paths[part.parent] + part.tokens
    parents = {part.parent for part in parts}
    ends = [block_key(part.parent, part.tokens) for part in parts]
    return [unpack(paths[end]) for end in ends if end not in parents]


def files_in(folder: Path) -> list[Path]:
    """The files of states."""
    return list((folder / FOLDER).iterdir())


def change(folder: Path, statement: str, *values: object) -> None:
    """Change the index behind the server's back."""
    with closing(sqlite3.connect(folder / NAME)) as connection, connection:
        connection.execute(statement, values)


async def test_states_survive_a_restart(tmp_path: Path) -> None:
    """The nearest one is found by its tokens, checked, and cut to what is wanted."""
    async with opened(tmp_path) as stored:
        offer(stored, TOKENS, 20)
    async with opened(tmp_path) as stored:
        asked = [*TOKENS[:70], 7, 8]
        assert await nearest(stored, asked) == 70
        assert await restored(stored, asked) == tuple(TOKENS[:70])
        (block,) = stored._tree.blocks()
        assert block.shared_tokens == 20
    files = [tmp_path, tmp_path / FOLDER, tmp_path / NAME, *files_in(tmp_path)]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o700, 0o700, 0o600, 0o600]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_nearest_state_is_the_longest_that_fits(tmp_path: Path, kind: str) -> None:
    """As comparing with each would find; one that can't be cut has to fit whole."""
    whole = list(range(600))
    stored_lengths = (64, 100, 256, 300, 512)
    states = KINDS[kind]()
    async with opened(tmp_path, states=states) as stored:
        for n in stored_lengths:
            offer(stored, whole[:n])
            await written(stored)
        offer(stored, [*whole[:200], *range(900, 1000)])
    async with opened(tmp_path, states=states) as stored:
        for n_wanted in (1, 63, 64, 65, 100, 255, 256, 257, 299, 300, 301, 511, 512, 513, 600):
            asked = [*whole[:n_wanted], 9_999]
            expected = max([0, *(n for n in stored_lengths if n <= n_wanted)])
            if kind == "plain":
                expected = min(512, n_wanted)
            assert await nearest(stored, asked) == expected
            if expected >= 64:
                assert await restored(stored, asked) == tuple(whole[:expected])


async def test_only_what_ram_lacks_is_read(tmp_path: Path) -> None:
    """Blocks of a file that are there already stay as they are."""
    async with opened(tmp_path) as stored:
        offer(stored, LONG)
    made: list[int] = []

    class Counting(EchoStates):
        def restore(self, about: str, data: bytes) -> StatePart:
            part = super().restore(about, data)
            made.append(len(part))
            return part

    async with opened(tmp_path, states=Counting()) as stored:
        head = [*LONG[: BLOCK_TOKENS + 10], 7]
        assert await restored(stored, head) == tuple(LONG[: BLOCK_TOKENS + 10])
        assert made == [BLOCK_TOKENS, BLOCK_TOKENS]
        held = stored._ram.lease(head)
        assert await restored(stored, [*LONG, 7]) == tuple(LONG)
        held.release()
        assert made == [BLOCK_TOKENS] * 3 + [50]


async def test_a_system_prompt_is_on_disk_once(tmp_path: Path) -> None:
    """Each conversation adds what it says itself, up to a block; all are known after a restart."""
    system, ends = list(range(2_000)), [list(range(5_000 * n, 5_000 * n + 300)) for n in (1, 2, 3)]
    sizes = []
    async with opened(tmp_path) as stored:
        for end in ends:
            offer(stored, [*system, *end], len(system))
            await written(stored)
            sizes.append(stored.n_bytes)
    new = [b - a for a, b in zip([0, *sizes], sizes, strict=False)]
    assert max(new[1:]) < (300 + BLOCK_TOKENS) * len(" 12345,") < new[0]
    async with opened(tmp_path) as stored:
        for end in ends:
            assert await restored(stored, [*system, *end, 1]) == (*system, *end)
        assert len(stored) == 3


async def test_a_turn_writes_only_its_own_tokens(tmp_path: Path) -> None:
    """And the tail that it goes on from is removed, as a longer block holds it."""
    tokens = list(range(1_000))
    async with opened(tmp_path) as stored:
        for turn in range(6):
            offer(stored, tokens)
            before = stored.n_bytes
            await written(stored)
            assert stored.n_bytes - before < (100 + BLOCK_TOKENS) * len("12345, ") or not turn
            tokens = [*tokens, *range(10_000 * turn + 10_000, 10_000 * turn + 10_100)]
        assert len(stored) == 1
    held = [n_tokens(part.tokens) for run in runs_in(tmp_path) for part in run.parts]
    assert sum(held) == 1_500
    assert sum(n < BLOCK_TOKENS for n in held) == 1


async def test_a_state_is_written_once_its_conversation_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a longer one replaces meanwhile is never written; a written one it replaces goes."""
    async with opened(tmp_path) as stored:
        offer(stored, TOKENS, 20)
        stored.write_due()
        longer = [*TOKENS, 1, 2, 3]
        offer(stored, longer, 20)
        monkeypatch.setattr(write_queue, "QUIET_S", 0.0)
        other = [5, *TOKENS]
        offer(stored, other, 20)
        stored.write_due()
        await settled(stored)
        assert on_disk(tmp_path) == [other]
    assert sorted(on_disk(tmp_path)) == [longer, other]
    assert len(files_in(tmp_path)) == 2
    async with opened(tmp_path) as stored:
        longest = [*longer, 9]
        offer(stored, longest, 20)
        await written(stored)
        # Known already: not written again.
        stored._ram.clear()
        offer(stored, TOKENS, 20)
    assert sorted(on_disk(tmp_path)) == [longest, other]
    assert len(files_in(tmp_path)) == 2


async def test_states_keep_to_their_bytes(tmp_path: Path) -> None:
    """Files of the longest unused states are removed."""
    states = [[n, *TOKENS] for n in range(5)]
    limit = int(2.5 * len(str(states[0])))
    async with opened(tmp_path, limit=limit) as stored:
        for tokens in states:
            offer(stored, tokens)
            await written(stored)
        assert await restored(stored, [*states[3], 1])
        offer(stored, [7, *TOKENS])
        await written(stored)
        assert sum(path.stat().st_size for path in files_in(tmp_path)) == stored.n_bytes <= limit
    assert on_disk(tmp_path) == [states[3], [7, *TOKENS]]


async def test_ends_go_before_what_they_rely_on(tmp_path: Path) -> None:
    """However small the limit, what is left can be had from its beginning."""
    system = list(range(2 * BLOCK_TOKENS))
    ends = [list(range(5_000 * n, 5_000 * n + 300)) for n in (1, 2, 3)]
    for limit in range(1_000, 14_000, 1_000):
        home = tmp_path / str(limit)
        async with opened(home, limit=limit) as stored:
            for end in ends:
                offer(stored, [*system, *end], len(system))
                await written(stored)
        async with opened(home, limit=limit) as stored:
            known = [await nearest(stored, [*system, *end, 1]) for end in ends]
            assert stored.n_bytes <= limit
            assert sum(path.stat().st_size for path in files_in(home)) == stored.n_bytes
            assert stored.stats.evictions["damaged"] == 0
            assert all(n in (0, 512, 768, 812) for n in known)
            assert bool(stored.n_bytes) == any(known)


async def test_what_waits_for_the_disk_is_within_the_limit_of_ram(tmp_path: Path) -> None:
    """The state that has to go before it is written is given up and counted, as is one refused."""
    async with opened(tmp_path, ram_bytes=8 * 250) as stored:
        for n in range(5):
            offer(stored, [n, *TOKENS])
            assert stored._ram.n_bytes <= stored._ram.max_bytes
        waiting = stored._ram.waiting
        assert (len(waiting), waiting.n_bytes, stored._ram.unwritten) == (2, 8 * 202, 3)
    assert len(on_disk(tmp_path)) == 2


async def test_what_is_shrunk_to_less_than_is_stored_is_not_written(tmp_path: Path) -> None:
    """It waited as a conversation, and is a short system prompt by the time of its turn."""
    async with opened(tmp_path, ram_bytes=8 * 150) as stored:
        offer(stored, TOKENS, 20)
        offer(stored, [7, *TOKENS])
        assert (
            stored._ram.stats.evictions == {"shrunk": 1}
            and stored._ram.waiting.n_due(everything=True) == 1
        )
        await written(stored)
        assert stored._disk.errors == 0
    assert on_disk(tmp_path) == [[7, *TOKENS]]
    assert len(files_in(tmp_path)) == 1


async def test_a_crowd_of_states_does_not_wait_to_be_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many come so fast that they would be given up first, they are written at once."""
    monkeypatch.setattr(write_queue, "MAX_WAITING", 4)
    async with opened(tmp_path) as stored:
        for n in range(4):
            offer(stored, [n, *TOKENS])
        assert stored._ram.waiting.n_due() == 0
        offer(stored, [4, *TOKENS])
        assert stored._ram.waiting.n_due() == 5
        stored.write_due()
        await settled(stored)
        # Until there is no crowd any more.
        assert (len(stored), len(stored._ram.waiting)) == (1, 4)


async def test_what_is_being_written_is_held_and_nothing_else(tmp_path: Path) -> None:
    """While one is written the others may still be given up."""
    entered, go = threading.Event(), threading.Event()

    class SlowDisk(EchoStates):
        def pack(self, part: StatePart) -> PackedPart:
            entered.set()
            assert go.wait(10)
            return super().pack(part)

    async with opened(tmp_path, states=SlowDisk(), ram_bytes=8 * 350) as stored:
        for n in range(3):
            offer(stored, [n, *TOKENS])
        stored.write_due(everything=True)
        await asyncio.to_thread(entered.wait, 10)
        assert stored._ram.n_leases == 1
        for n in range(3, 6):
            offer(stored, [n, *TOKENS])
        assert stored._ram.unwritten == 3
        go.set()
        await written(stored)
        assert stored._ram.n_leases == 0
    assert sorted(tokens[0] for tokens in on_disk(tmp_path)) == [0, 4, 5]


async def test_a_damaged_state_is_removed(tmp_path: Path) -> None:
    """Cut off, changed, gone or a link: it is found out before it is used, and counted."""
    precious = tmp_path / "precious"
    async with opened(tmp_path) as stored:
        for n in range(4):
            offer(stored, [n, *TOKENS])
    files = [tmp_path / FOLDER / file for file in await names(tmp_path)]
    files[0].write_bytes(files[0].read_bytes()[:-5])
    files[1].write_bytes(files[1].read_bytes().replace(b"9", b"8", 1))
    files[2].unlink()
    precious.write_bytes(files[3].read_bytes())
    files[3].unlink()
    files[3].symlink_to(precious)
    async with opened(tmp_path) as stored:
        for n in range(4):
            assert await nearest(stored, [n, *TOKENS, 1]) == 101
            assert await restored(stored, [n, *TOKENS, 1]) is None
        await written(stored)
        assert (len(stored), stored.stats.evictions) == (0, {"damaged": 4})
    assert files_in(tmp_path) == [] and precious.exists()


async def names(folder: Path) -> list[str]:
    """The names of the files that the index knows."""
    with closing(sqlite3.connect(folder / NAME)) as connection:
        return [file for (file,) in connection.execute("select file from runs order by n")]


async def test_what_relies_on_a_damaged_block_goes_with_it(tmp_path: Path) -> None:
    """Blocks before it are of use all the same, and others are not touched."""
    async with opened(tmp_path) as stored:
        offer(stored, LONG, BLOCK_TOKENS)
        offer(stored, [7, *TOKENS])
    files = [tmp_path / FOLDER / file for file in await names(tmp_path)]
    whole = next(path for path in files if b"[256, 257" in path.read_bytes())
    whole.write_bytes(whole.read_bytes().replace(b"600", b"601"))
    async with opened(tmp_path) as stored:
        assert await nearest(stored, [*LONG, 1]) == len(LONG)
        assert await restored(stored, [*LONG, 1]) == tuple(LONG[: 2 * BLOCK_TOKENS])
        await written(stored)
        assert await nearest(stored, [*LONG, 1]) == BLOCK_TOKENS
        assert stored.stats.evictions == {"damaged": 1}
    assert sorted(on_disk(tmp_path)) == sorted([LONG[:BLOCK_TOKENS], [7, *TOKENS]])
    assert len(files_in(tmp_path)) == 2


async def test_only_files_of_our_own_naming_are_removed(tmp_path: Path) -> None:
    """Drafts of a process that died and states in no index; nothing else, and nothing young."""
    async with opened(tmp_path):
        pass
    folder = tmp_path / FOLDER
    ours = [f"{'a' * 64}{SUFFIX}", f".{'b' * 64}-17{SUFFIX}"]
    theirs = [
        "notes.txt",
        f"model{SUFFIX}",
        f"{'A' * 64}{SUFFIX}",
        ".draft",
        f"{'c' * 64}.safetensors",
    ]
    for name in [*ours, *theirs]:
        (folder / name).write_text("half")
        os.utime(folder / name, (time.time() - 1000, time.time() - 1000))
    young = f"{'d' * 64}{SUFFIX}"
    (folder / young).write_text("half")
    (folder / f"{'e' * 64}{SUFFIX}").mkdir()
    async with opened(tmp_path) as stored:
        await settled(stored)
        assert stored.stats.evictions == {"foreign": 2}
    left = {path.name for path in folder.iterdir()}
    assert left == {*theirs, young, f"{'e' * 64}{SUFFIX}"}


async def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """What it leads to is left as it is, whatever the names there; nor is the index a link."""
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o755)
    file = precious / f"{'a' * 64}{SUFFIX}"
    file.write_text("dear")
    os.utime(file, (1, 1))
    home = tmp_path / "cache"
    home.mkdir()
    (home / FOLDER).symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        async with opened(home):
            raise AssertionError("it was followed")
    linked = tmp_path / "linked"
    linked.symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        SqliteIndex(linked)
    other = tmp_path / "other"
    other.mkdir()
    (other / NAME).symlink_to(file)
    with pytest.raises(OSError):
        SqliteIndex(other)
    assert file.read_text() == "dear" and stat.S_IMODE(precious.stat().st_mode) == 0o755
    assert [path.name for path in precious.iterdir()] == [file.name]


async def test_files_of_an_earlier_version_are_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By their names, with a line that says so; what is not ours stays."""
    old = tmp_path / "states"
    for folder, more in ((old, ["notes.txt"]), (tmp_path / "2" / "states", [])):
        folder.mkdir(parents=True)
        for name in (f"{'a' * 64}.safetensors", f".{'b' * 64}-17.safetensors", *more):
            (folder / name).write_text("old")
    for home in (tmp_path, tmp_path / "2", tmp_path / "2"):
        async with opened(home) as stored:
            await settled(stored)
    assert [path.name for path in old.iterdir()] == ["notes.txt"]
    assert not (tmp_path / "2" / "states").exists()
    told = [record.message for record in caplog.records if "earlier version" in record.message]
    assert [text.split()[0] for text in told] == ["2", "2"]


@pytest.mark.parametrize(
    "name", ["../../precious", "/etc/passwd", "..", "", "x", None, b"blob", 7, "a" * 5000, "\0"]
)
async def test_a_file_of_another_name_is_never_touched(tmp_path: Path, name: object) -> None:
    """An index may name anything: it is a miss that is counted, and nothing outside is removed."""
    home = tmp_path / "home" / "cache"
    precious = tmp_path / "home" / "precious"
    async with opened(home) as stored:
        offer(stored, TOKENS, 20)
    precious.write_text("dear")
    try:
        change(home, "update runs set file = ?", name)
    except sqlite3.IntegrityError:
        return
    async with opened(home) as stored:
        assert await nearest(stored, [*TOKENS, 1]) == 0
        await written(stored)
        assert sum(stored.stats.evictions.values()) + stored._disk.database.n_damaged >= 1
        stored.clear()
        offer(stored, TOKENS, 20)
        await written(stored)
        assert await nearest(stored, [*TOKENS, 1]) == 100
    change(home, "update runs set file = ?", str(name))
    async with opened(home, limit=10) as stored:
        # Evicted for room, as the oldest: its row goes, and no file.
        await settled(stored)
        assert (len(stored), stored.n_bytes) == (0, 0)
    assert precious.read_text() == "dear"


@pytest.mark.parametrize("column", ["n", "signature", "start_tokens", "n_bytes", "used_s", "parts"])
@pytest.mark.parametrize("value", ["text", b"\x00", b"\x92\x90\x91\x99", -1, 1 << 62])
async def test_any_value_in_the_index_is_a_miss(tmp_path: Path, column: str, value: object) -> None:
    """Of any type in any column, meanwhile or before the start; new states are stored as ever."""
    async with opened(tmp_path) as stored:
        offer(stored, TOKENS, 20)
        await written(stored)
        try:
            change(tmp_path, f"update runs set {column} = ?", value)
        except sqlite3.IntegrityError:
            return
        assert await restored(stored, [*TOKENS, 1]) in (None, tuple(TOKENS))
    async with opened(tmp_path, limit=1000) as stored:
        assert await restored(stored, [*TOKENS, 1]) in (None, tuple(TOKENS))
        offer(stored, [7, *TOKENS], 20)
        await written(stored)
        assert await nearest(stored, [7, *TOKENS, 1]) == 101
        assert stored._disk.errors == 0
        assert 0 <= stored.n_bytes < 1 << 51 and len(stored) <= 2


@pytest.mark.parametrize("field", range(9))
@pytest.mark.parametrize("value", [-1, 1 << 62, b"", b"123", "x", True, None, [1]])
async def test_any_value_in_a_row_is_a_miss(tmp_path: Path, field: int, value: object) -> None:
    """What is said of a part may be anything, too."""
    async with opened(tmp_path) as stored:
        offer(stored, TOKENS, 20)
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        ((packed,),) = connection.execute("select parts from runs").fetchall()
    told = msgspec.msgpack.decode(packed)
    told[1][0][field] = value
    change(tmp_path, "update runs set parts = ?", msgspec.msgpack.encode(told))
    async with opened(tmp_path) as stored:
        assert await restored(stored, [*TOKENS, 1]) in (None, tuple(TOKENS))
        assert stored._disk.errors == 0
        offer(stored, [7, *TOKENS], 20)
        await written(stored)
        assert await restored(stored, [7, *TOKENS, 1]) == (7, *TOKENS)


async def test_states_of_another_model_are_left_alone(tmp_path: Path) -> None:
    """Neither found nor removed: who switches back finds them again."""
    async with opened(tmp_path) as stored:
        offer(stored, TOKENS, 20)
    async with opened(tmp_path, signature="another model") as stored:
        assert (await nearest(stored, TOKENS), len(stored)) == (0, 0)
        assert stored.clear() == 0
    async with opened(tmp_path) as stored:
        assert len(stored) == 1
        assert stored.clear() == 1
    assert on_disk(tmp_path) == [] and files_in(tmp_path) == []


async def test_a_clear_also_drops_what_waits_or_is_being_written(tmp_path: Path) -> None:
    """It doesn't come back a moment later."""
    entered, go = threading.Event(), threading.Event()

    class SlowDisk(EchoStates):
        def pack(self, part: StatePart) -> PackedPart:
            entered.set()
            assert go.wait(10)
            return super().pack(part)

    async with opened(tmp_path, states=SlowDisk()) as stored:
        offer(stored, TOKENS)
        stored.write_due(everything=True)
        await asyncio.to_thread(entered.wait, 10)
        offer(stored, [7, *TOKENS])
        stored.clear()
        go.set()
        await written(stored)
        assert len(stored) == 0
    assert on_disk(tmp_path) == [] and files_in(tmp_path) == []


class FullDisk(EchoStates):
    """Nothing can be written."""

    def pack(self, part: StatePart) -> PackedPart:
        raise OSError(28, "No space left on device")


async def test_a_full_disk_is_counted_and_done_without(tmp_path: Path) -> None:
    """The state is not kept, no draft is left, and reading still works."""
    async with opened(tmp_path, states=FullDisk()) as stored:
        offer(stored, TOKENS, 20)
        await written(stored)
        assert await stored._disk.read(lambda _: 1, 0) == 1
        assert (stored._disk.errors, len(stored), stored._ram.n_leases) == (1, 0, 0)
    assert files_in(tmp_path) == []


async def test_writing_costs_the_same_for_each_state(tmp_path: Path) -> None:
    """Steps of the database a state don't grow with the states that are there already."""
    steps: list[int] = []
    system = list(range(64))
    async with opened(tmp_path, limit=1 << 30, ram_bytes=1 << 30) as stored:
        counter = Counter[str]()

        def step() -> None:
            counter["steps"] += 1

        stored._disk.write(lambda c: c.set_progress_handler(step, 10))
        for round_ in range(4):
            for n in range(50):
                offer(stored, [*system, round_, n, *range(70)])
            await written(stored)
            steps.append(counter.total() - sum(steps))
            stored._ram.clear()
        assert len(stored) == 200
    assert steps[0] > 0 and steps[-1] < 1.5 * steps[0], steps


async def test_a_lower_limit_shrinks_what_is_there(tmp_path: Path) -> None:
    """At the next start, the longest unused first; the files go too."""
    async with opened(tmp_path) as stored:
        for n in range(6):
            offer(stored, range(1000 * n, 1000 * n + 200))
            await written(stored)
        full = stored.n_bytes
    async with opened(tmp_path, full // 2) as stored:
        await written(stored)
        assert 0 < stored.n_bytes <= full // 2
        assert stored.stats.evictions == {"room": 6 - len(stored)}
        assert len(files_in(tmp_path)) == len(stored)
