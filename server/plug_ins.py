"""Code of other packages: entry points by their group, and what keeps one from being used.

Finding an entry point loads none of its code.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Any


class PlugInFault(ValueError):
    """A plug-in can't be used; the text is one line that names it and says why."""


def found(group: str, taken: Collection[str]) -> dict[str, EntryPoint]:
    """Entry points of installed packages, by name. Names of mlxdeck's own are `taken`."""
    return {each.name: each for each in entry_points(group=group) if each.name not in taken}


def named(what: str, entry: EntryPoint) -> str:
    """A plug-in for a person, by its kind, its name and its package."""
    package = f" of {entry.dist.name}" if entry.dist else ""
    return f"{what} {entry.name}{package}"


def load(what: str, entry: EntryPoint) -> Any:
    """Import a plug-in.

    Raises:
        PlugInFault: Its code raises.
    """
    try:
        return entry.load()
    # Code of others may raise anything, and costs only itself.
    except (Exception, SystemExit) as error:
        raise PlugInFault(f"{named(what, entry)}: {told(error)}") from error


def lacks(made: object, protocol: type) -> list[str]:
    """Names of a protocol that an object hasn't got, found without a look at any of them."""
    kinds = (*type(made).__mro__, *(made.__mro__ if isinstance(made, type) else ()))
    annotated = {name for kind in kinds for name in vars(kind).get("__annotations__", ())}
    wanted = {*vars(protocol), *protocol.__annotations__}
    wanted = {name for name in wanted if not name.startswith("_")}
    return sorted(wanted - {*dir(made), *annotated})


def told(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
