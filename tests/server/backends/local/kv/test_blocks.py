"""The store of blocks against a plain model of it, whatever happens in any order."""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mlxdeck.server.backends.local.engine.echo import TOKEN_BYTES, EchoStates
from mlxdeck.server.backends.local.kv import run_file
from mlxdeck.server.backends.local.kv.blocks import BlockTree, in_ram
from mlxdeck.server.backends.local.kv.disk_prefix_cache import FOLDER, DiskPrefixCache
from mlxdeck.server.backends.local.kv.eviction_policy import POLICIES
from mlxdeck.server.backends.local.kv.integrity import check_integrity, logical_bytes
from mlxdeck.server.backends.local.kv.leases import Lease
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import pack, unpack
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.cache.sqlite_index import SqliteIndex
from tests.server.backends.local.kv.states import KINDS

BLOCK_TOKENS = 4
UNLIMITED = 1 << 30


def in_blocks(tokens: Sequence[int]) -> set[tuple[int, ...]]:
    """The full blocks of a state, and its tail, each with all before it."""
    ends = [*range(BLOCK_TOKENS, len(tokens), BLOCK_TOKENS), len(tokens)]
    return {tuple(tokens[:end]) for end in ends}


class Unlimited(RuleBasedStateMachine):
    """A store that gives nothing up knows all that was ever stored, each block once."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = BlockTree(block_tokens=BLOCK_TOKENS)
        self.cache = PrefixCache(EchoStates(), UNLIMITED, tree=self.tree)
        self.stored: set[tuple[int, ...]] = set()

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=14))
    def store(self, tokens: list[int]) -> None:
        """A sequence has ended."""
        self.cache.add(pack(tokens), tuple(tokens), 0)
        self.stored.add(tuple(tokens))

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=16))
    def ask(self, tokens: list[int]) -> None:
        """A prompt gets as much as it shares with any state, but its last token."""
        lease = self.cache.lease(tokens)
        most = 0
        for state in self.stored:
            n = 0
            while n < min(len(state), len(tokens) - 1) and state[n] == tokens[n]:
                n += 1
            most = max(most, n)
        assert lease.n_cached == most
        assert (lease.state or ()) == tuple(tokens[:most])
        lease.release()

    @invariant()
    def each_block_is_there_once(self) -> None:
        """Bytes are those of the distinct blocks; a tail is in a longer one, if there is one."""
        blocks = set[tuple[int, ...]]().union(*map(in_blocks, self.stored))
        whole = {b for b in blocks if len(b) % BLOCK_TOKENS == 0}
        tails = blocks - whole
        start = {tail: tail[: len(tail) // BLOCK_TOKENS * BLOCK_TOKENS] for tail in tails}
        held = {
            tail
            for tail in tails
            if not any(
                other[: len(tail)] == tail and len(start[tail]) + BLOCK_TOKENS >= len(other)
                for other in blocks - {tail}
            )
        }
        n_tokens = sum(len(tail) - len(start[tail]) for tail in held) + BLOCK_TOKENS * len(whole)
        assert self.cache.n_bytes == TOKEN_BYTES * n_tokens
        assert check_integrity(self.tree, self.cache.leases) == []


class Limited(RuleBasedStateMachine):
    """With a limit, a disk and leases that are held: what is leased is right, and all adds up."""

    kind = "plain"
    policy = "lru"
    limit_tokens = 40
    disk_bytes = 600

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.leases: list[tuple[Lease, tuple[int, ...]]] = []
        self.open()

    def open(self) -> None:
        """Start, with what is on disk."""
        states = KINDS[self.kind]()
        self.tree = BlockTree("model", BLOCK_TOKENS)
        policy = POLICIES[self.policy]()
        self.ram = PrefixCache(states, TOKEN_BYTES * self.limit_tokens, policy, self.tree)
        self.disk = DiskIO(SqliteIndex(Path(self.folder.name)))
        home = Path(self.folder.name)
        self.on_disk = DiskPrefixCache(self.disk, home, states, self.ram, "model", self.disk_bytes)
        self.settle()

    def settle(self) -> None:
        """Wait for the writing thread."""
        self.disk.write(lambda _: None).result()

    def teardown(self) -> None:
        """Nothing is left open."""
        self.disk.close()
        self.folder.cleanup()

    tokens = st.lists(st.integers(0, 1), min_size=2, max_size=20)

    @rule(tokens=tokens, shared=st.integers(0, 20), store=st.booleans())
    def add(self, tokens: list[int], shared: int, store: bool) -> None:
        """A sequence has ended."""
        self.ram.add(pack(tokens), tuple(tokens), min(shared, len(tokens)), store=store)

    @rule(tokens=tokens)
    def lease(self, tokens: list[int]) -> None:
        """A prompt comes; what it gets is the state of its own first tokens."""
        lease = self.ram.lease(tokens)
        assert lease.n_cached < len(tokens)
        assert (lease.state or ()) == tuple(tokens[: lease.n_cached])
        if lease.n_cached:
            self.leases.append((lease, tuple(tokens[: lease.n_cached])))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """A sequence ends, or is cancelled; some are released twice."""
        if self.leases:
            lease, _ = data.draw(st.sampled_from(self.leases))
            lease.release()

    @rule(data=st.data(), n=st.integers(1, 10))
    def go_on(self, data: st.DataObject, n: int) -> None:
        """A sequence ends its lease, and leaves what it began with and more."""
        if self.leases:
            lease, tokens = data.draw(st.sampled_from(self.leases))
            lease.release()
            longer = [*tokens, *range(n)]
            self.ram.add(pack(longer), tuple(longer), 0, store=True)

    @rule(everything=st.booleans())
    def write(self, everything: bool) -> None:
        """What waits is written."""
        self.on_disk.write_due(everything=everything)
        self.settle()

    @rule(tokens=tokens)
    def restore(self, tokens: list[int]) -> None:
        """What only the disk knows comes back, or as much as there is room for."""
        missing = self.on_disk._missing(pack(tokens[:-1]))
        if missing is None:
            return
        hold = self.ram.hold(missing.path)
        for part in missing.parts:
            assert part.place is not None
            (data,) = run_file_read(self.on_disk, part.place)
            made = self.on_disk._states.restore(part.place.about, data)
            if not self.ram.put(part, made):
                break
            if part in missing.path:
                hold.move(part)  # type: ignore[arg-type]
        hold.release()

    @rule(tokens=tokens)
    def spoil(self, tokens: list[int]) -> None:
        """Nothing could be drawn from what a prompt began with."""
        n = self.ram.known(pack(tokens))
        if n:
            self.ram.spoil(pack(tokens[:n]))
            self.on_disk.spoil(pack(tokens[:n]))
            self.settle()
            assert self.ram.known(pack([*tokens[:n], 7])) < n

    @rule(n_bytes=st.integers(0, 200))
    def give_way(self, n_bytes: int) -> None:
        """A sequence needs room."""
        before = self.ram.n_bytes
        assert before - self.ram.n_bytes == 0
        assert self.ram.give_way(n_bytes) == before - self.ram.n_bytes

    @rule()
    def clear(self) -> None:
        """The user empties RAM: nothing is left but what is leased."""
        self.ram.clear()
        held = [lease.block for lease, _ in self.leases if lease.block is not None]
        needed = {id(block) for each in held for block in each.path()}
        left = [block for block in self.tree.blocks() if in_ram(block)]
        assert all(id(block) in needed for block in left)

    @rule()
    def clear_disk(self) -> None:
        """The user empties the disk."""
        self.on_disk.clear()
        self.settle()
        assert list((Path(self.folder.name) / FOLDER).iterdir()) == []

    @rule()
    def restart(self) -> None:
        """Everything in RAM is gone, and what was written is there."""
        self.leases.clear()
        self.disk.close()
        self.open()

    @invariant()
    def it_adds_up(self) -> None:
        """Bytes, references, leases and files; and the limits hold."""
        assert check_integrity(self.tree, self.ram.leases) == []
        assert self.ram.n_bytes <= self.ram.max_bytes
        assert logical_bytes(self.tree) >= self.ram.n_bytes or self.kind != "plain"
        folder = Path(self.folder.name) / FOLDER
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        assert sum(sizes.values()) == self.on_disk.n_bytes <= self.disk_bytes
        assert self.on_disk._on_disk._files.keys() == sizes.keys()

    @invariant()
    def leases_hold(self) -> None:
        """What is leased is still what it was."""
        for lease, tokens in self.leases:
            if lease.block is not None:
                path = lease.block.path()
                assert tuple(unpack(b"".join(b.tokens for b in path)))[: len(tokens)] == tokens
                assert all(in_ram(block) for block in path) or lost(lease)


def lost(lease: Lease) -> bool:
    """Whether what was leased has been dropped, as nothing could be drawn from it."""
    assert lease.block is not None
    return not in_ram(lease.block.path()[0])


def run_file_read(stored: DiskPrefixCache, place: Any) -> list[bytes]:
    """The bytes of a part."""
    return run_file.read(stored._folder, [place])


class Adaptive(Limited):
    """The same under the other policy."""

    policy = "adaptive"


class RecurrentLimited(Limited):
    """The same for a model that can't forget."""

    kind = "recurrent"


class MixedLimited(Limited):
    """The same for one of which some layers can."""

    kind = "mixed"


class Cut(Unlimited):
    """System prompts end anywhere, also at several places of what begins alike."""

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=14), shared=st.integers(0, 14))
    def store_a_conversation(self, tokens: list[int], shared: int) -> None:
        """A sequence with a system prompt has ended."""
        self.cache.add(pack(tokens), tuple(tokens), min(shared, len(tokens)))
        self.stored.add(tuple(tokens))

    @invariant()
    def each_block_is_there_once(self) -> None:
        """It adds up; what is held once and what more often depends on where they end."""
        assert check_integrity(self.tree, self.cache.leases) == []


TestUnlimited = Unlimited.TestCase
TestCut = Cut.TestCase
TestUnlimited.settings = settings(max_examples=60, stateful_step_count=25)
TestCut.settings = TestUnlimited.settings
TestLimited = Limited.TestCase
TestAdaptive = Adaptive.TestCase
TestRecurrent = RecurrentLimited.TestCase
TestMixed = MixedLimited.TestCase
for machine in (TestLimited, TestAdaptive, TestRecurrent, TestMixed):
    machine.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
del machine


class Crowd:
    """One thread adds, clears and gives way, as the engine's does; others lease, write, look."""

    def __init__(self, folder: Path, kind: str, seed: int) -> None:
        states = KINDS[kind]()
        self.tree = BlockTree("model", BLOCK_TOKENS)
        self.ram = PrefixCache(states, TOKEN_BYTES * 200, tree=self.tree)
        self.disk = DiskIO(SqliteIndex(folder))
        self.on_disk = DiskPrefixCache(self.disk, folder, states, self.ram, "model", 4_000)
        self.seed = seed
        self.wrong: list[str] = []
        self.is_over = threading.Event()

    def engine(self) -> None:
        """What only its thread does."""
        chance = random.Random(self.seed)
        try:
            for _ in range(300):
                tokens = prompt(chance)
                self.ram.add(pack(tokens), tuple(tokens), chance.randrange(9), store=True)
                if chance.random() < 0.05:
                    self.ram.give_way(chance.randrange(400))
                if chance.random() < 0.02:
                    self.ram.clear()
        finally:
            self.is_over.set()

    def client(self, n: int) -> None:
        """Ask, hold for a while, and let go."""
        chance = random.Random(self.seed + 100 + n)
        held: list[Lease] = []
        while not self.is_over.is_set():
            tokens = prompt(chance)
            lease = self.ram.lease(tokens)
            if (lease.state or ()) != tuple(tokens[: lease.n_cached]):
                self.wrong.append(f"{lease.state} instead of {tokens[: lease.n_cached]}")
            held.append(lease)
            if len(held) > 3:
                held.pop(chance.randrange(len(held))).release()
        for each in held:
            each.release()

    def look(self) -> None:
        """All adds up at any moment."""
        while not self.is_over.wait(0.001):
            self.wrong += check_integrity(self.tree, self.ram.leases)
            if self.ram.n_bytes > self.ram.max_bytes:
                self.wrong.append(f"{self.ram.n_bytes} bytes")
            self.on_disk.write_due(everything=True)

    def run(self) -> None:
        """All at once."""
        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(self.client, n) for n in range(2)]
            for each in (pool.submit(self.engine), *clients, pool.submit(self.look)):
                each.result()
        self.disk.close()


def prompt(chance: random.Random) -> list[int]:
    """So short that many begin alike."""
    return [chance.randrange(2) for _ in range(chance.randrange(2, 40))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_it_adds_up_from_several_threads(tmp_path: Path, kind: str, seed: int) -> None:
    """Whoever comes between, bytes, references and leases are right, and so is what is leased."""
    crowd = Crowd(tmp_path, kind, seed)
    crowd.run()
    assert crowd.wrong == []
    assert check_integrity(crowd.tree, crowd.ram.leases) == [] and crowd.ram.n_leases == 0
