"""The index of what is on disk: one SQLite file, opened by each thread for itself.

A damaged database is removed and begun anew: everything in it can be computed again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

NAME = "cache.sqlite"
BUSY_TIMEOUT_S = 5.0
_SCHEMA = """
create table if not exists answers (
    key text primary key, body blob not null, n_bytes integer not null,
    made_s real not null, used_s real not null
);
create table if not exists states (
    file text primary key, signature text not null, tokens blob not null,
    shared_tokens integer not null, trimmable integer not null,
    n_bytes integer not null, digest blob not null, used_s real not null
);
create table if not exists systems (
    parts text not null, signature text not null, tokens blob not null, used_s real not null,
    primary key (parts, signature)
);
pragma user_version = 2;
"""
_VERSION = 2
# Its answers have no age, and keys that nobody asks for any more.
_OLD_ANSWERS = 1


class SqliteIndex:
    """A folder's index. Methods raise `sqlite3.Error` where it fails."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, 0700, and the file, 0600, or take the ones that are there.

        Raises:
            OSError, sqlite3.Error: There can be no database here.
        """
        self._path = folder / NAME
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self.n_damaged = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        self._path.chmod(0o600)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            log.warning("%s is damaged and begun anew: %s", NAME, error)
            self.n_damaged += 1
            self.close()
            for path in (self._path, *folder.glob(f"{NAME}-*")):
                path.unlink(missing_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._prepare()

    def _prepare(self) -> None:
        with self.begin() as connection:
            (version,) = connection.execute("pragma user_version").fetchone()
            if version == _OLD_ANSWERS:
                connection.execute("drop table if exists answers")
            elif version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"version {version}")
            (verdict,) = connection.execute("pragma quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            connection.executescript(_SCHEMA)

    @contextmanager
    def begin(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; what is written inside the block is committed at its end."""
        if not hasattr(self._local, "connection"):
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False
            )
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            self._local.connection = connection
            self._connections.append(connection)
        with self._local.connection as connection:
            yield connection

    def close(self) -> None:
        """Close every thread's connection; none of them may use it any more."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()
