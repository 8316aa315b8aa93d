"""Whether what is to be held is held: forced calls, calls begun freely, JSON of a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema

from tests.e2e.schemas import SCHEMAS, S, between, obj, one_of, some
from tests.zoo.asking import Answer, Subject
from tests.zoo.conversations import SYSTEM, TOOLS

N_CLIENTS = 8
MAX_TOKENS = 500


def _defined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that refers to a model of its own."""
    model = obj(a={"type": "integer"}, b=S)
    return schema | {"$defs": {"M": model}}


FORCED: list[dict[str, Any]] = [
    # All kinds of schemas, and those in which pydantic says what may be left out.
    *(SCHEMAS[at] for at in (0, 2, 5, 8, 9, 14, 17, 20, 27, 29, 31, 36, 39, 41, 43, 48)),
    _defined(obj(p={"anyOf": [{"$ref": "#/$defs/M"}, {"type": "null"}]})),
    _defined(obj(p={"allOf": [{"$ref": "#/$defs/M"}]}, n=between(-5, 5))),
    obj(kind={"oneOf": [{"const": "a"}, {"const": 2}, {"const": None}]}, flag={"enum": [True]}),
    obj(1, name=S, tags=some(one_of("x", "y"), 0, 2), size={"type": "number", "maximum": 9}),
]
JSON: list[dict[str, Any]] = [
    {**obj(name=S, age=between(0, 120)), "additionalProperties": False},
    {**obj(tags=some(S, 0, 3)), "additionalProperties": False},
    {**obj(a=obj(b=one_of("x", "y"), c={"type": "boolean"})), "additionalProperties": False},
]


def forced(subject: Subject) -> str:
    """Twenty schemas, at temperature 0 and 1, streamed and not: each call conforms."""
    jobs = [(at, temperature) for at in range(len(FORCED)) for temperature in (0.0, 1.0)]

    def one(job: tuple[int, float]) -> str:
        number, temperature = job
        tool: dict[str, Any] = {
            "name": f"tool_{number}",
            "description": "d",
            "input_schema": FORCED[number],
        }
        answer = subject.ask(
            {
                "model": "local",
                "max_tokens": MAX_TOKENS,
                "temperature": temperature,
                "stream": number % 2 == 0,
                "system": SYSTEM[:100],
                "tools": [tool],
                "tool_choice": {"type": "tool", "name": tool["name"]},
                "messages": [{"role": "user", "content": "Call it with any values."}],
            }
        )
        wrong = _wrong_call(subject, answer, {tool["name"]: FORCED[number]}, exactly_one=True)
        return wrong and f"schema {number} at {temperature:.0f}: {wrong}"

    with ThreadPoolExecutor(N_CLIENTS) as clients:
        wrong = [each for each in clients.map(one, jobs) if each]
    schemas = len({each.split()[1] for each in wrong})
    if wrong:
        return f"{len(FORCED) - schemas}/{len(FORCED)}; {wrong[0]}"
    return _cut(subject)


def _cut(subject: Subject) -> str:
    """A forced call that is cut at its limit says so."""
    answer = subject.ask(
        {
            "model": "local",
            "max_tokens": 4,
            "tools": TOOLS[:1],
            "tool_choice": {"type": "any"},
            "messages": [{"role": "user", "content": "Read it."}],
        }
    )
    if answer.refused() or answer.stop_reason != "max_tokens":
        return f"cut at 4 tokens: {answer.refused() or answer.stop_reason}"
    return ""


def _wrong_call(
    subject: Subject, answer: Answer, schemas: Mapping[str, Any], *, exactly_one: bool
) -> str:
    if refused := answer.refused():
        return refused
    if exactly_one and (len(answer.calls) != 1 or answer.stop_reason != "tool_use"):
        return f"{len(answer.calls)} calls, {answer.stop_reason}: {str(answer.blocks)[:150]}"
    # The last call of an answer that was cut is cut as well.
    whole = answer.calls[: -1 if answer.stop_reason == "max_tokens" else None]
    for call in whole:
        errors = jsonschema.Draft202012Validator(schemas[call["name"]]).iter_errors(call["input"])
        if found := next(errors, None):
            return f"{str(call['input'])[:100]}: {found.message[:100]}"
    for told in subject.calls(answer.request_id)[: len(whole)]:
        if not (told.constrained and told.parse_ok and told.schema_valid) or told.repaired:
            return f"telemetry says: {told.unconstrained or told}"[:200]
    return ""


def auto(subject: Subject) -> str:
    """Calls that the model begins by itself conform; it does begin some."""
    schemas = {tool["name"]: tool["input_schema"] for tool in TOOLS}
    # With bounds: what the model is not to write for ever.
    read: dict[str, Any] = TOOLS[0]
    bounded = obj(1, file_path=S, limit=between(1, 999))
    tools: list[Any] = [{**read, "input_schema": bounded}, TOOLS[1]]

    # Some random weights end every turn with its first token: half of the answers may not end.
    never = dict.fromkeys(map(str, subject.family.end_ids()), -100)

    def one(number: int) -> Answer:
        return subject.ask(
            {
                "model": "local",
                "max_tokens": 250,
                "temperature": float(number % 2),
                "logit_bias": never if number % 4 > 1 else {},
                "stream": number % 3 == 0,
                "system": SYSTEM[:100],
                "tools": tools,
                "messages": [{"role": "user", "content": f"Read file number {number}."}],
            }
        )

    n_calls = 0
    for first in range(0, 64, N_CLIENTS):
        with ThreadPoolExecutor(N_CLIENTS) as clients:
            answers = list(clients.map(one, range(first, first + N_CLIENTS)))
        for answer in answers:
            if wrong := _wrong_call(subject, answer, schemas, exactly_one=False):
                return wrong
            if answer.stop_reason not in ("tool_use", "end_turn", "max_tokens"):
                return f"stop reason {answer.stop_reason}"
            n_calls += len(answer.calls)
        if n_calls >= 3:
            return ""
    return f"only {n_calls} calls were begun in 64 answers"


def answers(subject: Subject) -> str:
    """What is to be JSON of a schema is; with tools beside it, it may be a call instead."""
    for number, schema in enumerate(JSON):
        for temperature in (0.0, 1.0):
            answer = subject.ask(
                {
                    "model": "local",
                    "max_tokens": MAX_TOKENS,
                    "temperature": temperature,
                    "stream": number == 1,
                    "output_config": {"format": {"type": "json_schema", "schema": schema}},
                    "messages": [{"role": "user", "content": "Describe anybody."}],
                }
            )
            if refused := answer.refused():
                return f"schema {number}: {refused}"
            try:
                value = json.loads(answer.text)
                jsonschema.Draft202012Validator(schema).validate(value)
            except (ValueError, jsonschema.ValidationError) as error:
                told = f"{answer.stop_reason}, {answer.text[:80]!r}"
                return f"schema {number} at {temperature:.0f}: {told}: {str(error)[:80]}"
            if answer.stop_reason != "end_turn":
                return f"schema {number}: stop reason {answer.stop_reason}"
    return ""
