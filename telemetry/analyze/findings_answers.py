"""Findings about answers: cut, looping, and calls that were not as they should be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlxdeck.telemetry.analyze.finding import MIN_FAULT_SHARE, MIN_REQUESTS, ReportFinding, Traffic
from mlxdeck.telemetry.analyze.sentences import counted, listed, percent
from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.columns.record_batch import INVALID, REPAIRED, UNREAD
from mlxdeck.telemetry.schema import events as t

MIN_CUT_TOKENS = 256
"""A client that allows fewer tokens wants no more: titles, probes, single words."""
CUT_SHARE = 0.02
MIN_BAD_CALLS = 5
"""A model slips now and then, also with the right format."""
LOOP_SHARE = 0.01
MIN_UNUSED_SHARE = 0.2
"""Of a prompt: fewer tokens of unused tools are not worth a change of the client."""
MAX_ASKED = 20
"""Requests that are read again to learn what the tools of one set cost."""
MIN_UNUSED_REQUESTS = 10
"""A tool that a few requests don't call may be needed by the next ones."""


def cut(traffic: Traffic) -> Iterator[ReportFinding]:
    """Answers that end at the limit of their tokens."""
    at_limit = traffic.is_any("finish", "max_tokens") & traffic.ok
    places = np.flatnonzero(at_limit & (traffic.known("output_tokens") >= MIN_CUT_TOKENS))
    places = places[traffic.is_any("ended_by", "")[places]]
    n_ok = int(traffic.ok.sum())
    if len(places) < max(MIN_REQUESTS, CUT_SHARE * n_ok):
        return
    limits = traffic.known("max_tokens")[places]
    asked = traffic.known("output_tokens")[places] >= limits - 1
    evidence = [
        f"{counted(len(places), 'answer')} of {n_ok:,} ended at a limit,"
        f" after {np.median(traffic.known('output_tokens')[places]):,.0f} tokens in the median"
    ]
    if asked.any():
        evidence.append(
            f"{counted(int(asked.sum()), 'answer')} at the client's own max_tokens,"
            f" {np.median(limits[asked]):,.0f} in the median"
        )
    if not asked.all():
        evidence.append(f"{counted(int((~asked).sum()), 'answer')} at a limit of the server")
    yield ReportFinding(
        "answers_cut",
        "Answers are cut at their limit of tokens.",
        tuple(evidence),
        (
            "raise max_tokens in the client (CLAUDE_CODE_MAX_OUTPUT_TOKENS in Claude Code)",
            "raise --max-output-tokens or --context-tokens, where the server sets the limit",
        ),
        len(places),
        traffic.ids(places, traffic.known("output_tokens")[places]),
    )


def bad_calls(traffic: Traffic) -> Iterator[ReportFinding]:
    """Formats whose calls can't be read, had to be repaired, or don't conform to their schema."""
    calls, strings = traffic.store.calls, traffic.store.strings
    mine = np.isin(calls.rows, traffic.rows)
    for number in np.unique(calls.parsers[mine]).tolist():
        own = mine & (calls.parsers == number)
        parser = strings[number] or "unknown"
        for fault, name, title, advice in (
            (UNREAD | INVALID, "calls_refused", _REFUSED, _REFUSED_ADVICE),
            (REPAIRED, "calls_repaired", _REPAIRED, _REPAIRED_ADVICE),
        ):
            bad = own & (calls.faults & fault > 0)
            n, n_all = int(bad.sum()), int(own.sum())
            if n < max(MIN_BAD_CALLS, MIN_FAULT_SHARE * n_all):
                continue
            unread = int((own & (calls.faults & UNREAD > 0)).sum())
            invalid = int((own & (calls.faults & INVALID > 0)).sum())
            evidence = [f"{n:,} of {n_all:,} calls ({percent(n, n_all)}) in the format {parser}"]
            if name == "calls_refused":
                evidence.append(f"{unread:,} unreadable, {invalid:,} not as their schema says")
            evidence.append(f"tools: {listed(_tools(traffic, bad))}")
            rows = np.unique(calls.rows[bad])
            places = np.flatnonzero(np.isin(traffic.rows, rows))
            title_ = title.format(parser=parser)
            yield ReportFinding(
                name, title_, tuple(evidence), advice, len(places), traffic.ids(places)
            )


_REFUSED = "Tool calls in the format {parser} can't be read, or don't conform to their schema."
_REFUSED_ADVICE = (
    "check that --tool-format suits the model: mlxdeck parse shows how a text is read",
    "give tools a schema that can constrain decoding: mlxdeck inspect REQUEST says why one can't",
    "use a larger or less quantised model",
)
_REPAIRED = "Tool calls in the format {parser} have to be repaired."
_REPAIRED_ADVICE = (
    "check that --tool-format suits the model, and that its chat template is the model's own",
    "use a larger or less quantised model",
)


def _tools(traffic: Traffic, mask: Array) -> list[str]:
    names, counts = np.unique(traffic.store.calls.names[mask], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    texts = (traffic.store.strings[int(name)] for name in names[order])
    return [traffic.names.tool(text) for text in texts]


def looping(traffic: Traffic) -> Iterator[ReportFinding]:
    """Answers that repeat themselves until the loop guard ends them."""
    for model, own in traffic.groups(np.arange(len(traffic.rows)), "served"):
        places = own[traffic.is_any("ended_by", "loop")[own]]
        if len(places) < max(MIN_REQUESTS, LOOP_SHARE * len(own)):
            continue
        took_s = traffic.known("decode_s")[places]
        n_looped, n_ok = (int(traffic.ok[each].sum()) for each in (places, own))
        yield ReportFinding(
            "answers_looping",
            f"Answers of {traffic.names.model(model)} repeat themselves.",
            (
                f"the loop guard ended {n_looped:,} of {counted(n_ok, 'answer')}",
                f"after {np.median(traffic.known('output_tokens')[places]):,.0f} tokens"
                f" in the median; {_formats(traffic, places)}",
            ),
            (
                "set --temperature and --top-p as the model's card says: greedy decoding loops",
                "use a larger or less quantised model",
            ),
            len(places),
            traffic.ids(places, took_s),
            float(took_s.sum()),
        )


def _formats(traffic: Traffic, places: Array) -> str:
    """In which formats the same model calls tools."""
    calls = traffic.store.calls
    served = np.unique(traffic.column("served")[places])
    rows = traffic.rows[np.isin(traffic.column("served"), served)]
    numbers = np.unique(calls.parsers[np.isin(calls.rows, rows)]).tolist()
    formats = [traffic.store.strings[number] for number in numbers if number]
    return f"it calls tools in the format {listed(formats)}" if formats else "it calls no tools"


def grammar_left(traffic: Traffic) -> Iterator[ReportFinding]:
    """Answers that left the grammar that constrained them, which ends them in an error."""
    places = np.flatnonzero(~traffic.is_any("let_go", ""))
    if len(places) < max(MIN_REQUESTS, LOOP_SHARE * len(traffic.rows)):
        return
    reasons = [text for text, _ in traffic.groups(places, "let_go")]
    yield ReportFinding(
        "grammar_left",
        "Answers leave the grammar that constrains them.",
        (
            f"{counted(len(places), 'request')} of {len(traffic.rows):,} ended in an error",
            *(() if traffic.names.anonymous else (f"most often: {reasons[0]}",)),
        ),
        ("report it with mlxdeck inspect REQUEST --json: a grammar should never be left",),
        len(places),
        traffic.ids(places),
    )


def unused_tools(traffic: Traffic) -> Iterator[ReportFinding]:
    """Tools whose descriptions are in every prompt, and that nothing calls."""
    with_tools = np.flatnonzero(traffic.computed & (traffic.column("tools_hash") > 0))
    called = set(_called(traffic))
    unused, n_requests, n_tokens, computed = dict[str, int](), 0, 0, 0
    shown = with_tools[:0]
    for _, own in traffic.groups(with_tools, "tools_hash"):
        costs = tool_costs(traffic, own)
        idle = {name: n for name, n in costs.items() if name not in called}
        if len(own) < MIN_UNUSED_REQUESTS or not idle:
            continue
        per_prompt = sum(idle.values())
        if per_prompt < MIN_UNUSED_SHARE * float(np.median(traffic.known("input_tokens")[own])):
            continue
        unused |= idle
        n_requests += len(own)
        n_tokens += per_prompt * len(own)
        # Of the prompts whose tools were not known, this part was computed.
        fresh = traffic.known("cached_tokens")[own] < traffic.known("shared_tokens")[own]
        computed += per_prompt * int(fresh.sum())
        shown = np.union1d(shown, own)
    if not unused:
        return
    read_s = traffic.cost.read_s
    names = [traffic.names.tool(name) for name in sorted(unused, key=lambda each: -unused[each])]
    yield ReportFinding(
        "unused_tools",
        "Tools are in every prompt, and are never called.",
        (
            f"{counted(len(unused), 'tool')}: {listed(names)}",
            f"{n_tokens:,} prompt tokens in {counted(n_requests, 'request')},"
            f" of which {computed:,} were computed",
        ),
        (
            "leave them out: claude --tools or --disallowedTools, or disconnect their MCP server",
            "shorten their descriptions",
        ),
        n_requests,
        traffic.ids(shown, traffic.known("input_tokens")[shown]),
        computed * read_s if read_s == read_s else None,
        computed,
    )


def _called(traffic: Traffic) -> list[str]:
    calls, strings = traffic.store.calls, traffic.store.strings
    mine = np.isin(calls.rows, traffic.rows)
    return [strings[number] for number in np.unique(calls.names[mine]).tolist()]


def tool_costs(traffic: Traffic, places: Array) -> dict[str, int]:
    """Tokens of each tool's description, as the first of some requests tells them."""
    for place in places[:MAX_ASKED].tolist():
        names: tuple[str, ...] = ()
        for attrs in traffic.events(place):
            if isinstance(attrs, t.RequestStart):
                names = attrs.tool_names
            elif isinstance(attrs, t.CacheLookup) and attrs.tool_tokens:
                return dict(zip(names, attrs.tool_tokens, strict=False))
    return {}
