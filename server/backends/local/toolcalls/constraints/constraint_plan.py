"""What an answer is held to while the model writes it: a call, calls, or JSON of a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlxdeck.server.backends.local.engine.api import Constraint, Grammars
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.chat import ChatRequest, ToolSpec
from mlxdeck.server.errors import BadRequest
from mlxdeck.server.schemas.loosening import looser, reductions

ANSWER = ""
"""Stands for the answer among the names of tools."""


@dataclass(frozen=True, slots=True)
class ConstraintPlan:
    """A constraint, or why there is none where one was wanted."""

    constraint: Constraint | None = None
    refused: str = ""
    loose: Mapping[str, str] = field(default_factory=dict)
    """Tools whose whole schema can't be held to, but only types and names in it; and why."""


def plan_constraint(
    request: ChatRequest,
    form: ToolFormat,
    grammars: Grammars,
    *,
    begun: str = "",
    thinking: tuple[str, str] | tuple[()] = (),
    in_thinking: bool = False,
) -> ConstraintPlan:
    """What the request asks for, as far as the engine can do it.

    A forced call and JSON of a schema are the whole answer, behind the end of `thinking` if the
    prompt has opened it. Else the grammar takes hold wherever a call begins, and lets go at its
    end. `begun` is what the answer has been given to begin with.

    Raises:
        BadRequest: JSON is asked for, and the model can't be held to it, or the answer was begun
            with something else.
    """
    choice = request.tool_choice
    schema = request.answer_schema
    tools = [tool for tool in request.tools if choice.mode != "tool" or tool.name == choice.name]
    if not tools and schema is None:
        return ConstraintPlan()
    forced = choice.mode in ("any", "tool") and bool(tools)
    trigger = form.trigger or form.starts[0]
    _, opened, already = begun.rpartition(trigger)
    closed = form.closed.strip()
    inside = bool(opened) and not (closed and closed in already[1:])
    whole = not inside and (forced or schema is not None)
    composer = _Composer(form, grammars, marked=whole, parallel=choice.parallel and not forced)
    behind = thinking[1] if thinking and in_thinking else ""
    if whole and not forced:
        return _json_or_call(composer, tools, schema, begun, behind)
    found = composer.fitted(tools)
    if found.error:
        return ConstraintPlan(refused=found.error)
    if inside:
        if why := grammars.check(found.grammar, already):
            return ConstraintPlan(refused=f"the call that was begun is not of its grammar: {why}")
        return ConstraintPlan(
            Constraint(found.grammar, trigger, already, final=forced), loose=found.loose
        )
    if forced:
        start = _half(begun, form.starts[0])
        return ConstraintPlan(Constraint(found.grammar, behind, start or None), loose=found.loose)
    watched = Constraint(
        found.grammar, trigger, final=False, thinking=thinking, in_thinking=in_thinking
    )
    return ConstraintPlan(watched, loose=found.loose)


def _json_or_call(
    composer: _Composer,
    tools: Sequence[ToolSpec],
    schema: Any,
    begun: str,
    behind: str,
) -> ConstraintPlan:
    """JSON of the schema, or a call instead, going on from where the client began it."""
    found = composer.fitted(tools, schema)
    if not found.error and begun and composer.grammars.check(found.grammar, begun):
        # Clients have their own ways to set JSON.
        found = replace(composer, blanks=True).fitted(tools, schema)
        if not found.error and composer.grammars.check(found.grammar, begun):
            raise BadRequest(
                "messages", "the last assistant message doesn't begin JSON of the schema"
            )
    if found.error:
        raise BadRequest("", f"this model can't be held to a JSON schema: {found.error}")
    return ConstraintPlan(Constraint(found.grammar, behind, begun or None), loose=found.loose)


def _half(begun: str, start: str) -> str:
    """The part of a start that a text ends with."""
    ends = (start[:n] for n in range(len(start) - 1, 0, -1))
    return next((end for end in ends if begun.endswith(end)), "")


@dataclass(frozen=True, slots=True)
class _Found:
    grammar: str
    error: str
    """Why there is none."""
    loose: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Composer:
    """Makes one grammar of tools and an answer, as strict as the engine can take it."""

    form: ToolFormat
    grammars: Grammars
    marked: bool
    parallel: bool
    blanks: bool = False

    def fitted(self, offered: Sequence[ToolSpec], answer: Any = None) -> _Found:
        """The grammar; a schema that can't be held to loosens its own tool alone."""
        tools = [replace(t, input_schema={"type": "object", **t.input_schema}) for t in offered]
        whole = self._composed(tools, answer)
        if not whole.error:
            return whole
        loose: dict[str, str] = {}
        tools = [self._loosened(tool, loose) for tool in tools]
        if answer is not None and (why := self._composed((), answer).error):
            loose[ANSWER] = why
            answer = self._loosened_answer(answer)
        whole = self._composed(tools, answer)
        by_size = sorted(tools, key=lambda tool: -len(json.dumps(tool.input_schema)))
        # Each by itself can be held to, but not all together: the largest give way.
        for n_largest in (len(tools) // 8 + 1, len(tools) // 3 + 1, len(tools)):
            if not whole.error:
                break
            large = {tool.name for tool in by_size[:n_largest]}
            loose |= dict.fromkeys(large - loose.keys(), whole.error)
            tools = [_bare(tool) if tool.name in large else tool for tool in tools]
            whole = self._composed(tools, answer)
        return replace(whole, loose=loose)

    def _composed(self, tools: Sequence[ToolSpec], answer: Any) -> _Found:
        grammar = self.form.grammar(
            tools, marked=self.marked, parallel=self.parallel, answer=answer, blanks=self.blanks
        )
        if grammar is None:
            return _Found("", f"{self.form.name} has no grammar for these tools")
        return _Found(grammar, self.grammars.check(grammar).split("\n")[0])

    def _loosened(self, tool: ToolSpec, loose: dict[str, str]) -> ToolSpec:
        """The tool with as much of its schema as can be held to; `loose` is told why not all."""
        error = self._composed([tool], None).error
        if error:
            loose[tool.name] = error
            for schema in looser(tool.input_schema):
                tool = replace(tool, input_schema=schema)
                if not self._composed([tool], None).error:
                    break
        return tool

    def _loosened_answer(self, schema: Any) -> Any:
        kind = schema.get("type") if isinstance(schema, dict) else None
        rest = [*reductions(schema), *([{"type": kind}] if kind else [])]
        steps = [*looser(schema)] if kind == "object" else rest
        return next((each for each in steps if not self._composed((), each).error), True)


def _bare(tool: ToolSpec) -> ToolSpec:
    """A tool of which only the names of its parameters are held to."""
    *_, names, anything = [{}, *looser(tool.input_schema)]
    return replace(tool, input_schema=names or anything)
