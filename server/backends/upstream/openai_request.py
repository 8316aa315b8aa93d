"""A conversation in the words of OpenAI's chat completions. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mlxdeck.server.chat import (
    NO_LIMIT_TOKENS,
    ChatRequest,
    MediaText,
    Message,
    ResultWithMedia,
    Sampling,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
)
from mlxdeck.server.dialects.sse import to_json

BREAK = "\n\n"
"""Between blocks that become one text."""


def openai_fields(chat: ChatRequest, *, hosted: bool) -> dict[str, Any]:
    """The body but for its model; `hosted` leaves out what only servers at home know."""
    fields: dict[str, Any] = {"messages": list(_messages(chat, hosted=hosted))}
    fields |= _sampling(chat.sampling, hosted=hosted)
    if chat.tools:
        fields["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.input_schema,
                },
            }
            for tool in chat.tools
        ]
        fields |= _choice(chat)
    if chat.answer_schema is not None:
        named = {"name": "answer", "schema": chat.answer_schema, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": named}
    if chat.effort:
        fields["reasoning_effort"] = chat.effort
    options = dict(chat.template_options)
    if chat.thinking is not None:
        options.setdefault("enable_thinking", chat.thinking)
    if options and not hosted:
        fields["chat_template_kwargs"] = options
    return fields


def _choice(chat: ChatRequest) -> dict[str, Any]:
    choice, fields = chat.tool_choice, dict[str, Any]()
    if choice.mode == "tool":
        fields["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice.mode == "any":
        fields["tool_choice"] = "required"
    if not choice.parallel:
        fields["parallel_tool_calls"] = False
    return fields


def _sampling(sampling: Sampling, *, hosted: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty or None,
        "frequency_penalty": sampling.frequency_penalty or None,
        "stop": list(sampling.stop_sequences) or None,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias} or None,
    }
    if sampling.max_tokens < NO_LIMIT_TOKENS:
        fields["max_completion_tokens" if hosted else "max_tokens"] = sampling.max_tokens
    if not hosted:
        fields["top_k"] = sampling.top_k
        fields["min_p"] = sampling.min_p or None
        fields["repetition_penalty"] = _unless(sampling.repetition_penalty, 1.0)
    return {key: value for key, value in fields.items() if value is not None}


def _unless(value: float, usual: float) -> float | None:
    return None if value == usual else value


def _messages(chat: ChatRequest, *, hosted: bool) -> Iterator[dict[str, Any]]:
    if chat.system:
        yield {"role": "system", "content": BREAK.join(chat.system)}
    for message in chat.messages:
        if message.role == "assistant":
            yield _assistant(message, hosted=hosted)
        elif message.role == "system":
            # Most chat templates take a system message at the beginning only.
            yield {"role": "system" if hosted else "user", "content": _content(message.blocks)}
        else:
            yield from _user(message)


def _assistant(message: Message, *, hosted: bool) -> dict[str, Any]:
    said = BREAK.join(block.text for block in message.blocks if isinstance(block, Text))
    thought = BREAK.join(block.text for block in message.blocks if isinstance(block, Thinking))
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": to_json(block.input).decode()},
        }
        for block in message.blocks
        if isinstance(block, ToolUse)
    ]
    fields: dict[str, Any] = {"role": "assistant", "content": said}
    if thought and not hosted:
        fields["reasoning_content"] = thought
    if calls:
        fields["content"] = said or None
        fields["tool_calls"] = calls
    return fields


def _user(message: Message) -> Iterator[dict[str, Any]]:
    """Results of calls, which come first, and the rest with the pictures of the results."""
    rest: list[Text] = []
    for block in message.blocks:
        if isinstance(block, ToolResult):
            yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": block.text}
            if isinstance(block, ResultWithMedia):
                # A result holds text alone in this API.
                rest += [part for part in block.parts if isinstance(part, MediaText)]
        elif isinstance(block, Text):
            rest.append(block)
    if rest:
        yield {"role": "user", "content": _content(rest)}


def _content(blocks: Sequence[object]) -> str | list[dict[str, Any]]:
    texts = [block for block in blocks if isinstance(block, Text)]
    if not any(isinstance(block, MediaText) for block in texts):
        return BREAK.join(block.text for block in texts)
    return [_part(block) for block in texts]


def _part(block: Text) -> dict[str, Any]:
    if isinstance(block, MediaText):
        whole = f"data:{block.media_type};base64,{block.data}" if block.data else block.url
        if block.kind == "image" and whole:
            return {"type": "image_url", "image_url": {"url": whole}}
        if block.kind == "document" and block.data:
            named = {"filename": block.name or "document", "file_data": whole}
            return {"type": "file", "file": named}
        if block.kind == "audio" and block.data:
            form = block.media_type.rpartition("/")[2] or "wav"
            return {"type": "input_audio", "input_audio": {"data": block.data, "format": form}}
    return {"type": "text", "text": block.text}
