"""`mlxdeck why`: a replay agrees with what a real server did, and says what others would do."""

from __future__ import annotations

import json
import random
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.cli.main import main
from mlxdeck.telemetry.analyze.what_if import WhatIfReport, what_if
from mlxdeck.telemetry.read.prompt_paths import traffic_of
from tests.real import serving

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa")
LARGE, SMALL = 10_000_000, 90_000
"""Bytes of states in RAM, at 8 bytes a token: more than needed, and too few."""


def words(chance: random.Random, n: int) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(n))


def ask(url: str, system: str, messages: list[dict[str, str]], session: str) -> str:
    """One request; returns what is said."""
    user = json.dumps({"session_id": session})
    body = {"model": "x", "max_tokens": 40, "system": system, "messages": messages}
    request = urllib.request.Request(
        f"{url}/v1/messages",
        json.dumps(body | {"metadata": {"user_id": user}}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return "".join(block.get("text", "") for block in json.load(answer)["content"])


def talk(url: str, seed: int, turns: int = 30) -> None:
    """Five conversations with two system prompts, in turn by chance; some turns are repeated."""
    chance = random.Random(seed)
    systems = [words(chance, 400), words(chance, 300)]
    talks: list[list[dict[str, str]]] = [[] for _ in range(5)]
    for _ in range(turns):
        number = chance.randrange(len(talks))
        system, messages = systems[number % 2], talks[number]
        messages.append({"role": "user", "content": words(chance, 60)})
        said = ask(url, system, messages, f"s{number}") or "ok"
        if chance.random() < 0.15:
            ask(url, system, messages, f"s{number}")
        messages.append({"role": "assistant", "content": said})


def recorded(home: Path, *flags: str, seed: int = 1) -> list[Path]:
    """The files of a server that was asked."""
    with serving("--engine", "echo", *flags, home=home) as server:
        talk(server.url, seed)
        server.stop()
        return sorted(server.telemetry.glob("*.jsonl"))


def found(files: list[Path]) -> WhatIfReport:
    return what_if(traffic_of(files))


def named(of: WhatIfReport, name: str) -> float:
    return next(each.outcome.hit_rate for each in of.others if each.name == name)


@pytest.mark.parametrize(
    ("size", "flags"),
    [
        (LARGE, ("--no-disk-cache",)),
        (SMALL, ("--no-disk-cache",)),
        (SMALL, ("--cache-policy", "adaptive", "--exact-cache-entries", "0")),
    ],
    ids=["large", "small", "adaptive"],
)
def test_a_replay_agrees_with_what_the_server_did(
    tmp_path: Path, size: int, flags: tuple[str, ...]
) -> None:
    """Within two points, with the settings that were in force; by answers and by states."""
    files = recorded(tmp_path, "--prefix-cache-bytes", str(size), *flags)
    of = found(files)
    measured, played = of.measured, of.in_force.outcome
    assert measured.limit_bytes == size and measured.token_bytes == 8
    assert played.prompt_tokens == measured.prompt_tokens > 100_000
    assert played.hit_rate == pytest.approx(measured.hit_rate, abs=0.02)
    assert played.exact_tokens == measured.exact_tokens
    assert played.prefix_tokens == pytest.approx(
        measured.prefix_tokens, abs=0.02 * measured.prompt_tokens
    )


def test_a_replay_predicts_what_another_size_would_give(tmp_path: Path) -> None:
    """From a server with little room to one with four times as much, which is then asked too."""
    small = found(recorded(tmp_path / "a", "--prefix-cache-bytes", str(SMALL), "--no-disk-cache"))
    four = recorded(tmp_path / "b", "--prefix-cache-bytes", str(4 * SMALL), "--no-disk-cache")
    large = found(four)
    assert small.measured.hit_rate < large.measured.hit_rate - 0.05
    predicted = named(small, "4 times the memory")
    assert predicted == pytest.approx(large.measured.hit_rate, abs=0.02)
    assert named(small, "unlimited memory") >= predicted
    assert named(small, "0.25 times the memory") < small.in_force.outcome.hit_rate
    assert named(small, "no states in memory or on disk") < 0.2


def test_a_rule_that_took_out_what_varies_is_worth_its_hits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A system prompt that begins with another line of accounting in each request."""
    chance = random.Random(3)
    system, messages = words(chance, 400), list[dict[str, str]]()
    with serving("--engine", "echo", "--no-disk-cache", home=tmp_path) as server:
        for number in range(6):
            messages.append({"role": "user", "content": words(chance, 40)})
            head = f"x-anthropic-billing-header: cch={number};\n"
            said = ask(server.url, head + system, messages, "s")
            messages.append({"role": "assistant", "content": said})
        server.stop()
        files = sorted(server.telemetry.glob("*.jsonl"))
    of = found(files)
    assert of.measured.hit_rate > 0.7
    assert named(of, "--canonical-off billing_header") < 0.1
    assert main(["why", *map(str, files)]) == 0
    assert "--canonical-off billing_header" in capsys.readouterr().out
    assert main(["why", *map(str, files), "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["measured"]["hit_rate"] == of.measured.hit_rate
    # Nothing of what was said is in the recording, nor the key of its digests.
    text = "".join(path.read_text() for path in files)
    assert words(random.Random(3), 5) not in text and "billing-header" not in text
    assert (tmp_path / "digests.key").stat().st_mode & 0o777 == 0o600
