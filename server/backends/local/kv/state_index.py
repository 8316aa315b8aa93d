"""The index of KV states on disk: rows in SQLite, found by their blocks of tokens.

The index is not held in RAM. Each block of 64 tokens has a hash that continues the one before it,
so that a hash covers all tokens up to its block. A state that can be trimmed is listed under each
of its blocks. Any other state is only under its last block: all of it must be a prefix of the
prompt.

Rows may have been written by anyone: they are checked, and tokens are compared.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlxdeck.server.backends.local.kv.token_bytes import (
    TOKEN_BYTES,
    first,
    n_common,
    n_tokens,
)

BLOCK_TOKENS = 64
"""States without a whole block are not stored: they are computed faster than they are read."""
DIGEST_BYTES = 32
FILE = re.compile(r"[0-9a-f]{64}\.safetensors")
_BLOCK_BYTES = BLOCK_TOKENS * TOKEN_BYTES
_HASH_BYTES = 16
_INNER, _LAST, _WHOLE = range(3)
"""Kinds of listed blocks: of a state that can be cut, its last one, of one that can't be cut."""
_AT_ONCE = 500
"""So many values go into one statement."""
_A_FEW = 32
"""Maximal number of compared states with the same blocks of a prompt.

They differ by less than one block, so an overlooked state costs less than one block.
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A state on disk."""

    file: str
    tokens: bytes
    shared_tokens: int
    trimmable: bool
    n_bytes: int
    digest: bytes

    def usable(self, wanted: bytes) -> int:
        """Number of leading tokens of `wanted` for which this state is valid."""
        n = n_common(self.tokens, wanted)
        return n if self.trimmable or n == n_tokens(self.tokens) else 0


class DamagedRow(ValueError):
    """A row of the index that can't be one of ours."""

    def __init__(self, file: object) -> None:
        super().__init__(f"the index of states is damaged: {file!r:.100}")
        self.file = file


class StateIndex:
    """The states of one model. Every method runs inside a transaction of its caller's."""

    def __init__(self, signature: str) -> None:
        """`signature` covers everything that determines a state's form."""
        self.signature = signature
        self._seed = hashlib.sha256(signature.encode()).digest()

    def file_of(self, tokens: bytes) -> str:
        """The name of the file of a state."""
        return hashlib.sha256(self._seed + tokens).hexdigest() + ".safetensors"

    def _hashes(self, tokens: bytes) -> list[bytes]:
        hashes, last = [], self._seed
        for end in range(_BLOCK_BYTES, len(tokens) + 1, _BLOCK_BYTES):
            block = tokens[end - _BLOCK_BYTES : end]
            last = hashlib.blake2b(last + block, digest_size=_HASH_BYTES).digest()
            hashes.append(last)
        return hashes

    def totals(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Number and bytes of this model's states."""
        query = "select max(0, cast(n as int)), max(0, cast(n_bytes as int)) from totals"
        of_these = " where what = 'states' and signature = ?"
        row = connection.execute(query + of_these, (self.signature,)).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def add(self, connection: sqlite3.Connection, stored: Stored) -> None:
        """Put a state in, or in the place of the same one."""
        self.remove(connection, stored.file)
        values = (
            stored.file, self.signature, stored.shared_tokens, int(stored.trimmable),
            stored.n_bytes, stored.digest, time.time(), stored.tokens,
        )  # fmt: skip
        connection.execute("insert into states values (?,?,?,?,?,?,?,?)", values)
        *inner, last = self._hashes(stored.tokens)
        rows = [(each, _INNER, stored.file) for each in inner] if stored.trimmable else []
        rows.append((last, _LAST if stored.trimmable else _WHOLE, stored.file))
        connection.executemany("insert or ignore into state_blocks values (?,?,?)", rows)

    def remove(self, connection: sqlite3.Connection, file: object) -> None:
        """Take a state out; its file is the caller's."""
        connection.execute("delete from states where file is ?", (file,))

    def used(self, connection: sqlite3.Connection, file: str) -> None:
        """A state has been read back: it goes later now."""
        connection.execute("update states set used_s = ? where file = ?", (time.time(), file))

    def oldest(
        self, connection: sqlite3.Connection, max_bytes: int
    ) -> Iterator[tuple[object, str]]:
        """States of all models, the longest unused first, until the rest is within the limit.

        With each file, the signature of its model.
        """
        total = "select total(n_bytes) from totals where what = 'states'"
        query = (
            "select file, signature, n_bytes from states indexed by states_by_use"
            " order by used_s limit 16"
        )
        excess = connection.execute(total).fetchone()[0] - max_bytes
        while excess > 0 and (rows := connection.execute(query).fetchall()):
            for file, signature, n_bytes in rows:
                if excess > 0:
                    excess -= n_bytes
                    yield file, signature

    def all_files(self, connection: sqlite3.Connection) -> set[object]:
        """The files of all models."""
        query = "select file from states indexed by states_by_use"
        return {file for (file,) in connection.execute(query)}

    def own_files(self, connection: sqlite3.Connection) -> list[object]:
        """The files of this model."""
        query = "select file from states indexed by states_by_use where signature = ?"
        return [file for (file,) in connection.execute(query, (self.signature,))]

    def covers(self, connection: sqlite3.Connection, tokens: bytes, trimmable: bool) -> bool:
        """Whether a stored state already covers all of these tokens."""
        file = self.file_of(tokens)
        if connection.execute("select 1 from states where file = ?", (file,)).fetchone():
            return True
        return trimmable and any(
            n == n_tokens(tokens) for _, n in self._alike(connection, tokens, self._hashes(tokens))
        )

    def superseded(self, connection: sqlite3.Connection, stored: Stored) -> list[str]:
        """States that are a mere beginning of this one."""
        if not stored.trimmable:
            return []
        found = []
        for file, tokens in self._ending_in(connection, self._hashes(stored.tokens), _LAST):
            if file != stored.file and stored.tokens.startswith(tokens):
                found.append(file)
        return found

    def nearest(self, connection: sqlite3.Connection, wanted: bytes) -> tuple[Stored | None, int]:
        """The state with the longest prefix of a prompt, and the prefix's number of tokens.

        Raises:
            DamagedRow: The row with the longest prefix is damaged.
        """
        hashes = self._hashes(wanted)
        best = max(self._alike(connection, wanted, hashes), key=lambda each: each[1], default=None)
        for file, tokens in self._ending_in(connection, hashes, _WHOLE):
            if wanted.startswith(tokens) and (best is None or n_tokens(tokens) > best[1]):
                best = file, n_tokens(tokens)
        if best is None:
            return None, 0
        stored = self._row(connection, best[0])
        if stored.usable(wanted) < best[1]:
            raise DamagedRow(stored.file)
        return stored, best[1]

    def _alike(
        self, connection: sqlite3.Connection, wanted: bytes, hashes: Sequence[bytes]
    ) -> Iterator[tuple[str, int]]:
        """Some of the states that share most blocks with a prompt, and how many tokens."""
        low, high = 0, len(hashes)
        listed = f"select 1 from state_blocks where hash = ? and kind <> {_WHOLE} limit 1"
        # Who has a block has those before it: the first `low` are known to be there.
        while low < high:
            middle = (low + high + 1) // 2
            if connection.execute(listed, (hashes[middle - 1],)).fetchone():
                low = middle
            else:
                high = middle - 1
        if not low:
            return
        query = (
            "select b.file, substr(s.tokens, ?, ?) from state_blocks b left join states s"
            f" on s.file = b.file where b.hash = ? and b.kind <> {_WHOLE} limit {_A_FEW}"
        )
        shared_bytes = low * _BLOCK_BYTES
        tail = wanted[shared_bytes : shared_bytes + _BLOCK_BYTES]
        values = (shared_bytes + 1, _BLOCK_BYTES, hashes[low - 1])
        for file, more in connection.execute(query, values).fetchall():
            if not isinstance(more, bytes) or not _is_file(file):
                raise DamagedRow(file)
            yield file, low * BLOCK_TOKENS + n_common(more, tail)

    def _ending_in(
        self, connection: sqlite3.Connection, hashes: Sequence[bytes], kind: int
    ) -> Iterator[tuple[str, bytes]]:
        """States whose last block is one of these, and their tokens; the longest first, roughly."""
        for end in range(len(hashes), 0, -_AT_ONCE):
            some = hashes[max(0, end - _AT_ONCE) : end]
            query = (
                "select b.file, s.tokens from state_blocks b left join states s on s.file = b.file"
                f" where b.kind = ? and b.hash in ({','.join('?' * len(some))}) limit ?"
            )
            for file, tokens in connection.execute(query, (kind, *some, _AT_ONCE)).fetchall():
                if not isinstance(tokens, bytes) or not _is_file(file):
                    raise DamagedRow(file)
                yield file, tokens

    def _row(self, connection: sqlite3.Connection, file: str) -> Stored:
        query = (
            "select tokens, shared_tokens, trimmable, n_bytes, digest from states where file = ?"
        )
        row = connection.execute(query, (file,)).fetchone()
        if row is None:
            raise DamagedRow(file)
        tokens, shared_tokens, trimmable, n_bytes, digest = row
        whole = (
            isinstance(tokens, bytes) and len(tokens) % TOKEN_BYTES == 0
            and isinstance(shared_tokens, int) and 0 <= shared_tokens <= n_tokens(tokens)
            and trimmable in (0, 1)
            and isinstance(n_bytes, int) and n_bytes >= 0
            and isinstance(digest, bytes) and len(digest) == DIGEST_BYTES
        )  # fmt: skip
        if not whole:
            raise DamagedRow(file)
        return Stored(file, tokens, shared_tokens, bool(trimmable), n_bytes, digest)


def _is_file(name: object) -> bool:
    return isinstance(name, str) and FILE.fullmatch(name) is not None


def without_last(tokens: bytes) -> bytes:
    """A prompt without its last token, which is always left to run."""
    return first(tokens, n_tokens(tokens) - 1)
