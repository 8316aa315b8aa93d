"""Why a prompt was not known."""

from __future__ import annotations

from mlxdeck.server.backends.local.kv.miss_reason import MissExplainer, explain
from mlxdeck.server.backends.local.kv.token_bytes import pack
from mlxdeck.server.request_facts import Miss

SYSTEM, TOOL, MESSAGE = 2, 20, 40


def part_at(index: int) -> tuple[str, int, int]:
    """A prompt whose first two tokens are the template's own."""
    if index < TOOL:
        return "system", SYSTEM, TOOL
    return ("tools.Read", TOOL, MESSAGE) if index < MESSAGE else ("messages.0", MESSAGE, -1)


def prompt(**changed: int) -> bytes:
    """Fifty tokens, of which those after `at` are others."""
    at = changed.get("at", 50)
    return pack([*range(at), *range(900, 950 - at)])


def why(seen: MissExplainer, tokens: bytes, n_cached: int) -> Miss:
    """What is said of a prompt that is asked for now."""
    return explain(tokens, part_at, n_cached, seen.compare(tokens))


def test_the_first_prompt_is_cold() -> None:
    """Also one that shares nothing with others but what the template puts first."""
    seen = MissExplainer()
    assert why(seen, prompt(), 0) == Miss("cold")
    seen.add(prompt(), part_at, 45)
    assert why(seen, prompt(at=SYSTEM), 0) == Miss("cold")


def test_a_change_is_named_by_token_and_part() -> None:
    """System, tool or message, with a hash of that part on both sides."""
    for at, part in ((5, "system"), (25, "tools.Read"), (42, "messages.0")):
        seen = MissExplainer()
        seen.add(prompt(), part_at, 45)
        miss = why(seen, prompt(at=at), at)
        assert (miss.reason, miss.at_token, miss.part) == ("diverged", at, part)
        assert miss.ours != miss.theirs and len(miss.ours) == len(miss.theirs) == 8


def test_going_on_is_no_miss_unless_the_state_is_gone() -> None:
    """What is new after the last message was never to be had; what was had and is not, is."""
    seen = MissExplainer()
    seen.add(prompt(), part_at, 45)
    longer = pack([*range(46), *range(800, 830)])
    assert why(seen, longer, 45) == Miss()
    assert why(seen, longer, 10) == Miss("evicted")
    assert why(seen, prompt(), 49) == Miss()


def test_a_state_of_an_unseen_prompt_is_no_miss() -> None:
    """After a restart, states are there whose prompts were not seen."""
    assert why(MissExplainer(), prompt(), 30) == Miss()


def test_the_nearest_prompt_is_compared() -> None:
    """Not the last one."""
    seen = MissExplainer()
    seen.add(prompt(), part_at, 45)
    seen.add(pack([*range(10), *range(700, 740)]), part_at, 45)
    assert why(seen, prompt(at=30), 30).at_token == 30
