"""A client that times streamed answers, of any server with Anthropic's or OpenAI's API."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from mlxdeck.server.bench.wire import PATHS, ApiName, Asked, Heard, TimedAnswer
from mlxdeck.server.web.marks import UNRECORDED

ANSWER_TIMEOUT_S = 900.0
"""Silence after which a request has failed; a cold prompt of a large model takes minutes."""
LOOK_TIMEOUT_S = 10.0
MLX_LM_SERVER = "BaseHTTP"
"""What mlx_lm.server calls itself. It serves the model that it was started with by one name."""
MLX_LM_MODEL = "default_model"
_TOTAL = re.compile(r"mlxdeck_(\w+)_total (\S+)")


class NotMeasured(Exception):
    """A server can't do something, or failed at it; the text says what it answered."""


class BenchClient:
    """Asks one server. Any thread; each request has a connection of its own."""

    def __init__(
        self,
        url: str,
        *,
        key: str = "",
        model: str = "",
        api: ApiName | None = None,
        recorded: bool = False,
    ) -> None:
        """`api` and `model` are found by asking, unless they are given. `url` may end in `/v1`.

        Unless they are to be `recorded`, requests stay out of the telemetry of an mlxdeck.

        Raises:
            NotMeasured: Nobody answers there, or it is no address.
        """
        parts = urlsplit(url if "//" in url else f"//{url}", "http")
        try:
            self._address = (parts.hostname or "", parts.port)
        except ValueError:
            self._address = ("", None)
        if not self._address[0] or parts.scheme not in ("http", "https"):
            raise NotMeasured(f"{url!r} is no address")
        self._is_secure = parts.scheme == "https"
        path = parts.path.rstrip("/")
        self._base = path if path.endswith("/v1") else f"{path}/v1"
        self._headers = {
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
        }
        if not recorded:
            self._headers[UNRECORDED] = "1"
        if key:
            self._headers |= {"authorization": f"Bearer {key}", "x-api-key": key}
        self._software = ""
        """What it calls itself in its answers."""
        self.api: ApiName = api or self._spoken()
        listed = self._listed()
        self.model = model or listed

    @property
    def name(self) -> str:
        """Which server it is, by its own word; else its address."""
        if self.status():
            return "mlxdeck"
        if self._software.startswith(MLX_LM_SERVER):
            return "mlx_lm.server"
        host, port = self._address
        return f"{host}:{port}" if port else host

    def status(self) -> dict[str, Any]:
        """What an mlxdeck says of itself; nothing of another server."""
        try:
            code, body = self.send("GET", "/v1/status")
        except NotMeasured:
            return {}
        return body if code == 200 and isinstance(body, dict) and "versions" in body else {}

    def totals(self) -> dict[str, float]:
        """The totals that an mlxdeck counts, by name; nothing of another server."""
        with self._connected(LOOK_TIMEOUT_S) as connection:
            connection.request("GET", "/metrics", headers=self._headers)
            response = connection.getresponse()
            lines = response.read().decode(errors="replace").splitlines()
        found = (_TOTAL.fullmatch(line) for line in lines if response.status == 200)
        return {each[1]: float(each[2]) for each in found if each}

    def _spoken(self) -> ApiName:
        """The API: a route that exists refuses an empty request, in its own way."""
        status, _ = self.send("POST", f"{self._base}{PATHS['anthropic']}", b"{}")
        return "openai" if status in (404, 405, 501) else "anthropic"

    def _listed(self) -> str:
        """The first model that it lists."""
        status, body = self.send("GET", f"{self._base}/models")
        if self._software.startswith(MLX_LM_SERVER):
            return MLX_LM_MODEL
        listed = body.get("data") if status == 200 and isinstance(body, dict) else None
        names = [each.get("id") for each in listed or () if isinstance(each, dict)]
        return str(names[0]) if names else MLX_LM_MODEL

    def send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """A short request; what comes back is JSON, or None.

        Raises:
            NotMeasured: Nobody answers.
        """
        with self._connected(LOOK_TIMEOUT_S) as connection:
            connection.request(method, path, body, self._headers)
            response = connection.getresponse()
            self._software = response.headers.get("server", "")
            content = response.read()
        try:
            return response.status, json.loads(content)
        except ValueError:
            return response.status, None

    def ask(self, asked: Asked, *, fresh: bool = True) -> TimedAnswer:
        """One streamed answer; `fresh` is past a cache of whole answers.

        Raises:
            NotMeasured: It was refused, or nothing came.
        """
        body = json.dumps(asked.body(self.api, self.model)).encode()
        headers = self._headers | ({"cache-control": "no-cache"} if fresh else {})
        with self._connected(ANSWER_TIMEOUT_S) as connection:
            began_s = time.perf_counter()
            connection.request("POST", f"{self._base}{PATHS[self.api]}", body, headers)
            response = connection.getresponse()
            if response.status != 200:
                raise NotMeasured(_refusal(response))
            heard, first_s, last_s = Heard(), 0.0, 0.0
            for data in _events(response):
                if heard.hear(self.api, data):
                    last_s = time.perf_counter() - began_s
                    first_s = first_s or last_s
            whole_s = time.perf_counter() - began_s
        if heard.error or not first_s:
            raise NotMeasured(heard.error or "the answer is empty")
        return TimedAnswer(heard, first_s, last_s, whole_s)

    @contextmanager
    def _connected(self, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self._address[0], self._address[1], timeout=timeout_s)
        try:
            yield connection
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise NotMeasured(f"no answer: {reason}") from error
        finally:
            connection.close()


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON of each server-sent event."""
    for line in response:
        if line.startswith(b"data:"):
            try:
                data = json.loads(line[5:])
            except ValueError:
                continue  # OpenAI's `[DONE]`.
            if isinstance(data, dict):
                yield data


def _refusal(response: http.client.HTTPResponse) -> str:
    content = response.read().decode(errors="replace")
    try:
        told = json.loads(content)
        error = told.get("error", told)
        content = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        pass
    return " ".join(f"{response.status} {content}".split())[:120]
