"""Where telemetry is found: files and folders, or a server elsewhere, whose streams are copied."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlxdeck.settings.errors import UserError

if TYPE_CHECKING:
    from mlxdeck.telemetry.mirror.mirror import Mirror


class ServerUrl(str):
    """The URL of a server, as a user named it."""

    __slots__ = ()


def place(text: str) -> Path | ServerUrl:
    """A path of the command line, or a URL."""
    is_url = text.lower().startswith(("http://", "https://"))
    return ServerUrl(text) if is_url else Path(text)


@contextmanager
def copied_here(args: Namespace) -> Iterator[None]:
    """Put a folder of copies into the arguments in the place of each URL, until the block ends.

    Raises:
        UserError: A server's streams can't be had.
    """
    is_followed = getattr(args, "watch", None) is not None
    with ExitStack() as stack:
        for name in {"path", "paths"} & vars(args).keys():
            named = getattr(args, name)
            places = named if isinstance(named, list) else [named]
            paths, mirrors = stack.enter_context(mirrored(args, places))
            for mirror in mirrors:
                _copy(mirror, is_followed=is_followed)
            if mirrors:
                setattr(args, name, paths if isinstance(named, list) else paths[0])
        yield


def _copy(mirror: Mirror, *, is_followed: bool) -> None:
    from mlxdeck.telemetry.mirror.server_files import ServerFilesError

    try:
        n_bytes = mirror.copy()
    except ServerFilesError as error:
        raise UserError(str(error)) from error
    print(f"mlxdeck: copied {n_bytes:,} bytes from {mirror.url}", file=sys.stderr)
    if is_followed:
        mirror.start()


@contextmanager
def mirrored(
    args: Namespace, places: Sequence[Path | ServerUrl]
) -> Iterator[tuple[list[Path], list[Mirror]]]:
    """Paths in the place of URLs, and mirrors that fill them. The copies are removed at the end.

    Raises:
        UserError: A URL is none.
    """
    if not any(isinstance(each, ServerUrl) for each in places):
        yield [each for each in places if isinstance(each, Path)], []
        return
    from mlxdeck.cli.settings import asking_key
    from mlxdeck.telemetry.mirror.mirror import Mirror
    from mlxdeck.telemetry.mirror.server_files import ServerFiles
    from mlxdeck.telemetry.read import spool

    paths, mirrors, key = list[Path](), list[Mirror](), asking_key(args)
    with ExitStack() as stack:
        for each in places:
            if isinstance(each, ServerUrl):
                try:
                    server = ServerFiles(each, key)
                except ValueError as error:
                    raise UserError(f"{each}: {error}") from error
                folder = spool.new_folder()
                mirrors.append(Mirror(server, folder))
                stack.callback(mirrors[-1].close)
            paths.append(folder if isinstance(each, ServerUrl) else each)
        yield paths, mirrors
