"""How much of each prompt of a conversation its predecessor has already been: no model is run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from mlxdeck.server.backends.local.kv.token_bytes import n_common, pack
from mlxdeck.server.backends.local.prompt.renderer import Renderer
from mlxdeck.server.backends.local.toolcalls.formats.registry import choose_format
from mlxdeck.server.canonicalize import SCHEMA_ORDER, canonical
from mlxdeck.server.chat import ChatRequest, Text, ToolUse
from mlxdeck.server.dialects.registry import DIALECTS
from tests.real import models_home

WINDOW_TOKENS = 1 << 20


@dataclass(frozen=True, slots=True)
class Turn:
    """One prompt of a conversation."""

    prompt_tokens: int
    reused_tokens: int
    old_tokens: int = 0
    """Those in front of the message that is new, the model's last answer included."""

    @property
    def share(self) -> float:
        """What part of the prompt was known."""
        return self.reused_tokens / self.prompt_tokens


def smollm2_renderer(off: Collection[str] = ()) -> Renderer:
    """SmolLM2's template and tokenizer, with a window that takes everything."""
    load_fast_blas()
    from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine

    engine = MlxEngine("smollm2", models_home(), prefill_chunk_tokens=512)
    engine.load(lambda _: None)
    tokenizer = engine.tokenizer
    writing = choose_format("auto", tokenizer.traits)
    return Renderer(tokenizer, writing, WINDOW_TOKENS, ordered=SCHEMA_ORDER not in off)


def conversation(bodies: Sequence[bytes]) -> list[ChatRequest]:
    """The turns of the main conversation: a client also asks other things beside it."""
    requests = [DIALECTS["anthropic"].decode(body, {}) for body in bodies]
    return [request for request in requests if len(request.tools) > 1]


def turns(renderer: Renderer, requests: Sequence[ChatRequest], off: Collection[str]) -> list[Turn]:
    """For each turn from the second on, what a state of the turn before would have saved."""
    found = []
    previous = b""
    for request in requests:
        clean, _ = canonical(request, off)
        tokens = renderer.render(clean).tokens
        if previous:
            old = replace(clean, messages=clean.messages[:-1])
            n_old = n_common(pack(tokens), pack(renderer.render(old).tokens))
            found.append(Turn(len(tokens), n_common(pack(tokens), previous), n_old))
        previous = pack(tokens)
    return found


def n_calls(request: ChatRequest) -> int:
    """Tool calls in a request's history."""
    blocks = [block for message in request.messages for block in message.blocks]
    assert all(block.text for block in blocks if isinstance(block, Text))
    return sum(isinstance(block, ToolUse) for block in blocks)
