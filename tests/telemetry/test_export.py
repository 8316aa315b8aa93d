"""`mlxdeck export`: tables and spans say what the lines say, read here as plain JSON."""

from __future__ import annotations

import csv
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from mlxdeck.cli.main import main
from mlxdeck.telemetry.export.otlp.sending import send
from mlxdeck.telemetry.export.request_lines import ended_requests
from mlxdeck.telemetry.export.tables import CALL_KINDS, ExportError
from mlxdeck.telemetry.remote_url import remote_url
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.codec import encode
from mlxdeck.telemetry.schema.figures import FIGURES
from tests.streams import Stream

DATA = Path(__file__).parents[1] / "data"
RECORDINGS = [DATA / f"{name}.jsonl" for name in ("recording", "captured", "day")]
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
Lines = list[dict[str, Any]]


def lines(path: Path) -> Lines:
    """Every line as plain JSON."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def ended(found: Lines) -> dict[str, dict[str, Any]]:
    """The attributes of each request's end by its id."""
    return {each["request_id"]: each["attrs"] for each in found if each["event"] == "request.end"}


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_holds_every_figure_of_every_request(
    path: Path, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers and texts as the request's end has them; what it lacks is empty."""
    written = tmp_path / f"out.{kind}"
    assert main(["export", str(path), "--to", str(written)]) == 0
    ends = ended(lines(path))
    assert f"{len(ends)} requests" in capsys.readouterr().out
    records = {record["request_id"]: record for record in rows(written)}
    assert set(records) == set(ends)
    figures = [each for each in FIGURES if each.event is t.RequestEnd and each.kind != "choice"]
    for request_id, record in records.items():
        for figure in figures:
            expected = ends[request_id].get(figure.attribute, figure.omitted)
            if figure.kind == "list":
                expected = " ".join(expected or ())
            found = record[figure.name]
            if expected is None or found in (None, ""):
                assert found in (None, "", 0, 0.0) and not expected
            else:
                number = float if figure.is_number else str
                approx = partial(pytest.approx, rel=1e-6, abs=1e-6) if figure.is_number else str
                assert number(found) == approx(expected), (request_id, figure.name)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_of_calls_holds_each_call(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its request and session, by the names of the event's fields."""
    written = tmp_path / f"calls.{kind}"
    assert main(["export", str(RECORDINGS[2]), "--calls", "--to", str(written)]) == 0
    ends = ended(lines(RECORDINGS[2]))
    told = [
        each
        for each in lines(RECORDINGS[2])
        if each["event"] == "tool_call" and each["request_id"] in ends
    ]
    found = rows(written)
    n_calls, n_requests = f"{len(told)} tool calls", f"{len(ends)} requests"
    assert capsys.readouterr().out == f"wrote {written}: {n_calls} of {n_requests}\n"
    assert {*found[0]} == {*CALL_KINDS}
    assert sorted((row["request_id"], row["name"], row["arguments"]) for row in found) == sorted(
        (
            each["request_id"],
            each["attrs"].get("gen_ai.tool.name", ""),
            each["attrs"].get("gen_ai.tool.call.arguments", ""),
        )
        for each in told
    )


def rows(path: Path) -> Lines:
    """A table, read by what others would read it with."""
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".jsonl":
        return lines(path)
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_requests_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a filter, the start of an id, or a period; none and several are told."""
    path, out = str(RECORDINGS[2]), str(tmp_path / "out.jsonl")
    ends = ended(lines(RECORDINGS[2]))
    exact = {name for name, end in ends.items() if end.get("mlx.cache.result") == "exact"}
    assert main(["export", path, "--filter", "cache:exact", "--to", out]) == 0
    assert {record["request_id"] for record in lines(Path(out))} == exact
    one = next(iter(ends))
    assert main(["export", path, "--request", one.removeprefix("req_"), "--to", out]) == 0
    assert [record["request_id"] for record in lines(Path(out))] == [one]
    assert main(["export", path, "--since", "5m", "--to", out]) == 0
    assert 0 < len(lines(Path(out))) < len(ends)
    for chosen in (["--request", "zz"], ["--request", "req_"], ["--where", "latency>"]):
        assert main(["export", path, *chosen, "--to", out]) == 2
    shown = capsys.readouterr().err
    assert "no request is like that" in shown and "give more of the id" in shown


def test_a_stream_whose_requests_are_all_open_has_nothing_to_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many there are is told; a filter that none of them matches is another reason."""
    stream = Stream()
    begun = [stream.line(t.RequestStart(model="a"), n, f"req_{n}") for n in range(2)]
    path = tmp_path / "killed.jsonl"
    path.write_bytes(b"".join([stream.header(), *begun]))
    for chosen, why in (
        ([], "2 lost with their server"),
        (["--filter", "model:b"], "is like that"),
    ):
        out = str(tmp_path / "out.csv")
        assert main(["export", str(path), *chosen, "--to", out]) == 2
        assert why in capsys.readouterr().err


class Metrics(MetricExporter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[MetricsData] = []

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 0, **_: object
    ) -> MetricExportResult:
        self.taken.append(metrics_data)
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 0, **_: object) -> None:
        pass

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True


def exported(path: Path) -> tuple[list[ReadableSpan], list[MetricsData]]:
    """All requests of a file, by the SDK's exporter in memory."""
    spans, metrics = InMemorySpanExporter(), Metrics()
    send(ended_requests([path], ended(lines(path))), spans, metrics)
    return list(spans.get_finished_spans()), metrics.taken


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_request_is_a_span_with_its_figures(path: Path) -> None:
    """By GenAI's names; phases below it; no text of a user or a model."""
    found, _ = exported(path)
    ends = ended(lines(path))
    servers = [span for span in found if span.kind.name == "SERVER"]
    roots = {(span.attributes or {})["mlx.request_id"]: span for span in servers}
    assert set(roots) == set(ends)
    for name, span in roots.items():
        end = ends[str(name)]
        assert span.name.startswith("chat") and span.attributes is not None
        for key in ("gen_ai.usage.input_tokens", "gen_ai.response.model"):
            assert span.attributes.get(key) == end.get(key)
        took_s = (span.end_time - span.start_time) / 1e9  # type: ignore[operator]
        assert took_s == pytest.approx(end.get("gen_ai.server.request.duration", 0), abs=1e-6)
        assert (span.status.status_code is StatusCode.ERROR) == ("error.type" in end)
    for span in found:
        if span.kind.name == "INTERNAL":
            assert span.name in ("queue", "prefill", "decode")
            (root,) = [each for each in roots.values() if each.context == span.parent]
            moments = [root.start_time, span.start_time, span.end_time, root.end_time]
            assert moments == sorted(each or 0 for each in moments)
    texts = " ".join(span.to_json() for span in found)
    told = [each["attrs"].get("gen_ai.tool.call.arguments") for each in lines(path)]
    assert not any(each in texts for each in told if each and len(each) > 20)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_histograms_hold_every_request(path: Path) -> None:
    """Number, sum and extremes of each, as the lines have them."""
    _, (data,) = exported(path)
    ends = ended(lines(path))
    expected: dict[str, list[float]] = defaultdict(list)
    for end in ends.values():
        expected["gen_ai.server.request.duration"].append(
            end.get("gen_ai.server.request.duration", 0.0)
        )
        for name in ("gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token"):
            # 0.1 wrote 0 where there was no token.
            if end.get(name):
                expected[name].append(end[name])
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    points = {metric.name: list(metric.data.data_points) for metric in metrics}
    for name, values in expected.items():
        found = [each for each in points[name] if isinstance(each, HistogramDataPoint)]
        assert sum(each.count for each in found) == len(values)
        assert sum(each.sum for each in found) == pytest.approx(sum(values))
        assert max(each.max for each in found) == pytest.approx(max(values))
        for each in found:
            assert sum(each.bucket_counts) == each.count
            assert len(each.bucket_counts) == len(each.explicit_bounds) + 1
    assert all(
        metric.data.aggregation_temporality is AggregationTemporality.CUMULATIVE  # type: ignore[union-attr]
        for metric in metrics
    )


def test_spans_are_the_same_each_time_and_below_the_clients(tmp_path: Path) -> None:
    """The client's span is the parent, over the boundary between two files."""
    written = partial(encode, pid=1, request_id="req_1")
    start = written(t.RequestStart(trace_parent=PARENT), ts=10.0, mono=0.0, seq=1)
    end = written(t.RequestEnd(duration_s=2.0), ts=12.0, mono=2.0, seq=2)
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, line in zip(files, (start, end), strict=True):
        path.write_bytes(b"no line\n" + line)
    first, second = InMemorySpanExporter(), InMemorySpanExporter()
    for exporter in (first, second):
        send(ended_requests(files, {"req_1"}), exporter, Metrics())
    (span,), (again,) = first.get_finished_spans(), second.get_finished_spans()
    assert span.context == again.context and span.parent is not None
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" == PARENT[3:-3]
    assert span.context.trace_id == span.parent.trace_id
    assert (span.start_time, span.end_time) == (10 * 10**9, 12 * 10**9)


class Refusing(InMemorySpanExporter):
    """A collector that takes nothing."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.FAILURE


def test_a_collector_that_refuses_is_told() -> None:
    """Nothing is silently left out."""
    requests = ended_requests([RECORDINGS[0]], ended(lines(RECORDINGS[0])))
    with pytest.raises(ExportError, match="does not take spans"):
        send(requests, Refusing(), Metrics())


@pytest.fixture
def collector() -> Iterator[tuple[str, dict[str, list[bytes]]]]:
    """A collector on this machine, and what was sent to it by path."""
    taken: dict[str, list[bytes]] = defaultdict(list)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken[self.path].append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(302 if "moved" in self.path else 200)
            self.send_header("location", "/v1/traces")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", taken
        server.shutdown()


def test_a_real_collector_gets_spans_and_metrics(
    collector: tuple[str, dict[str, list[bytes]]], capsys: pytest.CaptureFixture[str]
) -> None:
    """By OTLP over HTTP, with the server as their resource."""
    url, taken = collector
    assert main(["export", str(RECORDINGS[2]), "--otlp", f"{url}/"]) == 0
    n_requests = len(ended(lines(RECORDINGS[2])))
    traces = [ExportTraceServiceRequest.FromString(raw) for raw in taken["/v1/traces"]]
    spans = [
        span
        for each in traces
        for of in each.resource_spans
        for scope in of.scope_spans
        for span in scope.spans
    ]
    assert sum(span.name.startswith("chat") for span in spans) == n_requests
    assert f"sent {n_requests:,} requests as {len(spans):,} spans" in capsys.readouterr().out
    resource = {each.key for each in traces[0].resource_spans[0].resource.attributes}
    assert {"service.name", "service.version"} <= resource
    (raw,) = taken["/v1/metrics"]
    found = ExportMetricsServiceRequest.FromString(raw).resource_metrics[0].scope_metrics[0]
    assert "gen_ai.server.request.duration" in [metric.name for metric in found.metrics]


def test_a_redirect_is_not_followed_and_not_taken_for_success(
    collector: tuple[str, dict[str, list[bytes]]], capsys: pytest.CaptureFixture[str]
) -> None:
    """What was sent nowhere is told."""
    url, taken = collector
    assert main(["export", str(RECORDINGS[2]), "--otlp", f"{url}/moved"]) == 2
    assert "does not take spans" in capsys.readouterr().err
    assert list(taken) == ["/moved/v1/traces"]


@pytest.mark.parametrize(
    ("url", "is_fine"),
    [
        ("http://127.0.0.1:4318", True),
        ("http://[::1]:4318/", True),
        ("http://localhost", True),
        ("https://collector.example/otlp", True),
        ("http://collector.example", False),
        ("http://127.0.0.1.example", False),
        ("ftp://127.0.0.1", False),
        ("http://[::1", False),
        ("https://", False),
        ("", False),
        ("https://a b", False),
    ],
)
def test_telemetry_leaves_the_machine_over_tls_alone(url: str, is_fine: bool) -> None:
    """Loopback needs none."""
    if is_fine:
        assert remote_url(url) == url.rstrip("/")
        return
    with pytest.raises(ValueError, match="http"):
        remote_url(url)
