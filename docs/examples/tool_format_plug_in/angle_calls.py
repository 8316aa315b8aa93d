"""Calls as `<<call Read: {"path": "a.py"}>>`."""

import json

tool_call_start = "<<call"
tool_call_end = ">>"


def parse_tool_call(text, tools=None):
    """Read what stands between the markers; whatever is raised makes it plain text again."""
    name, _, arguments = text.partition(":")
    return {"name": name.strip(), "arguments": json.loads(arguments)}
