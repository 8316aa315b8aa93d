"""The key of an exact answer: a digest of everything that decides it, and of nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, replace

import msgspec

from mlxdeck.server.chat import ChatRequest, Message, ToolChoice
from mlxdeck.server.request_facts import Digests

# Raised when the same request would be rendered or parsed differently than before.
FORM = 3
MODEL_DIGITS = 16

# Client, user, form of the answer, and notes about the history: none of these changes an answer.
ASIDE = frozenset(
    {
        *("model", "stream", "stream_usage", "history_notes", "is_long", "answer_field"),
        *("is_short", "body_key"),
        *("session_id", "agent_id", "parent_agent_id", "agent_name", "refers_to", "answer_form"),
        # A backend for which these decide anything says so by its share of the key.
        *("client", "owner", "unsupported"),
    }
)
_PARTS = frozenset({"system", "tools", "messages"})
# All other fields of a request; a new field is in the key until it is excluded.
_DRAWN = tuple(
    each.name for each in fields(ChatRequest) if each.name not in ASIDE and each.name not in _PARTS
)

_encoder = msgspec.json.Encoder(order="deterministic")


def digests(request: ChatRequest) -> Digests:
    """Digest the parts of a canonical request that say something about where two differ."""
    return Digests(
        digest(request.system) if request.system else "",
        digest(request.tools) if request.tools else "",
        tuple(_message(message) for message in request.messages),
    )


def _message(message: Message) -> str:
    # By their fields alone, a text and a thought are the same.
    return digest((message.role, [(type(block).__name__, block) for block in message.blocks]))


def answer_key(
    parts: Digests,
    request: ChatRequest,
    signature: str,
    clock: Sequence[str] = (),
    share: str = "",
) -> str:
    """The key of a canonical request's answer by the model of that signature.

    `clock` is the chat template's output of the time, and `share` the backend's. The model's name,
    the form of the answer, and the conversation's owner are no part of the key.
    """
    if not request.tools:
        # There is nothing to choose from.
        request = replace(request, tool_choice=ToolChoice())
    how = [getattr(request, name) for name in _DRAWN]
    decides = (FORM, parts, how, clock, share) if share else (FORM, parts, how, clock)
    return digest(decides) + digest(signature)[:MODEL_DIGITS]


def request_of(key: str) -> str:
    """The part of a key that is the same for every model."""
    return key[:-MODEL_DIGITS]


def digest(value: object) -> str:
    """A value's sha256 as 64 hex digits."""
    return hashlib.sha256(_encoder.encode(value)).hexdigest()
