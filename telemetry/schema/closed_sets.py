"""Values of attributes that have few, for the schema that other programs read."""

from __future__ import annotations

from typing import Annotated

import msgspec


def _one_of(*values: str) -> msgspec.Meta:
    """For the schema file only: a reader accepts unknown values of later versions."""
    return msgspec.Meta(extra_json_schema={"enum": list(values)})


Capture = Annotated[str, _one_of("off", "tools", "full")]
Outcome = Annotated[str, _one_of("ok", "error", "cancelled")]
LoadOutcome = Annotated[str, _one_of("ok", "error")]
ToolChoice = Annotated[str, _one_of("auto", "any", "tool", "none")]
AnswerFormat = Annotated[str, _one_of("text", "json_schema")]
ContentKind = Annotated[str, _one_of("system", "tools", "message", "answer")]
Role = Annotated[str, _one_of("system", "user", "assistant")]
CacheName = Annotated[str, _one_of("exact", "prefix")]
LookupResult = Annotated[str, _one_of("hit", "partial", "miss")]
CacheResult = Annotated[str, _one_of("exact", "prefix", "miss")]
MissReason = Annotated[
    str,
    _one_of(
        *("cold", "diverged", "evicted", "expired", "not_kept", "model_changed", "disabled"),
        "bypassed",
    ),
]
ProgressState = Annotated[str, _one_of("prepare", "wait", "prefill", "decode")]
Phase = Annotated[str, _one_of("prepare", "generate", "decode")]
EndedBy = Annotated[str, _one_of("loop")]
FallbackReason = Annotated[str, _one_of("window", "unreadable", "down", "loading", "error", "busy")]
