"""Options of the client for the chat template."""

from __future__ import annotations

from typing import Any

from mlxdeck.server.dialects.json_fields import shallow, typed
from mlxdeck.server.errors import BadRequest

MAX_WORD = 32
# Names that the template renderer uses itself, or that this server sets.
_TAKEN = frozenset(
    (
        *("messages", "conversation", "conversations", "tools", "documents", "self"),
        *("chat_template", "add_generation_prompt", "continue_final_message", "tokenizer_kwargs"),
        *("tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict"),
        *("return_assistant_tokens_mask", "sanitize_control_tokens"),
        *("raise_exception", "strftime_now"),
    )
)


def template_options(fields: dict[str, Any]) -> dict[str, Any]:
    """`chat_template_kwargs`: an object whose names are free to choose."""
    path = "chat_template_kwargs"
    options = shallow(typed(fields.get(path) or {}, dict, path), path)
    for name in options:
        if name in _TAKEN or not name.isidentifier() or name.startswith("_"):
            raise BadRequest(f"{path}.{name:.50}", "can't be set by a request")
    return options


def effort(value: object, path: str) -> str:
    """The effort of thinking, in any words of the model; empty if the client sets none."""
    word = typed("" if value is None else value, str, path)
    if len(word) > MAX_WORD or not word.isascii():
        raise BadRequest(path, "expected a word such as low, medium or high")
    return word
