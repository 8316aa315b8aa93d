"""A conversation that a local model began goes on with a server that verifies it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.backends.upstream.strict_history import strict_history
from mlxdeck.server.dialects.anthropic.whole_message import SIGNATURE

OURS = {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE}
UNSIGNED = {"type": "thinking", "thinking": "Hm.", "signature": ""}
THEIRS = {"type": "thinking", "thinking": "", "signature": "EqQBCgIYAhIM"}
HIDDEN = {"type": "redacted_thinking", "data": "EmwKAhgB"}
TEXT = {"type": "text", "text": "Let me look."}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
ENABLED = {"type": "enabled", "budget_tokens": 2048}


def body(assistant: list[Any], last: Any = "go on", **fields: Any) -> dict[str, Any]:
    """A request behind one turn of the assistant's."""
    turns = [("user", "hello"), ("assistant", assistant), ("user", last)]
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"messages": messages, **fields}


@pytest.mark.parametrize(
    ("before", "after", "notes"),
    [
        ([THEIRS, TEXT], [THEIRS, TEXT], ()),
        ([HIDDEN, TEXT], [HIDDEN, TEXT], ()),
        ([OURS, TEXT], [TEXT], ("left_out thinking 1",)),
        ([UNSIGNED, TEXT], [TEXT], ("left_out thinking 1",)),
        ([{"type": "thinking", "thinking": "x"}, TEXT], [TEXT], ("left_out thinking 1",)),
        ([OURS, THEIRS, TEXT, UNSIGNED], [THEIRS, TEXT], ("left_out thinking 2",)),
        ([{"type": "text", "text": " \n"}, CALL], [CALL], ("left_out text 1",)),
        ([OURS], None, ("left_out thinking 1",)),
    ],
)
def test_what_it_did_not_sign_is_left_out(
    before: list[Any], after: list[Any] | None, notes: tuple[str, ...]
) -> None:
    """And told; a turn that had nothing else goes."""
    asked = body(before)
    kept = copy.deepcopy(asked)
    sent, told = strict_history(asked)
    assert asked == kept and told == notes
    assert [m["content"] for m in sent["messages"] if m["role"] == "assistant"] == (
        [] if after is None else [after]
    )
    assert (sent is asked) == (not notes)


@pytest.mark.parametrize(
    ("assistant", "thinking", "is_kept"),
    [
        ([OURS, CALL], ENABLED, False),
        ([TEXT, CALL], ENABLED, False),
        ([CALL], ENABLED, False),
        ([THEIRS, CALL], ENABLED, True),
        ([HIDDEN, TEXT, CALL], ENABLED, True),
        ([OURS, CALL], {"type": "adaptive"}, True),
    ],
)
def test_a_turn_that_goes_on_thinks_only_if_it_began_so(
    assistant: list[Any], thinking: dict[str, Any], is_kept: bool
) -> None:
    """Thinking is off for what is left of such a turn, with what needs it; the next one thinks."""
    thoughts = {"type": "clear_thinking_20251015", "keep": "all"}
    edits = [thoughts, {"type": "clear_tool_uses_20250919"}]
    fields = {"thinking": thinking, "context_management": {"edits": edits}}
    sent, notes = strict_history(body(assistant, [RESULT], **fields))
    assert ("thinking" in sent) == is_kept
    assert sent["context_management"]["edits"] == (edits if is_kept else edits[1:])
    assert ("left_out thinking_enabled 1" in notes) == (not is_kept)
    asked = body(assistant, [RESULT], thinking=thinking, context_management={"edits": [thoughts]})
    alone, _ = strict_history(asked)
    assert ("context_management" in alone) == is_kept
    after, _ = strict_history(body([*assistant, TEXT], "and now?", **fields))
    assert after["thinking"] == thinking and after["context_management"]["edits"] == edits


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    | st.sampled_from(["assistant", "user", "thinking", "tool_result", "enabled", SIGNATURE]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["role", "content", "type", "text", "signature", "thinking", "edits"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["messages", "thinking", "context_management"]), anything))
def test_any_body_is_taken_and_none_is_changed(fields: dict[str, Any]) -> None:
    """The other server judges what is odd; a second look finds nothing more."""
    kept = copy.deepcopy(fields)
    sent, _ = strict_history(fields)
    assert fields == kept
    assert strict_history(sent) == (sent, ())
