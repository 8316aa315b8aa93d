"""Clients' names of the conversation and of the agent that asks, in any API.

For telemetry alone, so nothing about them is an error. Claude Code names session and agents in
headers of its own. Codex runs an agent as another thread, opencode as another session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

MAX_NAME = 64
"""Maximal length of a name, in characters."""
_SESSIONS = ("x-claude-code-session-id", "session-id", "session_id")
_OTHER_SESSIONS = ("x-session-affinity", "x-session-id")
_PARENT_SESSION = "x-parent-session-id"
_AGENT, _PARENT_AGENT = "x-claude-code-agent-id", "x-claude-code-parent-agent-id"
_THREAD, _PARENT_THREAD = "thread-id", "x-codex-parent-thread-id"
_KIND = "x-openai-subagent"


class ClientNames(NamedTuple):
    """The client's names; an empty one is not told."""

    session_id: str = ""
    agent_id: str = ""
    """Empty for the session's main agent."""
    parent_agent_id: str = ""
    agent_name: str = ""
    """The kind of agent."""


def client_names(headers: Mapping[str, str], told: str = "") -> ClientNames:
    """The names in a request's headers; `told` is the session's name in its body."""
    session = _first(headers, _SESSIONS) or told[:MAX_NAME] or _first(headers, _OTHER_SESSIONS)
    agent = _first(headers, (_AGENT, _THREAD))
    parent = _first(headers, (_PARENT_AGENT, _PARENT_THREAD))
    before = _first(headers, (_PARENT_SESSION,))
    if before and session and before != session and not agent:
        session, agent = before, session
    return ClientNames(
        session,
        "" if agent == session else agent,
        "" if parent == session else parent,
        _first(headers, (_KIND,)),
    )


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((found[:MAX_NAME] for name in names if (found := headers.get(name))), "")
