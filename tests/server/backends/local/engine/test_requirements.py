"""What MLX needs of a machine: told before a user has to guess it from a linker's words."""

from __future__ import annotations

import sys

import pytest

from mlxdeck.server.backends.local.engine.hardware.requirements import cannot_load, lacking
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.launch import make_engine
from mlxdeck.settings.errors import UserError


@pytest.mark.parametrize(
    ("system", "machine", "macos", "libc", "told"),
    [
        ("Darwin", "arm64", "14.0", ("", ""), ""),
        ("Darwin", "arm64", "26.1", ("", ""), ""),
        ("Darwin", "arm64", "13.6.1", ("", ""), "macOS 13.6.1 is older"),
        ("Darwin", "x86_64", "15.0", ("", ""), "Apple silicon"),
        ("Linux", "x86_64", "", ("glibc", "2.35"), ""),
        ("Linux", "aarch64", "", ("glibc", "2.40"), ""),
        ("Linux", "x86_64", "", ("glibc", "2.31"), "glibc 2.31 is older"),
        ("Linux", "x86_64", "", ("", ""), "with glibc"),
        ("Windows", "AMD64", "", ("", ""), "doesn't run on Windows"),
    ],
)
def test_what_is_lacking_is_told(
    system: str, machine: str, macos: str, libc: tuple[str, str], told: str
) -> None:
    """By its name and version; nothing where all is there."""
    found = lacking(system, machine, macos=macos, libc=libc)
    assert told in found and bool(found) == bool(told)


def test_a_missing_mlx_is_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that a user can act on, as no module of ours can mend it."""
    name = "mlxdeck.server.backends.local.engine.mlx.engine"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="MLX can't be loaded.*doctor"):
        make_engine(Settings())
    assert "\n" not in cannot_load(ImportError("libmlx.so: no such file"))
