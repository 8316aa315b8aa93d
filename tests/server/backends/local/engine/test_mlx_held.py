"""Answers held to grammars by the engine's own processors, whatever is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mlxdeck.server.backends.local.engine.api import Constraint
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.mlx.grammars import MlxGrammars, Processor
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.schemas.normalization import tool_schema
from tests.server.backends.local.prompt.tokenizers import tokenizer
from tests.server.http import running
from tests.zoo.drawn import SCHEMAS, WAYS, Drawer, Way, faults
from tests.zoo.vocabularies import Unavailable

ENDS = ("<|end_of_turn|>", "<|end_of_text|>")
THINKING = ("<think>", "</think>")


def tiny(*, special: bool) -> TokenizerWrapper:
    """Bytes, and every marker of every format as an added token; two tokens end a turn."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({char: n for n, char in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    markers = {m for form in FORMATS.values() for m in (*form.markers, form.trigger) if len(m) > 2}
    markers |= {"</arg_value>", "</parameter>", "<escape>", '<|"|>', "<|message|>", *THINKING}
    made.add_tokens(
        [AddedToken(each, special=special, normalized=False) for each in sorted(markers)]
    )
    made.add_special_tokens([AddedToken(each, special=True) for each in ENDS])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=ENDS[0])
    ends = [wrapped.convert_tokens_to_ids(each) for each in ENDS]
    return TokenizerWrapper(wrapped, eos_token_ids=ends)


@pytest.fixture(scope="module", params=[True, False], ids=["special", "text"])
def drawer(request: pytest.FixtureRequest) -> Drawer:
    """A tokenizer whose markers are special tokens, or text."""
    return Drawer(tiny(special=request.param))


@pytest.mark.parametrize("name", FORMATS)
def test_whatever_is_drawn_conforms(drawer: Drawer, name: str) -> None:
    """Forced, begun by the model, begun by the client, and JSON; greedy and not."""
    some = SCHEMAS[sum(map(ord, name)) % 5 :: 5]
    found = [
        *faults(drawer, [name], schemas=some, temperatures=(1.0,)),
        *faults(drawer, [name], schemas=SCHEMAS[6:9], ways=("forced",), temperatures=(0.0,)),
    ]
    assert found == []


@pytest.mark.parametrize(
    ("vocabulary", "name"), [("qwen3", "json_tags"), ("deepseek_v3", "deepseek_v3")]
)
def test_whatever_is_drawn_conforms_with_real_tokenizers(vocabulary: str, name: str) -> None:
    """Of which the added tokens are partly special, and partly text."""
    try:
        drawer = Drawer(tokenizer(vocabulary).wrapper)
    except Unavailable as reason:
        pytest.skip(str(reason))
    ways: tuple[Way, ...] = ("forced", "auto")
    assert list(faults(drawer, [name], schemas=SCHEMAS[5:8], ways=ways)) == []


INT: dict[str, Any] = {"type": "integer"}


def taking(**properties: Any) -> dict[str, Any]:
    """A tool's schema as the server reads it, all properties required."""
    told = {"type": "object", "properties": properties, "required": list(properties)}
    return tool_schema(told, "tools.0")


UNUSUAL = (
    taking(n={**INT, "minimum": -(2**63), "maximum": 2**64, "format": "int64"}),
    taking(n={"type": "number", "minimum": 0, "maximum": 1.7e308}, m={**INT, "maximum": 3}),
    taking(code={"type": "string", "maxLength": 4.0}, n={"enum": [2.0, 3]}),
    taking(key={"type": "string", "format": "password", "minLength": 2, "maxLength": 5}),
    taking(v={**taking(z=INT), "anyOf": [{**taking(a=INT), "maxProperties": 2}]}),
    taking(**{">": INT, "a\nb": INT, " a": INT, "</parameter>": INT, '"q"': INT, "": INT}),
    taking(v={"enum": [f"item-{n}" for n in range(2500)]}),
)


@pytest.mark.parametrize("name", ["json_tags", "qwen3_coder", "glm"])
def test_unusual_schemas_are_held_to(drawer: Drawer, name: str) -> None:
    """Bounds of 64 bits, formats unknown, alternatives beside properties, odd names, huge enums."""
    found = faults(drawer, [name], schemas=UNUSUAL, ways=("forced",), temperatures=(1.0,))
    assert list(found) == []


LEFT_OUT = (
    {**taking(v={"type": "array", "items": INT, "uniqueItems": True}, n={**INT, "maximum": 3})},
    {**taking(v={"type": "string", "pattern": "^(?=a).{2}$"}, n={**INT, "maximum": 3})},
    {**taking(v={"oneOf": [INT, {"type": "boolean"}]}, n={**INT, "maximum": 3})},
    {**taking(n={**INT, "maximum": 3}), "dependentRequired": {"n": ["v"]}},
)


@pytest.mark.parametrize("schema", LEFT_OUT)
def test_one_keyword_that_no_grammar_has_lets_go_of_nothing_else(
    drawer: Drawer, schema: dict[str, Any]
) -> None:
    """The bound beside it still holds."""
    for seed in range(3):
        drawn = drawer.draw(FORMATS["json_tags"], schema, "forced", 1.0, seed)
        if drawn.calls:
            assert json.loads(drawn.calls[0])["n"] <= 3
        assert drawn.finish != "broken"


def test_names_that_a_model_makes_up_have_an_end(drawer: Drawer) -> None:
    """Those of a map: it is whole within the limit, whatever is drawn."""
    told = taking(v={"type": "object", "additionalProperties": INT, "maxProperties": 1})
    drawn = [drawer.draw(FORMATS["json_tags"], told, "forced", 1.0, seed) for seed in range(3)]
    assert {each.finish for each in drawn} == {"stop"}


@pytest.mark.parametrize("name", ["json_tags", "qwen3_coder"])
def test_a_grammar_that_fails_on_its_first_steps_is_none(drawer: Drawer, name: str) -> None:
    """An object that needs itself has no value: the call is held to less, and comes."""
    drawn = drawer.draw(FORMATS[name], taking(child={"$ref": "#"}), "forced", 1.0, 1)
    assert drawn.finish != "broken"


def processor(constraint: Constraint) -> tuple[Processor, Any]:
    """A processor, and its tokenizer."""
    wrapper = tiny(special=False)
    return MlxGrammars(wrapper).processor(constraint), wrapper


LOGITS = mx.zeros((1, 512))
DIGIT = 'start: "<" /[0-9]{2}/ ">"\n'


def feed(held: Processor, wrapper: Any, text: str, logits: mx.array = LOGITS) -> mx.array:
    """Let a model write a text; what it may write next."""
    tokens, out = [0], held(mx.array([0]), logits)
    for token in wrapper.encode(text, add_special_tokens=False):
        tokens.append(token)
        out = held(mx.array(tokens), logits)
    return out


def test_a_token_that_is_not_allowed_is_noticed() -> None:
    """With why; from then on nothing is masked, for the sequence is over."""
    held, wrapper = processor(Constraint(DIGIT))
    feed(held, wrapper, "<1")
    assert held.holds and not held.broken
    out = feed(processor(Constraint(DIGIT))[0], wrapper, "<1")
    assert mx.isinf(out).any()
    held, wrapper = processor(Constraint(DIGIT))
    out = feed(held, wrapper, "<x")
    assert held.broken and not mx.isinf(out).any()


def test_a_vocabulary_may_be_wider_or_narrower_than_the_logits() -> None:
    """What the tokenizer doesn't know is never drawn; what the model lacks can't be."""
    held, wrapper = processor(Constraint('start: "<tool_call>"\n'))
    out = feed(held, wrapper, "", mx.zeros((1, 4096)))
    assert mx.isinf(out[:, 512:]).all()
    held, wrapper = processor(Constraint(f"start: <[{len(wrapper.get_vocab()) - 1}]>\n"))
    feed(held, wrapper, "", mx.zeros((1, 100)))
    assert "no token" in held.broken


def test_every_end_of_a_turn_ends_a_held_answer() -> None:
    """Whichever the model prefers."""
    held, wrapper = processor(Constraint(DIGIT))
    out = feed(held, wrapper, "<12>")
    allowed = [n for n, each in enumerate(out[0].tolist()) if each == 0]  # type: ignore[arg-type]
    assert allowed == sorted(wrapper.eos_token_ids)


def test_a_call_that_is_only_thought_of_is_not_held() -> None:
    """The trigger counts outside of thinking, which the prompt may have opened."""
    watched = Constraint(DIGIT, "<tool_call>", final=False, thinking=THINKING)
    held, wrapper = processor(watched)
    feed(held, wrapper, "<think>a <tool_call> is")
    assert not held.holds
    held, wrapper = processor(watched)
    feed(held, wrapper, "<think>a <tool_call> is</think>Now <tool_call>")
    assert held.holds
    opened = Constraint(DIGIT, "<tool_call>", final=False, thinking=THINKING, in_thinking=True)
    held, wrapper = processor(opened)
    feed(held, wrapper, "a <tool_call> is")
    assert not held.holds


def test_an_answer_can_not_end_before_what_is_demanded() -> None:
    """A model that would stop while it thinks goes on, until the call has come."""
    held, wrapper = processor(Constraint(DIGIT, "</think>"))
    out = feed(held, wrapper, "Hm")
    assert not held.holds and not held.broken
    refused = [n for n, each in enumerate(out[0].tolist()) if each]  # type: ignore[arg-type]
    assert refused == sorted(wrapper.eos_token_ids)


def test_ways_are_all_drawn() -> None:
    """A way that is left out proves nothing."""
    assert set(WAYS) == {"forced", "auto", "begun", "json"}


TEXT = {"type": "string"}


def answered(schema: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    """A request for an answer of a schema, in OpenAI's words."""
    wanted = {"name": "x", "schema": schema, "strict": strict}
    return {
        "model": "m",
        "max_tokens": 3,
        "messages": [{"role": "user", "content": "x"}],
        "response_format": {"type": "json_schema", "json_schema": wanted},
    }


@pytest.mark.model
async def test_no_answer_is_silently_held_to_less_than_its_schema(
    small_model: str, tmp_path: Path
) -> None:
    """What can't be enforced is refused where strict promises it, and told elsewhere."""
    engine = MlxEngine(small_model, tmp_path, prefill_chunk_tokens=64)
    beyond = (
        taking(a={**TEXT, "not": {"enum": ["x"]}}),
        {**taking(a=INT), "if": {"required": ["b"]}, "then": {"required": ["c"]}},
        {"allOf": [{"anyOf": [taking(**{f"p{k}{n}": INT}) for n in range(9)]} for k in range(9)]},
    )
    nothing = (taking(a={**INT, "enum": ["x"]}), {"allOf": [INT, TEXT]}, taking(a=False))
    whole = (taking(a=INT), {**taking(a=INT), "required": ["a", "b"]})
    async with running(engine) as server:

        async def ask(schema: dict[str, Any], *, strict: bool) -> Any:
            body = answered(schema, strict=strict)
            return await server.http.post("/v1/chat/completions", json=body)

        for schema, strict in [*((each, True) for each in beyond), *((n, False) for n in nothing)]:
            reply = await ask(schema, strict=strict)
            assert reply.status_code == 400, reply.text
            assert reply.json()["error"]["param"] == "response_format.json_schema.schema"
        n_before = len(await server.ended(len(beyond) + len(nothing)))
        for schema in (*beyond, *whole):
            assert (await ask(schema, strict=schema in whole)).status_code == 200
        ends = (await server.ended(n_before + 5))[n_before:]
        assert [bool(end.answer_loosened) for end in ends] == [True] * 3 + [False] * 2
