"""What 8 bits at rest cost in quality: the same answers, read with an exact and a quantised prefix.

The model is told the right answer token by token (teacher forcing), so that one difference doesn't
lead to others. Compared are its most likely token and its distribution at each place.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas

load_fast_blas()

import mlx.core as mx  # noqa: E402
from mlx_lm.models.cache import CacheList, KVCache, make_prompt_cache  # noqa: E402

from mlxdeck.server.backends.local.engine.mlx.kv_precision import GROUP_SIZES, in_eight_bits  # noqa: E402
from mlxdeck.server.backends.local.engine.models.loader import load_weights, resolve  # noqa: E402
from tests.bench.figures import figure  # noqa: E402
from tests.bench.load import heading  # noqa: E402
from tests.corpora.edits import edits  # noqa: E402
from tests.real import models_home  # noqa: E402

PREFIX_TOKENS = 96
JUDGED_TOKENS = 32
PROMPTS = 200
ROWS = 20


@dataclass(slots=True)
class Judged:
    """Sums over tokens."""

    n_tokens: int = 0
    n_same: int = 0
    """Those whose most likely token is the same."""
    kl_nats: float = 0.0
    worst_nats: float = 0.0
    exact_bytes: int = 0
    quantized_bytes: int = 0

    def add(self, other: Judged) -> None:
        """Take in what was judged elsewhere."""
        self.n_tokens += other.n_tokens
        self.n_same += other.n_same
        self.kl_nats += other.kl_nats
        self.worst_nats = max(self.worst_nats, other.worst_nats)
        self.exact_bytes += other.exact_bytes
        self.quantized_bytes += other.quantized_bytes

    @property
    def agreement(self) -> float:
        """The share of tokens where both would write the same."""
        return self.n_same / self.n_tokens

    @property
    def kl(self) -> float:
        """Of a token, from the exact distribution, in nats."""
        return self.kl_nats / self.n_tokens


def judge(
    model: Any, rows: mx.array, prefix_tokens: int, sizes: Sequence[int] = (0,)
) -> dict[int, Judged]:
    """Compare what follows a prefix, exact and quantised, by size of the groups (0: the usual one).

    `rows` has shape [rows, tokens]. What a model keeps beside keys and values stays exact.
    """
    cache = make_prompt_cache(model)
    mx.eval(model(rows[:, :prefix_tokens], cache=cache), [each.state for each in cache])
    found = {size: Judged() for size in sizes}
    stored = {size: [_at_rest(each, size, found[size]) for each in cache] for size in sizes}
    rest = rows[:, prefix_tokens:]
    exact = _log_probabilities(model, rest, cache)
    for size, judged in found.items():
        other = _log_probabilities(model, rest, stored[size])
        kl = mx.sum(mx.exp(exact) * (exact - other), axis=-1)
        same = mx.argmax(exact, axis=-1) == mx.argmax(other, axis=-1)
        mx.eval(kl, same)
        judged.n_tokens, judged.n_same = same.size, _number(mx.sum(same))
        judged.kl_nats, judged.worst_nats = _number(mx.sum(kl)), _number(mx.max(kl))
    return found


def _at_rest(layer: Any, group_size: int, judged: Judged) -> Any:
    """A layer as it is once it was at rest."""
    if isinstance(layer, CacheList):
        return CacheList(*(_at_rest(each, group_size, judged) for each in layer.caches))
    if not isinstance(layer, KVCache):
        return copy.deepcopy(layer)
    read = KVCache()
    read.offset = layer.offset
    read.keys, read.values = (_stored(each, group_size, judged) for each in layer.state[:2])
    return read


def _stored(array: mx.array, group_size: int, judged: Judged) -> mx.array:
    found = in_eight_bits(array, group_size)
    judged.exact_bytes += array.nbytes
    judged.quantized_bytes += found.nbytes if found else array.nbytes
    return found.read() if found else array


def _number(array: mx.array) -> Any:
    return array.item()


def _log_probabilities(model: Any, tokens: mx.array, cache: Any) -> mx.array:
    logits: mx.array = model(tokens, cache=cache).astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def sequences(tokenizer: Any, n_tokens: int, n: int) -> Iterator[list[int]]:
    """Conversations about the files of a corpus, each cut to the same length."""
    for each in itertools.islice(edits(), n):
        asked = f"{each.facts['path']}:\n\n{each.facts['before']}\n\nImprove it."
        tokens = tokenizer.apply_chat_template(
            [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": each.facts["after"]},
            ]
        )
        if len(tokens) >= n_tokens:
            yield tokens[:n_tokens]


def quality(
    prefix_tokens: int = PREFIX_TOKENS, n: int = PROMPTS, sizes: Sequence[int] = GROUP_SIZES[:1]
) -> dict[int, Judged]:
    """By size of the groups."""
    model, tokenizer, _ = load_weights(resolve("smollm2", models_home(), lambda _: None).path)
    found = {size: Judged() for size in sizes}
    rows = list(sequences(tokenizer, prefix_tokens + JUDGED_TOKENS, n))
    for at in range(0, len(rows), ROWS):
        part = judge(model, mx.array(rows[at : at + ROWS]), prefix_tokens, sizes)
        for size, judged in part.items():
            found[size].add(judged)
    return found


def eight_bits() -> None:
    """Quality and size, with the usual groups."""
    heading(f"8 bits at rest: SmolLM2, {PROMPTS} prompts, the next {JUDGED_TOKENS} tokens of each")
    print(f"{'groups of':<12}{'top-1 equal':>14}{'KL, nats a token':>20}{'worst':>9}{'bytes':>9}")
    found = quality()
    for size, each in found.items():
        ratio = each.quantized_bytes / each.exact_bytes
        print(
            f"{size:<12}{each.agreement:>14.2%}{each.kl:>20.6f}{each.worst_nats:>9.4f}{ratio:>9.3f}"
        )
    usual = found[GROUP_SIZES[0]]
    figure("eight_top1", usual.agreement)
    figure("eight_kl", 1000 * usual.kl)
