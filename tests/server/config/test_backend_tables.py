"""`[backends.NAME]` and `[aliases]`: tables in the file, JSON in the environment, checked alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.config.backends import BackendTable
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.errors import SettingsError
from mlxdeck.settings.tables import NamedValues

SECRET = "sk-ant-api03-no-such-key"


def load(cwd: Path, text: str, **environ: str) -> Settings:
    """The settings of a file."""
    (cwd / "mlxdeck.toml").write_text(text)
    return Settings.load({}, environ, cwd)


def test_tables_are_read_with_their_defaults(tmp_path: Path) -> None:
    """Each is checked as any setting is; a list of names may be a text."""
    text = """
    [backends]
    default = "lm"
    [backends.lm]
    kind = "lmstudio"
    timeout_s = 30
    aliases = "a, b"
    [backends."mini.2"]
    url = "http://127.0.0.1:1/v1"
    [aliases]
    "claude-*" = "lm/qwen"
    """
    found = load(tmp_path, text)
    assert found.backends["default"] == "lm"
    lm, mini = found.backends["lm"], found.backends["mini.2"]
    assert isinstance(lm, BackendTable) and isinstance(mini, BackendTable)
    assert (lm.kind, lm.timeout_s, lm.aliases, lm.dialect) == ("lmstudio", 30.0, ("a", "b"), "auto")
    assert (mini.kind, mini.url) == ("upstream", "http://127.0.0.1:1/v1")
    assert dict(found.aliases) == {"claude-*": "lm/qwen"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[backends.x]\nkindd = 'local'", "backends.x: unknown setting 'kindd'; .*'kind'"),
        ("[backends.x]\nkind = 'lmstdio'", "backends.x.kind: expected one of .*lmstudio"),
        ("[backends.x]", "backends.x.kind: is needed"),
        ("[backends.x]\nkind = 'upstream'", "backends.x.url: is needed"),
        ("[backends.x]\nkind = 3", "backends.x.kind: expected text, got a number"),
        ("[backends.x]\nkind = 'openai'\ntimeout_s = 'soon'", "backends.x.timeout_s: .*a number"),
        ("[backends.x]\nkind = 'openai'\ndialect = 'x'", "backends.x.dialect: .*one of auto"),
        ("[backends.x]\nkind = 'openai'\naliases = [1]", "backends.x.aliases: .*list of names"),
        ("[backends.x]\nkind = 'openai'\nurl = 'x'", "backends.x.url: .*begins with http"),
        (
            "[backends.x]\nurl = 'http://h/v1?api_key=zebra'",
            "backends.x.url: .*must not hold a query",
        ),
        ("[backends.x]\nurl = 'http://[x'", "backends.x.url: is none"),
        ("upstream_key_env = 'sk-1'", "upstream_key_env: expected the name of an environment var"),
        ("[backends.x]\nkind = 'openai'\noptions = {a=1}", "backends.x.options: .*has none"),
        ("[backends.x]\nkind = 'local'\nmodel = 'm'", "backends.x.model: .*--model"),
        ("[backends.x]\nkind = 'local'\nurl = 'http://h'", "backends.x.url: .*has none"),
        ("[backends.'a/b']\nkind = 'local'", "backends.a/b: expected a name"),
        ("[backends]\nx = 'local'", "backends.x: expected a table, got text"),
        ("[[backends]]\nkind = 'local'", "backends: expected a table, got a list"),
        ("backends = 'x'", "backends: expected a table"),
        ("[aliases]\nx = 1", "aliases.x: expected text"),
        ("[aliases]\nx = ''", "aliases.x: must not be empty"),
        ("fallback_on = 'window,never'", "fallback_on: expected some of window,"),
    ],
)
def test_a_mistake_is_named_with_its_table(tmp_path: Path, text: str, why: str) -> None:
    """The file, the path in it, and what is wrong."""
    with pytest.raises(SettingsError, match=rf"mlxdeck\.toml:\d+: {why}"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    "line",
    [
        *(f"{name} = '{SECRET}'" for name in ("api_key", "key", "apiKey", "token", "password")),
        f"authorization = 'Bearer {SECRET}'",
        f"key_env = '{SECRET}'",
        f"options = {{api_key = '{SECRET}'}}",
        f"url = 'http://user:{SECRET}@127.0.0.1'",
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(tmp_path: Path, line: str) -> None:
    """The text says where it belongs."""
    with pytest.raises(SettingsError, match="key_env|environment variable") as refused:
        load(tmp_path, f"[backends.x]\nkind = 'openai'\n{line}")
    assert SECRET not in str(refused.value)


def test_an_option_about_tokens_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only names of keys are."""
    monkeypatch.setattr("mlxdeck.server.config.backends.plug_ins", lambda: {"mine": None})
    options: NamedValues[object] = NamedValues({"max_tokens": 3, "deep": {"a": [1]}})
    assert BackendTable(kind="mine", options=options).options["max_tokens"] == 3


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter("default".__ne__)
upstreams = st.fixed_dictionaries(
    {"kind": st.sampled_from(["openai", "ollama"])},
    optional={
        "model": st.text(max_size=9),
        "dialect": st.sampled_from(["auto", "openai"]),
        "aliases": st.lists(st.text(st.characters(exclude_characters=","), min_size=1), max_size=3),
        "timeout_s": st.floats(1, 1e6),
        "canonical": st.booleans(),
    },
)


@given(st.dictionaries(names, upstreams, max_size=3), st.dictionaries(st.text(), names, max_size=3))
def test_the_environment_says_the_same_as_the_file(
    backends: dict[str, Any], aliases: dict[str, str]
) -> None:
    """What `to_environ` writes is read as the same settings, whatever they hold."""
    nowhere = Path("/nonexistent")
    environ = {"MLXDECK_BACKENDS": json.dumps(backends), "MLXDECK_ALIASES": json.dumps(aliases)}
    found = Settings.load({}, environ, nowhere)
    assert set(found.backends) == set(backends) and dict(found.aliases) == aliases
    again = Settings.load({}, found.to_environ(), nowhere)
    assert again == found and hash(again) == hash(found)


@pytest.mark.parametrize("raw", ["x", "[]", "3", '{"x":', '{"x": 3}'])
def test_a_variable_that_holds_no_table_is_refused(raw: str) -> None:
    """By its own name."""
    with pytest.raises(SettingsError, match="^MLXDECK_BACKENDS"):
        Settings.load({}, {"MLXDECK_BACKENDS": raw}, Path("/nonexistent"))
