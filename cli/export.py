"""Write requests to a table, or to a collector."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxdeck.cli.recordings import add_filter, add_places, add_since, filter_of, period_of, streams
from mlxdeck.cli.settings import refuse_idle
from mlxdeck.settings.errors import UserError

if TYPE_CHECKING:
    from mlxdeck.telemetry.export.request_lines import RequestLines
    from mlxdeck.telemetry.store.store import Store

EXAMPLE = "mlxdeck export --since 7d --to requests.csv"


def add(parser: ArgumentParser) -> None:
    add_places(parser)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--to", type=Path, metavar="FILE", help="a file that ends in .csv, .jsonl or .parquet"
    )
    where.add_argument(
        "--otlp",
        metavar="URL",
        help="a collector, such as http://127.0.0.1:4318; needs mlxdeck[otlp]",
    )
    parser.add_argument("--calls", action="store_true", help="tool calls instead of requests")
    parser.add_argument(
        "--request", default="", metavar="ID", help="only this request; the start of its id"
    )
    add_filter(parser)
    add_since(parser)


def run(args: Namespace) -> int:
    from mlxdeck.telemetry.analyze.report import lost_rows, open_rows, rows_of
    from mlxdeck.telemetry.analyze.report_text import nothing
    from mlxdeck.telemetry.analyze.selection import one_request
    from mlxdeck.telemetry.export.tables import ExportError

    if args.calls and args.otlp:
        raise UserError("--calls is for a table; a span holds its request's calls anyway")
    if args.request:
        refuse_idle(args, "with --request", "since", "where")
    recorded = streams(args)
    store, files, why = recorded.store, recorded.files, "no request is like that"
    try:
        if args.request:
            rows = one_request(store, args.request)
        else:
            period = period_of(args, store)
            where = filter_of(args, recorded, period.until_ts)
            rows = rows_of(store, period, where=where)
            n_lost, n_open = (len(of(store, period, where=where)) for of in (lost_rows, open_rows))
            if n_lost or n_open:
                why = nothing(n_lost, n_open)
        if not len(rows):
            raise UserError(why)
        print(_sent(args, store, files, rows) if args.otlp else _written(args, store, files, rows))
    except OSError as error:
        raise UserError(f"{error.filename or args.to}: {error.strerror or error}") from error
    except (ExportError, ValueError) as error:
        raise UserError(str(error)) from error
    return 0


def _written(args: Namespace, store: Store, files: Sequence[Path], rows: Any) -> str:
    from mlxdeck.telemetry.analyze.sentences import counted
    from mlxdeck.telemetry.export.tables import CALL_KINDS, calls, take, write, write_records

    requests = counted(len(rows), "request")
    if not args.calls:
        write(take(store, rows), args.to)
        return f"wrote {args.to}: {requests}"
    told = list(calls(_lines(store, files, rows)))
    write_records(told, CALL_KINDS, args.to)
    return f"wrote {args.to}: {counted(len(told), 'tool call')} of {requests}"


def _sent(args: Namespace, store: Store, files: Sequence[Path], rows: Any) -> str:
    try:
        from mlxdeck.telemetry.export.otlp.sending import exporters, send
    except ImportError as error:
        raise UserError("--otlp needs more packages: pip install mlxdeck[otlp]") from error
    from mlxdeck.telemetry.analyze.sentences import counted
    from mlxdeck.telemetry.remote_url import remote_url

    made = exporters(remote_url(args.otlp))
    try:
        sent = send(_lines(store, files, rows), *made)
    finally:
        for each in made:
            each.shutdown()
    requests, spans = counted(sent.n_requests, "request"), counted(sent.n_spans, "span")
    return f"sent {requests} as {spans}, and their metrics"


def _lines(store: Store, files: Sequence[Path], rows: Any) -> Iterator[RequestLines]:
    from mlxdeck.telemetry.export.request_lines import ended_requests

    ids = {raw.decode("utf-8", "replace") for raw in store.names()[rows].tolist()}
    return ended_requests(files, ids)
