"""Who asks, from what clients say and from the calls that start agents."""

from __future__ import annotations

import json
from typing import Any

from mlxdeck.server.chat import ChatRequest, Message, Sampling, Text
from mlxdeck.server.joined_text import JoinedText
from mlxdeck.server.observe.agents import AgentNames, Agents

MAIN = AgentNames("s")
CALL = {"subagent_type": "Explore", "description": "Look at a.py", "prompt": "Look at a.py."}


def asking(*texts: str, **names: Any) -> ChatRequest:
    """A request that begins with these texts."""
    blocks = tuple(Text(text) for text in texts)
    names = {"session_id": "s", **names}
    return ChatRequest("m", (), (Message("user", blocks),), Sampling(9), **names)


def text_of(arguments: str) -> JoinedText:
    """A call's arguments, as they came."""
    text = JoinedText()
    for char in arguments:
        text.add(char)
    return text


def started(tool: str = "Agent", names: AgentNames = MAIN, **changes: object) -> Agents:
    """One that has heard of such a call."""
    agents = Agents()
    agents.called(tool, text_of(json.dumps({**CALL, **changes})), names)
    return agents


def test_an_agent_is_known_by_the_call_that_started_it() -> None:
    """Kind and task, also of later turns, and where a client puts something in front."""
    agents = started()
    first = agents.who(asking("<reminder>", "Look at a.py.", agent_id="a1"))
    assert first == AgentNames("s", "a1", "", "Explore", "Look at a.py")
    assert agents.who(asking("summed up", agent_id="a1")) == first
    # Another one with the same task, and one that was started elsewhere.
    assert agents.who(asking("Look at a.py.", agent_id="a2")).task == "Look at a.py"
    assert agents.who(asking("Look at b.py.", agent_id="a3")) == AgentNames("s", "a3")
    assert agents.who(asking("Look at a.py.")) == MAIN


def test_an_agent_of_an_agent_has_it_as_its_parent() -> None:
    """As its client says, or else as the call does."""
    agents = started(names=AgentNames("s", "a1"))
    assert agents.who(asking("Look at a.py.", agent_id="a2")).parent_id == "a1"
    told = agents.who(asking("Look at a.py.", agent_id="a3", parent_agent_id="a7"))
    assert told.parent_id == "a7"


def test_a_session_that_is_an_agent_is_put_below_the_one_that_started_it() -> None:
    """Where its client doesn't say so; also an agent that this one starts."""
    agents = started("task")
    child = agents.who(asking("Look at a.py.", session_id="child"))
    assert child == AgentNames("s", "child", "", "Explore", "Look at a.py")
    assert agents.who(asking("and then?", session_id="child")) == child
    below = agents.who(asking("x", session_id="child", agent_id="grandchild"))
    assert (below.session_id, below.parent_id) == ("s", "child")


def test_other_calls_start_no_agent() -> None:
    """Tools that happen to have a prompt; arguments that are no object, or no JSON."""
    for tool, arguments in (
        ("Ask", '{"prompt": "Look at a.py."}'),
        ("Agent", '["prompt"]'),
        ("Agent", '{"prompt": 5}'),
        ("Agent", '{"prompt": "'),
    ):
        agents = Agents()
        agents.called(tool, text_of(arguments), MAIN)
        assert agents.who(asking("Look at a.py.", session_id="t")) == AgentNames("t"), tool
    without_kind = started("Task", subagent_type=None)
    assert without_kind.who(asking("Look at a.py.", agent_id="a")).task == "Look at a.py"
