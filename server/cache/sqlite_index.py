"""The index of files and answers on disk: one SQLite file, opened by each thread separately.

A damaged database is removed and replaced, at the start or whenever damage is found: all of its
data can be computed again. The same happens to one of another version or schema. Values may have
been written by anyone: every reader checks its rows.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mlxdeck.server.cache.own_files import is_regular, open_own, own_folder
from mlxdeck.server.errors import one_line

log = logging.getLogger(__name__)

NAME = "cache.sqlite"
_BESIDE = ("-wal", "-shm", "-journal")
BUSY_TIMEOUT_S = 5.0
_VERSION = 4
MAX_ROW_BYTES = 1 << 50
"""No file is longer; a larger number in the index was not written by us."""
_SCHEMA = """
create table answers (
    key text primary key not null, n_bytes integer not null, made_s real not null,
    used_s real not null, body blob not null
);
create index answers_by_use on answers (used_s, n_bytes, made_s, key);
create table runs (
    n integer primary key autoincrement, file text unique not null, signature text not null,
    start_tokens integer not null, n_bytes integer not null, used_s real not null,
    parts blob not null
);
create index runs_by_use on runs (used_s, start_tokens desc, n_bytes, signature, file);
create index runs_by_model on runs (signature, n);
create table systems (
    parts text not null, signature text not null, tokens blob not null, used_s real not null,
    primary key (parts, signature)
);
create table totals (
    what text not null, signature text not null, n integer not null, n_bytes integer not null,
    primary key (what, signature)
);
create trigger answer_added after insert on answers begin
    insert into totals values ('answers', '', 1, new.n_bytes)
    on conflict do update set n = n + 1, n_bytes = n_bytes + new.n_bytes;
end;
create trigger answer_removed after delete on answers begin
    update totals set n = n - 1, n_bytes = n_bytes - old.n_bytes where what = 'answers';
end;
create trigger run_added after insert on runs begin
    insert into totals values ('runs', new.signature, 1, new.n_bytes)
    on conflict do update set n = n + 1, n_bytes = n_bytes + new.n_bytes;
end;
create trigger run_removed after delete on runs begin
    update totals set n = n - 1, n_bytes = n_bytes - old.n_bytes
    where what = 'runs' and signature = old.signature;
end;
"""
_MEND = f"""
delete from answers where rowid in (
    select rowid from answers indexed by answers_by_use
    where typeof(key) <> 'text' or typeof(used_s) <> 'real' or typeof(made_s) <> 'real'
    or typeof(n_bytes) <> 'integer' or n_bytes not between 0 and {MAX_ROW_BYTES}
);
delete from runs where n in (
    select n from runs indexed by runs_by_use
    where typeof(file) <> 'text' or typeof(used_s) <> 'real' or typeof(signature) <> 'text'
    or typeof(start_tokens) <> 'integer'
    or typeof(n_bytes) <> 'integer' or n_bytes not between 0 and {MAX_ROW_BYTES}
);
delete from totals;
insert into totals
    select 'answers', '', count(*), total(n_bytes) from answers indexed by answers_by_use;
insert into totals
    select 'runs', signature, count(*), total(n_bytes) from runs indexed by runs_by_use
    group by signature;
"""
"""Remove rows without a valid order or size, and count the others again.

Uses only the indexes, which hold a hundredth of the bytes of the tables.
"""


MIN_FREE_BYTES = 16 * 1024**2
"""Unused pages of the file that are worth writing it anew."""


class OtherVersion(sqlite3.DatabaseError):
    """The database was made by another version of mlxdeck."""


class SqliteIndex:
    """A folder's index. Methods raise `sqlite3.Error` where it fails."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, 0700, and the file, 0600, or take the ones that are there.

        Raises:
            OSError, sqlite3.Error: There can be no database here.
        """
        self._path = folder / NAME
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        self._generation = 0
        self.n_damaged = 0
        """Rows that were removed at the start, and databases that were replaced."""
        self.n_outdated = 0
        """Databases of another version that were replaced."""
        own_folder(folder)
        self._make()
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            self.begin_anew(self._generation, error)

    def _make(self) -> None:
        for suffix in _BESIDE:
            beside = self._path.with_name(NAME + suffix)
            if beside.is_symlink() or (beside.exists() and not is_regular(beside)):
                # SQLite would follow the link: the name is ours, but its target is not.
                beside.unlink()
        opened = open_own(self._path, os.O_CREAT | os.O_RDWR)
        try:
            os.fchmod(opened, 0o600)
        finally:
            os.close(opened)

    def _prepare(self) -> None:
        with self.begin() as connection:
            (version,) = connection.execute("pragma user_version").fetchone()
            found = _schema_of(connection)
            if not found and not version:
                connection.executescript(f"begin; {_SCHEMA} pragma user_version = {_VERSION};")
            elif version != _VERSION:
                raise OtherVersion(f"it was made by another version of mlxdeck ({version})")
            elif found != _expected():
                raise sqlite3.DatabaseError("its tables are none of ours")
            count = "select (select count(*) from answers) + (select count(*) from runs)"
            (n_before,) = connection.execute(count).fetchone()
            connection.executescript(f"begin; {_MEND}")
            (n_after,) = connection.execute(count).fetchone()
            self.n_damaged += n_before - n_after

    @contextmanager
    def begin(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; writes inside the block are committed at its end."""
        with self._connection() as connection:
            yield connection

    @property
    def generation(self) -> int:
        """How often the database was replaced."""
        return self._generation

    def _connection(self) -> sqlite3.Connection:
        local, generation = self._local, self._generation
        if getattr(local, "generation", None) != generation:
            if hasattr(local, "connection"):
                local.connection.close()
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False
            )
            connection.execute("pragma trusted_schema = off")
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            local.connection, local.generation = connection, generation
            with self._lock:
                self._connections.append(connection)
        connection = local.connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    def begin_anew(self, generation: int, why: Exception) -> None:
        """Remove a damaged database and make an empty one. Any thread.

        `generation` is the number of the failed one: a later report of the same damage does
        nothing.

        Raises:
            OSError, sqlite3.Error: No database can be made here.
        """
        with self._lock:
            if generation != self._generation:
                return
            log.warning("%s can't be used and is replaced: %s", NAME, one_line(why))
            if isinstance(why, OtherVersion):
                self.n_outdated += 1
            else:
                self.n_damaged += 1
            for path in (self._path, *(self._path.with_name(NAME + each) for each in _BESIDE)):
                path.unlink(missing_ok=True)
            self._make()
            # From now on each thread opens the new one, and closes its old one itself.
            self._generation += 1
        self._prepare()

    def shrink(self, connection: sqlite3.Connection) -> None:
        """Give unused space back to the disk, if that is much; commits. The writing thread."""
        pages = ("freelist_count", "page_count", "page_size")
        n_free, n_pages, n_bytes = (
            connection.execute(f"pragma {name}").fetchone()[0] for name in pages
        )
        if n_free * n_bytes < MIN_FREE_BYTES or 2 * n_free < n_pages:
            return
        connection.commit()
        try:
            connection.execute("vacuum")
            connection.execute("pragma wal_checkpoint(truncate)")
        except sqlite3.OperationalError as error:
            log.info("%s stays as large as it is: %s", NAME, one_line(error))

    def close(self) -> None:
        """Close every thread's connection; none of them may use it any more."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()


def _schema_of(connection: sqlite3.Connection) -> set[tuple[object, ...]]:
    """Every table, index and trigger as it was declared."""
    declared = "select type, name, tbl_name, sql from sqlite_master where name not like 'sqlite_%'"
    return set(connection.execute(declared))


def _expected() -> set[tuple[object, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return _schema_of(connection)
