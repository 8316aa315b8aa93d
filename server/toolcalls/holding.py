"""What an answer is held to while the model writes it: a call, calls, or JSON of a schema."""

from __future__ import annotations

from dataclasses import dataclass

from mlxdeck.server.engine import Constraint, Grammars
from mlxdeck.server.messages import ChatRequest
from mlxdeck.server.toolcalls.formats.form import Form


@dataclass(frozen=True, slots=True)
class Held:
    """A constraint, or why there is none where one was wanted."""

    constraint: Constraint | None = None
    refused: str = ""


def held_to(
    request: ChatRequest, form: Form, grammars: Grammars, *, think_end: str, begun: str
) -> Held:
    """What the request asks for, as far as the engine can do it.

    A forced call and JSON of a schema are the whole answer, behind `think_end` if the prompt has
    opened thinking. Else the grammar takes hold wherever a call begins, and lets go at its end.
    `begun` is what the answer has been given to begin with.
    """
    choice = request.tool_choice
    forced = choice.mode in ("any", "tool") and not begun
    schema = request.answer_schema
    whole = forced or (schema is not None and not begun)
    tools = [tool for tool in request.tools if choice.mode != "tool" or tool.name == choice.name]
    if not tools and schema is None:
        return Held()
    grammar = form.grammar(
        tools,
        marked=whole,
        parallel=choice.parallel and not forced,
        answer=schema if whole and not forced else None,
    )
    if grammar is None:
        return Held(refused=f"{form.name} has no grammar for these tools")
    if error := grammars.check(grammar):
        return Held(refused=error.split("\n")[0])
    if whole:
        return Held(Constraint(grammar, think_end))
    trigger = form.trigger or form.starts[0]
    _, opened, already = begun.rpartition(trigger)
    if opened and form.closed.strip() not in already[1:]:
        return Held(Constraint(grammar, "", already, final=False))
    return Held(Constraint(grammar, trigger, final=False))
