"""The requests of a recording, prepared to be played with any caches. Pure.

A recording lacks the tokens of answers: a state is taken to go on like the next turn of its
conversation begins, as far as that was seen to match.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from mlxdeck.telemetry.analyze.played_blocks import Places
from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.analyze.token_costs import rates, usual_rate
from mlxdeck.telemetry.read.prompt_paths import SUB_TOKENS, RecordedPrompt, RecordedTraffic

MOST_TAIL_TOKENS = 64
"""Of what a template writes in front of an answer, and leaves out of a turn that is over."""
_OWN, MAX_BLOCKS = -(10**12), 10**6
"""Numbers of blocks that only one state has."""
MAX_PLAYED_TOKENS = 1 << 28
"""Of all prompts: each setting takes five seconds for so many. The last ones are played."""
NEXT_TURNS = 8
"""Requests of a conversation among which the one is that continues an answer."""
_LATER = float("inf")


@dataclass(slots=True)
class PlayedPrompt:
    """A request, prepared to be played any number of times."""

    told: RecordedPrompt
    path: list[int]
    places: Places
    tail: int
    """Up to where the next turn begins like what is kept."""
    kept: list[int]
    """The path of what is kept of it: the prompt, and its answer as far as a later one has it."""
    kept_tokens: int
    read_s: float
    """Seconds a prompt token."""
    write_s: float
    """Seconds to write its answer."""
    repeatable: bool
    """Whether its answer may be repeated."""


def prepared(traffic: RecordedTraffic, at_most: int) -> list[PlayedPrompt]:
    """The last requests of which something is known, in the order in which caches were asked."""
    prompts = _last([each for each in traffic.prompts if each.n_tokens][-at_most:])
    _fill_in(prompts)
    own_s = _rates(prompts)
    # Nothing is known of the time if nothing was timed; all else can be played.
    usual_s = float(np.nan_to_num(usual_rate(own_s)))
    write_s = {each.key: each.decode_s for each in prompts if each.key and each.decode_s}
    refused = _refused(prompts)
    kept = _kept(prompts)
    found = []
    ends: dict[object, deque[int]] = defaultdict(lambda: deque(maxlen=NEXT_TURNS))
    for each, left, read_s in zip(prompts, kept, own_s.tolist(), strict=True):
        found.append(
            PlayedPrompt(
                told=each,
                path=each.path,
                # Prompts part where a message begins, or where the template ended the last turn.
                places=Places(
                    sorted({*each.boundaries, *ends[each.model, each.conversation]}), each.parted
                ),
                tail=left.n_common,
                kept=left.path,
                kept_tokens=left.n_tokens,
                read_s=usual_s if math.isnan(read_s) else read_s,
                write_s=each.decode_s or write_s.get(each.key, 0.0),
                repeatable=each.outcome == "ok" and each.key not in refused,
            )
        )
        ends[each.model, each.conversation].append(left.n_common)
    return found


def _last(prompts: list[RecordedPrompt]) -> list[RecordedPrompt]:
    """As many of the last ones as can be played."""
    sums = accumulate(each.n_tokens + each.output_tokens for each in reversed(prompts))
    n = sum(n_tokens <= MAX_PLAYED_TOKENS for n_tokens in sums)
    return prompts[len(prompts) - n :]


def _rates(prompts: Sequence[RecordedPrompt]) -> Array:
    """Seconds that a token of each took to read; NaN where it is not told."""
    is_told = [each.has_prompt and each.has_token for each in prompts]
    n_new = np.array([float(each.n_tokens - each.matched) for each in prompts])
    found = rates(np.array([each.prefill_s for each in prompts]), n_new)
    return np.where(is_told, found, math.nan)


def _refused(prompts: Sequence[RecordedPrompt]) -> set[str]:
    """Keys of answers that the server did not repeat, though it was asked again soon."""
    ended: dict[tuple[int, str], float] = {}
    found = set[str]()
    for each in prompts:
        if not each.key or each.exact_tier:
            continue
        was_made = ended.get((each.server, each.key), _LATER) < each.at_ts
        if each.exact_reason == "not_kept" or (was_made and each.exact_reason in ("", "cold")):
            found.add(each.key)
        if each.outcome == "ok":
            ended[each.server, each.key] = each.end_ts
    return found


def _fill_in(prompts: Sequence[RecordedPrompt]) -> None:
    """The paths of prompts whose whole answer was known: those of the request that was answered."""
    known = {each.key: each for each in prompts if each.key and each.has_prompt}
    for each in prompts:
        if not each.has_prompt and (same := known.get(each.key)):
            each.path, each.boundaries = same.path, same.boundaries
            each.shared_tokens = same.shared_tokens


@dataclass(frozen=True, slots=True)
class KeptPath:
    """The state that a request leaves behind."""

    path: list[int]
    n_tokens: int
    n_common: int
    """Up to where the next turn begins alike."""


def _kept(prompts: Sequence[RecordedPrompt]) -> list[KeptPath]:
    """The state that each request leaves behind."""
    turns: dict[object, list[int]] = defaultdict(list)
    for place, each in enumerate(prompts):
        if each.path:
            turns[each.model, each.conversation].append(place)
    following: dict[int, RecordedPrompt] = {}
    for places in turns.values():
        for at, place in enumerate(places):
            for later in places[at + 1 : at + 1 + NEXT_TURNS]:
                if _continues(prompts[later], prompts[place]):
                    following[place] = prompts[later]
                    break
    gaps = [
        later.matched - prompts[place].n_tokens
        for place, later in following.items()
        if not later.miss_reason and later.matched > prompts[place].n_tokens - MOST_TAIL_TOKENS
    ]
    # Of most turns all is known, or all but what the template writes in front of an answer.
    tail = min(0, int(statistics.median(gaps))) if gaps else 0
    return [
        _state_of(place, each, following.get(place), tail) for place, each in enumerate(prompts)
    ]


def _continues(later: RecordedPrompt, each: RecordedPrompt) -> bool:
    n = len(each.path)
    is_longer = later.has_prompt and later.n_tokens > each.n_tokens and later.at_ts >= each.end_ts
    return is_longer and bool(n) and len(later.path) >= n and later.path[n - 1] == each.path[-1]


def _state_of(
    place: int, each: RecordedPrompt, later: RecordedPrompt | None, tail: int
) -> KeptPath:
    """What a request leaves behind, of which the next turn begins like the first `n_common`."""
    n_out = each.output_tokens if each.has_token else 0
    gap = tail or n_out
    if later is not None and not later.miss_reason:
        gap = max(later.matched - each.n_tokens, -MOST_TAIL_TOKENS)
    n_tokens = each.n_tokens + n_out
    n_common = each.n_tokens + min(gap, n_out)
    path = later.path if later is not None else each.path
    shared = path[: n_common // SUB_TOKENS]
    # What goes on in another way is found by no prompt: it only takes room.
    own = range(len(shared), -(-n_tokens // SUB_TOKENS)) if n_common < n_tokens else ()
    return KeptPath([*shared, *(_OWN - place * MAX_BLOCKS - n for n in own)], n_tokens, n_common)
