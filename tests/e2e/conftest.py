"""One real server, with the real model, for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.real import Server, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server as `mlxdeck serve` starts it, serving SmolLM2."""
    with serving() as running:
        yield running
