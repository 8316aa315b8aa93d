"""What is known of a real conversation's prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.recorder import FILES, record
from tests.e2e.reuse import conversation, n_calls, smollm2_renderer, turns

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


async def test_from_the_second_turn_on_nearly_all_of_a_prompt_is_known(tmp_path: Path) -> None:
    """Four tool calls of the real Claude Code: at least 95 % of each prompt is its predecessor's.

    The predecessor's prompt alone is counted, not its answer.
    """
    requests = conversation(await record(tmp_path))
    assert n_calls(requests[-1]) == len(FILES)
    found = turns(smollm2_renderer(), requests, ())
    assert len(found) == len(FILES)
    assert all(turn.prompt_tokens > 10_000 for turn in found), found
    assert min(turn.share for turn in found) >= 0.95, found
