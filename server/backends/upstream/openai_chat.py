"""An answer of OpenAI's chat completions, read into events as it comes.

Format: https://platform.openai.com/docs/api-reference/chat-streaming. Servers differ in where they
put thinking, how they number calls, and what they leave out; all of these are read.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlxdeck.server.backends.upstream.judge import JudgedCalls
from mlxdeck.server.backends.upstream.reading import OutOfOrder, count_of
from mlxdeck.server.chat import (
    Finished,
    Foreign,
    Started,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolSpec,
    Usage,
)
from mlxdeck.server.dialects.sse import to_json
from mlxdeck.server.request_facts import StreamItem

NAME = "openai"
_REASONS: Mapping[str, StopReason] = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""Any other reason is a usual end."""
_USUAL = frozenset({"stop", "length", "tool_calls", "content_filter"})
"""Those that our own encoder writes."""
_THOUGHTS = ("reasoning_content", "reasoning")
_READ = frozenset({"role", "content", "tool_calls", *_THOUGHTS})
_BESIDE = ("system_fingerprint", "service_tier")


class OpenAIReader:
    """Reads one answer."""

    def __init__(self, tools: Sequence[ToolSpec]) -> None:
        self._calls = JudgedCalls(NAME, tools)
        self._usage: dict[str, Any] | None = None
        self._beside: dict[str, Any] = {}
        self._reason = ""
        self._call_index: int | str | None = None
        self._call_id = ""
        self._held: dict[int | str, list[dict[str, Any]]] = {}
        """By index, pieces of calls that began before the open one was complete: our own events
        tell one call after the other."""
        self._ids: dict[int | str, str] = {}
        """By index, of calls whose name comes later."""
        self._after: list[StreamItem] = []
        """What was said in the middle of a call."""
        self._has_own_calls = False
        self.model = ""
        self.is_started = False
        self.is_done = False

    @property
    def is_ending(self) -> bool:
        """Whether only figures can follow."""
        return bool(self._reason)

    def read(self, event: dict[str, Any]) -> Iterator[StreamItem]:
        """What one chunk of the stream says.

        Raises:
            OutOfOrder: It has no place here, or lacks what it is for.
        """
        choices = event.get("choices")
        if isinstance(event.get("usage"), dict):
            self._usage = event["usage"]
        elif not isinstance(choices, list):
            raise OutOfOrder("a chunk came without 'choices'")
        self._beside |= {key: event[key] for key in _BESIDE if event.get(key) is not None}
        self.model = self.model or str(event.get("model") or "")
        if not self.is_started:
            self.is_started = True
            yield Started(Usage(None, None, None))
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):
                yield from self._choice(choice)

    def whole(self, message: dict[str, Any]) -> Iterator[StreamItem]:
        """An answer that came as one body.

        Raises:
            OutOfOrder: It is no completion.
        """
        choices = message.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise OutOfOrder("the body has no choices")
        choice = choices[0]
        yield from self.read({**message, "choices": [{**choice, "delta": choice.get("message")}]})
        yield from self.close()

    def close(self) -> Iterator[StreamItem]:
        """The stream has ended.

        Raises:
            OutOfOrder: The answer had not.
        """
        if not self._reason:
            raise OutOfOrder("it ends without a finish reason")
        reason = _REASONS.get(self._reason, "end_turn")
        yield from self._end_calls(cut=reason == "max_tokens")
        if reason in ("end_turn", "tool_use"):
            # Some servers say that they stop where they call, and the other way round.
            has_calls = self._calls.n_calls or self._has_own_calls
            reason = "tool_use" if has_calls else "end_turn"
        if self._reason not in _USUAL:
            self._beside["finish_reason"] = self._reason
        self.is_done = True
        beside = Foreign(NAME, self._beside) if self._beside else None
        yield Finished(reason, self._counted(), n_bad_calls=self._calls.n_bad, foreign=beside)

    def _choice(self, choice: dict[str, Any]) -> Iterator[StreamItem]:
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            raise OutOfOrder("a chunk came without a delta")
        for key in _THOUGHTS:
            if isinstance(thought := delta.get(key), str) and thought:
                yield from self._said(ThinkingDelta(thought))
                break
        for item in _content(delta.get("content")):
            yield from self._said(item)
        listed = delta.get("tool_calls")
        calls = listed if isinstance(listed, list) else []
        custom = [call for call in calls if _is_custom(call)]
        for place, call in enumerate(calls):
            if not _is_custom(call):
                yield from self._call(call, place)
        self._has_own_calls = self._has_own_calls or bool(custom)
        yield from _own(choice, delta, custom)
        if isinstance(reason := choice.get("finish_reason"), str) and reason:
            self._reason = reason

    def _said(self, item: TextDelta | ThinkingDelta) -> Iterator[StreamItem]:
        """Text that is no call's; in the middle of one it waits, as more of the call may come."""
        if self._calls.is_open and not self._calls.is_complete:
            self._after.append(item)
            return
        yield from self._end_calls()
        yield item

    def _call(self, call: Any, place: int) -> Iterator[StreamItem]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise OutOfOrder("a call came without a function")
        index = call.get("index")
        index = index if isinstance(index, int | str) else place
        if index in self._held:
            self._held[index].append(call)
            return
        yield from self._piece(call, index)
        while self._held and self._calls.is_complete:
            yield from self._end_call()
            yield from self._next_held()

    def _piece(self, call: dict[str, Any], index: int | str) -> Iterator[StreamItem]:
        function = call["function"]
        call_id, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
        # Some give every call the same index, but an id of its own; others each piece of one call.
        is_new = index != self._call_index or bool(name and call_id and call_id != self._call_id)
        if is_new or not self._calls.is_open:
            if not isinstance(name, str) or not name:
                if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
                    # Nothing follows a call that had ended, or its name is to come.
                    if isinstance(call_id, str) and call_id:
                        self._ids[index] = call_id
                    return
                raise OutOfOrder("a call came without a name, or more of one that had ended")
            if index != self._call_index and self._calls.is_open and not self._calls.is_complete:
                self._held[index] = [call]
                return
            yield from self._end_call()
            self._call_index = index
            told = call_id if isinstance(call_id, str) and call_id else self._ids.pop(index, "")
            self._call_id = told or _made_up()
            yield self._calls.start(self._call_id, name)
        if isinstance(arguments, str) and arguments:
            yield self._calls.piece(arguments)
        elif isinstance(arguments, dict):
            yield self._calls.piece(to_json(arguments).decode())

    def _next_held(self) -> Iterator[StreamItem]:
        """The call that has waited longest is open now."""
        index = next(iter(self._held))
        for call in self._held.pop(index):
            yield from self._piece(call, index)

    def _end_call(self, *, cut: bool = False) -> Iterator[StreamItem]:
        if self._calls.is_open:
            yield from self._calls.end(cut=cut)
        said, self._after = self._after, []
        yield from said

    def _end_calls(self, *, cut: bool = False) -> Iterator[StreamItem]:
        """Whatever has begun gets no more pieces."""
        yield from self._end_call(cut=cut)
        while self._held:
            yield from self._next_held()
            yield from self._end_call(cut=cut)

    def _counted(self) -> Usage:
        told = self._usage
        if told is None:
            return Usage(None, None, None)
        return Usage(
            count_of(told, "prompt_tokens"),
            count_of(told.get("prompt_tokens_details"), "cached_tokens"),
            count_of(told, "completion_tokens"),
            count_of(told.get("completion_tokens_details"), "reasoning_tokens"),
            Foreign(NAME, told),
        )


def _is_custom(call: Any) -> bool:
    """Whether it is a call of another kind, which only this API has."""
    return isinstance(call, dict) and "function" not in call and "custom" in call


def _own(
    choice: dict[str, Any], delta: dict[str, Any], calls: list[dict[str, Any]]
) -> Iterator[Foreign]:
    """What only clients of this API understand."""
    own: dict[str, Any] = {}
    extra = {key: each for key, each in delta.items() if key not in _READ and each}
    if calls:
        extra["tool_calls"] = calls
    if extra:
        own["delta"] = extra
    if choice.get("logprobs"):
        own["logprobs"] = choice["logprobs"]
    if own:
        yield Foreign(NAME, own)


def _content(content: Any) -> Iterator[TextDelta | ThinkingDelta]:
    """A text, or a list of parts, as some servers write it."""
    if isinstance(content, str) and content:
        yield TextDelta(content)
    for part in content if isinstance(content, list) else ():
        match part:
            case {"type": "text", "text": str(text)} if text:
                yield TextDelta(text)
            case {"type": "thinking", "thinking": str(thought)} if thought:
                yield ThinkingDelta(thought)
            case {"type": "thinking", "thinking": list(inner)}:
                texts = [each.get("text") for each in inner if isinstance(each, dict)]
                yield ThinkingDelta("".join(text for text in texts if isinstance(text, str)))


def _made_up() -> str:
    return f"call_{secrets.token_hex(8)}"
