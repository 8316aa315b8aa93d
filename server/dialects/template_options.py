"""What a client tells the chat template beside the conversation."""

from __future__ import annotations

from typing import Any

from mlxdeck.server.dialects.json_fields import shallow, typed
from mlxdeck.server.errors import BadRequest

MAX_WORD = 32
# What the renderer of templates takes for itself, or is given by this server.
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
    """How hard to think, in whatever words a model knows; empty if nothing is said."""
    word = typed("" if value is None else value, str, path)
    if len(word) > MAX_WORD or not word.isascii():
        raise BadRequest(path, "expected a word such as low, medium or high")
    return word
