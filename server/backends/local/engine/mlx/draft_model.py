"""A small model that guesses what a large one writes next, for `--draft-model`. Engine thread.

It has a KV cache of its own for each sequence, of which wrong guesses are taken back. A long prompt
is read in parts, one a guess, so that no step waits for all of it. The caches of the last sequences
are kept for those that go on with the same tokens.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache
from numpy.typing import NDArray

from mlxdeck.server.backends.local.engine.api import Progress
from mlxdeck.server.backends.local.engine.kv_cost import KVCost
from mlxdeck.server.backends.local.engine.mlx.drafting import Drafter, NoGuess
from mlxdeck.server.backends.local.engine.mlx.kv_states import always_cuttable
from mlxdeck.server.backends.local.engine.mlx.layer_costs import kv_cost
from mlxdeck.server.backends.local.engine.models.loader import (
    hold,
    load_model,
    load_weights_again,
    resolve,
)
from mlxdeck.server.backends.local.engine.models.model_folder import fit_to_load
from mlxdeck.server.backends.local.engine.speculation.payoff import BUCKETS
from mlxdeck.server.backends.local.engine.speculation.prompt_lookup import MIN_MATCH, PromptLookup
from mlxdeck.server.errors import EngineFailed

READ_TOKENS = 512
"""How much of a prompt is read beside one step of the large model."""
MAX_SPARE = 2
"""Caches of ended sequences that are kept: those of an agent and of its sub-agent."""
FEW_TOKENS = 4
"""So many are read in about the time of one."""
LEAST_SHARE = 0.3
"""A guess ends before a token that the small model itself finds less likely."""
SURE_MATCH = BUCKETS[0]
"""From this length on, what stands in the conversation is a better guess, and a free one."""


def load_draft_model(
    name: str, models_dir: Path, progress: Progress, vocabulary: Mapping[str, int], model: Any
) -> DraftModel:
    """The model `name`, which guesses for `model`; both have to write the same tokens.

    Raises:
        EngineFailed: It can't be had, or can't guess for this model.
    """
    resolved = resolve(name, models_dir, progress)
    progress(f"loading {resolved.name}, which guesses")
    with fit_to_load(resolved.path) as folder:
        small, wrapper = load_model(resolved.name, folder.path)
    if not always_cuttable(make_prompt_cache(small)):
        raise EngineFailed(
            f"{resolved.name} can't take a wrong guess back: choose a draft model whose layers all"
            " have full attention"
        )
    if wrapper._tokenizer.get_vocab() != dict(vocabulary):
        raise EngineFailed(
            f"{resolved.name} can't guess for this model, as their tokens differ: choose a draft"
            " model of the same family"
        )
    share = weight_bytes(small) / max(1, weight_bytes(model))
    return DraftModel(resolved.path, small, len(vocabulary), share)


def weight_bytes(model: Any) -> int:
    """Bytes of all weights."""
    return sum(int(each.nbytes) for _, each in tree_flatten(model.parameters()))


class DraftModel:
    """The small model, and what it has read."""

    def __init__(self, path: Path, model: Any, n_tokens: int, weight_share: float) -> None:
        """`n_tokens` are those of the vocabulary: logits may have more columns.

        `weight_share` is the size of its weights, of those of the large model.
        """
        self.weight_share = weight_share
        self._let_go = hold(path, self)
        self._path = path
        self._n_tokens = n_tokens
        self._read: list[_ReadTokens] = []
        self._took_s = deque[float](maxlen=9)
        self._model = model

    def cost(self) -> KVCost:
        """What its cache of one sequence takes."""
        return kv_cost(self._model, None, READ_TOKENS)

    @property
    def token_s(self) -> float | None:
        """What a guessed token takes; None before the first one."""
        return statistics.median(self._took_s) if self._took_s else None

    def read_of(self, prompt: Sequence[int], user: ModelDrafter) -> _ReadTokens:
        """A cache for a new sequence: of those that nobody uses, what begins most like it."""
        free = [each for each in self._read if each.is_free]
        wanted = np.array(prompt)
        best = max(free, key=lambda each: _in_common(np.array(each.tokens), wanted), default=None)
        if best is None or not _in_common(np.array(best.tokens), wanted):
            best = _ReadTokens(make_prompt_cache(self._model))
        spare = [each for each in free if each is not best][-MAX_SPARE:]
        used = [each for each in self._read if not each.is_free]
        best.take(user)
        self._read = [*spare, *used, best]
        return best

    def guess(self, read: _ReadTokens, tokens: list[int], most_tokens: int) -> list[int]:
        """What the small model would write behind `tokens`; nothing while there is more to read."""
        behind = read.behind(tokens)
        if len(behind) > READ_TOKENS:
            self._logits(read, behind[:READ_TOKENS])
            return []
        began_s, found = time.perf_counter(), list[int]()
        n_read = len(behind)
        while len(found) < most_tokens:
            logits = self._logits(read, behind)
            token, share = _likeliest(logits[: self._n_tokens])
            if share < LEAST_SHARE:
                break
            found.append(token)
            behind = [token]
        if n_read <= FEW_TOKENS and found:
            self._took_s.append((time.perf_counter() - began_s) / len(found))
        return found

    def _logits(self, read: _ReadTokens, tokens: list[int]) -> mx.array:
        logits: mx.array = self._model(mx.array([tokens]), cache=read.cache)[0, -1]
        read.tokens.extend(tokens)
        mx.eval(logits, [each.state for each in read.cache])
        return logits

    def forget(self) -> None:
        """Drop what it has read."""
        self._read = []

    def unload(self) -> None:
        """Free its weights too, until `reload`."""
        self.forget()
        self._model = None
        self._let_go()

    def reload(self) -> Generator[None]:
        """Load the weights again, in steps."""
        self._let_go = hold(self._path, self)
        with fit_to_load(self._path) as folder:
            self._model = yield from load_weights_again(folder.path)


class _ReadTokens:
    """A cache and the tokens in it."""

    def __init__(self, cache: list[Any]) -> None:
        self.cache = cache
        self.tokens: list[int] = []
        self._user: weakref.ref[ModelDrafter] | None = None
        self._n_sure = 0
        """How many of them are known to be the sequence's."""

    @property
    def is_free(self) -> bool:
        """Whether its sequence has ended."""
        return self._user is None or self._user() is None

    def take(self, user: ModelDrafter) -> None:
        """Belongs to this one's sequence from now on."""
        self._user, self._n_sure = weakref.ref(user), 0

    def behind(self, tokens: list[int]) -> list[int]:
        """Take back what is not of these tokens; return those that are to be read, at least one."""
        n = self._n_sure
        n += _in_common(np.array(self.tokens[n:]), np.array(tokens[n:]))
        n = min(n, len(tokens) - 1)
        if n < len(self.tokens):
            trim_prompt_cache(self.cache, len(self.tokens) - n)
            del self.tokens[n:]
        self._n_sure = n
        return tokens[n:]


class ModelDrafter:
    """Guesses for one sequence: by what stands in it, else by the small model."""

    def __init__(self, model: DraftModel, prompt: Sequence[int], lookup: PromptLookup | None):
        self._model = model
        self._lookup = lookup
        self._tokens = list(prompt)
        self._read = model.read_of(prompt, self)

    @property
    def _is_sure(self) -> bool:
        return self._lookup is not None and self._lookup.length >= SURE_MATCH

    @property
    def length(self) -> int:
        """The length of the match; the small model speaks for as much as the shortest one."""
        return self._lookup.length if self._lookup and self._is_sure else MIN_MATCH

    def token_share(self, pass_s: float | None) -> float:
        """What one guessed token costs, of a pass of the large model that takes so long."""
        if self._is_sure:
            return 0.0
        token_s = self._model.token_s
        return token_s / pass_s if token_s and pass_s else self._model.weight_share

    def index(self) -> None:
        """Get ready, while the large model runs."""
        if self._lookup:
            self._lookup.index()

    def feed(self, token: int) -> None:
        """Take the next token of the answer."""
        self._tokens.append(token)
        if self._lookup:
            self._lookup.feed(token)

    def draft(self, most_tokens: int) -> list[int]:
        """Guess."""
        if self._lookup and self._is_sure:
            return self._lookup.draft(most_tokens)
        return self._model.guess(self._read, self._tokens, most_tokens) if most_tokens > 0 else []


def drafter(tokens: Sequence[int], model: DraftModel | None, *, prompt_lookup: bool) -> Drafter:
    """What guesses for a new sequence."""
    lookup = PromptLookup(tokens) if prompt_lookup else None
    return ModelDrafter(model, tokens, lookup) if model else lookup or NoGuess()


def _in_common(some: NDArray[np.int64], others: NDArray[np.int64]) -> int:
    """How many tokens both begin with."""
    n = min(len(some), len(others))
    differ = np.flatnonzero(some[:n] != others[:n])
    return int(differ[0]) if len(differ) else n


def _likeliest(logits: mx.array) -> tuple[int, float]:
    """The likeliest token, and how likely it is."""
    token = mx.argmax(logits)
    share = mx.exp(logits[token] - mx.logsumexp(logits)).astype(mx.float32)
    mx.eval(token, share)
    return int(np.array(token)), float(np.array(share))
