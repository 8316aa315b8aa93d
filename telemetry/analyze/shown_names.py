"""Names as a report shows them: their own, or numbers in a report that is to be shared."""

from __future__ import annotations

MAIN = "main"
"""The agent of a client that names none."""
NO_SESSION = "(no session)"
CLIENT_TOOLS = "tools."


class ShownNames:
    """Names of sessions, agents, tools, models and requests."""

    def __init__(self, *, anonymous: bool = False) -> None:
        """`anonymous` shows numbers, in the order in which names come up."""
        self.anonymous = anonymous
        self._numbers: dict[tuple[str, str], int] = {}

    def _label(self, kind: str, name: str) -> str:
        if not self.anonymous or not name:
            return name
        number = self._numbers.setdefault((kind, name), self._count(kind) + 1)
        return f"{kind} {number}"

    def _count(self, kind: str) -> int:
        return sum(each == kind for each, _ in self._numbers)

    def session(self, name: str) -> str:
        """A session by the client's name for it."""
        return self._label("session", name) or NO_SESSION

    def agent(self, name: str) -> str:
        """An agent; a client's main one has no name."""
        return self._label("agent", name) or MAIN

    def tool(self, name: str) -> str:
        """A tool."""
        return self._label("tool", name) or "(unreadable)"

    def model(self, name: str) -> str:
        """A model; its name may be a path."""
        return self._label("model", name) or "(unknown)"

    def backend(self, name: str) -> str:
        """A backend by its name in the settings."""
        return self._label("backend", name) or "(unknown)"

    def request(self, name: str) -> str:
        """A request's id."""
        return self._label("request", name)

    def block(self, path: str) -> str:
        """A part of a prompt: `system`, `messages.3` or `tools.NAME`."""
        if path.startswith(CLIENT_TOOLS):
            return f"{CLIENT_TOOLS}{self.tool(path.removeprefix(CLIENT_TOOLS))}"
        return path
