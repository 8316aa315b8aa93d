"""The rows of KV states on disk: one a file, which is a run of parts of a path.

This is the lasting form of the index. At the start, and whenever a prompt is looked for, the rows
that are new are read into the tree. Rows may have been written by anyone: they are checked, and the
keys of blocks are computed again.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec

from mlxdeck.server.backends.local.kv.token_bytes import TOKEN_BYTES, n_tokens

FILE = re.compile(r"[0-9a-f]{64}\.kv")
DIGEST_BYTES = 32


class StoredPart(msgspec.Struct, frozen=True, array_like=True):
    """A block or a checkpoint in a file."""

    parent: bytes
    """The key of the block before."""
    tokens: bytes
    """Of the block; of a checkpoint those of its block up to it."""
    is_checkpoint: bool
    is_cuttable: bool
    shared_tokens: int
    offset: int
    n_bytes: int
    digest: bytes
    about: int
    """Place in the run's list of descriptions."""


class StoredRun(msgspec.Struct, frozen=True, array_like=True):
    """The parts of a file, in order, and the different descriptions of their bytes."""

    abouts: list[str]
    parts: list[StoredPart]

    def check(self, block_tokens: int) -> None:
        """Refuse what can't be ours.

        Raises:
            ValueError: It isn't.
        """
        for part in self.parts:
            is_sound = (
                0 < len(part.tokens) <= block_tokens * TOKEN_BYTES
                and len(part.tokens) % TOKEN_BYTES == 0
                and 0 <= part.shared_tokens <= n_tokens(part.tokens)
                and part.offset >= 0
                and part.n_bytes >= 0
                and len(part.digest) == DIGEST_BYTES
                and 0 <= part.about < len(self.abouts)
            )
            if not is_sound:
                raise ValueError("a part that can't be one")

    def about(self, part: StoredPart) -> str:
        """The description of a part, one object for all that have the same."""
        return sys.intern(self.abouts[part.about])


class RunIndex:
    """The rows of one model. Every method runs inside a transaction of its caller's."""

    def __init__(self, signature: str) -> None:
        """`signature` covers everything that determines a state's form."""
        self.signature = signature

    def totals(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Number of this model's files, and their bytes."""
        query = "select max(0, cast(n as int)), max(0, cast(n_bytes as int)) from totals"
        of_these = " where what = 'runs' and signature = ?"
        row = connection.execute(query + of_these, (self.signature,)).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def add(
        self, connection: sqlite3.Connection, file: str, start: int, n_bytes: int, run: StoredRun
    ) -> None:
        """Put a run in, or in the place of the same one."""
        self.remove(connection, file)
        query = "insert into runs (file, signature, start_tokens, n_bytes, used_s, parts)"
        values = (file, self.signature, start, n_bytes, time.time(), msgspec.msgpack.encode(run))
        connection.execute(f"{query} values (?,?,?,?,?,?)", values)

    def remove(self, connection: sqlite3.Connection, file: object) -> None:
        """Take a run out; its file is the caller's."""
        connection.execute("delete from runs where file is ?", (file,))

    def used(self, connection: sqlite3.Connection, files: Sequence[str]) -> None:
        """These have been used: they go later now, those that others rely on last."""
        now_s = time.time()
        query = "update runs set used_s = ? where file = ?"
        connection.executemany(query, [(now_s, file) for file in files])

    def after(
        self, connection: sqlite3.Connection, last_n: int
    ) -> list[tuple[int, object, object]]:
        """This model's rows behind a number: number, file and parts, paths from their beginning."""
        query = (
            "select n, file, parts from runs indexed by runs_by_model"
            " where signature = ? and n > ? order by start_tokens, n"
        )
        return connection.execute(query, (self.signature, last_n)).fetchall()

    def oldest(
        self, connection: sqlite3.Connection, max_bytes: int
    ) -> Iterator[tuple[object, str]]:
        """Files of all models, the longest unused first, until the rest is within the limit.

        With each file, the signature of its model. Ends of paths go before what they rely on.
        """
        total = "select total(n_bytes) from totals where what = 'runs'"
        query = (
            "select file, signature, n_bytes from runs indexed by runs_by_use"
            " order by used_s, start_tokens desc limit 16"
        )
        excess = connection.execute(total).fetchone()[0] - max_bytes
        while excess > 0 and (rows := connection.execute(query).fetchall()):
            for file, signature, n_bytes in rows:
                if excess > 0:
                    excess -= n_bytes
                    yield file, signature

    def all_files(self, connection: sqlite3.Connection) -> set[object]:
        """The files of all models."""
        return {file for (file,) in connection.execute("select file from runs")}

    def own_files(self, connection: sqlite3.Connection) -> list[object]:
        """The files of this model."""
        query = "select file from runs indexed by runs_by_model where signature = ?"
        return [file for (file,) in connection.execute(query, (self.signature,))]


def decoded(parts: object, block_tokens: int) -> StoredRun:
    """The parts of a row.

    Raises:
        ValueError: They are none.
    """
    if not isinstance(parts, bytes):
        raise ValueError("no bytes")
    run = msgspec.msgpack.decode(parts, type=StoredRun)
    run.check(block_tokens)
    return run


def is_file(name: object) -> bool:
    """Whether a file has a name of ours."""
    return isinstance(name, str) and FILE.fullmatch(name) is not None
