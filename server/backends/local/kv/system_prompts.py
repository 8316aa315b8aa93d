"""Recent system prompts, as tokens, so that a new start can prefill them before any request.

Their names are the digests of system prompt and tools. Telemetry knows these too, and they are the
same for every model.
"""

from __future__ import annotations

import sqlite3
import time

from mlxdeck.server.backends.local.kv.token_bytes import TOKEN_BYTES, pack, unpack
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.request_facts import Digests

MAX_SYSTEMS = 200
PART_DIGITS = 12
"""As many digits of each digest as telemetry shows."""


def parts_key(system: str, tools: str) -> str:
    """The name of a system prompt with its tools, by their digests, short or whole."""
    return f"{system[:PART_DIGITS]}-{tools[:PART_DIGITS]}"


class SystemPrompts:
    """The remembered system prompts. For the event loop."""

    def __init__(self, disk: DiskIO, signature: str) -> None:
        self._disk = disk
        self._signature = signature
        self._known: dict[str, set[str]] = {}
        self._noted: set[str] = set()
        with disk.database.begin() as connection:
            query = "select parts, signature from systems order by used_s desc limit ?"
            for parts, of in connection.execute(query, (MAX_SYSTEMS,)):
                if isinstance(parts, str) and isinstance(of, str):
                    self._known.setdefault(parts, set()).add(of)

    def note(self, parts: Digests, tokens: list[int], shared_tokens: int) -> None:
        """Remember the system prompt of a request; once in a process is enough."""
        key = parts_key(parts.system, parts.tools)
        if not shared_tokens or key in self._noted:
            return
        if len(self._noted) >= MAX_SYSTEMS:
            # The table has the same limit: prompts that are used again are noted again.
            for noted in self._noted:
                self._known.pop(noted, None)
            self._noted.clear()
        self._noted.add(key)
        self._known.setdefault(key, set()).add(self._signature)
        about, now_s = (key, self._signature), time.time()

        def store(connection: sqlite3.Connection) -> None:
            _store(connection, (*about, pack(tokens[:shared_tokens]), now_s))

        self._disk.write(store)

    def of_another_model(self, parts: Digests) -> bool:
        """Whether this system prompt was last seen with another model only."""
        known = self._known.get(parts_key(parts.system, parts.tools), set())
        return bool(known) and self._signature not in known

    async def tokens(self, key: str) -> list[int] | None:
        """The tokens of a system prompt by its name, if they are known for this model."""
        query = "select tokens from systems where parts = ? and signature = ?"
        row = await self._disk.read(
            lambda c: c.execute(query, (key, self._signature)).fetchone(), None
        )
        packed = row[0] if row else None
        if not isinstance(packed, bytes) or len(packed) % TOKEN_BYTES:
            return None
        return unpack(packed)


def _store(connection: sqlite3.Connection, row: tuple[object, ...]) -> None:
    connection.execute("insert or replace into systems values (?,?,?,?)", row)
    surplus = "select rowid from systems order by used_s desc limit -1 offset ?"
    connection.execute(f"delete from systems where rowid in ({surplus})", (MAX_SYSTEMS,))
