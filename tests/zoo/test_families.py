"""Each family's model can be made and read, and its template tells a conversation with tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model
from transformers.utils.chat_template_utils import render_jinja_template

from mlxdeck.server.backends.local.engine.api import TemplateTraits
from mlxdeck.server.backends.local.toolcalls.formats.registry import choose_format
from tests.zoo.families import FAMILIES, Family
from tests.zoo.models import TINY, nested, write_weights
from tests.zoo.vocabularies import VOCABULARIES, Unavailable

KINDS = {
    "plain": {"KVCache"},
    "sliding": {"KVCache", "RotatingKVCache"},
    "recurrent": {"ArraysCache"},
    "hybrid": {"KVCache", "ArraysCache"},
}
ONE_EACH = {each.architecture: each for each in FAMILIES.values()}
TELLS_TOOLS = [
    name
    for name, each in FAMILIES.items()
    if each.template not in (None, "plain") or name == "qwen3"
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "Read",
            "description": "Reads a file.",
            "parameters": {
                "type": "object",
                "properties": {"file_path": {"type": "string"}, "limit": {"type": "integer"}},
                "required": ["file_path"],
            },
        },
    }
]


def conversation(arguments: Any, content: str | None) -> list[dict[str, Any]]:
    """A question, a call, its result, and an answer."""
    call = {
        "id": "abcdefgh1",
        "type": "function",
        "function": {"name": "Read", "arguments": arguments},
    }
    result = {"role": "tool", "tool_call_id": "abcdefgh1", "name": "Read", "content": "TWO LINES"}
    return [
        {"role": "system", "content": "BE BRIEF"},
        {"role": "user", "content": "WHAT IS IN IT?"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
        result,
        {"role": "assistant", "content": "TWO OF THEM"},
        {"role": "user", "content": "AND NOW?"},
    ]


def template_of(family: Family) -> str:
    """The family's chat template, wherever it comes from."""
    if family.template_text is not None:
        return family.template_text
    try:
        folder = VOCABULARIES[family.vocabulary].folder()
    except Unavailable as error:
        pytest.skip(str(error))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    return str(config["chat_template"])


@pytest.mark.model
@pytest.mark.parametrize("name", ONE_EACH)
def test_mlx_lm_reads_every_architecture(name: str, tmp_path: Path) -> None:
    """Weights that were made for it are all that it wants, and its layers keep what is said."""
    family = ONE_EACH[name]
    fields = {**TINY, "model_type": name, **family.config, "vocab_size": 64}
    if "vocab_size_per_layer_input" in fields:
        fields["vocab_size_per_layer_input"] = 64
    write_weights(tmp_path, name, nested(fields) if family.nested else fields, seed=1)
    model, _ = load_model(tmp_path, strict=True)
    cache = make_prompt_cache(model)
    logits = model(mx.array([[1, 2, 3]]), cache=cache)
    assert logits.shape == (1, 3, 64)
    assert bool(mx.isfinite(logits).all())
    held = [inner for each in cache for inner in getattr(each, "caches", [each])]
    assert {type(each).__name__ for each in held} == KINDS[family.states]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_template_shows_the_format(name: str) -> None:
    """What the registry says of a family is what the server finds."""
    template = template_of(FAMILIES[name])
    traits = TemplateTraits(has_tools="tools" in template, source=template)
    assert choose_format("auto", traits).name == FAMILIES[name].format


@pytest.mark.parametrize("name", TELLS_TOOLS)
def test_the_template_tells_a_conversation_with_tools(name: str) -> None:
    """All that was said is in the prompt, and the tool with it, in one of the usual shapes."""
    template = template_of(FAMILIES[name])
    told = ""
    for arguments in ({"file_path": "A.PY"}, '{"file_path": "A.PY"}'):
        for content in ("", None, "LOOKING"):
            try:
                prompts, _ = render_jinja_template(
                    conversations=[conversation(arguments, content)],
                    tools=TOOLS,
                    chat_template=template,
                    add_generation_prompt=True,
                    bos_token="<BOS>",
                    eos_token="<EOS>",
                )
            except Exception:  # noqa: BLE001, S112
                continue
            told = max(told, prompts[0], key=len)
    missing = [
        text
        for text in ("BE BRIEF", "WHAT IS IN IT?", "Read", "A.PY", "TWO LINES", "AND NOW?", "limit")
        if text not in told
    ]
    assert missing == []
