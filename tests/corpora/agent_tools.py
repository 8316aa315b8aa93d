"""Tools as a coding agent offers them, in our own words: names and arguments as agents use them."""

from __future__ import annotations

from typing import Any

SYSTEM = (
    "You are a coding agent. You work in the folder /home/me/proj with the tools that you are "
    "given. Read a file before you change it. Change no more than you are asked to. Call several "
    "tools at once where none needs the result of another. When you are done, say in one or two "
    "sentences what you did. Don't praise, don't apologise, and don't repeat what the user said."
)


def tool(name: str, description: str, required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """A tool from the schemas of its arguments."""
    schema = {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }
    return {"name": name, "description": description, "input_schema": schema}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _number(description: str) -> dict[str, Any]:
    return {"type": "integer", "description": description}


_PATH = _text("Absolute path of the file.")

READ = tool(
    "Read",
    "Reads a file. Each line comes with its number and a tab in front.",
    {"file_path": _PATH},
    offset=_number("First line to read."),
    limit=_number("How many lines to read."),
)
EDIT = tool(
    "Edit",
    "Replaces a text in a file. The old text must stand in the file exactly once, unless "
    "replace_all is set.",
    {"file_path": _PATH, "old_string": _text("What to replace."), "new_string": _text("By what.")},
    replace_all={"type": "boolean", "default": False},
)
WRITE = tool(
    "Write",
    "Writes a whole file, replacing what is there.",
    {"file_path": _PATH, "content": _text("All of the file.")},
)
BASH = tool(
    "Bash",
    "Runs a command in a shell and returns what it prints.",
    {"command": _text("The command."), "description": _text("What it does, in a few words.")},
    timeout=_number("Milliseconds after which it is ended."),
    run_in_background={"type": "boolean"},
)
GREP = tool(
    "Grep",
    "Searches files for a regular expression.",
    {"pattern": _text("The expression.")},
    path=_text("Where to search."),
    glob=_text("Which files, as *.py."),
    output_mode={"type": "string", "enum": ["content", "files_with_matches", "count"]},
)
GLOB = tool("Glob", "Lists files whose path matches a pattern.", {"pattern": _text("As **/*.py.")})
TODO = tool(
    "TodoWrite",
    "Keeps a list of what is to be done.",
    {
        "todos": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "content": {"type": "string", "minLength": 1},
                    "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
                },
                "required": ["content", "status"],
            },
        }
    },
)
AGENT = tool(
    "Agent",
    "Starts another agent on a task of its own and returns its report.",
    {"description": _text("The task in a few words."), "prompt": _text("The whole task.")},
    subagent_type={"type": "string", "enum": ["general-purpose", "search"]},
)

TOOLS = [READ, EDIT, WRITE, BASH, GREP, GLOB, TODO, AGENT]


def numbered(content: str, first: int = 1) -> str:
    """A file's lines as `Read` returns them."""
    lines = content.removesuffix("\n").split("\n")
    return "\n".join(f"{number:>6}\t{line}" for number, line in enumerate(lines, first))
