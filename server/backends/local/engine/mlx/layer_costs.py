"""What the caches of a model's layers take, from the caches themselves. Engine thread.

A config tells of heads and widths, but each architecture has its own names for them, and some keep
something else. The caches know: one token is run through the model without computing anything, for
MLX knows the shape and type of an array before its values.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import ChunkedKVCache, RotatingKVCache, make_prompt_cache

from mlxdeck.server.backends.local.engine.kv_cost import STEP_TOKENS, KVCost, LayerCost
from mlxdeck.server.errors import one_line

log = logging.getLogger(__name__)

UNFIT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    RuntimeError,
)


def kv_cost(model: Any, max_kv_tokens: int | None, chunk_tokens: int) -> KVCost:
    """The cost of one sequence, of which `chunk_tokens` are read in a pass at most.

    Raises whatever the model's own code raises.
    """
    layers = make_prompt_cache(model, max_kv_tokens)
    # Nothing of it is evaluated.
    model(mx.zeros((1, 1), mx.int32), cache=layers)
    return KVCost.of(cost for layer in layers for cost in _costs(layer, chunk_tokens))


def known_cost(model: Any, max_kv_tokens: int | None, chunk_tokens: int) -> KVCost | None:
    """The same; None where the model's own code can't tell, which is told."""
    try:
        return kv_cost(model, max_kv_tokens, chunk_tokens)
    # Each architecture fails in its own manner; so will its requests, which are told.
    except UNFIT as error:
        log.warning("the size of the KV cache is not known: %s", one_line(error))
        return None


def n_logits(model: Any) -> int:
    """How many tokens a model can write; 0 where its own code can't tell."""
    try:
        # As above.
        return int(model(mx.zeros((1, 1), mx.int32), cache=make_prompt_cache(model)).shape[-1])
    # Then nothing is forced.
    except UNFIT:
        return 0


def _costs(layer: Any, chunk_tokens: int) -> Iterator[LayerCost]:
    if (inner := getattr(layer, "caches", None)) is not None:
        for each in inner:
            yield from _costs(each, chunk_tokens)
        return
    keys = getattr(layer, "keys", None)
    if keys is None:
        # Of a running state, or of nothing yet.
        yield LayerCost(fixed_bytes=int(layer.nbytes))
        return
    arrays: list[mx.array] = [each for _, each in tree_flatten((keys, layer.values))]
    token_bytes = sum(each.nbytes / each.shape[-2] for each in arrays)
    most_tokens = 0
    if isinstance(layer, RotatingKVCache):
        # While a prompt is read, a chunk stands beside the window.
        most_tokens = layer.max_size + chunk_tokens
    elif isinstance(layer, ChunkedKVCache):
        most_tokens = layer.chunk_size + chunk_tokens + STEP_TOKENS
    yield LayerCost(token_bytes, most_tokens)
