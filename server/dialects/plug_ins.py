"""Wire formats of other packages: objects with the names of `Dialect`, found by entry points.

Only those that the settings name are loaded. Their code may raise anything: on loading that is one
line for the user, on reading a request one error for the client.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.checkpoints import Abandoned
from mlxdeck.server.dialects.base import Dialect
from mlxdeck.server.errors import BadRequest, ServerError
from mlxdeck.server.plug_ins import PlugInFault, found, lacks, load, named, told

log = logging.getLogger(__name__)

GROUP = "mlxdeck.dialects"
"""The group of the entry points."""
WHAT = "dialect"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PATH = re.compile(r"(/[A-Za-z0-9_.~-]+)+")


def plugged_dialects(names: Iterable[str], own: Mapping[str, Dialect]) -> dict[str, Dialect]:
    """The dialects of those plug-ins.

    Raises:
        PlugInFault: There is none of a name, its code raises, or it claims what is another's.
    """
    known = found(GROUP, ())
    chosen: dict[str, Dialect] = {}
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none"
            raise PlugInFault(f"there is no {WHAT} {name!r}; installed are {there}")
        made, about = load(WHAT, known[name]), named(WHAT, known[name])
        try:
            made = made() if isinstance(made, type) else made
        except (Exception, SystemExit) as error:
            raise PlugInFault(f"{about}: {told(error)}") from error
        _check(made, about, {**own, **chosen})
        chosen[made.name] = cast(Dialect, _GuardedDialect(made))
    return chosen


def _check(made: Any, about: str, others: Mapping[str, Dialect]) -> None:
    if missing := lacks(made, Dialect):
        raise PlugInFault(f"{about}: it lacks {', '.join(missing)}")
    if not (isinstance(made.name, str) and _NAME.fullmatch(made.name)):
        raise PlugInFault(f"{about}: its name has to be of small letters, digits and _")
    paths = [made.path, *([made.count_path] if made.count_path else []), *made.roots]
    if not all(isinstance(path, str) and _PATH.fullmatch(path) for path in paths):
        raise PlugInFault(f"{about}: its paths have to be as /v1/name, without parameters")
    if made.name in others:
        raise PlugInFault(f"{about}: the name {made.name} is taken")
    for other in others.values():
        if taken := {*paths} & {other.path, other.count_path, *other.roots}:
            raise PlugInFault(f"{about}: {min(taken)} belongs to the dialect {other.name}")


class _GuardedDialect:
    """A dialect whose requests fail with the errors of a server."""

    def __init__(self, made: Dialect) -> None:
        self._made = made
        self.decode = self._guarded(made.decode)
        self.decode_count = self._guarded(made.decode_count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)

    def _guarded(
        self, decode: Callable[[bytes, Mapping[str, str]], ChatRequest]
    ) -> Callable[[bytes, Mapping[str, str]], ChatRequest]:
        def read(body: bytes, headers: Mapping[str, str]) -> ChatRequest:
            try:
                chat = decode(body, headers)
                if not isinstance(chat, ChatRequest):
                    raise TypeError(f"it made a {type(chat).__name__} of a request")
            except (ServerError, Abandoned):
                raise
            except Exception as error:
                log.warning("dialect %s: a request was not read: %s", self._made.name, told(error))
                raise BadRequest("", f"it can't be read: {told(error)}") from error
            return chat

        return read
