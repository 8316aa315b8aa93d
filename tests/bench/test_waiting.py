"""A short prompt is read at once, also while long ones are being read: counted in steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import waiting
from tests.zoo.models import small_smollm2


@pytest.mark.model
async def test_short_prompt_waits_for_two_steps_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that reads it, and the one that draws its first token."""
    monkeypatch.setattr(waiting, "LONG_TOKENS", 6_000)
    assert max(await waiting.measured(small_smollm2(tmp_path), n_tries=3)) <= 2
