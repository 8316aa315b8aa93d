"""The keys that let clients in: of the setting, and of the file that it names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.errors import SettingsError
from mlxdeck.settings.setting_types import keys
from mlxdeck.settings.sources import ENV_PREFIX

log = logging.getLogger(__name__)

OTHERS_MAY_READ = 0o044
COMMENT = "#"


def api_keys(settings: Settings) -> tuple[str, ...]:
    """Every key that lets a client in; none lets everyone in.

    Raises:
        SettingsError: The file can't be read, or holds no key.
    """
    found = list(filter(None, settings.api_key.split(",")))
    return (*found, *_of_file(settings.api_key_file)) if settings.api_key_file else tuple(found)


def first_key(settings: Settings) -> str:
    """A key to ask with, empty if none is needed.

    Raises:
        SettingsError: As `api_keys`.
    """
    return next(iter(api_keys(settings)), "")


def readable_by_others(settings: Settings) -> bool:
    """Whether other users of this machine can read the file with the keys."""
    path = Path(settings.api_key_file).expanduser()
    return path.is_file() and bool(path.stat().st_mode & OTHERS_MAY_READ)


def warn_of_visible_key(flags: Mapping[str, object]) -> None:
    """Log a warning if the command line holds a key; the warning doesn't repeat it."""
    if flags.get("api_key"):
        log.warning(
            "--api-key: every user of this machine can read the key in the list of processes. "
            "Use %sAPI_KEY or --api-key-file instead.",
            ENV_PREFIX,
        )


def _of_file(name: str) -> list[str]:
    path = Path(name).expanduser()
    try:
        lines = path.read_text("utf-8-sig").splitlines()
        written = (line.strip().strip(",") for line in lines)
        wanted = (line for line in written if line and not line.startswith(COMMENT))
        found = [key for line in wanted for key in str(keys().read(line)).split(",")]
    except OSError as error:
        raise SettingsError(f"api_key_file: {path}: {error.strerror}") from error
    except ValueError as error:
        # Also bytes that are no text. Not what they are: they may be a secret.
        why = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise SettingsError(f"api_key_file: {path}: {why}") from None
    if not found:
        raise SettingsError(f"api_key_file: {path}: the file has no key")
    return found
