"""Which message the user has just written, in any API.

Media in it are refused where the model can't take them: the user should know. Clients also put what
a tool has returned beside its text into a message of the user's, which nobody could take back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def newest(items: Sequence[Any], is_result: Callable[[dict[str, Any]], bool]) -> int:
    """The place of the user's last message; -1 if there is none, or results belong to its turn."""
    last = max((i for i, each in enumerate(items) if _role(each) == "user"), default=-1)
    for item in reversed(items[: last + 1]):
        if _role(item) == "assistant":
            break
        if isinstance(item, dict) and is_result(item):
            return -1
    return last


def _role(item: Any) -> Any:
    return item.get("role") if isinstance(item, dict) else None
