"""What the benchmark asks, as bodies of Anthropic's and of OpenAI's API, and how answers are read.

Pure values; `bench_client` sends and times them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ApiName = Literal["anthropic", "openai"]
PATHS: Mapping[ApiName, str] = {"anthropic": "/messages", "openai": "/chat/completions"}
TOOL = "file_report"


@dataclass(frozen=True, slots=True)
class Asked:
    """A streamed request, whatever the API."""

    turns: tuple[str, ...]
    """Of the user and of the model in turns; the last is the user's."""
    max_tokens: int
    system: str = ""
    form: Mapping[str, Any] | None = None
    """Schema of a tool that has to be called."""

    def body(self, api: ApiName, model: str) -> dict[str, Any]:
        """The same in an API, greedy."""
        roles = ("user", "assistant")
        turns = [
            {"role": roles[number % 2], "content": text} for number, text in enumerate(self.turns)
        ]
        fields = {"model": model, "max_tokens": self.max_tokens, "temperature": 0, "stream": True}
        return self._anthropic(fields, turns) if api == "anthropic" else self._openai(fields, turns)

    def _anthropic(self, fields: dict[str, Any], turns: list[dict[str, str]]) -> dict[str, Any]:
        body = {**fields, "messages": turns}
        if self.system:
            body["system"] = self.system
        if self.form is not None:
            tool = {"name": TOOL, "description": "Files a report.", "input_schema": self.form}
            body |= {"tools": [tool], "tool_choice": {"type": "tool", "name": TOOL}}
        return body

    def _openai(self, fields: dict[str, Any], turns: list[dict[str, str]]) -> dict[str, Any]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        body = {**fields, "messages": [*system, *turns], "stream_options": {"include_usage": True}}
        if self.form is not None:
            function = {"name": TOOL, "description": "Files a report.", "parameters": self.form}
            body |= {"tools": [{"type": "function", "function": function}]}
            body |= {"tool_choice": {"type": "function", "function": {"name": TOOL}}}
        return body


@dataclass(slots=True)
class Heard:
    """What has come of an answer so far."""

    text: str = ""
    arguments: str = ""
    """Of a call, as JSON."""
    n_deltas: int = 0
    """Pieces with content, thinking included."""
    input_tokens: int | None = None
    """All of the prompt; None if the server doesn't say it."""
    cached_tokens: int | None = None
    """Those of it that were known."""
    output_tokens: int | None = None
    error: str = ""

    def hear(self, api: ApiName, data: Mapping[str, Any]) -> bool:
        """One event of a stream; says whether it brought content."""
        before = self.n_deltas
        if api == "anthropic":
            self._anthropic(data)
        else:
            self._openai(data)
        return self.n_deltas > before

    def _anthropic(self, data: Mapping[str, Any]) -> None:
        if data.get("type") == "error":
            self.error = str((data.get("error") or {}).get("message", "an error"))
        usage = (data.get("message") or {}).get("usage") or data.get("usage") or {}
        if "input_tokens" in usage:
            cached = usage.get("cache_read_input_tokens")
            written = usage.get("cache_creation_input_tokens") or 0
            self.input_tokens = usage["input_tokens"] + (cached or 0) + written
            self.cached_tokens = cached
        self.output_tokens = usage.get("output_tokens", self.output_tokens)
        if data.get("type") == "content_block_delta":
            delta = data.get("delta") or {}
            self._add(delta.get("text"), delta.get("partial_json"), delta.get("thinking"))

    def _openai(self, data: Mapping[str, Any]) -> None:
        if error := data.get("error"):
            self.error = str(error.get("message", error) if isinstance(error, dict) else error)
        if usage := data.get("usage"):
            self.input_tokens = usage.get("prompt_tokens", self.input_tokens)
            details = usage.get("prompt_tokens_details") or {}
            self.cached_tokens = details.get("cached_tokens", self.cached_tokens)
            self.output_tokens = usage.get("completion_tokens", self.output_tokens)
        for choice in data.get("choices") or ():
            delta = choice.get("delta") or {}
            thinking = delta.get("reasoning_content") or delta.get("reasoning")
            self._add(delta.get("content"), None, thinking)
            for call in delta.get("tool_calls") or ():
                self._add(None, (call.get("function") or {}).get("arguments"), None)

    def _add(self, text: str | None, arguments: str | None, thinking: str | None) -> None:
        self.text += text or ""
        self.arguments += arguments or ""
        self.n_deltas += bool(text or arguments or thinking)


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """An answer and its times, in seconds since the request was sent."""

    heard: Heard = field(repr=False)
    first_s: float
    """Until the first piece of content."""
    last_s: float
    """Until the last one."""
    whole_s: float
    passless_tokens: int | None = None
    """Tokens that needed no pass of the model of their own; None if the server doesn't count them.
    """

    @property
    def n_tokens(self) -> int:
        """Tokens of the answer; of a server that doesn't count them, the pieces."""
        return self.heard.output_tokens or self.heard.n_deltas

    @property
    def tokens_per_s(self) -> float:
        """After the first piece; 0 if there is too little."""
        took_s = self.last_s - self.first_s
        return (self.n_tokens - 1) / took_s if took_s > 0 and self.n_tokens > 1 else 0.0

    @property
    def tokens_per_pass(self) -> float | None:
        """Tokens for each pass of the model; None if that isn't told."""
        if self.passless_tokens is None or self.passless_tokens >= self.n_tokens:
            return None
        return self.n_tokens / (self.n_tokens - self.passless_tokens)

    @property
    def computed_share(self) -> float | None:
        """Tokens of the prompt that were computed, as a share; None if that isn't told."""
        heard = self.heard
        if not heard.input_tokens or heard.cached_tokens is None:
            return None
        return (heard.input_tokens - heard.cached_tokens) / heard.input_tokens

    def fills(self, form: Mapping[str, Any]) -> bool:
        """Whether a call's arguments are an object with all that a schema requires."""
        try:
            found = json.loads(self.heard.arguments)
        except ValueError:
            return False
        return isinstance(found, dict) and found.keys() >= set(form["required"])
