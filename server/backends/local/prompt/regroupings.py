"""Other arrangements of a conversation, for templates that refuse the original: pure.

Each has the same content in other turns. It depends only on earlier text and on the same run of
turns. So a conversation that grows keeps its beginning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from mlxdeck.server.backends.local.prompt.template_messages import (
    EMPTY_TURNS_KEPT,
    ONE_TURN,
    OPTIONS_LEFT_OUT,
    SCHEMAS_FILLED,
    TOOLS_AS_TEXT,
    Wire,
    merged,
)

Messages = list[Wire]

CONTENT_IN_PARTS = "content_in_parts"

ORPHAN = "Result of an earlier tool call:"
NO_RESULT = "(no result: the call was not answered)"
NO_TEXT = "(no text)"
OPENING = "(The conversation goes on.)"
SYSTEM = "Help the user."


def system_folded(messages: Messages) -> Messages:
    """The system prompt leads the first user turn."""
    if messages[0]["role"] != "system":
        return messages
    return merged([{"role": "user", "content": messages[0]["content"]}, *messages[1:]])


def roles_joined(messages: Messages) -> Messages:
    """Turns of the assistant that follow one another are one."""
    joined: Messages = []
    for message in messages:
        if joined and message["role"] == joined[-1]["role"] == "assistant":
            joined[-1] = _both(joined[-1], message)
        else:
            joined.append(message)
    return merged(joined)


def _both(first: Wire, second: Wire) -> Wire:
    whole = {**first, **second}
    for key, between in (("content", "\n\n"), ("reasoning_content", "\n")):
        said = [message[key] for message in (first, second) if message.get(key)]
        if said or key in whole:
            whole[key] = between.join(said)
    if calls := [*first.get("tool_calls", ()), *second.get("tool_calls", ())]:
        whole["tool_calls"] = calls
    return whole


def orphans_as_text(messages: Messages) -> Messages:
    """A result without a call in the turn before it becomes text of the user."""
    told: Messages = []
    open_ids: set[str] = set()
    for message in messages:
        if message["role"] == "assistant":
            open_ids = {call["id"] for call in message.get("tool_calls", ())}
        elif message["role"] == "tool" and message["tool_call_id"] not in open_ids:
            message = {"role": "user", "content": f"{ORPHAN}\n{message['content']}"}
        elif message["role"] == "tool":
            open_ids.discard(message["tool_call_id"])
        told.append(message)
    return merged(told)


def open_calls_answered(messages: Messages) -> Messages:
    """A call without a result gets one that states this, before the assistant continues."""
    answered: Messages = []
    for message, run in _runs(messages):
        found = {each["tool_call_id"] for each in run if each["role"] == "tool"}
        missing: Messages = [
            {"role": "tool", "tool_call_id": call["id"], "content": NO_RESULT}
            for call in message.get("tool_calls", ())
            if call["id"] not in found
        ]
        # Behind the results that there are.
        at = max((i + 1 for i, each in enumerate(run) if each["role"] == "tool"), default=0)
        answered += [message, *run[:at], *missing, *run[at:]]
    return answered


def results_first(messages: Messages) -> Messages:
    """Between two turns of the assistant, results come before texts."""
    sorted_: Messages = []
    for message, run in _runs(messages):
        sorted_ += [message, *merged(sorted(run, key=lambda each: each["role"] != "tool"))]
    return sorted_


def text_into_result(messages: Messages) -> Messages:
    """The user's text after a result becomes the end of that result."""
    joined: Messages = []
    for message in messages:
        if joined and (joined[-1]["role"], message["role"]) == ("tool", "user"):
            parts = [each for each in (joined[-1]["content"], message["content"]) if each]
            joined[-1] = {**joined[-1], "content": "\n\n".join(parts)}
        else:
            joined.append(message)
    return joined


def calls_apart(messages: Messages) -> Messages:
    """Each call gets a turn of its own, followed by its result."""
    apart: Messages = []
    for message, run in _runs(messages):
        calls = message.get("tool_calls", ())
        rest = list(run)
        if len(calls) < 2:
            apart += [message, *rest]
            continue
        for i, call in enumerate(calls):
            lead = message if i == 0 else {"role": "assistant", "content": ""}
            apart.append({**lead, "tool_calls": [call]})
            for each in run:
                if each["role"] == "tool" and each["tool_call_id"] == call["id"]:
                    apart.append(each)
                    rest.remove(each)
        apart += rest
    return apart


def answers_parted(messages: Messages) -> Messages:
    """Between two turns of the assistant, add a turn of the user."""
    parted: Messages = []
    for message in messages:
        if parted and message["role"] == parted[-1]["role"] == "assistant":
            parted.append({"role": "user", "content": OPENING})
        parted.append(message)
    return parted


def text_before_calls(messages: Messages) -> Messages:
    """Text and calls of the assistant are two turns."""
    parted: Messages = []
    for message in messages:
        if message.get("tool_calls") and message.get("content"):
            parted.append({"role": "assistant", "content": message["content"]})
            message = {**message, "content": ""}
        parted.append(message)
    return parted


def opened_by_user(messages: Messages) -> Messages:
    """A user turn comes first."""
    at = 1 if messages[0]["role"] == "system" else 0
    if at < len(messages) and messages[at]["role"] == "user":
        return messages
    return [*messages[:at], {"role": "user", "content": OPENING}, *messages[at:]]


def system_added(messages: Messages) -> Messages:
    """A system prompt comes first."""
    if messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": SYSTEM}, *messages]


def markers_parted(messages: Messages) -> Messages:
    """A marker that the assistant's own text spells has a blank in it."""
    return [
        {**message, "content": message["content"].replace("<|", "< |")}
        if message["role"] == "assistant" and "<|" in message.get("content", "")
        else message
        for message in messages
    ]


def empty_filled(messages: Messages) -> Messages:
    """A turn without text, or with blanks alone, says that it has none."""
    return [
        {**message, "content": NO_TEXT}
        if not message.get("content", "").strip() and not message.get("tool_calls")
        else message
        for message in messages
    ]


def content_left_out(messages: Messages) -> Messages:
    """Calls without a text have no content, instead of an empty one."""
    return [
        {key: value for key, value in message.items() if key != "content" or value}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def arguments_as_json(messages: Messages) -> Messages:
    """The arguments of calls are JSON in a string, as OpenAI's API has them."""
    return [
        {**message, "tool_calls": [_as_json(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def _as_json(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def ids_named(messages: Messages) -> Messages:
    """The ids of calls are their tools' names and a number, as Kimi writes them."""
    named: dict[str, str] = {}
    names: dict[str, str] = {}
    told: Messages = []
    for message in messages:
        if calls := message.get("tool_calls"):
            for call in calls:
                names[call["id"]] = name = call["function"]["name"]
                named[call["id"]] = f"functions.{name}:{len(named)}"
            message = {**message, "tool_calls": [{**c, "id": named[c["id"]]} for c in calls]}
        elif message["role"] == "tool" and (id_ := message["tool_call_id"]) in named:
            message = {**message, "tool_call_id": named[id_], "name": names[id_]}
        told.append(message)
    return told


def content_in_parts(messages: Messages) -> Messages:
    """Contents are lists of parts."""
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message.get("content"), str)
        else message
        for message in messages
    ]


def thinking_left_out(messages: Messages) -> Messages:
    """Remove earlier thinking."""
    return [
        {key: value for key, value in message.items() if key != "reasoning_content"}
        for message in messages
    ]


def one_turn(messages: Messages) -> Messages:
    """The whole conversation is one text of the user's; its beginning looks like a first turn."""
    parts = [f"[{message['role']}]\n{message.get('content', '')}" for message in messages]
    if messages[0]["role"] == "user":
        parts[0] = messages[0]["content"]
    return [{"role": "user", "content": "\n\n".join(parts)}]


def _runs(messages: Iterable[Wire]) -> Iterator[tuple[Wire, Messages]]:
    """Each turn of the assistant, or of the system, with the turns up to the next one.

    The turns before the first one are a run of their own.
    """
    run: Messages = []
    for message in messages:
        if run and message["role"] in ("assistant", "system"):
            yield run[0], run[1:]
            run = []
        run.append(message)
    if run:
        yield run[0], run[1:]


# In the order in which they are applied.
_STEPS: dict[str, Callable[[Messages], Messages]] = {
    "roles_joined": roles_joined,
    "orphans_as_text": orphans_as_text,
    "open_calls_answered": open_calls_answered,
    "results_first": results_first,
    "calls_apart": calls_apart,
    "text_before_calls": text_before_calls,
    "answers_parted": answers_parted,
    "text_into_result": text_into_result,
    "system_folded": system_folded,
    "opened_by_user": opened_by_user,
    "system_added": system_added,
    "markers_parted": markers_parted,
    "empty_filled": empty_filled,
    "content_left_out": content_left_out,
    "arguments_as_json": arguments_as_json,
    "ids_named": ids_named,
    "thinking_left_out": thinking_left_out,
    ONE_TURN: one_turn,
    CONTENT_IN_PARTS: content_in_parts,
}

REGROUPINGS = {
    "system_folded": "a system prompt",
    "content_left_out": "an empty text beside calls",
    "arguments_as_json": "arguments of calls as objects",
    "ids_named": "ids of calls that don't name their tools",
    CONTENT_IN_PARTS: "contents that are plain texts",
    "results_first": "a text before a tool result",
    "text_into_result": "a text behind a tool result",
    EMPTY_TURNS_KEPT: "an empty turn left out",
    "roles_joined": "two turns of the assistant in a row",
    "orphans_as_text": "a result without its call",
    "open_calls_answered": "a call without its result",
    "opened_by_user": "a conversation that the assistant begins",
    "empty_filled": "an empty text",
    "calls_apart": "several calls in a turn",
    "text_before_calls": "a text beside calls",
    "answers_parted": "a text and calls without a turn of the user's between them",
    "markers_parted": "an answer that spells a marker",
    "thinking_left_out": "earlier thinking",
    OPTIONS_LEFT_OUT: "options as effort",
    SCHEMAS_FILLED: "tools whose schemas leave something out",
    "system_added": "a conversation without a system prompt",
    TOOLS_AS_TEXT: "tools",
    ONE_TURN: "conversations of several turns",
}
"""Each regrouping with the construct that makes it necessary; the smallest changes come first."""


_HEAVY = (TOOLS_AS_TEXT, ONE_TURN)


def regroup(messages: Messages, names: Collection[str]) -> Messages:
    """Apply regroupings to messages; the order of their names doesn't matter."""
    for name, step in _STEPS.items():
        if name in names:
            messages = step(messages)
    return messages


def changing(messages: Messages, names: Collection[str]) -> tuple[str, ...]:
    """Which of these regroupings change something."""
    found = []
    for name, step in _STEPS.items():
        if name in names:
            after = step(messages)
            if after != messages:
                found.append(name)
            messages = after
    return tuple(found)


def least(known: Collection[str], accepts: Callable[[frozenset[str]], bool]) -> frozenset[str]:
    """The regroupings to add to the known ones, so that a template accepts.

    One alone, else as many as necessary, without those that turn out not to be needed. If possible,
    tools stay tools and turns stay turns.

    Raises:
        LookupError: None help.
    """
    # A turn that is kept changes nothing else.
    order = (EMPTY_TURNS_KEPT, *(name for name in REGROUPINGS if name != EMPTY_TURNS_KEPT))
    light = [name for name in order if name not in known and name not in _HEAVY]
    for heavy in ((), _HEAVY[:1], _HEAVY):
        base = frozenset({*known, *heavy})
        sets = [base, *(base | {name} for name in light)]
        # Contents in parts spoil the rest where a template prints them as they are.
        texts = [name for name in light if name != CONTENT_IN_PARTS]
        sets += [base | {*texts[:n]} for n in range(2, len(texts) + 1)]
        sets += [base | {*light[:n]} for n in range(2, len(light) + 1)]
        for tried in sets:
            if tried != frozenset(known) and accepts(tried):
                return _needed(tried, base, accepts)
    raise LookupError("no regrouping helps")


def _needed(
    names: frozenset[str], base: frozenset[str], accepts: Callable[[frozenset[str]], bool]
) -> frozenset[str]:
    """The names without those that a template does as well without, heavier ones first."""
    for name in reversed(REGROUPINGS):
        if name in names - base and accepts(names - {name}):
            names -= {name}
    return names
