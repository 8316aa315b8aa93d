"""The canonical form of a request: without the parts that vary and have no meaning.

Pure. Both the key of an exact answer and the tokens of a prompt are made from the result. So
neither depends on values that a client changes from turn to turn. Cache marks and metadata don't
get this far: no dialect decodes them into a `ChatRequest`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

from mlxdeck.server.chat import Block, ChatRequest, Message, Text, ToolResult, ToolUse

# Claude Code opens its system prompt with a line of accounting that differs from run to run.
_BILLING = re.compile(r"\Ax-anthropic-billing-header:[^\n]*\n?")
# It also counts down its budget, alone on a line, in system text only.
_BUDGET = re.compile(r"^[ \t]*<total_tokens>\d+ tokens left</total_tokens>[ \t]*\n?", re.MULTILINE)
# Codex names each piece of a command's output anew, and measures to a ten-thousandth of a second.
_OUTPUT_HEAD = re.compile(
    r"\A(?:Chunk ID: [0-9a-f]+\n|(Exit code: -?\d+\n))(Wall time: \d+)(?:\.\d+)?(?= seconds\n)"
)

# The usual order of JSON Schema's words; models have seen it most.
_FIRST = ("$schema", "$ref", "type", "title", "description", "enum", "const", "properties")
_ORDER = {word: place for place, word in enumerate(_FIRST)}
# Below these keywords are names that somebody chose, not keywords of JSON Schema.
_NAMED = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
# Below these keywords is data, whose order must not change.
_DATA = frozenset({"default", "const", "enum", "examples"})

REMOVED_DIGITS = 8
"""Of the sha256 of what a rule took out."""
Rule = Callable[[ChatRequest], ChatRequest]


def without_billing_header(request: ChatRequest) -> ChatRequest:
    """Drop the line of accounting at the very beginning of the system prompt."""
    if not request.system or not (match := _BILLING.match(request.system[0])):
        return request
    rest = request.system[0][match.end() :]
    return replace(request, system=((rest,) if rest else ()) + request.system[1:])


def without_total_tokens(request: ChatRequest) -> ChatRequest:
    """Drop the countdown of tokens from system text; a message that holds nothing else goes."""
    messages = []
    for message in request.messages:
        if message.role != "system":
            messages.append(message)
        elif texts := _cleaned(block.text for block in message.blocks if isinstance(block, Text)):
            messages.append(Message("system", tuple(Text(text) for text in texts)))
    clean = replace(request, system=_cleaned(request.system), messages=tuple(messages))
    return request if clean == request else clean


def _cleaned(texts: Iterable[str]) -> tuple[str, ...]:
    """Leave out the countdown, and a text that held nothing else."""
    return tuple(
        clean for text in texts if (clean := _BUDGET.sub("", text)) == text or clean.strip()
    )


def clean_system(text: str, off: Collection[str] = (), *, first: bool) -> str:
    """One text of a system prompt without accounting; `first` is its beginning."""
    if first and "billing_header" not in off:
        text = _BILLING.sub("", text, count=1)
    return text if "total_tokens" in off else _BUDGET.sub("", text)


def with_plain_output_heads(request: ChatRequest) -> ChatRequest:
    """Drop the name of a piece of a command's output, and the fraction of its seconds."""

    def plain(block: Block) -> Block:
        # Of results with pictures, none is a command's.
        if type(block) is not ToolResult or not (head := _OUTPUT_HEAD.match(block.text)):
            return block
        return replace(block, text=f"{head[1] or ''}{head[2]}{block.text[head.end() :]}")

    messages = tuple(
        replace(message, blocks=tuple(map(plain, message.blocks))) for message in request.messages
    )
    return request if messages == request.messages else replace(request, messages=messages)


def with_plain_ids(request: ChatRequest) -> ChatRequest:
    """Number the calls in order: their ids only say which result belongs to which call.

    Nine letters and digits, which is what Mistral's templates insist on.
    """
    names: dict[str, str] = {}

    def plain(block: Block) -> Block:
        if isinstance(block, ToolUse):
            return replace(block, id=names.setdefault(block.id, f"call{len(names):05}"))
        if isinstance(block, ToolResult):
            name = names.setdefault(block.tool_use_id, f"call{len(names):05}")
            return replace(block, tool_use_id=name)
        return block

    messages = tuple(
        Message(message.role, tuple(plain(block) for block in message.blocks))
        for message in request.messages
    )
    return request if messages == request.messages else replace(request, messages=messages)


def ordered_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A tool's schema with its keys in one order: the order in a JSON object has no meaning.

    Keys of answers don't depend on that order anyway, so only the renderer needs this. It would
    cost the event loop a millisecond for the tools of Claude Code.
    """
    return {
        word: _ordered(schema[word], named=word in _NAMED) for word in sorted(schema, key=_place)
    }


def _place(word: str) -> tuple[int, str]:
    return _ORDER.get(word, len(_ORDER)), word


def _ordered(schema: Any, *, named: bool) -> Any:
    if isinstance(schema, list):
        return [_ordered(each, named=False) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        word: schema[word]
        if not named and word in _DATA
        else _ordered(schema[word], named=not named and word in _NAMED)
        for word in sorted(schema, key=None if named else _place)
    }


RULES: dict[str, Rule] = {
    "billing_header": without_billing_header,
    "total_tokens": without_total_tokens,
    "output_heads": with_plain_output_heads,
    "tool_ids": with_plain_ids,
}
"""What may be taken out or evened out, in the order it is done."""
SCHEMA_ORDER = "schema_order"
"""The rule that the renderer applies."""
RULE_NAMES = (*RULES, SCHEMA_ORDER)


def canonical(
    request: ChatRequest, off: Collection[str] = ()
) -> tuple[ChatRequest, tuple[str, ...]]:
    """Apply every rule except those in `off`; return the result and the rules with an effect.

    Text of the user and the assistant is never touched, even if it quotes such parts.
    """
    changed = []
    for name, rule in RULES.items():
        if name not in off:
            before, request = request, rule(request)
            # A rule without an effect returns its argument: dicts are equal in any order.
            if request is not before:
                changed.append(name)
    # A tool that may not be called is not offered: the model would only be led astray.
    if request.tool_choice.mode == "none":
        request = replace(request, tools=())
    return request, tuple(changed)


def removed_parts(request: ChatRequest, rules: Collection[str]) -> tuple[str, ...]:
    """What rules take out of a request: their name, `system` or a message's number, and a digest.

    Numbers are those of the canonical form's messages.
    """
    found = [_removed("billing_header", "system", "".join(_billing(request)))]
    found.append(_removed("total_tokens", "system", "".join(_budgets(request.system))))
    index = 0
    for message in request.messages:
        place = str(index)
        texts = [block.text for block in message.blocks if isinstance(block, Text)]
        if message.role == "system":
            found.append(_removed("total_tokens", place, "".join(_budgets(texts))))
            is_dropped = "total_tokens" in rules and not _cleaned(texts)
            index += not is_dropped
            continue
        results = [block for block in message.blocks if type(block) is ToolResult]
        heads = (head[0] for each in results if (head := _OUTPUT_HEAD.match(each.text)))
        found.append(_removed("output_heads", place, "".join(heads)))
        found.append(_removed("tool_ids", place, "\n".join(_ids(message.blocks))))
        index += 1
    return tuple(each for each in found if each and each.split(" ")[0] in rules)


def _removed(rule: str, place: str, text: str) -> str:
    if not text:
        return ""
    raw = text.encode("utf-8", "surrogatepass")
    return f"{rule} {place} {hashlib.sha256(raw).hexdigest()[:REMOVED_DIGITS]}"


def _billing(request: ChatRequest) -> Iterator[str]:
    if request.system and (match := _BILLING.match(request.system[0])):
        yield match[0]


def _budgets(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from (found[0] for found in _BUDGET.finditer(text))


def _ids(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, ToolUse):
            yield block.id
        elif isinstance(block, ToolResult):
            yield block.tool_use_id
