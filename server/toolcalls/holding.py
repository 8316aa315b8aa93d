"""What an answer is held to while the model writes it: a call, calls, or JSON of a schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlxdeck.server.engine import Constraint, Grammars
from mlxdeck.server.messages import ChatRequest, ToolSpec
from mlxdeck.server.toolcalls.formats.form import Form
from mlxdeck.server.toolcalls.grammar import loosened


@dataclass(frozen=True, slots=True)
class Held:
    """A constraint, or why there is none where one was wanted."""

    constraint: Constraint | None = None
    refused: str = ""
    loose: Mapping[str, str] = field(default_factory=dict)
    """Tools whose whole schema can't be held to, but only types and names in it; and why."""


def held_to(
    request: ChatRequest,
    form: Form,
    grammars: Grammars,
    *,
    begun: str = "",
    thinking: tuple[str, str] | tuple[()] = (),
    in_thinking: bool = False,
) -> Held:
    """What the request asks for, as far as the engine can do it.

    A forced call and JSON of a schema are the whole answer, behind the end of `thinking` if the
    prompt has opened it. Else the grammar takes hold wherever a call begins, and lets go at its
    end. `begun` is what the answer has been given to begin with.
    """
    choice = request.tool_choice
    forced = choice.mode in ("any", "tool") and not begun
    schema = request.answer_schema
    whole = forced or (schema is not None and not begun)
    tools = [tool for tool in request.tools if choice.mode != "tool" or tool.name == choice.name]
    if not tools and schema is None:
        return Held()

    def compose(offered: Sequence[ToolSpec]) -> tuple[str, str]:
        """A grammar, and why it is none."""
        grammar = form.grammar(
            offered,
            marked=whole,
            parallel=choice.parallel and not forced,
            answer=schema if whole and not forced else None,
        )
        if grammar is None:
            return "", f"{form.name} has no grammar for these tools"
        return grammar, grammars.check(grammar).split("\n")[0]

    grammar, error = compose(tools)
    loose = {}
    if error:
        # One schema that can't be held to is no reason to let go of the others.
        loose = {tool.name: why for tool in tools if (why := compose([tool])[1])}
        grammar, error = compose(
            [_loosened(tool) if tool.name in loose else tool for tool in tools]
        )
    if error:
        return Held(refused=error)
    if whole:
        return Held(
            Constraint(grammar, thinking[1] if thinking and in_thinking else ""), loose=loose
        )
    trigger = form.trigger or form.starts[0]
    _, opened, already = begun.rpartition(trigger)
    if opened and form.closed.strip() not in already[1:]:
        return Held(Constraint(grammar, trigger, already, final=False), loose=loose)
    watched = Constraint(grammar, trigger, final=False, thinking=thinking, in_thinking=in_thinking)
    return Held(watched, loose=loose)


def _loosened(tool: ToolSpec) -> ToolSpec:
    return ToolSpec(tool.name, tool.description, loosened(tool.input_schema))
