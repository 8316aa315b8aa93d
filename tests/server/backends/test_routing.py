"""Which backend answers which name of a model, from settings to the choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backend_names import LOCAL, PRESETS
from mlxdeck.server.backends.plan import backend_plan, is_one_backend
from mlxdeck.server.backends.routing import MAX_NAME, RoutingTable, Target
from mlxdeck.server.backends.upstream.config import PRESETS as KNOWN
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.errors import SettingsError

FILE = """
small_backend = "tiny"
fallback = "cloud/claude-opus-4-1"
[backends]
default = "here"
[backends.here]
kind = "local"
[backends.cloud]
kind = "anthropic"
aliases = ["best", "gpt-*"]
[backends.tiny]
url = "http://127.0.0.1:9/v1"
[aliases]
"gpt-5-mini" = "tiny/qwen3-4b"
"*[1m]" = "cloud"
"claude-*opus*" = "cloud/claude-opus-4-1"
"""
FALLBACK = ("cloud", "cloud/claude-opus-4-1")


def settings(cwd: Path, text: str, **flags: Any) -> Settings:
    """The settings of a file."""
    (cwd / "mlxdeck.toml").write_text(text)
    return Settings.load(flags, {}, cwd)


@pytest.mark.parametrize(
    ("asked", "first", "rest"),
    [
        # Unknown names are the default one's, whatever they are.
        ("claude-sonnet-4-5", ("here", "claude-sonnet-4-5"), [FALLBACK]),
        ("", ("here", ""), [FALLBACK]),
        ("mlx-community/Qwen3-8B-4bit", ("here", "mlx-community/Qwen3-8B-4bit"), [FALLBACK]),
        ("here-too/x", ("here", "here-too/x"), [FALLBACK]),
        ("x" * 500, ("here", "x" * 500), [FALLBACK]),
        # Who names a backend means that one.
        ("here", ("here", "here"), []),
        ("here/qwen", ("here", "here/qwen"), []),
        ("cloud/claude-haiku-4-5", ("cloud", "cloud/claude-haiku-4-5"), []),
        ("tiny/", ("tiny", "tiny/"), []),
        ("cloud/a/b", ("cloud", "cloud/a/b"), []),
        # A small model's traffic.
        ("claude-haiku-4-5-20251001", ("tiny", "claude-haiku-4-5-20251001"), [FALLBACK]),
        ("Claude-3-5-HAIKU", ("tiny", "Claude-3-5-HAIKU"), [FALLBACK]),
        # Aliases: as they stand before those with stars, and these in their order.
        ("best", ("cloud", "best"), []),
        ("gpt-5-mini", ("tiny", "tiny/qwen3-4b"), [FALLBACK]),
        ("GPT-5-Mini", ("tiny", "tiny/qwen3-4b"), [FALLBACK]),
        ("gpt-5-mini-2", ("cloud", "gpt-5-mini-2"), []),
        ("claude-opus-4-7", ("cloud", "cloud/claude-opus-4-1"), []),
        # No other character means anything.
        ("claude-haiku[1m]", ("cloud", "claude-haiku[1m]"), []),
        ("claude-haiku1", ("tiny", "claude-haiku1"), [FALLBACK]),
    ],
)
def test_a_name_leads_to_a_backend(
    tmp_path: Path, asked: str, first: tuple[str, str], rest: list[tuple[str, str]]
) -> None:
    """With the name that it is told, and the one that takes over."""
    routing = backend_plan(settings(tmp_path, FILE)).routing
    found = [(each.target.backend, each.model) for each in routing.destinations(asked)]
    assert found == [first, *rest]


def test_long_names_are_compared_with_no_pattern() -> None:
    """They come from clients, and a pattern takes longer the longer they are."""
    routing = RoutingTable("ab", Target("a"), {"*x*": Target("b")})
    at_most = "x" * MAX_NAME
    assert routing.destinations(at_most)[0].target.backend == "b"
    assert routing.destinations(f"{at_most}x")[0].target.backend == "a"


@pytest.mark.parametrize(
    ("text", "flags", "default", "names"),
    [
        ("", {}, Target("local"), {"local"}),
        ('[backends.cloud]\nkind = "anthropic"', {}, Target("local"), {"local", "cloud"}),
        ('[backends.here]\nkind = "local"', {}, Target("here"), {"here"}),
        ('[backends.here]\nkind = "local"', {"backend": "local"}, Target("here"), {"here"}),
        ("", {"backend": "lmstudio/qwen3"}, Target("lmstudio", "qwen3"), {"lmstudio"}),
        ("", {"fallback": "anthropic"}, Target("local"), {"local", "anthropic"}),
        ('backend = "ollama"', {"fallback": "local"}, Target("ollama"), {"ollama", "local"}),
        (
            '[backends]\ndefault = "a"\n[backends.a]\nkind = "openai"\n[backends.b]\nkind="ollama"',
            {"backend": "b"},
            Target("b"),
            {"a", "b"},
        ),
        ("", {"upstream": "ollama"}, Target("ollama"), {"ollama"}),
        ("", {"upstream": "http://h:1/v1"}, Target("h"), {"h"}),
        ("", {"upstream": "ollama", "fallback": "local"}, Target("ollama"), {"ollama", "local"}),
        ("", {"upstream": "ollama", "backend": "local"}, Target("local"), {"ollama", "local"}),
    ],
)
def test_only_backends_that_somebody_names_are_there(
    tmp_path: Path, text: str, flags: dict[str, str], default: Target, names: set[str]
) -> None:
    """A model is loaded here only if it may be asked; a preset's name needs no table."""
    plan = backend_plan(settings(tmp_path, text, **flags))
    assert (plan.routing.default, set(plan.tables)) == (default, names)


def test_without_a_choice_there_is_one_backend(tmp_path: Path) -> None:
    """As ever, without anything in front of it."""
    assert is_one_backend(settings(tmp_path, ""))
    assert is_one_backend(settings(tmp_path, 'upstream = "ollama"'))
    assert not is_one_backend(settings(tmp_path, FILE))
    assert not is_one_backend(settings(tmp_path, 'fallback = "ollama"'))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('backend = "colud"\n[backends.cloud]\nkind="openai"', "backend: .*mean 'cloud'"),
        ('[backends]\ndefault = "lmstdio"', "backends.default: .*mean 'lmstudio'"),
        ('fallback = "anthropc/x"', "fallback: there is no backend 'anthropc'; .*'anthropic'"),
        ('small_backend = "x"', "small_backend: there is no backend 'x'"),
        ('[aliases]\nbest = "nowhere"', "aliases.best: there is no backend 'nowhere'"),
        (
            '[backends.a]\nkind = "local"\n[backends.b]\nkind = "local"',
            "backends.b: a is the local model already",
        ),
        (
            '[backends.a]\nkind = "openai"\naliases = ["x"]\n'
            '[backends.b]\nkind = "ollama"\naliases = ["x"]',
            "backends.b.aliases: 'x' leads to a already",
        ),
        (
            '[aliases]\nlmstudio = "ollama"\nx = "lmstudio"',
            "aliases.lmstudio: lmstudio is the name of a backend",
        ),
        (
            '[backends.a]\nkind = "openai"\naliases = ["b/*"]\n[backends.b]\nkind = "ollama"',
            "aliases.b/\\*: b is the name of a backend",
        ),
        ('upstream = "http://u:pw@h"', "upstream: url: must hold no key or password"),
        ('upstream = "http://[h"', "upstream: url: is none"),
        ('upstream_url = "http://h"', "upstream_url: upstream has to name"),
        ('upstream = "olama"', "upstream: expected lmstudio, .* got 'olama'"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(tmp_path: Path, text: str, why: str) -> None:
    """With its place, and the nearest one that is there."""
    with pytest.raises(SettingsError, match=f"^{why}"):
        backend_plan(settings(tmp_path, text))


def test_the_names_of_presets_are_those_that_are_known() -> None:
    """One list is there without what it is about."""
    assert set(PRESETS) == set(KNOWN)
    assert LOCAL not in KNOWN
