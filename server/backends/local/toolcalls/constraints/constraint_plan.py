"""The constraint of an answer while the model generates it: a call, calls, or JSON of a schema."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlxdeck.server.backends.local.engine.api import Constraint, Grammars
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.chat import ChatRequest, ToolSpec
from mlxdeck.server.checkpoints import checkpoint
from mlxdeck.server.errors import BadRequest
from mlxdeck.server.schemas.limits import too_costly, too_large
from mlxdeck.server.schemas.loosening import loosened, looser, reductions, unavoidable

log = logging.getLogger(__name__)

MAX_WORK = 2_000_000
"""Characters of grammars that are tried for one request, each try counted as `TRY_WORK` more."""
TRY_WORK = 10_000
MAX_GRAMMAR_CHARS = 400_000
LEAST = 'start: "{"\n'
"""A grammar that every engine takes that takes any."""
_NOTHING = "Unsatisfiable schema: "
"""How llguidance begins to say that no value conforms."""
ANSWER = ""
"""The answer's entry among the names of tools."""


@dataclass(frozen=True, slots=True)
class ConstraintPlan:
    """A constraint, or the reason why a wanted constraint is missing."""

    constraint: Constraint | None = None
    refused: str = ""
    loose: Mapping[str, str] = field(default_factory=dict)
    """Tools constrained only by types and names, not by their whole schema; and why."""


def plan_constraint(
    request: ChatRequest,
    form: ToolFormat,
    grammars: Grammars,
    *,
    begun: str = "",
    thinking: tuple[str, str] | tuple[()] = (),
    in_thinking: bool = False,
) -> ConstraintPlan:
    """The constraint that a request needs, as far as the engine supports it.

    A forced call and JSON of a schema are the whole answer, after the end of `thinking` if the
    prompt has opened it. Else the grammar applies from the start of a call to its end. `begun` is
    the beginning of the answer that the client has written.

    Raises:
        BadRequest: The request needs JSON and the model can't be constrained to it, or `begun` does
            not fit.
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
    if why := grammars.check(LEAST):
        # Nothing that is composed could be used.
        if whole and not forced:
            raise _no_json(why)
        return ConstraintPlan(refused=why)
    composer = _Composer(form, grammars, marked=whole, parallel=choice.parallel and not forced)
    behind = thinking[1] if thinking and in_thinking else ""
    if whole and not forced:
        return _json_or_call(composer, tools, request, begun, behind)
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
    request: ChatRequest,
    begun: str,
    behind: str,
) -> ConstraintPlan:
    """JSON of the schema, or a call instead, going on from where the client began it."""
    schema = request.answer_schema
    found = composer.fitted(tools, schema)
    if (why := found.loose.get(ANSWER)) and not found.error:
        _judge_loose(request, why)
    if not found.error and begun and composer.grammars.check(found.grammar, begun):
        # Clients format JSON in different ways.
        found = replace(composer, blanks=True).fitted(tools, schema)
        if not found.error and composer.grammars.check(found.grammar, begun):
            raise BadRequest(
                "messages", "the last assistant message is not the beginning of JSON of the schema"
            )
    if found.error:
        raise _no_json(found.error)
    return ConstraintPlan(Constraint(found.grammar, behind, begun or None), loose=found.loose)


def _no_json(why: str) -> BadRequest:
    return BadRequest("", f"this model can't be constrained to a JSON schema: {why}")


def _judge_loose(request: ChatRequest, why: str) -> None:
    """An answer that a grammar holds only to a part of its schema is told, or refused.

    Raises:
        BadRequest: Nothing can conform to the schema, or the client was promised all of it.
    """
    _, _, reason = why.rpartition("JSON schema: ")
    if reason.startswith(_NOTHING):
        raise BadRequest(
            request.answer_field, f"no value conforms to it: {reason[len(_NOTHING) :]}"
        )
    if request.answer_strict:
        raise BadRequest(
            request.answer_field, f"not all of it can be enforced, as strict asks: {reason}"
        )
    log.warning("an answer is held to a part of its schema only: %s", reason)


def _half(begun: str, start: str) -> str:
    """The part of a start that a text ends with."""
    ends = (start[:n] for n in range(len(start) - 1, 0, -1))
    return next((end for end in ends if begun.endswith(end)), "")


@dataclass(frozen=True, slots=True)
class _Found:
    grammar: str
    error: str
    """Why there is no constraint."""
    loose: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Work:
    """What has been tried for one request."""

    left: int = MAX_WORK
    tried: list[tuple[tuple[Any, ...], _Found]] = field(default_factory=list)
    """What a looser schema is often equal to; each takes long if the schema is large."""

    def spend(self, n_chars: int) -> str:
        """Why a grammar of that length isn't tried; empty if it is."""
        if n_chars > MAX_GRAMMAR_CHARS:
            return f"its grammar has more than {MAX_GRAMMAR_CHARS:,} characters"
        self.left -= n_chars + TRY_WORK
        return "the schemas of this request take too long to compile" if self.left < 0 else ""


@dataclass(frozen=True, slots=True)
class _Composer:
    """Makes one grammar of tools and an answer, as strict as the engine can take it."""

    form: ToolFormat
    grammars: Grammars
    marked: bool
    parallel: bool
    blanks: bool = False
    work: _Work = field(default_factory=_Work)

    def fitted(self, offered: Sequence[ToolSpec], answer: Any = None) -> _Found:
        """The grammar. A schema that can't be a constraint loosens only its own tool."""
        loose: dict[str, str] = {}
        tools = [replace(t, input_schema=_affordable(t, loose)) for t in offered]
        if why := too_costly(answer):
            loose[ANSWER], answer = why, loosened(answer)
        whole = self._composed(tools, answer)
        if not whole.error:
            return replace(whole, loose=loose)
        tools = [self._loosened(tool, loose) for tool in tools]
        if answer is not None and (why := self._composed((), answer).error):
            loose[ANSWER] = self._true_reason(why, answer)
            answer = self._loosened_answer(answer)
        whole = self._composed(tools, answer)
        by_size = sorted(tools, key=lambda tool: -len(json.dumps(tool.input_schema)))
        # Each schema works alone, but all together are too large: the largest are loosened.
        for n_largest in (len(tools) // 8 + 1, len(tools) // 3 + 1, len(tools)):
            if not whole.error:
                break
            large = {tool.name for tool in by_size[:n_largest]}
            loose |= dict.fromkeys(large - loose.keys(), whole.error)
            tools = [_bare(tool) if tool.name in large else tool for tool in tools]
            whole = self._composed(tools, answer)
        if whole.error and self.work.left < 0:
            loose |= dict.fromkeys((tool.name for tool in tools if tool.name not in loose), "")
            loose = {name: why or whole.error for name, why in loose.items()}
            tools = [replace(tool, input_schema={"type": "object"}) for tool in tools]
            whole = self._tried(tools, None if answer is None else True)
        return replace(whole, loose=loose)

    def _composed(self, tools: Sequence[ToolSpec], answer: Any) -> _Found:
        """A grammar that has been tried, within what may be tried for one request."""
        if self.work.left < 0:
            return _Found("", self.work.spend(0))
        told = ([tool.name for tool in tools], [tool.input_schema for tool in tools], answer)
        for before, found in self.work.tried:
            if before == (*told, self.blanks):
                return found
        found = self._tried(tools, answer)
        self.work.tried.append(((*told, self.blanks), found))
        return found

    def _tried(self, tools: Sequence[ToolSpec], answer: Any) -> _Found:
        checkpoint()
        grammar = self.form.grammar(
            tools, marked=self.marked, parallel=self.parallel, answer=answer, blanks=self.blanks
        )
        if grammar is None:
            return _Found("", f"{self.form.name} has no grammar for these tools")
        error = self.work.spend(len(grammar)) if self.work.left >= 0 else ""
        return _Found(grammar, error or self.grammars.check(grammar).split("\n")[0])

    def _loosened(self, tool: ToolSpec, loose: dict[str, str]) -> ToolSpec:
        """The tool with as much of its schema as possible; `loose` gets the reason for the rest."""
        error = self._composed([tool], None).error
        if error:
            loose[tool.name] = error
            for schema in looser(tool.input_schema):
                tool = replace(tool, input_schema=schema)
                if not self._composed([tool], None).error:
                    break
        return tool

    def _true_reason(self, why: str, schema: Any) -> str:
        """An engine refuses a schema also because of a part that an answer can do without."""
        if _NOTHING not in why or _NOTHING in self._composed((), unavoidable(schema)).error:
            return why
        return why.replace(_NOTHING, "nothing conforms to a part of it: ")

    def _loosened_answer(self, schema: Any) -> Any:
        kind = schema.get("type") if isinstance(schema, dict) else None
        rest = [*reductions(schema), loosened(schema), *([{"type": kind}] if kind else [])]
        steps = [*looser(schema)] if kind == "object" else rest
        return next((each for each in steps if not self._composed((), each).error), True)


def _affordable(tool: ToolSpec, loose: dict[str, str]) -> dict[str, Any]:
    """The schema of a tool, without parts that cost too much; `loose` gets the reason."""
    schema = tool.input_schema
    if why := too_large(schema):
        loose[tool.name] = why
        return {"type": "object"}
    if why := too_costly(schema):
        loose[tool.name], schema = why, loosened(schema)
    return {"type": "object", **schema}


def _bare(tool: ToolSpec) -> ToolSpec:
    """A tool whose constraint covers only the names of its parameters."""
    *_, names, anything = [{}, *looser(tool.input_schema)]
    return replace(tool, input_schema=names or anything)
