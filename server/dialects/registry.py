"""The wire formats that are served. A row in `DIALECTS` adds one."""

from __future__ import annotations

from collections.abc import Mapping

from mlxdeck.server.dialects.anthropic.requests import Anthropic
from mlxdeck.server.dialects.base import Dialect
from mlxdeck.server.dialects.openai_chat.requests import OpenAI

DIALECTS: Mapping[str, Dialect] = {"anthropic": Anthropic(), "openai": OpenAI()}
