"""Whether what has been computed is used again, and says the same as if it had not been."""

from __future__ import annotations

import json
import time
from typing import Any

from mlx_lm.utils import load_tokenizer

from mlxdeck.server.backends.local.engine.mlx.tokenizer import MlxTokenizer
from mlxdeck.server.backends.local.kv.token_bytes import n_common, pack
from mlxdeck.server.backends.local.prompt.renderer import Prompt, Renderer
from mlxdeck.server.backends.local.toolcalls.formats.registry import choose_format
from mlxdeck.server.canonicalize import canonical
from mlxdeck.server.dialects.registry import DIALECTS
from tests.real import get
from tests.zoo.asking import Answer, Subject
from tests.zoo.conversations import SYSTEM, TOOLS

MIN_TOKENS = 64
"""Less than this is not worth a state of its own to layers that can't be cut back."""
N_LONG = 900
"""Lines of the long prompt."""


def second_turn(subject: Subject) -> str:
    """The second turn has to compute only what the template says otherwise than in the first.

    What can be known is found here, with the family's own template: where the prompts part. Layers
    that keep all keys and values are cut back to that token; others only to a turn's end.
    """
    first = _turn("Tell me about the first file. " * 12)
    answer = subject.ask(first)
    if answer.refused():
        return answer.refused()
    second = _followed(first, answer, "And the second file?")
    again = subject.ask(second)
    if again.refused():
        return again.refused()
    third = _followed(second, again, "And the third?")
    subject.notes["third"] = third
    cached = subject.end(again.request_id).cached_tokens or 0
    renderer = _renderer(subject)
    before, after = _prompt(renderer, first), _prompt(renderer, second)
    shared = n_common(pack(before.tokens), pack(after.tokens))
    wanted = shared
    if subject.family.states != "plain":
        known = [at for at in before.layout.boundaries() if at <= shared]
        wanted = max((at for at in known if at >= MIN_TOKENS), default=0)
    subject.notes["shared"] = shared
    if cached < wanted:
        return f"{cached} of {len(after.tokens)} tokens were known; {wanted} could have been"
    return ""


def restored(subject: Subject) -> str:
    """After a restart, a conversation goes on from the disk as it would have without."""
    third = subject.notes.get("third")
    if third is None:
        return "there was no second turn"
    warm = subject.ask(third)
    if warm.refused():
        return warm.refused()
    told = subject.end(warm.request_id)
    cleared = subject.delete("/v1/cache")
    cold = subject.ask(third)
    if cold.refused():
        return cold.refused()
    if subject.end(cold.request_id).cached_tokens:
        return f"the caches were not cleared: {cleared}"
    if cold.said != warm.said:
        return f"{str(warm.said)[:80]} instead of {str(cold.said)[:80]}"
    if subject.notes["shared"] >= 2 * MIN_TOKENS and told.cache_tier != "disk":
        return f"nothing came from the disk: {told.cached_tokens} tokens, tier {told.cache_tier!r}"
    return ""


def cancelled(subject: Subject) -> str:
    """A client that leaves while its prompt is computed harms nobody, and what was done is kept."""
    text = "".join(f"{n}\tline number {n} of a long file\n" for n in range(N_LONG))
    request = _turn(text)
    cold = subject.ask(request)
    if cold.refused():
        return cold.refused()
    whole_s = subject.end(cold.request_id).prefill_s or 0.0
    for share in (0.5, 0.35, 0.25, 0.4, 0.15, 0.3, 0.1):
        subject.delete("/v1/cache")
        n_before = len(subject.server.ended())
        subject.leave(request, after_s=whole_s * share)
        end = subject.server.ended(n_before + 1)[-1]
        if end.output_tokens == 0 and end.outcome == "cancelled":
            break
        # The first time may have been slow for another reason.
        whole_s = min(whole_s, end.prefill_s or whole_s)
    else:
        return f"no prefill was cut: {end.outcome}, {end.output_tokens} tokens"
    _settled(subject)
    health = get(f"{subject.server.url}/health")
    if health["status"] != "healthy":
        return str(health)
    again = subject.ask(request)
    if again.refused():
        return again.refused()
    if again.said != cold.said:
        return f"{str(again.said)[:80]} instead of {str(cold.said)[:80]}"
    kept = subject.end(again.request_id).cached_tokens
    return "" if kept else "nothing of the prefill was kept"


def _settled(subject: Subject) -> None:
    for _ in range(100):
        status = get(f"{subject.server.url}/v1/status")
        if not status["active"] and not status["queued"]:
            return
        time.sleep(0.02)


def _turn(text: str) -> dict[str, Any]:
    return {
        "model": "local",
        "max_tokens": 12,
        "temperature": 0.0,
        "system": SYSTEM,
        "tools": TOOLS,
        "messages": [{"role": "user", "content": text}],
    }


def _followed(request: dict[str, Any], answer: Answer, text: str) -> dict[str, Any]:
    """The next turn: a client sends back what it was sent."""
    content: list[dict[str, Any]] = answer.blocks or [{"type": "text", "text": "."}]
    results = [
        {"type": "tool_result", "tool_use_id": each["id"], "content": "ok"} for each in answer.calls
    ]
    reply = {"role": "user", "content": [*results, {"type": "text", "text": text}]}
    spoken = {"role": "assistant", "content": content}
    return {**request, "messages": [*request["messages"], spoken, reply]}


def _renderer(subject: Subject) -> Renderer:
    """The prompts of a family, made here as its server makes them."""
    folder = subject.family.folder()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = MlxTokenizer(load_tokenizer(folder, eos_token_ids=config.get("eos_token_id")))
    writing = choose_format("auto", tokenizer.traits)
    return Renderer(tokenizer, writing, subject.family.window_tokens)


def _prompt(renderer: Renderer, request: dict[str, Any]) -> Prompt:
    chat = DIALECTS["anthropic"].decode(json.dumps(request).encode(), {})
    return renderer.render(canonical(chat)[0])
