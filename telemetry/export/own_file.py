"""Files that a user asks for: what is recorded is for nobody else to read."""

from __future__ import annotations

import os


def owner_only(path: str, flags: int) -> int:
    """An `opener` for `open`: a file that it makes can be read by its owner alone."""
    return os.open(path, flags, 0o600)
