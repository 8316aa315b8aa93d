"""One request in full, read back from its lines: as plain values, and as a command."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

import msgspec

from mlxdeck.telemetry.analyze.raw_lines import content, files_of, lines_of
from mlxdeck.telemetry.analyze.request_diff import SAMPLING
from mlxdeck.telemetry.analyze.running_progress import phases_s, running_progress
from mlxdeck.telemetry.analyze.tool_results import Result, results
from mlxdeck.telemetry.columns.growable_array import unknown
from mlxdeck.telemetry.control_characters import CONTROLS, shown_json
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import CACHES, FIGURES, LOST, OPEN, OUTCOMES, Figure
from mlxdeck.telemetry.store.store import Store

PHASES = ("tokenize", "cache", "queue", "load", "prefill", "decode")
"""In the order in which a request goes through them."""
RARE = ("load",)
"""Those that most requests don't have; shown only where they took time."""
DEFAULT_SERVER = "http://127.0.0.1:8081"
HOW_TO_CAPTURE = "the text was not captured: start the server with --capture full to keep it"


class NotCaptured(Exception):
    """The stream does not hold the conversation of a request."""

    def __init__(self) -> None:
        super().__init__(HOW_TO_CAPTURE)


def detail(store: Store, row: int) -> dict[str, Any]:
    """Everything that is known of a request, ready for JSON; seconds, tokens and bytes."""
    lines = [codec.decode(line) for line in lines_of(store, row)]
    found: dict[str, Any] = {
        "request_id": store.ids[row],
        "session_id": store.text("session", row),
        "server": server_url(store.header),
        "start_ts": _number(store, "start_ts", row),
        "outcome": OUTCOMES[int(store.column("outcome")[row])],
        "status": _number(store, "status", row),
        "cache": CACHES[int(store.column("cache")[row])],
        "duration_s": _number(store, "duration_s", row),
        "ttft_s": _number(store, "ttft_s", row),
        "phases_s": {name: _number(store, f"{name}_s", row) for name in PHASES},
        "tokens": {
            name: _number(store, f"{name}_tokens", row) for name in ("input", "cached", "output")
        },
        "figures": {figure.name: _figure(store, figure, row) for figure in FIGURES},
    }
    attrs = [line.attrs for line in lines]
    found["request"] = next((_fields(a) for a in attrs if isinstance(a, t.RequestStart)), {})
    found["lookups"] = [_fields(a) for a in attrs if isinstance(a, t.CacheLookup)]
    calls = [a for a in attrs if isinstance(a, t.ToolCall)]
    came = results(store, row, calls)
    found["tool_calls"] = [_call(call, came.get(call.call_id)) for call in calls]
    reports = [a for a in attrs if isinstance(a, t.RequestProgress)]
    if reports and found["outcome"] in (OUTCOMES[OPEN], OUTCOMES[LOST]):
        found["progress"] = _fields(reports[-1])
    if found["outcome"] == OUTCOMES[LOST]:
        found |= _until_lost(store, row, attrs)
    found["errors"] = [_fields(a) for a in attrs if isinstance(a, t.Error)]
    return found | _said(store, row, found["request"], attrs)


def _until_lost(store: Store, row: int, attrs: Sequence[t.Attrs | None]) -> dict[str, Any]:
    """How long a request ran until the last sign of life of its server, and in which phases."""
    start_ts, end_ts = (float(store.column(name)[row]) for name in ("start_ts", "end_ts"))
    age_s, first = end_ts - start_ts, next((a for a in attrs if isinstance(a, t.FirstToken)), None)
    told = phases_s(running_progress(store, row, end_ts), first, age_s)
    known = {name: round(told[name], 6) for name in told if not math.isnan(told[name])}
    return {"duration_s": round(age_s, 6), "phases_s": dict.fromkeys(PHASES) | known}


def _said(
    store: Store, row: int, request: dict[str, Any], attrs: list[t.Attrs | None]
) -> dict[str, Any]:
    """System prompt, tools, messages and answer, as far as they were captured."""
    hashes = [request.get("system_hash", ""), request.get("tools_hash", "")]
    hashes += request.get("message_hashes", ())
    parts = content(files_of(store, row), hashes)
    messages = [parts.get(each) for each in hashes[2:]]
    answers = [a for a in attrs if isinstance(a, t.Content) and a.kind == "answer"]
    if not messages or not all(messages):
        return {}
    found: dict[str, Any] = {
        "messages": [
            {"role": part.role, "content": _json(part.content)} for part in messages if part
        ],
        "answer": _json(answers[-1].content) if answers else [],
    }
    for name, digest in zip(("system", "tools"), hashes, strict=False):
        if digest in parts:
            found[name] = _json(parts[digest].content)
    return found


def curl(found: dict[str, Any]) -> str:
    """A command that sends the request again.

    Raises:
        NotCaptured: Its text is not there.
    """
    if "messages" not in found:
        raise NotCaptured
    request = found["request"]
    body: dict[str, Any] = {"model": request["model"], "max_tokens": request["max_tokens"]}
    usual = t.RequestStart()
    for name in ("temperature", "top_p", "top_k", *SAMPLING):
        if request.get(name) not in (None, getattr(usual, name)):
            body[name] = request[name]
    if request.get("stream"):
        body["stream"] = True
    if found.get("system"):
        body["system"] = [{"type": "text", "text": text} for text in found["system"]]
    if found.get("tools"):
        body["tools"] = found["tools"]
    if request.get("stop_sequences"):
        body["stop_sequences"] = request["stop_sequences"]
    body |= _asked(request, found.get("tools", ()))
    body["messages"] = found["messages"]
    url = f"{found['server']}/v1/messages".translate(CONTROLS)
    parts = ["curl", url, "-H", "content-type: application/json"]
    return shlex.join([*parts, "-d", shown_json(body)])


def _asked(request: dict[str, Any], tools: Sequence[Any]) -> dict[str, Any]:
    """The required format of the answer, in the form of Anthropic's API."""
    body: dict[str, Any] = {}
    choice: dict[str, Any] = {"type": request.get("tool_choice", "auto")}
    if request.get("forced_tool"):
        choice["name"] = request["forced_tool"]
    elif choice["type"] == "tool":
        # A stream of an early version does not record the role.
        choice = {"type": "tool", "name": tools[0]["name"]} if len(tools) == 1 else {"type": "any"}
    if request.get("one_call"):
        choice["disable_parallel_tool_use"] = True
    if choice != {"type": "auto"}:
        body["tool_choice"] = choice
    if request.get("thinking") is not None:
        tokens = request.get("thinking_tokens")
        kind = "disabled" if not request["thinking"] else "enabled" if tokens else "adaptive"
        body["thinking"] = {"type": kind, **({"budget_tokens": tokens} if tokens else {})}
    if request.get("answer_schema"):
        schema = _json(request["answer_schema"])
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return body


def _call(call: t.ToolCall, result: Result | None) -> dict[str, Any]:
    return {
        **_fields(call),
        "arguments": _json(call.arguments) if call.arguments else None,
        "result": _result(result) if result else None,
    }


def _result(result: Result) -> dict[str, Any]:
    known_s = None if math.isnan(result.elapsed_s) else round(result.elapsed_s, 3)
    text = {"text": result.text} if result.is_whole or result.text else {}
    return {**text, "failed": result.failed, "bytes": result.n_bytes, "elapsed_s": known_s}


def _fields(attrs: t.Attrs) -> dict[str, Any]:
    return {name: getattr(attrs, name) for name in attrs.__struct_fields__}


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def server_url(header: t.StreamStart | None) -> str:
    """Where the server listens whose stream was begun last."""
    if header is None or not header.server_port:
        return DEFAULT_SERVER
    return f"http://{header.server_address}:{header.server_port}"


def _number(store: Store, name: str, row: int) -> float | int | None:
    value = store.column(name)[[row]]
    return None if unknown(value)[0] else value[0].item()


def _figure(store: Store, figure: Figure, row: int) -> float | str | None:
    """None where it is not known."""
    if figure.is_number:
        return _number(store, figure.name, row)
    if figure.choices:
        return figure.choices[int(store.column(figure.name)[row])] or None
    return store.text(figure.name, row) or None
