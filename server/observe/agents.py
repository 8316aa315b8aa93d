"""Which agent asks, whose it is and what it was told to do, from what passes through this server.

Clients name agents in headers, if at all. The kind and the task of one stand in the call that
started it: its prompt is what the agent's conversation begins with. For the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import msgspec

from mlxdeck.server.chat import ChatRequest, Text
from mlxdeck.server.joined_text import JoinedText
from mlxdeck.server.lru_map import LruMap

MAX_AGENTS = 1_000
"""So many agents, and tasks of agents, are remembered."""
MAX_PROMPT = 100_000
"""Characters of a task; a longer one is no agent's."""
MAX_CALL = 2 * MAX_PROMPT
"""Characters of a call that may start an agent."""
MAX_BLOCKS = 32
"""Of a conversation's first message, among which a task is."""
MAX_WORDS = 200
"""Characters of a name or a description that are looked at; fewer are kept."""
_PROMPTS = ("prompt", "message")
_KINDS = ("subagent_type", "agent_type", "agent")
_STARTERS = ("agent", "task", "spawn_agent")
"""Tools that start an agent, in lower case, where nothing says which kind of one."""


@dataclass(frozen=True, slots=True)
class AgentNames:
    """Who asks."""

    session_id: str = ""
    agent_id: str = ""
    """Empty for the session's main one."""
    parent_id: str = ""
    name: str = ""
    """Its kind."""
    task: str = ""
    """Its description in the call that started it."""


class Agents:
    """Remembers the agents of this server's clients, and calls that start more of them."""

    def __init__(self) -> None:
        self._tasks: LruMap[str, AgentNames] = LruMap(MAX_AGENTS)
        """Who is started by a call, by its prompt."""
        self._known: LruMap[tuple[str, str], AgentNames] = LruMap(MAX_AGENTS)
        """Agents by session and id."""
        self._sessions: LruMap[str, AgentNames] = LruMap(MAX_AGENTS)
        """Agents whose client gives them a session of their own, by its name."""

    def called(self, tool: str, arguments: JoinedText, names: AgentNames) -> None:
        """The agent of these names called a tool; this may start another one."""
        if arguments.n_chars > MAX_CALL:
            return
        text = arguments.text
        if not any(f'"{each}"' in text for each in _PROMPTS):
            return
        try:
            fields: Any = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return
        if not isinstance(fields, dict):
            return
        kind, prompt = _first(fields, _KINDS), _first(fields, _PROMPTS)
        if prompt and len(prompt) <= MAX_PROMPT and (kind or tool.lower() in _STARTERS):
            task = _first(fields, ("description",))[:MAX_WORDS]
            started = AgentNames(names.session_id, "", names.agent_id, kind[:MAX_WORDS], task)
            self._tasks.put(prompt.strip(), started)

    def who(self, request: ChatRequest) -> AgentNames:
        """Who asks: the client's own names, completed by what is known."""
        told = AgentNames(
            request.session_id, request.agent_id, request.parent_agent_id, request.agent_name
        )
        if not told.session_id:
            return told
        if known := self._sessions.get(told.session_id):
            if not told.agent_id:
                return known
            # An agent of an agent that has a session of its own.
            parent = told.parent_id or known.agent_id
            told = replace(told, session_id=known.session_id, parent_id=parent)
        if known := self._known.get((told.session_id, told.agent_id)):
            return known
        started = self._started(request)
        if started is None:
            return told
        return self._named(told, started)

    def _named(self, told: AgentNames, started: AgentNames) -> AgentNames:
        found = replace(
            told,
            parent_id=told.parent_id or started.parent_id,
            name=told.name or started.name,
            task=started.task,
        )
        if not told.agent_id:
            if started.session_id in ("", told.session_id):
                return told
            # Its client doesn't say that it is one.
            own = told.session_id
            found = replace(found, session_id=started.session_id, agent_id=own)
            self._sessions.put(own, found)
        self._known.put((found.session_id, found.agent_id), found)
        return found

    def _started(self, request: ChatRequest) -> AgentNames | None:
        """The task that the conversation begins with, if a call has told it."""
        if not len(self._tasks) or not request.messages:
            return None
        for block in islice(request.messages[0].blocks, MAX_BLOCKS):
            if not isinstance(block, Text) or len(block.text) > MAX_PROMPT:
                continue
            if found := self._tasks.get(block.text.strip()):
                return found
        return None


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((fields[name] for name in names if isinstance(fields.get(name), str)), "")
