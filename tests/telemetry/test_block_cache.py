"""The cache of a replay, and the digests that it is played with."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.backends.local.kv.prompt_digests import (
    BLOCK_TOKENS,
    PromptDigests,
    machine_key,
)
from mlxdeck.server.backends.local.kv.token_bytes import n_common, pack
from mlxdeck.server.observe.lookup_event import lookup_event
from mlxdeck.server.request_facts import LookedUp
from mlxdeck.telemetry.analyze.block_cache import BlockCache
from mlxdeck.telemetry.read.prompt_paths import SUB_TOKENS, traffic_of
from mlxdeck.telemetry.schema import events as t
from tests.streams import Stream

PROMPTS = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=12).map(
        lambda parts: [token for part in parts for token in [part] * 20]
    ),
    min_size=1,
    max_size=12,
)
"""Prompts of up to 240 tokens, which often begin alike."""


def n_same(one: list[int], other: list[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
                min(len(one), len(other)))  # fmt: skip


@given(PROMPTS)
def test_paths_are_equal_as_far_as_whole_blocks_of_tokens_are(prompts: list[list[int]]) -> None:
    """Written as new digests behind those that are known, and read back from the lines."""
    digests, stream, lines = PromptDigests(b"k" * 32), Stream(), []
    for number, tokens in enumerate(prompts):
        name = f"req_{number}"
        facts = LookedUp("prefix", prompt_tokens=len(tokens), blocks=digests.of(pack(tokens)))
        lines += [
            stream.line(t.RequestStart(), number, name),
            stream.line(lookup_event(facts), number, name),
            stream.line(t.RequestEnd(input_tokens=len(tokens)), number + 0.5, name),
        ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recording.jsonl"
        file.write_bytes(b"".join(lines))
        paths = [each.path for each in traffic_of([file]).prompts]
    for one, first in zip(prompts, paths, strict=True):
        assert len(first) == len(one) // BLOCK_TOKENS
        for other, second in zip(prompts, paths, strict=True):
            same = n_common(pack(one), pack(other))
            assert n_same(first, second) == same // BLOCK_TOKENS
    # Digests are told once: later prompts only refer to them.
    told = sum(len(each.split(b'blocks":"')[1].split(b'"')[0]) for each in lines
               if b'prompt.blocks":"' in each)  # fmt: skip
    n_distinct = len({number for path_ in paths for number in path_})
    assert told <= 8 * n_distinct


def test_digests_can_only_be_compared_on_one_machine(tmp_path: Path) -> None:
    """The key is made once, for its owner alone; another one gives other digests."""
    tokens = pack(range(64))
    mine, again = machine_key(tmp_path / "a"), machine_key(tmp_path / "a")
    other = machine_key(tmp_path / "b")
    assert mine == again != other
    assert (tmp_path / "a" / "digests.key").stat().st_mode & 0o777 == 0o600
    assert PromptDigests(mine).of(tokens) == PromptDigests(again).of(tokens)
    assert PromptDigests(mine).of(tokens).new != PromptDigests(other).of(tokens).new


@given(st.integers(0, 10_000), st.integers(0, 3_000))
def test_a_cache_keeps_to_its_limit_and_knows_what_it_kept(seed: int, limit: int) -> None:
    """Whatever is added; what was added last is known, as far as there is room for it."""
    chance = random.Random(seed)
    cache = BlockCache(limit, "adaptive" if seed % 2 else "lru")
    paths = [[1, 2, 3], [1, 2, 9]]
    for _ in range(12):
        begin = chance.choice(paths)
        path = begin[: chance.randrange(len(begin) + 1)]
        path = [*path, *(chance.randrange(100, 10**9) for _ in range(chance.randrange(1, 30)))]
        paths.append(path)
        n = len(path) * SUB_TOKENS + chance.randrange(SUB_TOKENS)
        cache.add(path, n, chance.randrange(n))
        assert 0 <= cache.held_bytes <= limit
        known = cache.find(path, n).n_tokens
        assert known >= min(n, limit) // SUB_TOKENS * SUB_TOKENS
        assert known <= n


def test_states_that_begin_alike_share_their_blocks() -> None:
    """Ten conversations over one system prompt hold it once."""
    cache, system = BlockCache(10**6), list(range(1, 81))
    for number in range(10):
        tail = [1000 * (number + 1) + place for place in range(8)]
        cache.add([*system, *tail], (len(system) + 8) * SUB_TOKENS, len(system) * SUB_TOKENS)
    assert cache.held_bytes == (80 + 10 * 8) * SUB_TOKENS
