"""`mlxdeck why`: a replay agrees with what a real server did, and says what others would do."""

from __future__ import annotations

import json
import random
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxdeck.cli.main import main
from mlxdeck.server.backends.local.kv.prompt_digests import PromptDigests
from mlxdeck.server.backends.local.kv.token_bytes import pack
from mlxdeck.server.observe.lookup_event import lookup_event
from mlxdeck.server.request_facts import LookedUp, Miss
from mlxdeck.telemetry.analyze.played_prompts import prepared
from mlxdeck.telemetry.analyze.played_settings import played_servers
from mlxdeck.telemetry.analyze.what_if import WhatIfReport, what_if
from mlxdeck.telemetry.analyze.what_if_text import what_if_lines
from mlxdeck.telemetry.read.prompt_paths import traffic_of
from mlxdeck.telemetry.schema import events as t
from tests.real import serving
from tests.streams import Stream

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


def written(
    path: Path,
    header: t.StreamStart,
    pid: int,
    limit: int | None,
    starts: list[int],
    *,
    missed: str = "",
) -> None:
    """A server whose one conversation grows by 64 tokens each time, all of which are known."""
    digests, stream = PromptDigests(b"k" * 32), Stream(pid)
    lines = [stream.line(header, starts[0] - 1)]
    for turn, at_s in enumerate(starts, 1):
        name, tokens = f"req_{pid}_{at_s}", [pid] * (64 * turn)
        facts = LookedUp(
            "prefix",
            tier="ram" if turn > 1 else "",
            matched_tokens=len(tokens) - 64,
            prompt_tokens=len(tokens),
            blocks=digests.of(pack(tokens)),
            miss=Miss(reason=missed),
        )
        end = t.RequestEnd(model=header.model, ttft_s=0.1, input_tokens=len(tokens))
        lines += [
            stream.line(t.RequestStart(), at_s, name, f"s{pid}"),
            stream.line(lookup_event(facts), at_s, name, f"s{pid}"),
            stream.line(end, at_s + 0.5, name, f"s{pid}"),
        ]
    lines.append(stream.line(t.Tick(prefix_limit_bytes=limit), starts[-1] + 1))
    with path.open("ab") as file:
        file.write(b"".join(lines))


def test_each_server_is_played_with_its_own_settings(tmp_path: Path) -> None:
    """Two at once, of two models; and a third one, to which the number of the first was given."""
    small = t.StreamStart(model="a", kv_token_bytes=8.0, disk_cache=False, cache_policy="lru")
    wide = t.StreamStart(model="b", kv_token_bytes=0.0, kv_fixed_bytes=900, cache_policy="adaptive")
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    written(one, small, 7, 4_000, [10, 30, 50, 70])
    written(two, wide, 8, 50_000, [20, 40, 60, 80])
    written(one, msgspec.structs.replace(small, exact_cache_entries=0), 7, 6_000, [100, 120])
    traffic = traffic_of([two, one])
    of = found([two, one])
    servers = played_servers(traffic, prepared(traffic, 100))
    told = [each.settings for each in servers]
    assert [each.prefix_bytes for each in told] == [4_000, 50_000, 6_000]
    assert [each.policy for each in told] == ["lru", "adaptive", "lru"]
    assert [each.disk for each in told] == [False, True, False]
    assert [each.exact_entries for each in told] == [1000, 1000, 0]
    shapes = [shape.token_bytes for each in servers for shape in each.shapes.values()]
    assert shapes == [8.0, 0.0, 8.0]
    assert of.measured.n_settings == 3
    # The others go on with what they know; a new process knows nothing at first.
    assert of.in_force.outcome.prefix_tokens == of.measured.prefix_tokens == 2 * 6 * 64 + 64
    larger = next(each for each in of.others if each.name == "2 times the memory")
    assert larger.settings.prefix_bytes == 12_000


def test_what_a_recording_does_not_tell_is_said(tmp_path: Path) -> None:
    """Limits of an earlier version, room that no machine has, and states in 8 bits."""
    digests, stream = PromptDigests(b"k" * 32), Stream()
    facts = LookedUp("prefix", prompt_tokens=640, blocks=digests.of(pack([7] * 640)))
    whole = t.StreamStart(
        kv_token_bytes=8.0, cache_policy="lru", disk_cache=False, exact_cache_entries=9,
        memory_bytes=1 << 34,
    )  # fmt: skip

    def told(header: t.StreamStart, **tick: int) -> str:
        end = t.RequestEnd(ttft_s=0.1, input_tokens=640)
        asked = [stream.line(each, 2, "req") for each in (t.RequestStart(), lookup_event(facts))]
        lines = [stream.line(header, 1), *asked, stream.line(end, 3, "req")]
        path = tmp_path / "one.jsonl"
        path.write_bytes(b"".join([*lines, stream.line(t.Tick(**tick), 4)]))  # type: ignore[arg-type]
        return "\n".join(what_if_lines(found([path])))

    own = told(whole, prefix_limit_bytes=8_000)
    assert "a token takes 8 bytes in memory; 0.0 MiB have room for 1,000 tokens" in own
    assert "unknown" not in own and "8bit" not in own
    for huge in (1 << 34, 1 << 40):
        assert "; the limit is more than the machine has" in told(whole, prefix_limit_bytes=huge)
    untold = told(whole)
    assert "; the limit is not recorded, and no request missed evicted states" in untold
    early = told(t.StreamStart())
    assert "limits unknown, taken from defaults: the limit of KV states, the policy" in early
    assert "memory of a token: unknown" in early and "room for" not in early
    eight = told(whole, prefix_limit_bytes=8_000, prefix_quantized_bytes=640)
    assert "--kv-8bit was on and is not played" in eight


def test_of_several_servers_no_more_is_said_of_the_limit_than_is_known(tmp_path: Path) -> None:
    """States were evicted in the first; the last one doesn't tell its limit."""
    whole = t.StreamStart(model="a", kv_token_bytes=8.0, disk_cache=False, cache_policy="lru")
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    written(one, whole, 7, 4_000, [10, 30], missed="evicted")
    written(two, whole, 8, None, [60, 80])
    lines = "\n".join(what_if_lines(found([one, two])))
    assert "; the limit of the last server is not recorded, and no request missed" in lines
    written(two, whole, 8, None, [100], missed="evicted")
    lines = "\n".join(what_if_lines(found([one, two])))
    assert "; the limit of the last server is not recorded, though states were evicted" in lines
    unsized = msgspec.structs.replace(whole, kv_token_bytes=None)
    written(one, unsized, 9, 4_000, [200])
    traffic = traffic_of([one])
    of = [each.unlimited_because for each in played_servers(traffic, prepared(traffic, 100))]
    assert of == ["", "is not played, as the size of states is unknown"]


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
