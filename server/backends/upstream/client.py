"""HTTP to another server, by httpx2. Every fault of the connection becomes one `ServerError`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import httpx2

from mlxdeck.server.backends.upstream.config import UpstreamConfig
from mlxdeck.server.backends.upstream.failures import failed, refused
from mlxdeck.server.backends.upstream.reading import decoded
from mlxdeck.server.errors import TIMEOUT, ServerError, UpstreamFailed

KEEPALIVE_S = 4.0
"""Less than most servers keep idle connections: none is used just as its server closes it."""
MAX_CONNECTIONS = 256
MAX_ERROR_BYTES = 64 * 1024
MAX_ASKED_BYTES = 4 * 1024**2
ERROR_BODY_S = 10.0
WRITE_S = 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A request for an answer, as it goes out."""

    dialect: str
    path: str
    """Below the base URL."""
    headers: Mapping[str, str]
    body: bytes


class UpstreamClient:
    """Connections to one server. For the event loop."""

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config
        self._http = httpx2.AsyncClient(
            # Proxies of the environment are for other machines.
            trust_env=not config.is_loopback,
            follow_redirects=False,
            headers={"user-agent": f"mlxdeck/{version('mlxdeck')}", "accept-encoding": "identity"},
            timeout=httpx2.Timeout(
                connect=config.connect_timeout_s,
                read=config.read_timeout_s,
                write=WRITE_S,
                pool=config.connect_timeout_s,
            ),
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEPALIVE_S),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    @asynccontextmanager
    async def post(self, sent: Sent) -> AsyncIterator[httpx2.Response]:
        """The response to a request, once its head is there; leaving closes the connection.

        Raises:
            ServerError: It was refused, or the connection failed, also while the block runs.
        """
        headers = {"content-type": "application/json", **sent.headers, **self._keyed(sent.dialect)}
        url = f"{self._config.base}{sent.path}"
        try:
            # Each byte may come in time, and yet the head takes for ever.
            async with (
                asyncio.timeout(self._head_s) as head,
                self._http.stream("POST", url, content=sent.body, headers=headers) as response,
            ):
                head.reschedule(None)
                await self._check(response, sent.dialect)
                yield response
        except TimeoutError:
            raise self.failed("makes no progress", TIMEOUT) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise self._fault(error) from error

    async def ask(
        self, method: str, path: str, dialect: str, body: bytes | None, timeout_s: float
    ) -> tuple[int, Any]:
        """Ask for something small; the status, and the JSON of the body, or None.

        Raises:
            ServerError: The connection failed.
        """
        headers = self._keyed(dialect)
        if body is not None:
            headers["content-type"] = "application/json"
        url = f"{self._config.base}{path}"
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.stream(method, url, content=body, headers=headers) as response,
            ):
                raw = await self.body(response, MAX_ASKED_BYTES)
                status = response.status_code
        except TimeoutError:
            raise self._away("does not answer", TIMEOUT) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise self._fault(error) from error
        try:
            return status, decoded(raw)
        except ValueError:
            return status, None

    async def told(self, sent: Sent, timeout_s: float) -> Any:
        """The JSON that answers a small request.

        Raises:
            ServerError: It was refused, or the connection failed, or it is no JSON.
        """
        try:
            async with asyncio.timeout(timeout_s), self.post(sent) as response:
                return decoded(await self.body(response, MAX_ASKED_BYTES))
        except TimeoutError:
            raise self._away("does not answer", TIMEOUT) from None
        except ValueError:
            raise self.failed("sent a body that is no JSON") from None

    async def body(self, response: httpx2.Response, max_bytes: int) -> bytes:
        """A body within a limit.

        Raises:
            ServerError: It is longer.
        """
        read = bytearray()
        async for chunk in response.aiter_bytes():
            read += chunk
            if len(read) > max_bytes:
                raise self.failed("sent a body that is too long")
        return bytes(read)

    @property
    def _head_s(self) -> float:
        """More than silence takes to be found, which is told in other words."""
        config = self._config
        return config.connect_timeout_s + config.read_timeout_s + config.progress_timeout_s

    def failed(self, what: str, status: int = 502) -> UpstreamFailed:
        """A fault, with the upstream's name in front."""
        return failed(what, self._config.name, self._config.key, status)

    def _away(self, what: str, status: int = 502) -> UpstreamFailed:
        error = self.failed(what, status)
        error.is_away = True
        return error

    def _keyed(self, dialect: str) -> dict[str, str]:
        """The key, where this API wants it.

        Raises:
            UpstreamFailed: It can't stand in a header.
        """
        key = self._config.key
        if not (key.isascii() and key.isprintable()):
            # Not the key: it is a secret.
            raise self.failed(f"can't be asked: {self._config.key_env} holds no key", 500)
        if dialect == "anthropic":
            return {"x-api-key": key} if key else {}
        return {"authorization": f"Bearer {key}"} if key else {}

    async def _check(self, response: httpx2.Response, dialect: str) -> None:
        """Raise the error that the response is, if it is one."""
        status = response.status_code
        if response.is_success:
            return
        if 300 <= status < 400:
            place = _place(response.headers.get("location", ""))
            raise self.failed(f"redirects to {place}, which is not followed: is its URL right?")
        raw = b""
        try:
            async with asyncio.timeout(ERROR_BODY_S):
                raw = await self.body(response, MAX_ERROR_BYTES)
        except (TimeoutError, UpstreamFailed, httpx2.HTTPError):
            # The status alone says enough.
            pass
        config = self._config
        raise refused(status, raw, response.headers, config.name, config.key, dialect)

    def _fault(self, error: Exception) -> ServerError:
        host = self._config.host
        match error:
            case httpx2.ConnectTimeout():
                return self._away(f"at {host} does not accept the connection in time", TIMEOUT)
            case httpx2.PoolTimeout():
                return self.failed("has too many requests of ours", TIMEOUT)
            case httpx2.TimeoutException():
                return self._away("was silent for too long", TIMEOUT)
            case httpx2.ConnectError() | httpx2.ProxyError():
                return self._away(f"at {host} can't be reached: {_reason(error)}")
            case httpx2.RemoteProtocolError() | httpx2.ReadError() | httpx2.WriteError():
                return self.failed("closed the connection before the end of its answer")
            case httpx2.DecodingError():
                return self.failed("sent a body that can't be decompressed")
        return self.failed(f"can't be asked: {_reason(error)}")


def _place(url: str) -> str:
    """The host of a URL that the upstream made up; a password in front of it is not shown."""
    try:
        host = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        host = ""
    return host[:200] or "another place"


def _reason(error: BaseException) -> str:
    """The system's own word for it, if there is one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno:
            # Name resolution has numbers of its own, which are negative.
            return os.strerror(seen.errno) if seen.errno > 0 else str(seen.strerror)
        seen = seen.__cause__ or seen.__context__
    return str(error) or type(error).__name__
