"""Numbers that a client may choose freely: each is served, and what is recorded of it is read."""

from __future__ import annotations

from typing import Any

import pytest

from mlxdeck.telemetry.schema.events import RequestStart
from tests.server.http import running

TURN = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {"messages": TURN},
    "/v1/chat/completions": {"messages": TURN},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
}
LIMITS = {"/v1/responses": "max_output_tokens"}


@pytest.mark.parametrize("number", [2**31, 2**33, 2**53, 1e30])
@pytest.mark.parametrize("path", BODIES)
async def test_any_limit_is_served_and_recorded(path: str, number: float) -> None:
    """`MemoryWriter` reads each event again, as a dashboard would."""
    body = {"model": "m", **BODIES[path], LIMITS.get(path, "max_tokens"): number}
    body |= {"top_k": number, "seed": int(number) % 2**63}
    if path == "/v1/messages":
        body["thinking"] = {"type": "enabled", "budget_tokens": number}
    async with running() as server:
        answered = await server.http.post(path, json=body)
        assert answered.status_code == 200, answered.text
        (start,) = server.telemetry.named("request.start")
    assert isinstance(start.attrs, RequestStart) and start.attrs.max_tokens == 2**30
