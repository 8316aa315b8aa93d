"""Which control tokens of a rendered prompt are the template's, and which are from texts: pure.

Where texts spell a control token, they are marked, and the request is rendered a second time. If
only the marks differ, they show the places. Some templates render a marked request differently.
Then the texts are searched for in the first rendering.
"""

from __future__ import annotations

import json
import re
import secrets
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from mlxdeck.server.chat import Block, ChatRequest, Message, ToolSpec, ToolUse

Span = tuple[int, int]
"""First character, and the one behind the last."""

# Letters and digits pass every filter of a template. Each mark is random, so no text contains it.
_NONCE = secrets.token_hex(6)
_START, _END = f"s{_NONCE}q", f"e{_NONCE}q"
_MARKS = re.compile(f"({_START}|{_END})")
# So much of a text around a control token is looked for, and at least so much of it.
_CONTEXT_CHARS = (40, 16, 6)


def mentions(request: ChatRequest, spellings: Sequence[str]) -> bool:
    """Whether a text of the request holds one of these, or ends within one.

    The texts of tools are checked in Python's `repr`, which is fast. This only escapes quotes and
    line feeds, and no known control token contains those.
    """
    tools = [(tool.name, tool.description, tool.input_schema) for tool in request.tools]
    loose = [*_texts(request), *request.template_options.values(), request.effort]
    printed = repr((tools, [each for each in loose if not isinstance(each, str)]))
    texts = [each for each in loose if isinstance(each, str)]
    return (
        any(spelling in text for spelling in spellings for text in texts)
        or any(spelling in printed for spelling in spellings)
        or any(_open_end(text, spellings) for text in texts)
    )


def _texts(request: ChatRequest) -> Iterator[Any]:
    yield from request.system
    for message in request.messages:
        for block in message.blocks:
            if isinstance(block, ToolUse):
                yield block.name
                yield block.input
            else:
                yield block.text


def _open_end(text: str, spellings: Sequence[str]) -> int:
    """Where a text has ended, but for blanks, if that is within a spelling; else 0."""
    end = len(text.rstrip())
    for first in {spelling[0] for spelling in spellings}:
        at = text.rfind(first, max(0, end - 64), end)
        if at >= 0 and any(s.startswith(text[at:end]) and len(s) > end - at for s in spellings):
            return end
    return 0


def marked(
    request: ChatRequest, spellings: Sequence[str], begun: Collection[str] = ()
) -> ChatRequest:
    """The request with marks around what its texts spell.

    Of `begun`, the beginning of an answer may hold all that it likes: it is the model's own.
    """
    messages = [_message(message, _marker(spellings)) for message in request.messages]
    if (last := request.messages[-1]).role == "assistant":
        others = [spelling for spelling in spellings if spelling not in begun]
        messages[-1] = _message(last, _marker(others))
    mark = _marker(spellings)
    return replace(
        request,
        system=tuple(mark(text) for text in request.system),
        messages=tuple(messages),
        tools=tuple(_tool(tool, mark) for tool in request.tools),
        effort=mark(request.effort),
        template_options={name: _json(v, mark) for name, v in request.template_options.items()},
    )


Mark = Callable[[str], str]


def _marker(spellings: Sequence[str]) -> Mark:
    pattern = _pattern(spellings)

    def mark(text: str) -> str:
        if end := _open_end(text, spellings):
            text = f"{text[:end]}{_END}{text[end:]}"
        return pattern.sub(lambda found: f"{_START}{found[0]}{_END}", text)

    return mark


def _pattern(spellings: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(spellings, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _message(message: Message, mark: Mark) -> Message:
    return Message(message.role, tuple(_block(block, mark) for block in message.blocks))


def _block(block: Block, mark: Mark) -> Block:
    if isinstance(block, ToolUse):
        return replace(block, name=mark(block.name), input=_json(block.input, mark))
    return replace(block, text=mark(block.text))


def _tool(tool: ToolSpec, mark: Mark) -> ToolSpec:
    return ToolSpec(mark(tool.name), mark(tool.description), _json(tool.input_schema, mark))


def _json(value: Any, mark: Mark) -> Any:
    if isinstance(value, str):
        return mark(value)
    if isinstance(value, list):
        return [_json(each, mark) for each in value]
    if isinstance(value, dict):
        return {mark(key): _json(each, mark) for key, each in value.items()}
    return value


def own_spans(
    text: str, rendered_marks: str, request: ChatRequest, spellings: Sequence[str]
) -> list[Span]:
    """Where the template has written control tokens, in order.

    `rendered_marks` is how it has rendered the marked request; empty if it could not.
    """
    pattern = _pattern(spellings)
    found = _between_marks(text, rendered_marks, spellings)
    others, joints = (_searched(text, request, pattern), []) if found is None else found
    own = []
    taken = sorted(others)
    at = 0
    while match := pattern.search(text, at):
        start, end = match.span()
        after = bisect_left(taken, (end, -1))
        is_inside = after > 0 and taken[after - 1][1] > start
        if is_inside or any(start < joint < end for joint in joints):
            # The template's own may begin within what only looks like one.
            at = start + 1
        else:
            own.append((start, end))
            at = end
    return own


def _between_marks(
    text: str, rendered: str, spellings: Collection[str]
) -> tuple[list[Span], list[int]] | None:
    """The texts between marks, and lone marks; None if more than marks has changed."""
    pieces = _MARKS.split(rendered)
    if "".join(pieces[::2]) != text:
        return None
    spans, joints, at, opened = [], [], 0, -1
    for i, piece in enumerate(pieces):
        if i % 2 == 0:
            at += len(piece)
        elif piece == _START:
            opened = at
        elif opened >= 0 and text[opened:at] in spellings:
            spans.append((opened, at))
            opened = -1
        else:
            joints.append(at)
    return spans, joints


def _searched(text: str, request: ChatRequest, pattern: re.Pattern[str]) -> list[Span]:
    """The places of texts that spell a control token, found by themselves or by their context."""
    spans: list[Span] = []
    for said in _all_texts(request):
        for found in pattern.finditer(said):
            spans += _located(text, said, found.span())
    return spans


def _located(text: str, said: str, span: Span) -> Iterator[Span]:
    start, end = span
    for n_chars in _CONTEXT_CHARS:
        before, after = said[max(0, start - n_chars) : start], said[end : end + n_chars]
        if len(before) + len(after) < min(_CONTEXT_CHARS):
            return
        places = []
        for head, tail in {(before, after), (_escaped(before), _escaped(after))}:
            needle, at = f"{head}{said[start:end]}{tail}", -1
            while (at := text.find(needle, at + 1)) >= 0:
                places.append((at + len(head), at + len(head) + end - start))
        if places:
            yield from places
            return


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _all_texts(request: ChatRequest) -> Iterator[str]:
    values = [*_texts(request), request.effort, request.template_options]
    for tool in request.tools:
        values += [tool.name, tool.description, tool.input_schema]
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            values += [*value, *value.values()]
        elif isinstance(value, list):
            values += value
