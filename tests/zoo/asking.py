"""A family's server and how to ask it: plain HTTP, one request a connection."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlxdeck.telemetry.schema.codec import decode
from mlxdeck.telemetry.schema.events import CacheLookup, RequestEnd, ToolCall
from tests.real import Server
from tests.zoo.families import Family

TIMEOUT_S = 120.0
MESSAGES = "/v1/messages"
HEADERS = {
    "content-type": "application/json",
    "anthropic-version": "2023-06-01",
    # An identical request is to be answered anew, or caches of states would never be asked.
    "cache-control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: Any
    request_id: str
    error: str = ""
    """What a stream, or a refusal, says went wrong."""

    @property
    def text(self) -> str:
        """All text of the answer."""
        return "".join(each.get("text", "") for each in self.blocks)

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The blocks of the answer."""
        return list(self.body.get("content", [])) if isinstance(self.body, dict) else []

    @property
    def said(self) -> list[dict[str, Any]]:
        """The blocks without the ids, which are never the same twice."""
        return [{key: each[key] for key in each if key != "id"} for each in self.blocks]

    @property
    def stop_reason(self) -> str:
        """Why it ended."""
        return str(self.body.get("stop_reason") if isinstance(self.body, dict) else "")

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The tool calls of the answer."""
        return [each for each in self.blocks if each["type"] == "tool_use"]

    def refused(self) -> str:
        """What is wrong with it if it should have been answered at all; empty if nothing is."""
        return "" if self.status == 200 and not self.error else f"{self.status}: {self.error[:200]}"


@dataclass(frozen=True, slots=True)
class Subject:
    """A family that is being looked at, and the server that serves it."""

    family: Family
    server: Server
    notes: dict[str, Any] = field(default_factory=dict)
    """What one check leaves for a later one."""

    def ask(self, body: Mapping[str, Any], path: str = MESSAGES, *, fresh: bool = True) -> Answer:
        """POST a body and read the whole answer, streamed or not."""
        headers = HEADERS if fresh else {**HEADERS, "cache-control": ""}
        connection = self._connection()
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            raw = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, {}, "", f"{type(error).__name__} {error}")
        finally:
            connection.close()
        request_id = response.headers.get("request-id") or ""
        if response.headers.get_content_type() == "text/event-stream":
            return _streamed(response.status, raw, request_id)
        try:
            content = json.loads(raw)
        except ValueError:
            return Answer(response.status, {}, request_id, f"no JSON: {raw[:100]}")
        told = content.get("error", "") if isinstance(content, dict) else ""
        told = str(told.get("message", "") if isinstance(told, dict) else told)
        return Answer(response.status, content, request_id, told)

    def count(self, body: Mapping[str, Any]) -> int:
        """What the server says that a prompt has of tokens; -1 if it doesn't."""
        answer = self.ask(body, f"{MESSAGES}/count_tokens")
        return int(answer.body.get("input_tokens", -1))

    def leave(self, body: Mapping[str, Any], after_s: float) -> None:
        """POST a body, and go away that long after the answer has begun: the prompt is counted."""
        connection = self._connection()
        connection.request("POST", MESSAGES, json.dumps({**body, "stream": True}), HEADERS)
        connection.getresponse().readline()
        time.sleep(after_s)
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()

    def delete(self, path: str) -> Any:
        """DELETE something, and what the server says to it."""
        connection = self._connection()
        try:
            connection.request("DELETE", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        url = urllib.parse.urlparse(self.server.url)
        return http.client.HTTPConnection(url.hostname or "", url.port, timeout=TIMEOUT_S)

    def end(self, request_id: str) -> RequestEnd:
        """What telemetry says of the end of a request."""
        found: RequestEnd = self._told(request_id, RequestEnd)[0]
        return found

    def calls(self, request_id: str) -> list[ToolCall]:
        """What telemetry says of the calls of a request that has ended."""
        self.end(request_id)
        return self._told(request_id, ToolCall, at_least=0)

    def lookup(self, request_id: str) -> CacheLookup:
        """What telemetry says of the states that were found for a request."""
        looked: list[CacheLookup] = self._told(request_id, CacheLookup)
        return next(each for each in looked if each.cache == "prefix")

    def ends(self, n: int) -> Sequence[RequestEnd]:
        """The ends of the last `n` requests."""
        return self.server.ended()[-n:]

    def _told(self, request_id: str, kind: Any, at_least: int = 1) -> list[Any]:
        for _ in range(250):
            files = sorted(self.server.telemetry.glob("*.jsonl"))
            # The last line may be half written.
            whole = (file.read_bytes().rpartition(b"\n")[0] for file in files)
            lines = (line for part in whole for line in part.splitlines())
            told = [decode(line).attrs for line in lines if request_id.encode() in line]
            found = [attrs for attrs in told if isinstance(attrs, kind)]
            if len(found) >= at_least:
                return found
            time.sleep(0.02)
        raise AssertionError(f"telemetry says nothing of {request_id}: {kind.__name__}")


def _streamed(status: int, raw: str, request_id: str) -> Answer:
    """Put an answer together from its events."""
    message: dict[str, Any] = {}
    pieces: list[str] = []
    for line in raw.splitlines():
        if not line.startswith("data: "):
            continue
        event = json.loads(line.removeprefix("data: "))
        kind = event["type"]
        if kind == "error":
            return Answer(status, message, request_id, event["error"]["message"])
        if kind == "message_start":
            message = {**event["message"], "content": []}
        elif kind == "content_block_start":
            message["content"].append(dict(event["content_block"]))
            pieces = []
        elif kind == "content_block_delta":
            _add(message["content"][-1], event["delta"], pieces)
        elif kind == "content_block_stop" and pieces:
            message["content"][-1]["input"] = _arguments("".join(pieces))
        elif kind == "message_delta":
            message |= event["delta"]
            message["usage"] = {**message.get("usage", {}), **event.get("usage", {})}
    if not message.get("stop_reason"):
        return Answer(status, message, request_id, "the stream ended without a stop reason")
    return Answer(status, message, request_id)


def _arguments(text: str) -> Any:
    """The arguments of a call; their text if it was cut."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _add(block: dict[str, Any], delta: dict[str, Any], pieces: list[str]) -> None:
    if delta["type"] == "text_delta":
        block["text"] += delta["text"]
    elif delta["type"] == "thinking_delta":
        block["thinking"] += delta["thinking"]
    elif delta["type"] == "input_json_delta":
        pieces.append(delta["partial_json"])
