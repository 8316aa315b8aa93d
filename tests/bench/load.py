"""Clients for the benchmark: many at once for throughput, one connection for latency."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

NEW_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of many equal requests."""

    seconds: list[float]

    def percentile_ms(self, percent: float) -> float:
        """By nearest rank."""
        ordered = sorted(self.seconds)
        rank = max(1, -(-len(ordered) * percent // 100))
        return 1000 * ordered[int(rank) - 1]


def heading(text: str) -> None:
    """Set off a part of the table."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


class Connection:
    """One kept-alive connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._http = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=600)

    def post(self, path: str, body: bytes, **headers: str) -> tuple[bytes, dict[str, str]]:
        """Send, and read the whole answer; any status but 200 ends the benchmark."""
        self._http.request("POST", path, body, {"content-type": "application/json", **headers})
        response = self._http.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {content[:300]!r}")
        return content, {name.lower(): value for name, value in response.getheaders()}

    def close(self) -> None:
        """Hang up."""
        self._http.close()


def story(n: int) -> str:
    """A prompt that differs from the first word on, so that no cache helps."""
    return f"{n} sailors went to sea. Tell me their long story, with all their names, please."


def chat_tokens(url: str, prompt: str) -> int:
    """Generate over OpenAI's route, which every server has; return the tokens of the answer."""
    connection = Connection(url)
    body = _body(prompt)
    content, _ = connection.post("/v1/chat/completions", body)
    connection.close()
    return int(json.loads(content)["usage"]["completion_tokens"])


def message_tokens(url: str, prompt: str) -> int:
    """Generate over Anthropic's route, past the exact cache."""
    connection = Connection(url)
    content, _ = connection.post("/v1/messages", _body(prompt), **{"cache-control": "no-cache"})
    connection.close()
    return int(json.loads(content)["usage"]["output_tokens"])


def _body(prompt: str) -> bytes:
    fields: dict[str, Any] = {"model": "default_model", "max_tokens": NEW_TOKENS, "temperature": 0}
    return json.dumps({**fields, "messages": [{"role": "user", "content": prompt}]}).encode()


def tokens_per_s(ask: Any, url: str, n_clients: int, first: int) -> float:
    """Total tokens a second of `n_clients` that each ask once, at the same time."""
    with ThreadPoolExecutor(n_clients) as pool:
        began_s = time.perf_counter()
        counts = list(pool.map(lambda n: ask(url, story(first + n)), range(n_clients)))
        return float(sum(counts) / (time.perf_counter() - began_s))


def latency(url: str, body: bytes, n_requests: int) -> Sample:
    """Ask the same again and again on one connection."""
    connection = Connection(url)
    seconds = []
    for _ in range(n_requests):
        began_s = time.perf_counter()
        _, headers = connection.post("/v1/messages", body)
        seconds.append(time.perf_counter() - began_s)
        if headers.get("x-mlxdeck-cache") != "hit":
            raise RuntimeError("a repeat was not served from the cache")
    connection.close()
    return Sample(seconds)
