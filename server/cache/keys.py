"""The key of an exact answer: a digest of everything that decides it, and of nothing else."""

from __future__ import annotations

import hashlib

import msgspec

from mlxdeck.server.messages import ChatRequest

# Raised when the same request would be rendered or parsed differently than before.
FORM = 1

_encoder = msgspec.json.Encoder(order="deterministic")


def answer_key(request: ChatRequest, signature: str) -> str:
    """Digest a canonical request together with the model's signature, as 64 hex digits.

    The order of a JSON object's keys doesn't matter, nor do the model's name, the way the answer
    is sent, and whose conversation it is.
    """
    meaning = (
        FORM,
        signature,
        request.system,
        request.messages,
        request.tools,
        request.tool_choice,
        request.sampling,
        request.thinking,
    )
    return hashlib.sha256(_encoder.encode(meaning)).hexdigest()
