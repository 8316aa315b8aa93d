"""Names of sessions and agents as clients tell them."""

from __future__ import annotations

import pytest

from mlxdeck.server.dialects.client_names import MAX_NAME, ClientNames, client_names

CLAUDE, PARENT = "x-claude-code-agent-id", "x-claude-code-parent-agent-id"


@pytest.mark.parametrize(
    ("headers", "told", "expected"),
    [
        ({}, "", ClientNames()),
        ({}, "k", ClientNames("k")),
        ({"x-claude-code-session-id": "s", CLAUDE: "a"}, "k", ClientNames("s", "a")),
        (
            {"x-claude-code-session-id": "s", CLAUDE: "b", PARENT: "a"},
            "",
            ClientNames("s", "b", "a"),
        ),
        ({"session_id": "s", "thread-id": "s"}, "", ClientNames("s")),
        (
            {"session-id": "s", "thread-id": "t", "x-openai-subagent": "review"},
            "",
            ClientNames("s", "t", "", "review"),
        ),
        ({"x-session-affinity": "s"}, "", ClientNames("s")),
        ({"x-session-id": "c", "x-parent-session-id": "s"}, "c", ClientNames("s", "c")),
        ({"x-parent-session-id": "s"}, "", ClientNames()),
        ({"x-session-id": "é" * 999}, "", ClientNames("é" * MAX_NAME)),
    ],
)
def test_each_client_names_its_agents(
    headers: dict[str, str], told: str, expected: ClientNames
) -> None:
    """Claude Code as such, Codex as threads, opencode as sessions; others at most a session."""
    assert client_names(headers, told) == expected
