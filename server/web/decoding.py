"""Bodies into requests: short ones at once, long ones on a thread that keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.checkpoints import Workers

LONG_BYTES = 512 * 1024
LONG_CONTAINERS = 2_000
"""Objects and lists, braces in texts among them; each takes some microseconds to read."""

Decode = Callable[[bytes, Mapping[str, str]], ChatRequest]


async def decode(
    how: Decode, body: bytes, headers: Mapping[str, str], workers: Workers
) -> ChatRequest:
    """Read a body as its dialect does.

    Raises:
        BadRequest: As the dialect does.
    """
    if not is_long(body):
        return how(body, headers)
    return replace(await workers.run(partial(how, body, headers)), is_long=True)


def is_long(body: bytes) -> bool:
    """Whether reading a body, and what follows, takes more than a few milliseconds."""
    return len(body) > LONG_BYTES or body.count(b"{") + body.count(b"[") > LONG_CONTAINERS
