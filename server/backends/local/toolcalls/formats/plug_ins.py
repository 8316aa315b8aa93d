"""Formats of other packages: a module or object with two markers and a parser, as mlx-lm's are.

Code of others may raise anything. On loading that costs the plug-in, on parsing the one call.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from mlxdeck.server.backends.local.engine.api import ToolMarkers
from mlxdeck.server.plug_ins import PlugInFault, named, told
from mlxdeck.server.plug_ins import load as loaded
from mlxdeck.server.schemas.values import to_json
from mlxdeck.server.tool_format_names import plug_ins

log = logging.getLogger(__name__)

WHAT = "tool format"


def load(name: str) -> ToolMarkers:
    """Import a plug-in and take what it offers.

    Raises:
        KeyError: None of that name is installed.
        PlugInFault: Its code raises, or lacks something.
    """
    entry = plug_ins()[name]
    found, about = loaded(WHAT, entry), named(WHAT, entry)
    try:
        start, end = found.tool_call_start, found.tool_call_end
        parse = found.parse_tool_call
    except (Exception, SystemExit) as error:
        raise PlugInFault(f"{about}: {told(error)}") from error
    if not (isinstance(start, str) and start.strip() and isinstance(end, str) and callable(parse)):
        raise PlugInFault(
            f"{about}: tool_call_start and tool_call_end have to be texts, "
            "the first not blank, and parse_tool_call a function"
        )
    return ToolMarkers(name, start, end, _guarded(name, parse))


def _guarded(name: str, parse: Callable[..., Any]) -> Callable[[str, list[dict[str, Any]]], Any]:
    """The parser with one exception type, whose results are plain JSON values."""

    def call(text: str, tools: list[dict[str, Any]]) -> Any:
        try:
            # A copy: the tools are the request's, and others read them.
            return msgspec.json.decode(to_json(parse(text, copy.deepcopy(tools))))
        except (Exception, SystemExit) as error:
            log.warning("tool format %s: a call was not read: %s", name, told(error))
            raise ValueError(told(error)) from error

    return call
