"""What is known of another server: its API, its models, and whether it is there.

Found by asking at the start, by each use, and by asking again from time to time.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from mlxdeck.server.backends.base import Health, ServedModel
from mlxdeck.server.backends.upstream.client import UpstreamClient
from mlxdeck.server.backends.upstream.config import UpstreamConfig
from mlxdeck.server.backends.upstream.reading import count_of
from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.errors import ServerError, UpstreamFailed

LOOK_S = 5.0
"""For each question."""
LOOK_EVERY_S = 30.0
MAX_MODELS = 2_000
_WINDOWS = (
    *("max_input_tokens", "context_length", "max_model_len", "context_window"),
    *("max_context_length", "loaded_context_length", "n_ctx"),
)
"""What servers call the window of a model in their list."""


class Peer:
    """One other server. For the event loop."""

    def __init__(self, config: UpstreamConfig, client: UpstreamClient) -> None:
        self._config = config
        self._client = client
        self._models: dict[str, int | None] = {}
        """The window of each listed model, in the server's order."""
        self._dialects: tuple[str, ...] = (config.dialect,) if config.dialect else ()
        self._looked_s = 0.0
        self._looking: asyncio.Task[None] | None = None
        self.trouble = ""

    async def look(self) -> None:
        """Ask which models it has, and which API it speaks."""
        self._looked_s = time.monotonic()
        try:
            if not self._dialects:
                self._dialects = await self._asked()
            status, body = await self._client.ask("GET", "/models", self._dialects[0], None, LOOK_S)
            if status == 200 and isinstance(body, dict):
                self._models = _listed(body)
            self.trouble = self._refusal if status in (401, 403) else ""
        except UpstreamFailed as error:
            self.trouble = error.message if error.is_away else ""

    async def look_once(self, timeout_s: float) -> None:
        """Look, but no longer than that."""
        try:
            await asyncio.wait_for(self.look(), timeout_s)
        except TimeoutError:
            self.trouble = f"the upstream {self._config.name} does not answer"

    async def _asked(self) -> tuple[str, ...]:
        """The APIs it speaks: a route that exists refuses an empty request, in its own way."""
        found = []
        for dialect, path in (("anthropic", "/messages"), ("openai", "/chat/completions")):
            status, _ = await self._client.ask("POST", path, dialect, b"{}", LOOK_S)
            if status not in (404, 405, 501):
                found.append(dialect)
        return tuple(found) or ("openai",)

    async def dialect_for(self, chat: ChatRequest) -> str:
        """The API to ask by: the client's own, if the server speaks it.

        Raises:
            UpstreamFailed: It isn't known, because the server can't be reached.
        """
        if not self._dialects:
            self._dialects = await self._asked()
        own = chat.client.dialect if chat.client else ""
        return own if own in self._dialects else self._dialects[0]

    def passes_on(self, chat: ChatRequest) -> bool:
        """Whether the server gets the client's own words, as far as is known."""
        return chat.client is not None and chat.client.dialect in self._dialects

    @property
    def model(self) -> str:
        """The model that is asked for if a client's name means nothing here; empty if unknown."""
        return self._config.model or next(iter(self._models), "")

    def models(self) -> list[ServedModel]:
        """What it lists, the usual one first."""
        listed = [ServedModel(name, window) for name, window in self._models.items()]
        usual = ServedModel(self.model, self.context_tokens)
        return [usual, *(each for each in listed if each.name != usual.name)] if usual.name else []

    def model_for(self, name: str) -> str:
        """What the server is asked for if the client says `name`."""
        own, _, model = name.partition("/")
        if own == self._config.name and model:
            # Whoever names the backend, too, means this very model.
            return model
        if self._config.model:
            return self._config.model
        if self._config.hosted or name in self._models:
            return name
        return self.model or name

    @property
    def context_tokens(self) -> int | None:
        """The window of that model; None if the server doesn't tell."""
        return self._config.context_tokens or self._models.get(self.model)

    @property
    def health(self) -> Health:
        """As it was when it was last asked."""
        return Health("unhealthy", self.trouble) if self.trouble else Health("healthy")

    def report(self) -> dict[str, Any]:
        """What `GET /v1/status` shows."""
        return {
            "name": self._config.name,
            "url": self._config.base,
            "apis": list(self._dialects),
            "models": list(self._models)[:50],
        }

    def worked(self) -> None:
        """It has answered."""
        self.trouble = ""
        self._looked_s = time.monotonic()

    def failed(self, error: ServerError) -> None:
        """It has not. What it says of one request says nothing about others."""
        if isinstance(error, UpstreamFailed):
            self.trouble = error.message if error.is_away else self.trouble
        elif error.status == 401:
            self.trouble = self._refusal

    @property
    def _refusal(self) -> str:
        """Why it lets nobody in."""
        name, variable = self._config.name, self._config.key_env
        if not self._config.key:
            return f"the upstream {name} needs a key: {variable or 'key_env'} is not set"
        return f"the upstream {name} refuses the key of {variable}"

    def tick(self) -> None:
        """Look again if it is time."""
        is_due = time.monotonic() - self._looked_s > LOOK_EVERY_S
        if is_due and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self.look())

    def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()


def _listed(body: dict[str, Any]) -> dict[str, int | None]:
    data = body.get("data")
    found: dict[str, int | None] = {}
    for each in data[:MAX_MODELS] if isinstance(data, list) else ():
        if isinstance(each, dict) and isinstance(name := each.get("id"), str):
            counts = (count_of(each, key) for key in _WINDOWS)
            found[name] = next((n for n in counts if n), None)
    return found
