"""KV states on disk survive the process; what is damaged there costs a miss and nothing else."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from mlxdeck.server.backends.local.engine.api import State, StateDamaged
from mlxdeck.server.backends.local.engine.echo import EchoStates
from mlxdeck.server.backends.local.kv import prefix_cache
from mlxdeck.server.backends.local.kv.disk_prefix_cache import DiskPrefixCache
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.state_index import Stored
from mlxdeck.server.backends.local.kv.token_bytes import pack, unpack
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.cache.sqlite_index import NAME, SqliteIndex

TOKENS = list(range(100))
SUFFIX = ".safetensors"


@asynccontextmanager
async def opened(
    folder: Path,
    limit: int = 1 << 20,
    states: EchoStates | None = None,
    signature: str = "model",
    ram_bytes: int = 1 << 20,
) -> AsyncIterator[DiskPrefixCache]:
    """The states in a folder; closing writes what is pending."""
    states = states or EchoStates()
    disk = DiskIO(SqliteIndex(folder))
    ram = PrefixCache(states, ram_bytes)
    vault = DiskPrefixCache(disk, folder / "states", states, ram, signature, limit)
    try:
        yield vault
    finally:
        vault.write_due(everything=True)
        await asyncio.to_thread(disk.close)


def offer(vault: DiskPrefixCache, tokens: Sequence[int], shared_tokens: int = 0) -> None:
    """A sequence has ended: its state waits in RAM to be written."""
    vault._ram.add(pack(tokens), tuple(tokens), shared_tokens, store=True)


async def written(vault: DiskPrefixCache) -> None:
    """Have everything written, and wait for it."""
    vault.write_due(everything=True)
    await asyncio.wrap_future(vault._disk.write(lambda _: None))


async def nearest(vault: DiskPrefixCache, tokens: Sequence[int]) -> tuple[Stored | None, int]:
    """What the disk knows of a prompt."""
    stored, n, _ = await vault.nearest(tokens, lambda _: 0)
    return stored, n


async def restored(vault: DiskPrefixCache, stored: Stored, n: int) -> object:
    """The state of a file's first tokens; None if the file is damaged."""
    try:
        read = await vault.read(stored)
    except StateDamaged:
        return None
    return vault.restore(stored, read, n)


def on_disk(folder: Path) -> list[list[int]]:
    """The tokens of the states that the index knows, in the order of their use."""
    with closing(sqlite3.connect(folder / NAME)) as connection:
        rows = connection.execute("select tokens from states order by used_s, rowid").fetchall()
    return [unpack(tokens) for (tokens,) in rows]


def change(folder: Path, statement: str, *values: object) -> None:
    """Change the index behind the server's back."""
    with closing(sqlite3.connect(folder / NAME)) as connection, connection:
        connection.execute(statement, values)


async def test_states_survive_a_restart(tmp_path: Path) -> None:
    """The nearest one is found by its tokens, checked, and cut to what is wanted."""
    async with opened(tmp_path) as vault:
        offer(vault, TOKENS, 20)
    async with opened(tmp_path) as vault:
        stored, n = await nearest(vault, [*TOKENS[:70], 7, 8])
        assert stored is not None and (n, stored.shared_tokens) == (70, 20)
        assert await restored(vault, stored, n) == tuple(TOKENS[:70])
    files = [tmp_path, tmp_path / "states", tmp_path / NAME, *(tmp_path / "states").iterdir()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o700, 0o700, 0o600, 0o600]


@pytest.mark.parametrize("trimmable", [True, False])
async def test_the_nearest_state_is_the_longest_that_fits(tmp_path: Path, trimmable: bool) -> None:
    """As comparing with each would find; one that can't be cut has to fit whole."""
    whole = list(range(400))
    stored_lengths = (64, 100, 128, 300)

    class States(EchoStates):
        def trimmable(self, state: State) -> bool:
            return trimmable

    async with opened(tmp_path, states=States()) as vault:
        for n in stored_lengths:
            offer(vault, whole[:n])
            await written(vault)
        offer(vault, [*whole[:200], *range(900, 1000)])
        await written(vault)
        for n_wanted in (1, 63, 64, 65, 100, 127, 128, 129, 299, 300, 301, 400):
            if trimmable:
                expected = min(300, n_wanted) if n_wanted >= 64 else 0
            else:
                expected = max([0, *(n for n in stored_lengths if n <= n_wanted)])
            assert (await nearest(vault, [*whole[:n_wanted], 9_999]))[1] == expected


async def test_a_state_is_written_once_its_conversation_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a longer one replaces meanwhile is never written; a written one it replaces goes."""
    async with opened(tmp_path) as vault:
        offer(vault, TOKENS, 20)
        vault.write_due()
        longer = [*TOKENS, 1, 2, 3]
        offer(vault, longer, 20)
        monkeypatch.setattr(prefix_cache, "QUIET_S", 0.0)
        other = [5, *TOKENS]
        offer(vault, other, 20)
        vault.write_due()
        await asyncio.wrap_future(vault._disk.write(lambda _: None))
        assert on_disk(tmp_path) == [other]
    assert sorted(on_disk(tmp_path)) == [longer, other]
    assert len(list((tmp_path / "states").iterdir())) == 2
    async with opened(tmp_path) as vault:
        longest = [*longer, 9]
        offer(vault, longest, 20)
        await written(vault)
        # Known already: not written again.
        vault._ram.clear()
        offer(vault, TOKENS, 20)
    assert sorted(on_disk(tmp_path)) == [longest, other]
    assert len(list((tmp_path / "states").iterdir())) == 2


async def test_states_keep_to_their_bytes(tmp_path: Path) -> None:
    """Files of the longest unused states are removed."""
    states = [[n, *TOKENS] for n in range(5)]
    limit = int(2.5 * len(str(states[0])))
    async with opened(tmp_path, limit=limit) as vault:
        for tokens in states:
            offer(vault, tokens)
            await written(vault)
        stored, n = await nearest(vault, [*states[3], 1])
        assert stored is not None
        assert await restored(vault, stored, n)
        offer(vault, [7, *TOKENS])
        await written(vault)
        files = list((tmp_path / "states").iterdir())
        assert sum(path.stat().st_size for path in files) == vault.n_bytes <= limit
    assert on_disk(tmp_path) == [states[3], [7, *TOKENS]]


async def test_what_waits_for_the_disk_is_within_the_limit_of_ram(tmp_path: Path) -> None:
    """The state that has to go before it is written is given up and counted, as is one refused."""
    async with opened(tmp_path, ram_bytes=8 * 250) as vault:
        for n in range(5):
            offer(vault, [n, *TOKENS])
            assert vault._ram.n_bytes <= vault._ram.max_bytes
        assert (vault._ram.waiting, vault._ram.unwritten) == ((2, 8 * 202), 3)
    assert len(on_disk(tmp_path)) == 2


async def test_what_is_shrunk_to_less_than_is_stored_is_not_written(tmp_path: Path) -> None:
    """It waited as a conversation, and is a short system prompt by the time of its turn."""
    async with opened(tmp_path, ram_bytes=8 * 150) as vault:
        offer(vault, TOKENS, 20)
        offer(vault, [7, *TOKENS])
        assert (
            vault._ram.tally.evictions == {"shrunk": 1} and vault._ram.n_due(everything=True) == 2
        )
        await written(vault)
        assert vault._disk.errors == 0
    assert on_disk(tmp_path) == [[7, *TOKENS]]
    assert len(list((tmp_path / "states").iterdir())) == 1


async def test_a_crowd_of_states_does_not_wait_to_be_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many come so fast that they would be given up first, they are written at once."""
    monkeypatch.setattr(prefix_cache, "MAX_ENTRIES", 8)
    async with opened(tmp_path) as vault:
        for n in range(4):
            offer(vault, [n, *TOKENS])
        assert vault._ram.n_due() == 0
        offer(vault, [4, *TOKENS])
        assert vault._ram.n_due() == 5
        vault.write_due()
        await asyncio.wrap_future(vault._disk.write(lambda _: None))
        # Until there is no crowd any more.
        assert (len(vault), vault._ram.waiting[0]) == (1, 4)


async def test_what_is_being_written_is_held_and_nothing_else(tmp_path: Path) -> None:
    """While one is written the others may still be given up."""
    entered, go = threading.Event(), threading.Event()

    class SlowDisk(EchoStates):
        def save(self, state: State, path: Path) -> None:
            entered.set()
            assert go.wait(10)
            super().save(state, path)

    async with opened(tmp_path, states=SlowDisk(), ram_bytes=8 * 350) as vault:
        for n in range(3):
            offer(vault, [n, *TOKENS])
        vault.write_due(everything=True)
        await asyncio.to_thread(entered.wait, 10)
        assert vault._ram.n_leases == 1
        for n in range(3, 6):
            offer(vault, [n, *TOKENS])
        assert vault._ram.unwritten == 3
        go.set()
        await written(vault)
        assert vault._ram.n_leases == 0
    assert sorted(tokens[0] for tokens in on_disk(tmp_path)) == [0, 4, 5]


async def test_a_damaged_state_is_removed(tmp_path: Path) -> None:
    """Cut off, changed, gone or a link: it is found out before it is used, and counted."""
    precious = tmp_path / "precious"
    async with opened(tmp_path) as vault:
        for n in range(4):
            offer(vault, [n, *TOKENS])
    files = [tmp_path / "states" / file for file in await names(tmp_path)]
    files[0].write_bytes(files[0].read_bytes()[:-5])
    files[1].write_bytes(files[1].read_bytes().replace(b"9", b"8", 1))
    files[2].unlink()
    precious.write_bytes(files[3].read_bytes())
    files[3].unlink()
    files[3].symlink_to(precious)
    async with opened(tmp_path) as vault:
        for n in range(4):
            stored, _ = await nearest(vault, [n, *TOKENS, 1])
            assert stored is not None
            assert await restored(vault, stored, 1) is None
        await written(vault)
        assert (len(vault), vault.tally.evictions) == (0, {"damaged": 4})
    assert list((tmp_path / "states").iterdir()) == [] and precious.exists()


async def names(folder: Path) -> list[str]:
    """The names of the files that the index knows."""
    with closing(sqlite3.connect(folder / NAME)) as connection:
        return [file for (file,) in connection.execute("select file from states order by rowid")]


async def test_only_files_of_our_own_naming_are_removed(tmp_path: Path) -> None:
    """Drafts of a process that died and states in no index; nothing else, and nothing young."""
    async with opened(tmp_path):
        pass
    folder = tmp_path / "states"
    ours = [f"{'a' * 64}{SUFFIX}", f".{'b' * 64}-17{SUFFIX}"]
    theirs = ["notes.txt", f"model{SUFFIX}", f"{'A' * 64}{SUFFIX}", ".draft", f"{'c' * 64}.npz"]
    for name in [*ours, *theirs]:
        (folder / name).write_text("half")
        os.utime(folder / name, (time.time() - 1000, time.time() - 1000))
    young = f"{'d' * 64}{SUFFIX}"
    (folder / young).write_text("half")
    (folder / f"{'e' * 64}{SUFFIX}").mkdir()
    async with opened(tmp_path) as vault:
        assert vault.tally.evictions == {"foreign": 2}
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
    (home / "states").symlink_to(precious)
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


@pytest.mark.parametrize(
    "name", ["../../precious", "/etc/passwd", "..", "", "x", None, b"blob", 7, "a" * 5000, "\0"]
)
async def test_a_file_of_another_name_is_never_touched(tmp_path: Path, name: object) -> None:
    """An index may name anything: it is a miss that is counted, and nothing outside is removed."""
    home = tmp_path / "home" / "cache"
    precious = tmp_path / "home" / "precious"
    async with opened(home) as vault:
        offer(vault, TOKENS, 20)
    precious.write_text("dear")
    with closing(sqlite3.connect(home / NAME)) as connection, connection:
        try:
            connection.execute("update states set file = ?", (name,))
            connection.execute("update state_blocks set file = ?", (name,))
        except sqlite3.IntegrityError:
            return
    async with opened(home) as vault:
        assert await nearest(vault, [*TOKENS, 1]) == (None, 0)
        await written(vault)
        assert sum(vault.tally.evictions.values()) + vault._disk.database.n_damaged >= 1
        assert await nearest(vault, [*TOKENS, 1]) == (None, 0)
        vault.clear()
        offer(vault, TOKENS, 20)
        await written(vault)
        assert (await nearest(vault, [*TOKENS, 1]))[1] == 100
    change(home, "update states set file = ?", str(name))
    async with opened(home, limit=10) as vault:
        # Evicted for room, as the oldest: its row goes, and no file.
        offer(vault, [7, *TOKENS])
        vault._max_bytes = 1
        vault._ram._entries[0].n_bytes = 0
        await written(vault)
        assert len(vault) == 0
    assert precious.read_text() == "dear"


@pytest.mark.parametrize(
    "column",
    ["signature", "shared_tokens", "trimmable", "n_bytes", "digest", "used_s", "tokens"],
)
@pytest.mark.parametrize("value", ["text", b"\x00", -1, 1 << 62])
async def test_any_value_in_the_index_is_a_miss(tmp_path: Path, column: str, value: object) -> None:
    """Of any type in any column, meanwhile or before the start; new states are stored as ever."""
    async with opened(tmp_path) as vault:
        offer(vault, TOKENS, 20)
        await written(vault)
        change(tmp_path, f"update states set {column} = ?", value)
        stored, n = await nearest(vault, [*TOKENS, 1])
        if stored is not None:
            assert await restored(vault, stored, n) in (None, tuple(TOKENS[:n]))
    async with opened(tmp_path, limit=1000) as vault:
        stored, n = await nearest(vault, [*TOKENS, 1])
        if stored is not None:
            assert await restored(vault, stored, n) in (None, tuple(TOKENS[:n]))
        offer(vault, [7, *TOKENS], 20)
        await written(vault)
        assert (await nearest(vault, [7, *TOKENS, 1]))[1] == 101
        assert vault._disk.errors == 0
        assert 0 <= vault.n_bytes < 1 << 51 and len(vault) <= 2


async def test_states_of_another_model_are_left_alone(tmp_path: Path) -> None:
    """Neither found nor removed: who switches back finds them again."""
    async with opened(tmp_path) as vault:
        offer(vault, TOKENS, 20)
    async with opened(tmp_path, signature="another model") as vault:
        assert (await nearest(vault, TOKENS), len(vault)) == ((None, 0), 0)
        assert vault.clear() == 0
    async with opened(tmp_path) as vault:
        assert len(vault) == 1
        assert vault.clear() == 1
    assert on_disk(tmp_path) == [] and list((tmp_path / "states").iterdir()) == []


async def test_a_clear_also_drops_what_waits_or_is_being_written(tmp_path: Path) -> None:
    """It doesn't come back a moment later."""
    entered, go = threading.Event(), threading.Event()

    class SlowDisk(EchoStates):
        def save(self, state: State, path: Path) -> None:
            entered.set()
            assert go.wait(10)
            super().save(state, path)

    async with opened(tmp_path, states=SlowDisk()) as vault:
        offer(vault, TOKENS)
        vault.write_due(everything=True)
        await asyncio.to_thread(entered.wait, 10)
        offer(vault, [7, *TOKENS])
        vault.clear()
        go.set()
        await written(vault)
        assert len(vault) == 0
    assert on_disk(tmp_path) == [] and list((tmp_path / "states").iterdir()) == []


class FullDisk(EchoStates):
    """Nothing can be written."""

    def save(self, state: State, path: Path) -> None:
        raise OSError(28, "No space left on device")


async def test_a_full_disk_is_counted_and_done_without(tmp_path: Path) -> None:
    """The state is not kept, no draft is left, and reading still works."""
    async with opened(tmp_path, states=FullDisk()) as vault:
        offer(vault, TOKENS, 20)
        await written(vault)
        assert await vault._disk.read(lambda _: 1, 0) == 1
        assert (vault._disk.errors, len(vault), vault._ram.n_leases) == (1, 0, 0)
    assert list((tmp_path / "states").iterdir()) == []


async def test_writing_costs_the_same_for_each_state(tmp_path: Path) -> None:
    """Steps of the database a state don't grow with the states that are there already."""
    steps: list[int] = []
    system = list(range(64))
    async with opened(tmp_path, limit=1 << 30, ram_bytes=1 << 30) as vault:
        counter = Counter[str]()

        def step() -> None:
            counter["steps"] += 1

        vault._disk.write(lambda c: c.set_progress_handler(step, 10))
        for round_ in range(4):
            for n in range(50):
                offer(vault, [*system, round_, n, *range(70)])
            await written(vault)
            steps.append(counter.total() - sum(steps))
            vault._ram.clear()
        assert len(vault) == 200
    assert steps[0] > 0 and steps[-1] < 1.5 * steps[0], steps


async def test_a_lower_limit_shrinks_what_is_there(tmp_path: Path) -> None:
    """At the next start, the longest unused first; the files go too."""
    async with opened(tmp_path) as vault:
        for n in range(6):
            offer(vault, range(1000 * n, 1000 * n + 200))
            await written(vault)
        full = vault.n_bytes
    async with opened(tmp_path, full // 2) as vault:
        await written(vault)
        assert 0 < vault.n_bytes <= full // 2
        assert vault.tally.evictions == {"room": 6 - len(vault)}
        assert len([*(tmp_path / "states").iterdir()]) == len(vault)
