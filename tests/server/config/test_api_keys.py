"""The keys that let clients in: from a setting, from a file, and never shown."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from mlxdeck.cli.settings import add_server_flags, server_settings
from mlxdeck.server.config.api_keys import api_keys, first_key, readable_by_others
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.errors import SettingsError


def test_several_keys_are_several(tmp_path: Path) -> None:
    """With commas or line breaks between them; a file may have comments."""
    path = tmp_path / "keys"
    path.write_text("\ufeff# ours\nthree\n\n four , five,\n", "utf-8")
    path.chmod(0o600)
    told = Settings(api_key="key1, key2", api_key_file=str(path), host="0.0.0.0")
    assert api_keys(told) == ("key1", "key2", "three", "four", "five")
    assert api_keys(Settings()) == ()
    assert (first_key(told), first_key(Settings())) == ("key1", "")
    assert not readable_by_others(told)
    path.chmod(0o644)
    assert readable_by_others(told)
    assert "key1" not in repr(told)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file has no key"),
        (b"# none\n \n", "the file has no key"),
        (b"s3cret and more", "must not hold blanks"),
        (b"s3cret\xff", "is not UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_file_without_a_key_lets_nobody_in(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    """It is an error that names the file, and nothing that stands in it."""
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"{path}: .*{reason}") as refused:
        api_keys(Settings(api_key_file=str(path)))
    assert "s3cret" not in str(refused.value)


def test_a_key_on_the_command_line_is_warned_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every user can list it; the warning doesn't repeat it."""
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_server_flags(parser)
    assert server_settings(parser.parse_args(["--api-key", "s3cret"])).api_key == "s3cret"
    assert "MLXDECK_API_KEY" in caplog.text and "s3cret" not in caplog.text
    caplog.clear()
    server_settings(parser.parse_args([]))
    assert caplog.text == ""
