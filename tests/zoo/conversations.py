"""Sixteen histories in the shapes in which Claude Code sends them back, all made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Wire = dict[str, Any]

SYSTEM = "You help with a small repository. Be brief, and say what you did. " * 8
TOOLS: list[Wire] = [
    {
        "name": "Read",
        "description": "Reads a file from the disk.",
        "input_schema": {
            "type": "object",
            "properties": {"file_path": {"type": "string"}, "limit": {"type": "integer"}},
            "required": ["file_path"],
        },
    },
    {
        "name": "Bash",
        "description": "Runs a command.",
        "input_schema": {
            "type": "object",
            "properties": {"command": {"type": "string", "maxLength": 60}},
            "required": ["command"],
            "additionalProperties": False,
        },
    },
]
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
IMAGE: Wire = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
}


def user(*content: Wire | str) -> Wire:
    """A user's turn."""
    return {"role": "user", "content": _blocks(content)}


def answer(*content: Wire | str) -> Wire:
    """An assistant's turn."""
    return {"role": "assistant", "content": _blocks(content)}


def call(number: int, name: str = "Read", **arguments: Any) -> Wire:
    """A tool call."""
    given = arguments or {"file_path": f"/src/{number}.py"}
    return {"type": "tool_use", "id": f"toolu_{number:02}", "name": name, "input": given}


def result(number: int, content: Any = "1\tx = 1\n", **more: Any) -> Wire:
    """What came of a call."""
    return {"type": "tool_result", "tool_use_id": f"toolu_{number:02}", "content": content, **more}


def _blocks(content: tuple[Wire | str, ...]) -> Any:
    if len(content) == 1 and isinstance(content[0], str):
        return content[0]
    return [{"type": "text", "text": each} if isinstance(each, str) else each for each in content]


REMINDER = "<system-reminder>\nThe list of open tasks is empty.\n</system-reminder>"
ASKED = user("What does the module do?")
REFUSED = "The user doesn't want to proceed with this tool use. The tool use was rejected."


def _compacted() -> list[Wire]:
    summary = "This session is continued from an earlier one. Summary: two files were read."
    return [user(summary, REMINDER), answer("Understood."), user("Go on where you stopped.")]


def _server_tools() -> list[Wire]:
    found = [
        {
            "type": "web_search_result",
            "url": "https://docs.example/a",
            "title": "A page",
            "encrypted_content": "Zm9v",
            "page_age": None,
        }
    ]
    return [
        ASKED,
        answer(
            "I look it up.",
            {
                "type": "server_tool_use",
                "id": "srvtoolu_01",
                "name": "web_search",
                "input": {"query": "module"},
            },
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_01", "content": found},
            "It sums numbers.",
        ),
        user("And the other one?"),
    ]


def _odd_arguments() -> list[Wire]:
    odd = {
        "command": 'printf "%s\\n" "a\tb" \'c\' <x> {{ y }} {% z %}',
        "deep": {"list": [1, None, True, {"k": "v"}]},
        "": "",
        "ünï": "日本",
    }
    return [ASKED, answer(call(1, "Bash", **odd)), user(result(1, "ok"))]


CONVERSATIONS: Mapping[str, Callable[[], list[Wire]]] = {
    "result and reminder": lambda: [ASKED, answer(call(1)), user(result(1), REMINDER)],
    "rejected tool, new text": lambda: [
        ASKED,
        answer("I read it.", call(1)),
        user(result(1, REFUSED, is_error=True), "Rather list the folder first."),
    ],
    "call without result": lambda: [ASKED, answer(call(1)), user("Never mind. What is 2 + 2?")],
    "two assistants": lambda: [ASKED, answer("It sums."), answer("Numbers."), user("Which?")],
    "orphan result": lambda: [user(result(7, "left over from before the summary"), "Go on.")],
    "parallel calls": lambda: [
        ASKED,
        answer("Both.", call(1), call(2), call(3, "Bash", command="ls")),
        user(result(1), result(2, "y = 2"), result(3, "a.py\nb.py"), REMINDER),
    ],
    "images in results": lambda: [
        ASKED,
        answer(call(1)),
        user(result(1, [IMAGE, {"type": "text", "text": "a screenshot"}])),
        answer("I can't see it."),
        user("Go on."),
    ],
    "thinking comes back": lambda: [
        ASKED,
        answer({"type": "thinking", "thinking": "It may sum.", "signature": "c2ln"}, call(1)),
        user(result(1)),
        answer({"type": "redacted_thinking", "data": "eHg="}, "It sums."),
        user("Thanks. And now?"),
    ],
    "system in the middle": lambda: [
        ASKED,
        answer("It sums."),
        {"role": "system", "content": "The mode is now: plan."},
        user("Plan the next step."),
    ],
    "compaction": _compacted,
    "empty user text": lambda: [user("")],
    "prefill": lambda: [ASKED, answer("The module ")],
    "server tools in history": _server_tools,
    "long result": lambda: [
        ASKED,
        answer(call(1)),
        user(result(1, "".join(f"{n}\tvalue_{n} = {n}\n" for n in range(700)))),
    ],
    "odd arguments": _odd_arguments,
    "unicode and halves": lambda: [
        user("naïve 🙂 \ud83d zwölf\x00\u202e"),
        answer(call(1, "Read", file_path="/tmp/\udc00/ü.py")),
        user(result(1, "\ufeffline\r\n\ud800 end")),
    ],
}


def body(name: str, max_tokens: int = 6) -> Wire:
    """A request with one of the histories."""
    fields: Wire = {"model": "local", "max_tokens": max_tokens, "temperature": 0.0}
    fields["messages"] = CONVERSATIONS[name]()
    if name != "empty user text":
        fields["system"] = [{"type": "text", "text": SYSTEM}]
        fields["tools"] = TOOLS
    return fields
