"""The dashboard's process, before anything is imported that the environment tells what to do."""

from __future__ import annotations

import os

ENVIRON = {"NUMPY_MADVISE_HUGEPAGE": "0"}
"""Read by numpy when it is imported, also by the helpers' one. To zero pages of 2 MB, one for each
column at about the same number of requests, holds up a key for 50 to 100 ms."""


def prepare_process() -> None:
    """Set what is not set yet of `ENVIRON`. Nothing that loads numpy may be imported before."""
    for name, value in ENVIRON.items():
        os.environ.setdefault(name, value)
