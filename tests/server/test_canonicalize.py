"""What the canonical form takes out of a request, rule by rule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.echo import ByteTokenizer
from mlxdeck.server.backends.local.prompt.renderer import Renderer
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.cache.cache_keys import answer_key, digests
from mlxdeck.server.canonicalize import RULE_NAMES, canonical
from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.dialects.registry import DIALECTS

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(GOLDEN.glob("*.json"))


def decoded(body: dict[str, Any]) -> ChatRequest:
    """A request as the Messages API reads it."""
    filled = {"model": "local", "max_tokens": 10, **body}
    return DIALECTS["anthropic"].decode(json.dumps(filled).encode(), {})


def prompt(body: dict[str, Any], off: tuple[str, ...] = ()) -> str:
    """The text that the model reads."""
    request, _ = canonical(decoded(body), off)
    ordered = "schema_order" not in off
    return Renderer(
        ByteTokenizer(), FORMATS["json_tags"], 1 << 20, ordered=ordered
    ).text(request)  # fmt: skip


def test_every_rule_has_a_golden_file() -> None:
    """A rule that is added is tested by being listed."""
    assert {path.stem for path in CASES} == set(RULE_NAMES)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_rule_makes_variants_equal_and_can_be_turned_off(path: Path) -> None:
    """All bodies of a file become one prompt with one key; without the rule they differ.

    What a file lists as `others` looks similar and stays as it is.
    """
    case = json.loads(path.read_text(encoding="utf-8"))
    bodies = case["same"]
    assert {prompt(body) for body in bodies} == {case["prompt"]}
    keys = set()
    for body in bodies:
        request, _ = canonical(decoded(body))
        keys.add(answer_key(digests(request), request, "model"))
    assert len(keys) == 1
    # ByteTokenizer's template shows no ids, so without their rule only the key tells.
    off = (path.stem,)
    texts = {prompt(body, off) for body in bodies}
    requests = [canonical(decoded(body), off)[0] for body in bodies]
    digested = {answer_key(digests(request), request, "model") for request in requests}
    assert len(texts) > 1 or len(digested) > 1
    for body in case["others"]:
        request = decoded(body)
        assert canonical(request) == (request, ())


def test_what_was_taken_out_is_named() -> None:
    """The names of the rules that changed something, in their order."""
    removed = {
        path.stem: canonical(decoded(json.loads(path.read_text(encoding="utf-8"))["same"][0]))[1]
        for path in CASES
    }
    # Ordering takes nothing out, and happens where the prompt is rendered.
    assert removed == {name: () if name == "schema_order" else (name,) for name in RULE_NAMES}


def test_the_canonical_form_is_its_own_canonical_form() -> None:
    """Applying it twice changes nothing more."""
    for path in CASES:
        for body in json.loads(path.read_text(encoding="utf-8"))["same"]:
            once, _ = canonical(decoded(body))
            assert canonical(once) == (once, ())


def test_marks_and_metadata_never_reach_the_key() -> None:
    """`cache_control` and `metadata` are not decoded into what the key is made of."""
    plain = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}
    block = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    marked = {
        "messages": [{"role": "user", "content": [block]}],
        "metadata": {"user_id": json.dumps({"session_id": "s"})},
    }
    one, other = decoded(plain), decoded(marked)
    assert replace(other, session_id="") == one
    keys = {answer_key(digests(each), each, "m") for each in (one, other)}
    assert len(keys) == 1
