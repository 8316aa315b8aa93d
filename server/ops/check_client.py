"""The client of `mlxdeck check`: it sends requests to a server, each on its own connection."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mlxdeck.server.lenient_json import loads
from mlxdeck.server.web.marks import UNRECORDED

Json = Any

ANSWER_TOKENS = 256
TIMEOUT_S = 600.0
CONNECT_TIMEOUT_S = 10.0


class Failed(Exception):
    """A scenario failed; the text describes the response."""


def expect(condition: object, seen: str) -> None:
    """Fail the scenario unless `condition` holds."""
    if not condition:
        raise Failed(seen)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: Json

    @property
    def text(self) -> str:
        """All text blocks of an answer."""
        blocks = self.body.get("content", [])
        return "".join(block.get("text", "") for block in blocks)

    @property
    def input_tokens(self) -> int:
        """All prompt tokens, cached or not."""
        usage = self.body["usage"]
        return int(usage["input_tokens"] + usage.get("cache_read_input_tokens", 0))


class Client:
    """Sends requests to one server, each on its own connection."""

    def __init__(self, url: str, api_key: str = "") -> None:
        parts = urlsplit(url if "//" in url else f"//{url}")
        expect(parts.hostname, f"{url!r} is no address")
        self._host, self._port = str(parts.hostname), parts.port or 80
        self._headers = {
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
            # These requests are none of the user's.
            UNRECORDED: "1",
        }
        if api_key:
            self._headers["x-api-key"] = api_key

    def reach(self) -> None:
        """Connect, and close the connection.

        Raises:
            OSError: Nobody listens.
        """
        socket.create_connection((self._host, self._port), CONNECT_TIMEOUT_S).close()

    def _open(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        connection.request(method, path, body, {**self._headers, **headers})
        return connection, connection.getresponse()

    def send(self, method: str, path: str, body: Json = None, **headers: str) -> Reply:
        """One request, its whole answer; bytes are sent as they are."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection, response = self._open(method, path, raw, headers)
        try:
            content = response.read()
            lowered = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, lowered, loads(content) if content else None)
        finally:
            connection.close()

    def ask(self, *turns: Json, fresh: bool = False, **fields: Json) -> Reply:
        """A conversation, given as texts (user and assistant in turns) or as messages."""
        headers = {"cache-control": "no-cache"} if fresh else {}
        reply = self.send("POST", "/v1/messages", conversation(*turns, **fields), **headers)
        expect(reply.status == 200, f"status {reply.status}: {reply.body}")
        return reply

    def stream(
        self, *turns: Json, fresh: bool = False, **fields: Json
    ) -> Generator[tuple[str, Json], None, None]:
        """The events of a streamed answer, as they come; closing it leaves."""
        body = json.dumps(conversation(*turns, stream=True, **fields)).encode()
        headers = {"cache-control": "no-cache"} if fresh else {}
        connection, response = self._open("POST", "/v1/messages", body, headers)
        try:
            expect(response.status == 200, f"status {response.status}")
            name = ""
            for line in response:
                field, _, value = line.decode().strip().partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, loads(value)
        finally:
            connection.close()


def conversation(*turns: Json, **fields: Json) -> Json:
    """A request body with greedy sampling and a small answer, unless `fields` change that."""
    roles = ("user", "assistant")
    messages = [
        turn if isinstance(turn, dict) else {"role": roles[index % 2], "content": turn}
        for index, turn in enumerate(turns)
    ]
    defaults = {"model": "local", "max_tokens": ANSWER_TOKENS, "temperature": 0}
    return {**defaults, "messages": messages, **fields}
