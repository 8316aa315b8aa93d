"""Digests of a prompt's blocks of tokens, for telemetry: which prompts begin alike, and how far.

Each digest continues the one before, so that one stands for all tokens up to its end. They are
keyed with a secret of this machine: who has only the recording can't test what a prompt contained.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import secrets
from collections import deque
from pathlib import Path

from mlxdeck.server.backends.local.kv.token_bytes import TOKEN_BYTES, n_common
from mlxdeck.server.cache.own_files import open_own, own_folder
from mlxdeck.server.request_facts import BlockDigests

log = logging.getLogger(__name__)

BLOCK_TOKENS = 32
"""A prefix is known to half of it, on average: little of any prompt that costs time."""
TOLD_BYTES = 4
"""Of a digest: enough to tell thousands of prompts apart, too few to reveal one."""
KEY_BYTES = 32
MAX_KNOWN = 500_000
"""Digests that are remembered; then all are forgotten, and told again."""
RECENT = 16
FILE = "digests.key"


class PromptDigests:
    """Of all prompts of a server. For one thread."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: set[bytes] = set()
        self._recent: deque[tuple[bytes, list[bytes]]] = deque(maxlen=RECENT)
        """Tokens of prompts, and their digests: most prompts begin like one of them."""

    def of(self, tokens: bytes) -> BlockDigests:
        """The digests that were not told before, and how many blocks stand before them."""
        chained = self._chained(tokens)
        low, high = 0, len(chained)
        # Who has told a digest has told those before it.
        while low < high:
            middle = (low + high + 1) // 2
            if chained[middle - 1] in self._known:
                low = middle
            else:
                high = middle - 1
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
            low = 0
        self._known.update(chained[low:])
        before = _text(chained[low - 1 : low]) if low else ""
        return BlockDigests(low, before, _text(chained[low:]))

    def _chained(self, tokens: bytes) -> list[bytes]:
        """The digest of each block; those of a recent prompt as far as that is the same."""
        step = BLOCK_TOKENS * TOKEN_BYTES
        n, known = 0, list[bytes]()
        for before, digests in self._recent:
            if (same := n_common(before, tokens) // BLOCK_TOKENS) > n:
                n, known = same, digests
        chained, last = known[:n], known[n - 1] if n else b""
        for at in range(n * step, len(tokens) - step + 1, step):
            block = tokens[at : at + step]
            last = hashlib.blake2b(last + block, digest_size=16, key=self._key).digest()
            chained.append(last)
        self._recent.append((tokens, chained))
        return chained


def _text(digests: list[bytes]) -> str:
    return base64.b64encode(b"".join(each[:TOLD_BYTES] for each in digests)).decode()


def prompt_digests(home: Path, is_wanted: bool) -> PromptDigests | None:
    """Digests with the key of this machine, if telemetry wants any."""
    return PromptDigests(machine_key(home)) if is_wanted else None


def machine_key(home: Path) -> bytes:
    """The secret of this machine, made if need be; one of this process if the disk fails."""
    path = home / FILE
    try:
        own_folder(home)
        with os.fdopen(open_own(path, os.O_RDWR | os.O_CREAT), "r+b") as file:
            key = file.read(KEY_BYTES)
            if len(key) == KEY_BYTES:
                return key
            key = secrets.token_bytes(KEY_BYTES)
            file.seek(0)
            file.write(key)
            return key
    except OSError as error:
        log.warning("%s can't be used: %s", path, error)
        return secrets.token_bytes(KEY_BYTES)
