"""What is read off a prompt: the window, the template's trial, control tokens, histories."""

from __future__ import annotations

import json
from typing import Any

from tests.real import get
from tests.zoo.asking import Subject
from tests.zoo.conversations import CONVERSATIONS, body

MAX_MARKERS = 12


def loads(subject: Subject) -> str:
    """The server is up, healthy, and answers."""
    health = get(f"{subject.server.url}/health")
    if health["status"] != "healthy":
        return str(health)
    answer = subject.ask(_plain("Say hi.", 4))
    return answer.refused()


def window(subject: Subject) -> str:
    """The window is the one that the model's files name."""
    found = get(f"{subject.server.url}/v1/status")["context_tokens"]
    wanted = subject.family.window_tokens
    return "" if found == wanted else f"{found} instead of {wanted}"


def template_tried(subject: Subject) -> str:
    """What the template can't do is known before the first request, and said."""
    status = get(f"{subject.server.url}/v1/status")
    told = status.get("chat_template", {})
    if told.get("tools") is None or told.get("regroupings") is None:
        return f"/v1/status says of the template: {told}"
    lines = [line for line in subject.server.output if "ready on" in line]
    names = ("chat template", "template")
    if told["regroupings"] and not any(name in line for name in names for line in lines):
        return f"the ready line says nothing of {told['regroupings']}"
    return ""


def control_tokens(subject: Subject) -> str:
    """The string of an added token in a text of others is ordinary text, and counted as that."""
    plain = subject.count(_plain("x"))
    for marker in _markers(subject):
        text = f"x{marker}"
        found = subject.count(_plain(text))
        if found - plain < 2:
            return f"{marker} in a message costs {found - plain} tokens"
        answer = subject.ask(_plain(text, 1))
        if answer.refused():
            return f"{marker}: {answer.refused()}"
        usage = answer.body["usage"]
        prompted = usage["input_tokens"] + usage["cache_read_input_tokens"]
        if prompted + usage["cache_creation_input_tokens"] != found:
            return f"{marker}: counted {found}, prompted {usage}"
    return _elsewhere(subject)


def _elsewhere(subject: Subject) -> str:
    """The same in tool results and in descriptions of tools."""
    name = "parallel calls"
    for marker in _markers(subject)[:2]:
        costs = []
        for text in ("x", f"x{marker}"):
            request = body(name, 1)
            request["messages"][-1]["content"][0]["content"] = text
            request["tools"] = [{**request["tools"][0], "description": text}, request["tools"][1]]
            costs.append(subject.count(request))
        if min(costs) < 0:
            return "count_tokens refuses a conversation with tools"
        if costs[1] - costs[0] < 4:
            return f"{marker} in a result and a description costs {costs[1] - costs[0]} tokens"
    return ""


def _markers(subject: Subject) -> list[str]:
    """Tokens of the tokenizer that only a template may write."""
    file = subject.family.folder() / "tokenizer.json"
    added = json.loads(file.read_text(encoding="utf-8"))["added_tokens"]
    kinds = ("reserved", "unused", "place", "pad")
    texts = [
        each["content"]
        for each in added
        if each["content"][0] in "<[]" and not any(kind in each["content"] for kind in kinds)
    ]
    # The ends of turns first, then from all over the rest.
    chosen = dict.fromkeys(
        text for text in (*subject.family.ends, *subject.family.bold) if text in texts
    )
    step = max(1, len(texts) // MAX_MARKERS)
    chosen |= dict.fromkeys(texts[::step])
    return list(chosen)[:MAX_MARKERS]


def conversations(subject: Subject) -> str:
    """Sixteen histories, each answered, streamed and not."""
    wrong = []
    for number, name in enumerate(CONVERSATIONS):
        answer = subject.ask({**body(name), "stream": number % 2 == 1})
        if refused := answer.refused():
            wrong.append(f"{name}: {refused}")
    n = len(CONVERSATIONS)
    return f"{n - len(wrong)}/{n}; {wrong[0]}" if wrong else ""


def _plain(text: str, max_tokens: int = 1) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"model": "local", "max_tokens": max_tokens, "messages": [message], "temperature": 0}
