"""The telemetry files of a server, asked for over HTTP: their list, and bytes of one.

What it answers is not trusted: names have to be those of our files, sizes are limited, and no
redirect is followed. For one thread.
"""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import SplitResult, quote, urlsplit

import msgspec

from mlxdeck.telemetry.control_characters import shown
from mlxdeck.telemetry.schema.file_names import FILE_NAME

ROUTE = "/v1/telemetry"
TIMEOUT_S = 10.0
MAX_PART_BYTES = 4 << 20
"""A server sends no more of a file at once."""
MAX_LIST_BYTES = 1 << 20
MAX_REASON = 200


class ServerFilesError(Exception):
    """The files can't be had; the text says why, to a person."""


class NotOurs(ServerFilesError):
    """It would not help to ask again: it is no mlxdeck, or doesn't take this key."""


class RemoteFile(msgspec.Struct, frozen=True):
    """A file as the server lists it."""

    name: str
    n_bytes: int = msgspec.field(name="bytes")
    modified_ts: float = 0.0


class _List(msgspec.Struct, frozen=True):
    recording: bool
    files: list[RemoteFile]


def server_address(text: str) -> SplitResult:
    """The address of a server's URL; a path stays in front of the routes, but not `/v1`.

    Raises:
        ValueError: It is none.
    """
    try:
        parts = urlsplit(text.strip())
        is_whole = bool(parts.hostname) and parts.port != 0 and text.isascii()
    except ValueError:
        is_whole = False
    if not is_whole or parts.scheme not in ("http", "https") or not text.isprintable():
        raise ValueError("expected a server's URL, such as http://192.168.1.20:8081")
    if "@" in parts.netloc or parts.query or parts.fragment or " " in text:
        raise ValueError("expected a URL of scheme, host, port and path alone")
    return parts._replace(path=parts.path.rstrip("/").removesuffix("/v1").rstrip("/"))


class ServerFiles:
    """What one server has recorded."""

    def __init__(self, url: str, key: str = "", timeout_s: float = TIMEOUT_S) -> None:
        """Raises `ValueError` if that is no URL."""
        self._address = server_address(url)
        self.url = self._address.geturl()
        self.is_recording = True
        """Whether the server has telemetry, as of the last list."""
        self._headers = {"user-agent": "mlxdeck", **({"x-api-key": key} if key else {})}
        self._has_key = bool(key)
        self._timeout_s = timeout_s
        self._open: http.client.HTTPConnection | None = None

    @property
    def place(self) -> str:
        """Host and port."""
        return self._address.netloc

    def files(self) -> list[RemoteFile]:
        """All of them, the one that was written last at the end.

        Raises:
            NotOurs: The server takes no such key, or is no mlxdeck.
            ServerFilesError: It can't be reached.
        """
        status, raw = self._ask("", {}, MAX_LIST_BYTES)
        if status != 200:
            raise self._refused(status)
        try:
            found = msgspec.json.decode(raw, type=_List)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotOurs(f"{self.url} is no mlxdeck of this version") from error
        self.is_recording = found.recording
        return [each for each in found.files if FILE_NAME.fullmatch(each.name)]

    def part(self, name: str, start: int) -> bytes:
        """What a file holds from a place on, at most `MAX_PART_BYTES`; nothing behind its end.

        Raises:
            ServerFilesError: As `files`.
        """
        wanted = {"range": f"bytes={start}-{start + MAX_PART_BYTES - 1}"}
        status, raw = self._ask(f"/{quote(name)}", wanted, MAX_PART_BYTES)
        if status in (404, 416):
            # Removed since, or not longer than what is here.
            return b""
        if status != 206:
            raise self._refused(status)
        return raw

    def close(self) -> None:
        """Close the connection; the next question opens another one."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _ask(self, path: str, headers: dict[str, str], max_bytes: int) -> tuple[int, bytes]:
        for is_last in (False, True):
            is_kept = self._open is not None
            try:
                connection = self._connected()
                target = f"{self._address.path}{ROUTE}{path}"
                connection.request("GET", target, headers=self._headers | headers)
                with connection.getresponse() as answer:
                    raw = answer.read(max_bytes + 1)
                    if not answer.isclosed():
                        self.close()
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                if is_last or not is_kept:
                    raise ServerFilesError(f"{self.url}: {_reason(error)}") from error
                # A server closes connections that nobody uses.
                continue
            if len(raw) > max_bytes:
                raise NotOurs(f"{self.url} sends more than it was asked for")
            return answer.status, raw
        raise AssertionError("unreachable: the last try returns or raises")

    def _connected(self) -> http.client.HTTPConnection:
        if self._open is None:
            host, port = self._address.hostname or "", self._address.port
            if self._address.scheme == "https":
                context = ssl.create_default_context()
                self._open = http.client.HTTPSConnection(
                    host, port, timeout=self._timeout_s, context=context
                )
            else:
                self._open = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        return self._open

    def _refused(self, status: int) -> ServerFilesError:
        if status == 401 and self._has_key:
            return NotOurs(f"{self.url} does not take this API key (MLXDECK_API_KEY)")
        if status == 401:
            return NotOurs(f"{self.url} wants an API key: set MLXDECK_API_KEY")
        if status == 403:
            return NotOurs(
                f"{self.url} refuses: of several API keys only the first one may read telemetry,"
                " and a server on 127.0.0.1 has to be asked by that name"
            )
        if status >= 500:
            return ServerFilesError(f"{self.url} answers with status {status}")
        return NotOurs(f"{self.url} is no mlxdeck, or one without the route {ROUTE}: {status}")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {shown(error.verify_message)[:MAX_REASON]}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return shown(error.strerror)[:MAX_REASON]
    if isinstance(error, http.client.HTTPException):
        return "what answers does not speak HTTP"
    return type(error).__name__
