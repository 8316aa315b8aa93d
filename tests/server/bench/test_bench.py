"""`mlxdeck bench` as its user runs it: on a server of its own, on one that runs, on peers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.cli.main import main
from mlxdeck.server.bench.bench_client import BenchClient, NotMeasured
from mlxdeck.server.bench.figures import FIGURES, GROUPS, Measured, table
from mlxdeck.server.bench.own_server import alone
from mlxdeck.server.bench.report import changed, model_name
from mlxdeck.server.bench.sizes import ServerPace, sizes
from mlxdeck.server.bench.texts import copied_share, prose, source_file
from mlxdeck.server.bench.wire import Asked, Heard, TimedAnswer
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.tables import NamedValues
from tests.real import ROOT, free_port, serving
from tests.server.bench.peers import peer

QUICK = ("bench", "--quick")
ECHO = (*QUICK, "--engine", "echo")
OTHER = "http://127.0.0.1:9"
"""Nobody answers there."""


def ran(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[dict[str, Any], str]:
    """The JSON of a run, and all that was printed."""
    assert main([*(QUICK if "--url" in flags else ECHO), *flags]) == 0
    shown = capsys.readouterr()
    return json.loads(shown.out.splitlines()[-1]), shown.out + shown.err


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that are started import this checkout."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / ".pkg"))


def test_own_server_and_a_peer_side_by_side(
    capsys: pytest.CaptureFixture[str], own_home: Path
) -> None:
    """All figures but those that a server can't have, which are marked; a table and one line."""
    with peer() as url:
        found, shown = ran(capsys, "--against", url)
    own, other = found["servers"]
    assert own["name"] == "mlxdeck" and own["model"] == "echo" and own["api"] == "anthropic"
    names = {each.name for each in FIGURES if each.group != "held"}
    assert names <= own["figures"].keys() and all(own["figures"][name] > 0 for name in names)
    assert own["figures"]["rewrite_tokens_per_pass"] == 1
    # What was known isn't computed again: in RAM, from disk, in a second turn.
    for name in ("known_computed", "restart_computed", "turn_two_computed"):
        assert own["figures"][name] < 0.2
    assert other["api"] == "openai" and other["model"] == "tiny"
    assert other["not_measured"]["held"] == "400 tool_choice is not supported"
    assert "known_computed" not in other["figures"] and "tokens_per_s_8" in other["figures"]
    assert "restart" in other["not_measured"]
    assert "8 clients against 1" in shown and "clients" in shown
    assert str(own_home) not in shown.splitlines()[-1]


def test_nothing_of_the_user_is_used(
    capsys: pytest.CaptureFixture[str], own_home: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Neither home, nor keys, nor the servers that their settings name; models are."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    home = own_home / "mlxdeck"
    home.mkdir()
    (home / "mlxdeck.toml").write_text(
        'api_key = "sesame"\nupstream = "lmstudio"\nwarm = "recent"\nport = 9\nmax_batch = 4\n'
        '[backends.other]\nkind = "upstream"\nurl = "http://127.0.0.1:9"\n'
    )
    found, _ = ran(capsys, "--only", "repeat")
    assert found["settings"] == {"max_batch": 4}
    assert sorted(path.name for path in home.iterdir()) == ["mlxdeck.toml", "models"]
    assert list(tmp_path.iterdir()) == []


def test_running_server_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """It is asked by its key, nothing of that is recorded, and it runs on."""
    with serving("--engine", "echo", "--api-key", "sesame") as server:
        found, _ = ran(
            capsys, "--url", server.url, "--api-key", "sesame", "--only", "prompts,restart"
        )
        (own,) = found["servers"]
        assert own["figures"]["known_computed"] < 0.2 and "restart" in own["not_measured"]
        assert server.process.poll() is None and server.ended() == []


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--engine", "echo", "--only", "cold"], "no 'cold', only prompts, repeat"),
        (["--url", OTHER], "no answer: Connection refused"),
        (["--url", "ftp://host"], "is no address"),
        (["--against", OTHER, "--against-api", "soap"], "expected auto"),
        (["--against", OTHER, "--against-key-env", "NOT_THERE"], "NOT_THERE is not set"),
    ],
)
def test_option_that_can_not_be_met(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and status 2."""
    assert main([*QUICK, *flags]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """No process, no file; the status tells the signal."""
    command = [sys.executable, "-m", "mlxdeck.cli.main", *ECHO]
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        url = ""
        for line in process.stderr:
            if "ready on" in line:
                url = line.split("ready on ")[1].split()[0]
                break
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotMeasured):
        BenchClient(url)


def test_settings_of_an_own_server(tmp_path: Path) -> None:
    """Nothing leads outside of its home, whatever the user has set; limits stay."""
    redis = "redis://127.0.0.1"
    theirs = Settings(
        api_key="k", shared_cache=redis, fallback="local", warm="recent", max_batch=3,
        telemetry_dir="/elsewhere", backends=NamedValues(), port=free_port(),
    )  # fmt: skip
    own = alone(theirs, tmp_path)
    assert own.telemetry_folder.is_relative_to(tmp_path)
    assert own.cache_folder.is_relative_to(tmp_path)
    assert (own.api_key, own.shared_cache, own.fallback, own.warm) == ("", "", "", "")
    assert own.max_batch == 3
    assert changed(theirs) == {"max_batch": 3}


ANTHROPIC = [
    {"type": "message_start", "message": {"usage": {
        "input_tokens": 3, "cache_read_input_tokens": 7, "output_tokens": 1}}},
    {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Hm"}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "ping"},
    {"type": "message_delta", "usage": {"output_tokens": 5}},
]  # fmt: skip
CALL = {"tool_calls": [{"function": {"arguments": "{}"}}]}
OPENAI = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"reasoning_content": "Hm"}}]},
    {"choices": [{"delta": {"content": "Hello"}}]},
    {"choices": [{"delta": CALL}]},
    {"choices": [], "usage": {
        "prompt_tokens": 10, "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 7}}},
]  # fmt: skip


@pytest.mark.parametrize(("api", "events"), [("anthropic", ANTHROPIC), ("openai", OPENAI)])
def test_both_apis_tell_the_same(api: Any, events: list[dict[str, Any]]) -> None:
    """Thinking, text and arguments are content; pings and empty pieces aren't."""
    heard = Heard()
    assert sum(heard.hear(api, each) for each in events) == 3
    assert (heard.text, heard.arguments) == ("Hello", "{}")
    assert (heard.input_tokens, heard.cached_tokens, heard.output_tokens) == (10, 7, 5)


def test_tokens_without_a_pass_are_counted() -> None:
    """Four of five tokens guessed or forced are five tokens a pass; unknown is no figure."""
    heard = Heard(n_deltas=3, output_tokens=10)
    assert TimedAnswer(heard, 0, 0, 0, passless_tokens=8).tokens_per_pass == 5
    assert TimedAnswer(heard, 0, 0, 0, passless_tokens=0).tokens_per_pass == 1
    assert TimedAnswer(heard, 0, 0, 0).tokens_per_pass is None


@pytest.mark.parametrize("api", ["anthropic", "openai"])
def test_errors_in_a_stream_are_told(api: Any) -> None:
    """A server that has sent its status already can only say it there."""
    heard = Heard()
    heard.hear(api, {"type": "error", "error": {"message": "no memory"}})
    assert heard.error == "no memory"


def test_bodies_hold_the_same_conversation() -> None:
    """System prompt, turns and the forced tool, in each API's own place."""
    asked = Asked(("a", "b", "c"), 5, "s", {"type": "object"})
    one, other = asked.body("anthropic", "m"), asked.body("openai", "m")
    assert one["messages"] == other["messages"][1:] and one["system"] == "s"
    assert other["messages"][0] == {"role": "system", "content": "s"}
    assert one["tools"][0]["input_schema"] == other["tools"][0]["function"]["parameters"]
    assert one["tool_choice"]["name"] == other["tool_choice"]["function"]["name"]


@given(
    st.floats(1, 1e5), st.floats(0.1, 1e4), st.floats(0.5, 4), st.integers(512, 1 << 20),
    st.booleans(),
)  # fmt: skip
def test_sizes_fit_window_and_time(
    prefill: float, decode: float, per_word: float, window: int, quick: bool
) -> None:
    """Whatever the machine: prompt and answer have room, and each answer has some tokens."""
    pace = ServerPace(prefill, decode, per_word)
    found = sizes(pace, window, quick=quick)
    assert found.prompt_words * per_word <= window / 2
    assert found.rewrite_tokens >= 64 and found.answer_tokens >= 16 and found.new_words > 0
    assert 2 * found.rewrite_tokens + 100 <= window
    longest = (found.prompt_words + found.new_words) * per_word
    assert longest <= window or longest <= 512


@given(st.text(min_size=1, max_size=8), st.integers(1, 300))
def test_prose_has_its_length_and_name(name: str, n_words: int) -> None:
    """It is the same each time, and no other begins like it."""
    text = prose(name, n_words)
    assert text == prose(name, n_words) and text.startswith(f"{name}. ")
    assert n_words <= len(text[len(name) + 2 :].split()) <= n_words + 30


def test_copied_share_counts_lines_of_the_file() -> None:
    """All, none, and half of them, whatever their indentation and the fences around them."""
    content = source_file("x", 3)
    compile(content, "x", "exec")
    assert copied_share(content, content) == 1
    assert copied_share("nothing of it", content) == 0 == copied_share("", content)
    assert 0.4 < copied_share(content + content.upper(), content) < 0.6


def test_table_has_a_row_for_each_known_figure() -> None:
    """Medians, ratios of medians, a dash and the reason where something is lacking."""
    own, other = Measured(), Measured()
    for value in (2.0, 4.0, 9.0):
        own.add("cold_ttft_s", value)
    own.add("known_ttft_s", 1.0)
    own.add("turn_two_computed", None)
    other.lacking["prompts"] = "404"
    assert own.figures() == {"cold_ttft_s": 4.0, "known_ttft_s": 1.0, "known_of_cold": 0.25}
    lines = table([("mlxdeck", own), ("other", other)])
    assert any(line.split()[-3:] == ["0.25", "x", "-"] for line in lines)
    assert lines[-1] == "- = not measured. other, prompts: 404"
    assert {each.group for each in FIGURES} == set(GROUPS)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("org/model", "org/model"), ("/Users/me/models/own", "own"), ("a/b/c", "c"), ("m", "m"),
     ("~/x/y/", "y"), ("./m.gguf", "m.gguf")],
)  # fmt: skip
def test_folders_are_not_shared(name: str, shown: str) -> None:
    """Ids of the Hub stay."""
    assert model_name(name) == shown
