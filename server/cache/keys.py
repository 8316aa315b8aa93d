"""The key of an exact answer: a digest of everything that decides it, and of nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from mlxdeck.server.messages import ChatRequest

# Raised when the same request would be rendered or parsed differently than before.
FORM = 2
MODEL_DIGITS = 16

_encoder = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Digests:
    """A request's parts, each as 64 hex digits; empty for a part that it lacks.

    Equal for equal meaning: the order of a JSON object's keys is none.
    """

    system: str
    tools: str
    messages: tuple[str, ...]


def digests(request: ChatRequest) -> Digests:
    """Digest the parts of a canonical request that say something about where two differ."""
    return Digests(
        digest(request.system) if request.system else "",
        digest(request.tools) if request.tools else "",
        tuple(digest(message) for message in request.messages),
    )


def answer_key(parts: Digests, request: ChatRequest, signature: str) -> str:
    """The key of a canonical request's answer by the model of that signature.

    The model's name, the way the answer is sent, and whose conversation it is are no part of it.
    """
    thinking = (request.thinking, request.thinking_tokens)
    how = (request.tool_choice, request.sampling, thinking, request.answer_schema)
    return digest((FORM, parts, how)) + digest(signature)[:MODEL_DIGITS]


def request_of(key: str) -> str:
    """The part of a key that is the same for every model."""
    return key[:-MODEL_DIGITS]


def digest(value: object) -> str:
    """A value's sha256 as 64 hex digits."""
    return hashlib.sha256(_encoder.encode(value)).hexdigest()
