"""Sends a case to a server and says what is wrong with the answer."""

from __future__ import annotations

import copy
import http.client
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HEADERS = {"content-type": "application/json", "anthropic-version": "2023-06-01"}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a request."""

    status: int
    body: dict[str, Any]
    raw: str
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        """What it says, in either API's shape."""
        if "content" in self.body:
            return "".join(block.get("text", "") for block in self.body["content"])
        choices = self.body.get("choices", [])
        return "".join(choice["message"].get("content") or "" for choice in choices)


def post(url: str, path: str, body: Any) -> Reply:
    """POST JSON; a body of bytes goes as it is."""
    where = urllib.parse.urlparse(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=100)
    raw = body if isinstance(body, bytes) else json.dumps(body)
    connection.request("POST", path, raw, HEADERS)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    found = json.loads(text)
    return Reply(response.status, found, text, dict(response.headers.items()))


def count(url: str, body: Mapping[str, Any]) -> int:
    """How many tokens the prompt of a request has."""
    kept = {key: body[key] for key in ("model", "messages", "system", "tools") if key in body}
    return int(post(url, "/v1/messages/count_tokens", kept).body.get("input_tokens", -1))


def judge(url: str, case: Mapping[str, Any]) -> list[str]:
    """What is wrong; empty if nothing is."""
    check, body = case["check"], case["body"]
    if "first" in check:
        post(url, case["path"], {**body, **check["first"]})
    reply = post(url, case["path"], body)
    wrong = []
    if reply.status not in check.get("status", (200,)):
        wrong.append(f"status {reply.status}: {reply.raw[:200]}")
    if check.get("stop_reason", reply.body.get("stop_reason")) != reply.body.get("stop_reason"):
        wrong.append(f"stop reason {reply.body.get('stop_reason')}")
    if check.get("contains", "") not in reply.raw:
        wrong.append(f"{check['contains']} is not named: {reply.raw[:200]}")
    if "first" in check and reply.headers.get("x-mlxdeck-cache") == "hit":
        wrong.append("it is the answer of another request")
    if check.get("json") and reply.status == 200:
        begun = body["messages"][-1]["content"] if check.get("joined") else ""
        try:
            json.loads(begun + reply.text)
        except ValueError:
            wrong.append(f"no JSON: {reply.text[:200]}")
    return wrong + _counted(url, check, body)


def _counted(url: str, check: Mapping[str, Any], body: Mapping[str, Any]) -> list[str]:
    wrong = []
    if "plain" in check:
        # The same request with an ordinary text, and how much more this one has to cost.
        more = count(url, body) - count(url, {**body, **check["plain"]})
        if more < check["more_tokens"]:
            wrong.append(f"only {more} tokens more")
    if check.get("result_is_told"):
        empty = copy.deepcopy(dict(body))
        for message in empty["messages"]:
            for block in message["content"] if isinstance(message["content"], list) else ():
                if block.get("type") == "tool_result":
                    block["content"] = []
        if count(url, body) <= count(url, empty):
            wrong.append("its result costs no tokens")
    return wrong
