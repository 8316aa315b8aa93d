"""Numbers in recordings that no server can have written: no reader fails, and none plays them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from mlxdeck.cli.main import main
from mlxdeck.telemetry.analyze import played_prompts
from mlxdeck.telemetry.analyze.periods import everything
from mlxdeck.telemetry.analyze.report import report
from mlxdeck.telemetry.analyze.report_text import report_lines
from mlxdeck.telemetry.analyze.request_detail import detail
from mlxdeck.telemetry.analyze.what_if import what_if
from mlxdeck.telemetry.analyze.what_if_text import what_if_json, what_if_lines
from mlxdeck.telemetry.export.otlp.metrics import RequestMetrics
from mlxdeck.telemetry.export.otlp.spans import resource, spans
from mlxdeck.telemetry.export.request_lines import ended_requests
from mlxdeck.telemetry.read.fast_decode import skim
from mlxdeck.telemetry.read.prompt_paths import MAX_TOKENS, SUB_TOKENS, traffic_of
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui.outputs import inspect
from tests.streams import NAME, Stream, read_streams

VALUES = ("-1", "0", str(2**31 - 1), "1e308")
BLOCKS = "7e+Pju+Xr7wWtgZkgb10LA=="
LOOKUP: dict[str, Any] = {
    **{"cache": "prefix", "prompt_tokens": 130, "matched_tokens": 64, "shared_tokens": 96},
    **{"message_starts": (96,), "tail_start": 128, "blocks": BLOCKS, "diverged_at_token": 64},
}
END: dict[str, Any] = {
    **{"model": "m", "input_tokens": 130, "cached_tokens": 64, "output_tokens": 5, "ttft_s": 0.5},
    **{"prefill_s": 0.4, "decode_s": 0.2, "queue_s": 0.1, "duration_s": 0.8, "n_tool_calls": 1},
}


def numbers_of(kind: type[t.Attrs]) -> list[str]:
    """The fields that hold a number, or several."""
    return [
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if {int, float} & set(_plain(field.type))
    ]


def _plain(kind: Any) -> list[Any]:
    inner = [each for arg in get_args(kind) for each in _plain(arg)]
    return inner or [kind]


def recorded(n: int) -> list[dict[str, Any]]:
    """The lines of a server and of some requests, with each kind of event."""
    stream = Stream()
    header = t.StreamStart(model="m", kv_token_bytes=8.0, cache_policy="lru", disk_cache=True)
    lines = [stream.line(header, 0), stream.line(t.ModelLoad(model="m", duration_s=1.0), 1)]
    for number in range(n):
        name, at_s = f"req_{number}", 10.0 * (number + 1)
        whole = t.CacheLookup(cache="exact", key=f"k{number}", miss_reason="cold")
        progress = t.RequestProgress(state="prefill", prompt_tokens=130, read_tokens=70)
        first = t.FirstToken(ttft_s=0.5, queue_s=0.1, prefill_s=0.4, prefill_tokens=66)
        told = [
            *(t.RequestStart(n_messages=1, message_hashes=("h",)), whole, t.CacheLookup(**LOOKUP)),
            *(progress, first, t.ToolCall(name="Read", call_id=name, arguments="{}")),
            *(t.Error(error_type="api_error"), t.RequestEnd(**END)),
            t.CallResult(name="Read", call_id=name, elapsed_s=0.5, result_bytes=9),
        ]
        lines += [stream.line(each, at_s + 0.1 * n, name, "s") for n, each in enumerate(told)]
    lines += [stream.tick(90, prefix_bytes=9_000, prefix_limit_bytes=99_000)]
    lines += [stream.line(t.ModelUnload(freed_bytes=9), 98), stream.line(t.ServerStop(), 99)]
    return [json.loads(line) for line in lines]


def forged(lines: list[dict[str, Any]], event: str, name: str, value: str) -> bytes:
    """The same, with a number in the first line of an event."""
    found = next(line for line in lines if line["event"] == event)
    listed = isinstance(found["attrs"].get(name), list)
    attrs = {**found["attrs"], name: ["@"] if listed else "@"}
    changed = [{**line, "attrs": attrs} if line is found else line for line in lines]
    return ("\n".join(map(json.dumps, changed)) + "\n").replace('"@"', value).encode()


@pytest.mark.parametrize("event", t.EVENTS)
def test_any_number_is_read_or_refused_by_every_reader(event: str, tmp_path: Path) -> None:
    """As figures, as a replay, as one request, as spans; columns need fewer of the numbers."""
    lines, path = recorded(1), tmp_path / NAME
    for name in numbers_of(t.EVENTS[event]):
        for value in VALUES:
            path.write_bytes(forged(lines, event, name, value))
            store = read_streams([path])
            assert report_lines(report(store, everything(store)))
            found = what_if(traffic_of([path]))
            assert list(what_if_lines(found)) and json.dumps(what_if_json(found), allow_nan=False)
            for row in range(store.n):
                inspect.show(detail(store, row), io.StringIO())
            for request in ended_requests([path], {"req_0"}):
                metrics, of = RequestMetrics(), resource(request.header)
                metrics.add(request.lines[-1])
                assert list(spans(request, of)) and metrics.data(of)
            raw = path.read_bytes()
            bad = sum(_is_unreadable(line) for line in raw.splitlines())
            assert len(skim(raw).bad) <= bad <= 1


def _is_unreadable(line: bytes) -> bool:
    try:
        codec.decode(line)
    except codec.Unreadable:
        return True
    return False


def test_a_header_with_any_setting_is_read() -> None:
    """A user may set any limit; a rate is what it is."""
    header = t.StreamStart(
        context_tokens=10**12, exact_cache_entries=10**15, answer_max_age_s=1e300
    )
    for attrs in (header, t.Tick(max_queued=10**15, output_tokens_per_s=-1.0)):
        line = Stream().line(attrs, 0)
        assert codec.decode(line).attrs == attrs and not skim(line).bad


HUGE = 2**31 - 1
IMPOSSIBLE = {
    "prompt": ("cache.lookup", {"mlx.cache.prompt_tokens": HUGE}),
    "beyond any window": ("cache.lookup", {"mlx.cache.prompt_tokens": MAX_TOKENS + 1}),
    "known beyond its end": ("cache.lookup", {"mlx.cache.matched_tokens": 131}),
    "parted beyond its end": ("cache.lookup", {"mlx.cache.diverged_at_token": HUGE}),
    "system prompt": ("cache.lookup", {"mlx.prompt.shared_tokens": HUGE}),
    "message": ("cache.lookup", {"mlx.prompt.message_starts": [96, HUGE]}),
    "tail": ("cache.lookup", {"mlx.prompt.tail_start": HUGE}),
    "blocks": ("cache.lookup", {"mlx.prompt.blocks_before": 1 + 130 // SUB_TOKENS}),
    "answer": ("request.end", {"gen_ai.usage.output_tokens": HUGE}),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_a_replay_leaves_out_what_no_server_can_have_counted(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says of how many requests, and plays the others; also if none is left."""
    event, numbers = IMPOSSIBLE[what]
    lines, path = recorded(3), tmp_path / NAME
    bad = [
        each for each in lines if each["event"] == event and "mlx.cache.key" not in each["attrs"]
    ]
    for n_bad in (1, 3):
        for each in bad[:n_bad]:
            each["attrs"] |= numbers
        path.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
        assert main(["why", str(path)]) == 0
        told = capsys.readouterr().out
        many = "1 request" if n_bad == 1 else "3 requests"
        assert f"{many} left out: no server can have counted their tokens so" in told
        assert ("2 requests, 260 prompt tokens" in told) == (n_bad == 1)
        assert ("can't be played: none of its requests is possible" in told) == (n_bad == 3)
        assert main(["why", str(path), "--json"]) == 0
        measured = json.loads(capsys.readouterr().out)["measured"]
        assert (measured["n_impossible"], measured["n_requests"]) == (n_bad, 3 - n_bad)


def test_a_replay_plays_so_many_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many long prompts the last ones; the number of those before is told."""
    path = tmp_path / NAME
    path.write_text("".join(f"{json.dumps(each)}\n" for each in recorded(4)))
    monkeypatch.setattr(played_prompts, "MAX_PLAYED_TOKENS", 2 * 135)
    told = "\n".join(what_if_lines(what_if(traffic_of([path]))))
    assert "2 requests, 260 prompt tokens\n2 requests before them left out" in told
