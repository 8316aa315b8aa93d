"""Foreign values as plain ones: no control sequence in them is passed on."""

from __future__ import annotations

from typing import Any

from mlxdeck.telemetry.control_characters import CONTROLS

_LINE_BREAKS = {9, 10}
_ALL_BUT_BREAKS = {code: None for code in CONTROLS if code not in _LINE_BREAKS}


def plain(value: Any) -> Any:
    """A value made of texts, lists and dictionaries, without control characters in its texts."""
    if isinstance(value, str):
        return value.translate(_ALL_BUT_BREAKS)
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return value
