"""Draws held answers at random: whatever the weights say, a call conforms to its schema.

No model runs: logits are made up, and the engine's own processors mask them. What a format's reader
makes of the text is judged with jsonschema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jsonschema
import mlx.core as mx
import numpy as np
from mlx_lm.tokenizer_utils import load as load_tokenizer

from mlxdeck.server.backends.local.engine.mlx import token_masks
from mlxdeck.server.backends.local.engine.mlx.grammars import MlxGrammars
from mlxdeck.server.backends.local.toolcalls.constraints.constraint_plan import plan_constraint
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import (
    ChatRequest,
    Message,
    Sampling,
    Text,
    ToolCallDelta,
    ToolCallEnd,
    ToolChoice,
    ToolSpec,
)

Way = Literal["forced", "auto", "begun", "json"]
WAYS: tuple[Way, ...] = ("forced", "auto", "begun", "json")
MAX_TOKENS = 600
MAX_FORCED = 16
"""Tokens that are written at once."""
PADDING = 64
"""Logits beyond the tokenizer's tokens, as padded vocabularies have them."""
S: dict[str, Any] = {"type": "string", "maxLength": 8}


def _object(required: Sequence[str] | None = None, **properties: Any) -> dict[str, Any]:
    names = list(properties) if required is None else list(required)
    return {"type": "object", "properties": properties, "required": names}


_POINT = _object(x={"type": "integer", "minimum": 0, "maximum": 99}, y={"type": "number"})
SCHEMAS: tuple[dict[str, Any], ...] = (
    _object(name=S),
    _object(n={"type": "integer"}),
    _object(n={"type": "integer", "minimum": -5, "maximum": 5}),
    _object(ratio={"type": "number", "minimum": 0, "maximum": 1}),
    _object(any_number={"type": "number"}),
    _object(flag={"type": "boolean"}, nothing={"type": "null"}),
    _object(size={"enum": ["small", "</think>", "<|im_end|>", "<tool_call>"]}),
    _object(mixed={"enum": ["a", 1, None, True]}),
    _object(kind={"const": "fixed"}, name=S),
    _object(day={"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}),
    _object(tags={"type": "array", "items": S, "maxItems": 3}),
    _object(at=_POINT),
    _object(["name"], name=S, note=S, flag={"type": "boolean"}),
    _object([], name=S, n={"type": "integer"}),
    _object(either={"anyOf": [_POINT, {"type": "null"}]}),
    _object(either={"type": ["integer", "null"]}),
    {"$defs": {"point": _POINT}, **_object(at={"$ref": "#/$defs/point"})},
    {
        "$defs": {"point": _POINT},
        **_object(at={"anyOf": [{"$ref": "#/$defs/point"}, {"type": "null"}]}),
    },
    {**_object([], name=S, child={"$ref": "#"})},
    {"type": "object", "properties": {}},
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One answer."""

    text: str
    finish: Literal["stop", "length", "broken"]
    calls: tuple[str, ...]
    """The arguments of each, as JSON."""
    why: str = ""
    tokens: tuple[int, ...] = ()
    n_forced: int = 0
    """How many of the tokens were not sampled."""

    def fault(self, schema: dict[str, Any], way: Way) -> str:
        """What is wrong with it; empty if nothing is. To be cut is not wrong."""
        if self.finish == "broken":
            return f"let go: {self.why}"
        values = [self.text] if way == "json" else self.calls
        if self.finish == "length":
            values = () if way == "json" else values
        elif not values:
            return "no call"
        for value in values:
            try:
                jsonschema.Draft202012Validator(schema).validate(json.loads(value))
            except (ValueError, jsonschema.ValidationError) as error:
                return f"{value[:80]!r}: {str(error).splitlines()[0]}"
        return ""


class Drawer:
    """Draws answers with one tokenizer."""

    def __init__(self, wrapper: Any) -> None:
        """`wrapper` is mlx-lm's tokenizer."""
        self._wrapper = wrapper
        self.grammars = MlxGrammars(wrapper)

    @classmethod
    def of(cls, folder: Path) -> Drawer:
        """With the tokenizer of a model's folder."""
        return cls(load_tokenizer(folder))

    def draw(
        self,
        form: ToolFormat,
        schema: dict[str, Any],
        way: Way,
        temperature: float,
        seed: int,
        *,
        leaps: bool = False,
    ) -> Drawn:
        """One answer of a request that has one tool, or asks for JSON.

        With `leaps`, what the grammar forces is written without logits.
        """
        tools = () if way == "json" else (ToolSpec("Take", "", schema),)
        start = form.starts[0] + form.opened
        begun = {"begun": f"Well. {start}", "json": "{"}.get(way, "")
        request = ChatRequest(
            "m",
            (),
            (Message("user", (Text("Hi"),)),),
            Sampling(MAX_TOKENS),
            tools,
            ToolChoice("auto" if way in ("auto", "json") else "any", parallel=False),
            answer_schema=schema if way == "json" else None,
        )
        held = plan_constraint(request, form, self.grammars, begun=begun)
        assert held.constraint is not None, held.refused
        processor = self.grammars.processor(held.constraint)
        given = self._wrapper.encode(f"Hm. {start}", add_special_tokens=False)
        sampled = self._sampler(temperature, seed)
        tokens, n_forced = [1], 0
        finish: Literal["stop", "length", "broken"] = "length"
        to_give = list(given) if way == "auto" else []
        while len(tokens) < MAX_TOKENS and finish == "length":
            # Behind a call that is over, a free model would go on as it likes.
            if way == "auto" and not to_give and not processor.holds:
                finish = "stop"
                break
            new = processor.forced(MAX_FORCED) if leaps and not to_give else []
            n_forced += len(new)
            mask = processor.mask(self._width)
            if processor.broken:
                finish = "broken"
                break
            new = new or [to_give.pop(0) if to_give else sampled(len(tokens), mask)]
            tokens += new
            processor.saw(new)
            if new[-1] in self._wrapper.eos_token_ids:
                finish = "stop"
        read = self._read(form, tools, begun + self._text(tokens[1:]), finish, processor.broken)
        return replace(read, tokens=tuple(tokens), n_forced=n_forced)

    @property
    def _width(self) -> int:
        return len(self.grammars.vocabulary.tokens) + PADDING

    def _sampler(
        self, temperature: float, seed: int
    ) -> Callable[[int, token_masks.TokenMask | None], int]:
        """Samples by logits that depend on the place alone, or not even on that."""
        steady = np.random.default_rng(seed).random(self._width, dtype=np.float32)

        def sampled(place: int, mask: token_masks.TokenMask | None) -> int:
            here = np.random.default_rng([seed, place])
            logits = steady if temperature == 0 else here.random(self._width, dtype=np.float32)
            masked = token_masks.masked(mx.array(logits[None]), [mask])
            return int(mx.argmax(masked))

        return sampled

    def _text(self, tokens: Sequence[int]) -> str:
        detokenizer = self._wrapper.detokenizer
        for token in tokens:
            if token not in self._wrapper.eos_token_ids:
                detokenizer.add_token(token)
        detokenizer.finalize()
        return str(detokenizer.text)

    @staticmethod
    def _read(
        form: ToolFormat,
        tools: Sequence[ToolSpec],
        text: str,
        finish: Literal["stop", "length", "broken"],
        why: str,
    ) -> Drawn:
        splitter = Splitter(Markers(), form, tools, constrained=True)
        pieces = [*splitter.feed(text), *splitter.close(complete=finish == "stop")]
        calls: list[str] = []
        arguments = ""
        for piece in pieces:
            if isinstance(piece, ToolCallDelta):
                arguments += piece.json
            elif isinstance(piece, ToolCallEnd):
                calls.append(arguments)
                arguments = ""
        return Drawn(text, finish, tuple(calls), why or splitter.broken)


def faults(
    drawer: Drawer,
    formats: Sequence[str],
    *,
    schemas: Sequence[dict[str, Any]] = SCHEMAS,
    ways: Sequence[Way] = WAYS,
    temperatures: Sequence[float] = (0.0, 1.0),
) -> Iterator[str]:
    """What goes wrong with a tokenizer, a line each; nothing should.

    The same tokens have to come whether what is forced is sampled or not.
    """
    for name in formats:
        for n, schema in enumerate(schemas):
            for way in ways:
                for temperature in temperatures:
                    form = FORMATS[name]
                    drawn = drawer.draw(form, schema, way, temperature, n)
                    fault = drawn.fault(schema, way)
                    leapt = drawer.draw(form, schema, way, temperature, n, leaps=True)
                    n_same = min(len(leapt.tokens), len(drawn.tokens))
                    if leapt.tokens[:n_same] != drawn.tokens[:n_same]:
                        fault = fault or f"{leapt.text!r}, unforced {drawn.text!r}"
                    if fault:
                        yield f"{name}, schema {n}, {way}, temperature {temperature}: {fault}"
