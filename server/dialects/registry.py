"""The wire formats that are served. A row in `DIALECTS` adds one."""

from __future__ import annotations

from collections.abc import Mapping

from mlxdeck.server.dialects.anthropic.requests import Anthropic
from mlxdeck.server.dialects.base import Dialect
from mlxdeck.server.dialects.openai_chat.requests import OpenAI
from mlxdeck.server.dialects.openai_completions.requests import OpenAICompletions
from mlxdeck.server.dialects.openai_responses.requests import OpenAIResponses

DIALECTS: Mapping[str, Dialect] = {
    each.name: each for each in (Anthropic(), OpenAI(), OpenAIResponses(), OpenAICompletions())
}
