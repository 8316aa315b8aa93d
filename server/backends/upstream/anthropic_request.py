"""A conversation in the words of Anthropic's Messages API. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mlxdeck.server.chat import (
    NO_LIMIT_TOKENS,
    Block,
    ChatRequest,
    MediaText,
    Message,
    ResultWithMedia,
    Text,
    ToolResult,
    ToolUse,
)

DEFAULT_MAX_TOKENS = 8192
"""This API needs a limit; every model of Anthropic's takes this one."""
BUDGETS = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16_384}
"""Tokens of thinking for OpenAI's words of effort."""
LEAST_BUDGET = 1024
_DOCUMENT = "application/pdf"


def anthropic_fields(chat: ChatRequest, *, hosted: bool) -> dict[str, Any]:
    """The body but for its model; `hosted` leaves out what only servers at home know."""
    sampling = chat.sampling
    n_tokens = sampling.max_tokens
    stops = [stop for stop in sampling.stop_sequences if stop.strip()]
    fields: dict[str, Any] = {
        "max_tokens": n_tokens if n_tokens < NO_LIMIT_TOKENS else DEFAULT_MAX_TOKENS,
        "system": [{"type": "text", "text": text} for text in chat.system if text.strip()] or None,
        "messages": [each for message in chat.messages for each in _message(message)],
        "temperature": None if sampling.temperature is None else min(1.0, sampling.temperature),
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or None,
        "stop_sequences": stops or None,
    }
    if chat.tools:
        fields["tools"] = [
            {"name": t.name, "description": t.description, "input_schema": t.input_schema}
            for t in chat.tools
        ]
        fields["tool_choice"] = _choice(chat)
    if chat.answer_schema is not None:
        form = {"type": "json_schema", "schema": chat.answer_schema}
        fields["output_config"] = {"format": form}
    if not hosted:
        fields |= {
            "seed": sampling.seed,
            "min_p": sampling.min_p or None,
            "chat_template_kwargs": chat.template_options or None,
        }
    fields |= _thinking(chat, fields["max_tokens"])
    return {key: value for key, value in fields.items() if value is not None}


def _choice(chat: ChatRequest) -> dict[str, Any] | None:
    choice = chat.tool_choice
    if choice.mode == "auto" and choice.parallel:
        return None
    named = {"name": choice.name} if choice.mode == "tool" else {}
    return {"type": choice.mode, **named, "disable_parallel_tool_use": not choice.parallel}


def _thinking(chat: ChatRequest, max_tokens: int) -> dict[str, Any]:
    """Thinking, where the API takes it: its blocks carry signatures, which no other API keeps."""
    if chat.thinking is False:
        return {"thinking": {"type": "disabled"}}
    budget = chat.thinking_tokens or BUDGETS.get(chat.effort, BUDGETS["medium"])
    budget = min(max(budget, LEAST_BUDGET), max_tokens - 1)
    is_in_turn = any(isinstance(block, ToolResult) for block in chat.messages[-1].blocks)
    is_forced = chat.tool_choice.mode in ("any", "tool")
    if not chat.thinking or budget < LEAST_BUDGET or is_in_turn or is_forced:
        return {}
    free = {"temperature": None, "top_p": None, "top_k": None}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}, **free}


def _message(message: Message) -> Iterator[dict[str, Any]]:
    content = [each for block in message.blocks for each in _block(block)]
    if content:
        # A system message has no place in a conversation here.
        role = "assistant" if message.role == "assistant" else "user"
        # Results come first.
        content.sort(key=lambda each: each["type"] != "tool_result")
        yield {"role": role, "content": content}


def _block(block: Block) -> Iterator[dict[str, Any]]:
    if isinstance(block, Text):
        yield from _parts([block])
    elif isinstance(block, ToolUse):
        yield {"type": "tool_use", "id": block.id, "name": block.name, "input": block.input}
    elif isinstance(block, ToolResult):
        parts = block.parts if isinstance(block, ResultWithMedia) else [Text(block.text)]
        result = {"type": "tool_result", "tool_use_id": block.tool_use_id}
        is_error = {"is_error": True} if block.is_error else {}
        yield {**result, "content": list(_parts(parts)), **is_error}


def _parts(blocks: Sequence[Text]) -> Iterator[dict[str, Any]]:
    for block in blocks:
        source = _source(block) if isinstance(block, MediaText) else None
        if isinstance(block, MediaText) and source is not None:
            yield {"type": block.kind, "source": source}
        elif block.text.strip():
            yield {"type": "text", "text": block.text}


def _source(block: MediaText) -> dict[str, Any] | None:
    """Where a picture or document is; None for what this API doesn't take."""
    if block.kind not in ("image", "document"):
        return None
    if block.data:
        known = block.media_type or (_DOCUMENT if block.kind == "document" else "image/png")
        return {"type": "base64", "media_type": known, "data": block.data}
    return {"type": "url", "url": block.url} if block.url.startswith("http") else None
