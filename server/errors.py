"""Every way a request can fail, with the HTTP status and API error type that each one fixes.

    ServerError
    ├── BadRequest          400 invalid_request_error   a field is missing, malformed or unsupported
    │   ├── PromptTooLong   400 invalid_request_error   the text on which Claude Code compacts
    │   ├── UnknownPrevious 400 invalid_request_error   the answer to continue is not stored
    │   └── UnreadablePart      400 invalid_request_error   a picture for a model of text
    ├── Unauthorized        401 authentication_error    no API key, or a wrong one
    ├── Forbidden           403 permission_error        a web page asks, not a program
    ├── NotFound            404 not_found_error         no such route
    │   ├── UnknownModel    404 not_found_error         no model of that name
    │   ├── UnknownRequest  404 not_found_error         no request of that name runs
    │   └── UnknownStored   404 invalid_request_error   no such answer is stored
    ├── SlowBody            408 invalid_request_error   the body came too slowly
    ├── WrongMethod         405 invalid_request_error   the route has other methods
    ├── RequestEnded        409 invalid_request_error   a request that is to be cancelled has ended
    ├── TooLarge            413 request_too_large       the body is over the limit
    ├── UnsupportedEncoding 415 invalid_request_error   the body is compressed in an unknown way
    ├── BadHttp             4xx invalid_request_error   the request breaks HTTP's own rules
    ├── Cancelled           499 request_cancelled       somebody has cancelled it by its name
    ├── Stopping            503 overloaded_error        the server ends; another may come up
    ├── Overloaded          529 overloaded_error        the queue is full
    │   └── StillLoading    529 overloaded_error        the model still loads
    ├── DeadlinePassed      504 timeout_error           it took longer than it may
    ├── UpstreamRefused     its own, and its own type   another server answered with an error
    ├── UpstreamFailed      502 api_error               another server can't be reached or read
    └── EngineFailed        500 api_error               the model failed; the server goes on

Dialects translate these to their wire form and add nothing. The type names are Anthropic's
(https://docs.anthropic.com/en/api/errors); other dialects map them.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection

TIMEOUT = 504
TOO_LONG = "prompt is too long"
"""Begins the text of every error that says so, also of another server's."""


class ServerError(Exception):
    """Base of every error that a client may see; its text is safe to send."""

    status: int = 500
    kind: str = "api_error"
    retryable: bool = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.headers: dict[str, str] = {}
        """Additional headers of the response, as `retry-after`."""


class BadRequest(ServerError):
    """The request cannot be served in this form; sending it again will not help."""

    status = 400
    kind = "invalid_request_error"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        """Where in the body, as `messages.2.content.0.type`; empty for the body as a whole."""
        self.reason = reason


class PromptTooLong(BadRequest):
    """The prompt leaves no room in the model's context window.

    Claude Code looks for exactly this sentence and then compacts the conversation.
    """

    def __init__(self, n_tokens: int, limit_tokens: int) -> None:
        super().__init__("", f"{TOO_LONG}: {n_tokens} tokens > {limit_tokens} maximum")
        self.n_tokens = n_tokens
        self.limit_tokens = limit_tokens


class UnknownPrevious(BadRequest):
    """The request continues an answer that is not stored, or not any more."""

    def __init__(self, response_id: str) -> None:
        super().__init__(
            "previous_response_id", f"Previous response with id {response_id!r:.80} not found."
        )


class UnreadablePart(BadRequest):
    """The backend can't read a part of the request, as a picture; another one perhaps can."""


class Unauthorized(ServerError):
    """The request carries no API key, or not the one the server was started with."""

    status = 401
    kind = "authentication_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.headers = {"www-authenticate": "Bearer"}


class Forbidden(ServerError):
    """The request comes from a place that may not use this server."""

    status = 403
    kind = "permission_error"


class NotFound(ServerError):
    """No route answers this path, or nothing is behind it."""

    status = 404
    kind = "not_found_error"


class UnknownModel(NotFound):
    """No model has this name."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        listed = ", ".join(known)[:1000]
        super().__init__(f"there is no model {name[:200]!r}; this server has {listed}")


class UnknownRequest(NotFound):
    """No request has this name, or it is another client's."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no request {name[:200]!r}")


class RequestEnded(ServerError):
    """A request is over, so that it can't be cancelled."""

    status = 409
    kind = "invalid_request_error"

    def __init__(self, name: str) -> None:
        super().__init__(f"the request {name[:200]!r} has ended already")


class Cancelled(ServerError):
    """The request was cancelled by its name. The status is nginx's for a client that has left."""

    status = 499
    kind = "request_cancelled"

    def __init__(self) -> None:
        super().__init__("the request was cancelled")
        # Both SDKs heed it.
        self.headers = {"x-should-retry": "false"}


class DeadlinePassed(ServerError):
    """The request took longer than its client or the server's settings allow."""

    status = TIMEOUT
    kind = "timeout_error"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the request took longer than the {limit_s:g} s that it may take")
        # Sent again at once, it would take as long.
        self.headers = {"x-should-retry": "false"}


class UnknownStored(NotFound):
    """No such answer, or part of one, is stored."""

    kind = "invalid_request_error"

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path
        """Where in the body it is named; empty if the URL names it."""


class SlowBody(ServerError):
    """The body came so slowly that it was not waited for."""

    status = 408
    kind = "invalid_request_error"
    retryable = True


class WrongMethod(ServerError):
    """The path is known, and has other methods."""

    status = 405
    kind = "invalid_request_error"

    def __init__(self, message: str, allowed: Collection[str]) -> None:
        super().__init__(message)
        self.headers = {"allow": ", ".join(sorted(allowed))}


class TooLarge(ServerError):
    """The body is larger than the server accepts."""

    status = 413
    kind = "request_too_large"


class UnsupportedEncoding(ServerError):
    """The body is compressed by a method that the server can't undo."""

    status = 415
    kind = "invalid_request_error"

    def __init__(self, name: str, known: Collection[str]) -> None:
        listed = ", ".join(known)
        super().__init__(f"content-encoding: {name[:50]!r} is not supported; these are: {listed}")
        self.headers = {"accept-encoding": listed}


class BadHttp(ServerError):
    """The request breaks a rule of HTTP; `status` says which kind of rule."""

    kind = "invalid_request_error"

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Stopping(ServerError):
    """The server is stopping; a later request reaches its successor, if there is one."""

    status = 503
    kind = "overloaded_error"
    retryable = True

    def __init__(self) -> None:
        super().__init__("the server is stopping")
        self.headers = {"retry-after": "5"}


class Overloaded(ServerError):
    """No room now; the client should come back."""

    status = 529
    kind = "overloaded_error"
    retryable = True

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.headers = {"retry-after": str(retry_after_s)}


class StillLoading(Overloaded):
    """The model is still loading; the client should come back."""

    def __init__(self, what: str = "the model") -> None:
        super().__init__(f"{what} is still loading", retry_after_s=15)


class UpstreamRefused(ServerError):
    """Another server, which was to answer, answered with an error."""

    def __init__(self, message: str, status: int, kind: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retryable = status in (408, 409, 429) or status >= 500
        self.dialect = ""
        self.fields: dict[str, object] = {}
        """Fields of the error that only clients of that dialect understand."""


class UpstreamFailed(ServerError):
    """Another server can't be reached, or what it sends can't be understood."""

    status = 502
    retryable = True

    def __init__(self, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.status = status
        if status == TIMEOUT:
            self.kind = "timeout_error"
        self.is_away = False
        """Whether the server as a whole can't be reached, or doesn't answer."""


class EngineFailed(ServerError):
    """The model could not be loaded, or raised while it ran."""

    retryable = True


MAX_REASON_CHARS = 600


def one_line(error: BaseException) -> str:
    """The text of an error of any type, in one line for a person."""
    if isinstance(error, ServerError):
        text = error.message
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = f"{type(error).__name__}: {error}" if str(error).strip() else type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= MAX_REASON_CHARS else f"{text[: MAX_REASON_CHARS - 1]}…"


def let_go(error: BaseException) -> None:
    """Free what the functions held that an error has come through: a body of 31 MB, perhaps.

    They hold one another in a ring, which only the garbage collector would break, much later.
    """
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        traceback.clear_frames(following.__traceback__)
        following = following.__cause__ or following.__context__
