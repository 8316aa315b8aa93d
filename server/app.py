"""HTTP, by Sanic: routes from `DIALECTS` and one handler for all of them. No other logic.

Before the first byte of an answer an error is a status; after it, an event in the stream.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import unquote

import msgspec
from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import SanicException
from sanic.response import raw

from mlxdeck.server.admin.cache_report import cache_report, clear_caches
from mlxdeck.server.admin.metrics import metrics
from mlxdeck.server.admin.models import model, models
from mlxdeck.server.admin.status import health, status
from mlxdeck.server.auth import Gate
from mlxdeck.server.backends.base import Announce, Backend
from mlxdeck.server.chat import ChatRequest, Event, Started
from mlxdeck.server.config.api_keys import api_keys
from mlxdeck.server.config.settings import Settings, is_loopback
from mlxdeck.server.dialects.base import Dialect, RecallingDialect, StoredAnswer
from mlxdeck.server.dialects.plug_ins import plugged_dialects
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.errors import BadHttp, ServerError, let_go
from mlxdeck.server.lifecycle.draining import Drain
from mlxdeck.server.lifecycle.running_request import RunningRequest
from mlxdeck.server.observe.agents import AgentNames
from mlxdeck.server.observe.request_start import Arrival
from mlxdeck.server.observe.trace import Trace
from mlxdeck.server.plug_ins import PlugInFault
from mlxdeck.server.service import OpenEmitter, Service
from mlxdeck.server.web.answer_writer import AnswerWriter
from mlxdeck.server.web.cors import add_cors
from mlxdeck.server.web.error_responses import JSON, error_response, on_error, path_of
from mlxdeck.server.web.incoming_bodies import BoundedRequest
from mlxdeck.server.web.known_bodies import Decode
from mlxdeck.server.web.marks import UNRECORDED, limit_s
from mlxdeck.server.web.request_ids import add_request_ids, client_id, request_id, trace_parent
from mlxdeck.server.web.telemetry_routes import add_telemetry_routes

log = logging.getLogger(__name__)

HEALTH = "/health"
STREAM = "text/event-stream"
BACKEND = "x-mlxdeck-backend"
"""The header that names the backend that answered, or that the error is of."""
MAX_HEAD_BYTES = 16 * 1024
"""As much as Sanic takes; browsers send the cookies of everything that runs on localhost."""


def create_app(
    settings: Settings, backend: Backend, open_emitter: OpenEmitter, announce: Announce
) -> Sanic[Any, Any]:
    """Put a server together. The model is loaded once the server has started."""
    app = Sanic("mlxdeck", configure_logging=False, request_class=BoundedRequest)
    app.config.update(
        # Also the limit of heads; bodies have one of their own.
        REQUEST_MAX_SIZE=max(settings.max_body_bytes, MAX_HEAD_BYTES),
        REQUEST_MAX_HEADER_SIZE=MAX_HEAD_BYTES,
        # Answers may take as long as they take: stalls are the scheduler's to notice.
        RESPONSE_TIMEOUT=86_400,
        KEEP_ALIVE_TIMEOUT=600,
        GRACEFUL_SHUTDOWN_TIMEOUT=2.0,
        ACCESS_LOG=False,
        MOTD=False,
    )
    service = app.ctx.service = Service(settings, backend, open_emitter)
    app.ctx.bodies = service.bodies
    drain = app.ctx.drain = Drain()
    gate = app.ctx.gate = Gate(
        api_keys(settings), local=is_loopback(settings.host), allowed=settings.hosts_allowed
    )

    # Before: the first request may come with the first breath.
    @app.before_server_start
    async def start(_: Sanic[Any, Any]) -> None:
        await service.start(announce)

    @app.before_server_stop
    async def stop(_: Sanic[Any, Any]) -> None:
        await service.stop()

    # Before the route is looked up, so before a body is read.
    @app.signal("http.routing.before")
    async def judge(request: Request) -> None:
        _check_single(request)
        # Browsers ask whether they may before they send a key.
        gate.admit(request.headers, path_of(request), keyless=request.method == "OPTIONS")
        if path_of(request) != HEALTH:
            drain.check()

    names = [name.strip() for name in settings.dialects.split(",") if name.strip()]
    app.ctx.dialects = {**DIALECTS, **plugged_dialects(names, DIALECTS)}
    app.on_response(_release)
    app.on_response(add_request_ids)
    app.on_response(partial(add_cors, allowed=settings.hosts_allowed))
    app.exception(ServerError, SanicException, Exception)(on_error)
    add_telemetry_routes(app, settings.telemetry_folder if settings.telemetry else None, gate)
    _add_routes(app, service)
    return app


def _add_routes(app: Sanic[Any, Any], service: Service) -> None:
    _add_caches(app, service)
    _add_cancel(app)

    async def alive(_: Request) -> HTTPResponse:
        return _json({"name": "mlxdeck"})

    async def get_health(_: Request) -> HTTPResponse:
        body = health(service)
        if app.ctx.drain.stopping:
            body |= {"status": "stopping", "reason": "the server is stopping"}
        return _json(body, 503 if body["status"] in ("unhealthy", "stopping") else 200)

    async def get_status(request: Request) -> HTTPResponse:
        own = app.ctx.drain.owned(app.ctx.gate.owner(request.headers))
        return _json(status(service, own))

    async def prometheus(_: Request) -> HTTPResponse:
        text = "text/plain; version=0.0.4; charset=utf-8"
        return raw(await metrics(service), content_type=text)

    async def get_models(request: Request) -> HTTPResponse:
        return _json(models(service, dict(request.query_args)))

    async def get_model(_: Request, model_id: str) -> HTTPResponse:
        # Ids hold slashes, which some clients encode; Sanic decodes no paths of several parts.
        return _json(model(service, unquote(model_id).rstrip("/")))

    paths = ("/", HEALTH, "/v1/status", "/metrics", "/v1/models")
    handlers = (alive, get_health, get_status, prometheus, get_models)
    for path, handler in zip(paths, handlers, strict=True):
        app.add_route(handler, path, methods=["GET", "HEAD"])
    app.add_route(get_model, "/v1/models/<model_id:path>", methods=["GET", "HEAD"])
    _add_dialects(app, service)


def _add_dialects(app: Sanic[Any, Any], service: Service) -> None:
    """Those of mlxdeck, and those of plug-ins, which may take no path of the server itself."""
    own = {f"/{route.path}" for route in app.router.routes}
    for dialect in app.ctx.dialects.values():
        if taken := own & {dialect.path, dialect.count_path}:
            raise PlugInFault(f"dialect {dialect.name}: {min(taken)} belongs to the server")
        _add_dialect(app, service, dialect)


def _add_caches(app: Sanic[Any, Any], service: Service) -> None:
    async def cache(request: Request) -> HTTPResponse:
        with _run(app, request) as running:
            await _ready(running, service)
            return _json(await cache_report(service))

    async def clear_cache(request: Request) -> HTTPResponse:
        with _run(app, request) as running:
            await _ready(running, service)
            return _json({"cleared": await clear_caches(service, request.args.get("tier", ""))})

    app.add_route(cache, "/v1/cache", methods=["GET", "HEAD"])
    app.add_route(clear_cache, "/v1/cache", methods=["DELETE"])


def _add_dialect(app: Sanic[Any, Any], service: Service, dialect: Dialect) -> None:
    async def messages(request: BoundedRequest) -> HTTPResponse | None:
        try:
            most_s = limit_s(request.headers, service.settings.request_timeout_s)
            with _run(app, request) as running, running.limited(most_s):
                return await answer(request, dialect, service, running)
        finally:
            request.drop()

    async def count(request: BoundedRequest) -> HTTPResponse:
        most_s = limit_s(request.headers, service.settings.request_timeout_s)
        with _run(app, request) as running, running.limited(most_s):
            await _ready(running, service)
            try:
                async with running.cut_short():
                    await request.unpack()
                    chat = await _read(request, dialect, dialect.decode_count, service, running)
            finally:
                request.drop()
            async with running.cut_short():
                n_tokens = await service.pipeline.count(chat)
        return raw(dialect.count(n_tokens), content_type=JSON)

    app.add_route(messages, dialect.path, methods=["POST"], name=dialect.name)
    if dialect.count_path:
        app.add_route(count, dialect.count_path, methods=["POST"], name=f"{dialect.name}_count")
    if isinstance(dialect, RecallingDialect):
        _add_stored(app, service, dialect)


def _add_stored(app: Sanic[Any, Any], service: Service, dialect: RecallingDialect) -> None:
    def stored(request: Request, answer_id: str) -> StoredAnswer:
        return service.stored.get(answer_id, app.ctx.gate.owner(request.headers))

    # One handler: two routes of one path tell no methods of theirs.
    async def one(request: Request, answer_id: str) -> HTTPResponse:
        answer = stored(request, answer_id)
        if request.method != "DELETE":
            write = partial(dialect.stored_body, query=dict(request.query_args))
            return raw(await service.stored.body(write, answer, service.lanes), content_type=JSON)
        service.stored.delete(answer)
        return raw(dialect.deleted_body(answer_id), content_type=JSON)

    async def get_input(request: Request, answer_id: str) -> HTTPResponse:
        answer = stored(request, answer_id)
        write = partial(dialect.input_body, query=dict(request.query_args))
        return raw(await service.stored.body(write, answer, service.lanes), content_type=JSON)

    path = f"{dialect.path}/<answer_id:str>"
    app.add_route(one, path, methods=["GET", "HEAD", "DELETE"])
    app.add_route(get_input, f"{path}/input_items", methods=["GET", "HEAD"])


def _add_cancel(app: Sanic[Any, Any]) -> None:
    async def cancel(request: Request, name: str) -> HTTPResponse:
        owner = app.ctx.gate.owner(request.headers)
        return _json({"cancelled": app.ctx.drain.cancel(unquote(name), owner)})

    app.add_route(cancel, "/v1/requests/<name>/cancel", methods=["POST"])


async def answer(
    request: BoundedRequest, dialect: Dialect, service: Service, running: RunningRequest
) -> HTTPResponse | None:
    """Serve one request for an answer, from its bytes to its last event."""
    named = running.request_id
    await _ready(running, service)
    arrival = Arrival(named, dialect.name, len(request.body), trace_parent(request))
    trace = service.observer.begin(arrival, counts=UNRECORDED not in request.headers)
    running.progress = trace.progress
    try:
        async with running.cut_short():
            chat = await _known(request, dialect, service, running, trace)
        request.drop()
        running.model, running.phase = chat.model, "prepare"
        fresh = "no-cache" in request.headers.get("cache-control", "")
        async with aclosing(service.pipeline.run(chat, trace, fresh=fresh)) as events:
            async with running.cut_short():
                first = await anext(events)
            running.phase = "generate"
            headers = _headers(first, trace.backend, fresh=fresh)
            plain = dialect.encoder(chat, f"msg_{named[4:]}")
            with service.stored.storing(plain, running.owner) as encoder:
                # Who stores an answer writes all of its request.
                echoes_long = encoder is not plain and not chat.is_short
                writer = AnswerWriter(encoder, service.lanes, echoes_long=echoes_long)
                if chat.stream and not trace.is_replay:
                    await _stream(request, writer, headers, first, events, trace, running)
                    return None
                async with running.cut_short():
                    whole = await writer.whole(first, events, is_stream=chat.stream)
                return raw(whole, content_type=STREAM if chat.stream else JSON, headers=headers)
    except ServerError as error:
        trace.failed(error, running.phase)
        let_go(error)
        response = error_response(dialect, error, named)
        if trace.backend:
            response.headers[BACKEND] = trace.backend
        return response
    except Exception:
        # A bug of ours: the log gets the traceback, telemetry its one end.
        trace.failed(ServerError("internal error"), running.phase)
        raise
    finally:
        trace.close()


def _run(app: Sanic[Any, Any], request: Request) -> AbstractContextManager[RunningRequest]:
    """A request that is waited for, and may be cancelled."""
    drain: Drain = app.ctx.drain
    return drain.run(
        RunningRequest(
            request_id(request),
            client_id=client_id(request),
            owner=app.ctx.gate.owner(request.headers),
            path=path_of(request),
        )
    )


async def _read(
    request: BoundedRequest,
    dialect: Dialect,
    how: Decode,
    service: Service,
    running: RunningRequest,
) -> ChatRequest:
    """A body as its dialect reads it, with the stored answers to which it refers."""
    chat = await service.requests.decode(how, request.body, request.headers)
    return await service.stored.recall(dialect, chat, running.owner, service.lanes)


async def _known(
    request: BoundedRequest,
    dialect: Dialect,
    service: Service,
    running: RunningRequest,
    trace: Trace,
) -> ChatRequest:
    """The request of a body; of one that is refused, the trace gets the names in it."""
    try:
        await request.unpack()
        chat = await _read(request, dialect, dialect.decode, service, running)
    except ServerError:
        found = await service.requests.refused(request.body, request.headers)
        names = found.names
        trace.unread(
            found.model,
            AgentNames(names.session_id, names.agent_id, names.parent_agent_id, names.agent_name),
        )
        raise
    chat = replace(chat, owner=running.owner, model=chat.model or service.observer.model)
    trace.read(chat)
    return chat


async def _ready(running: RunningRequest, service: Service) -> None:
    async with running.cut_short():
        await service.ready()


async def _stream(
    request: Request,
    writer: AnswerWriter,
    headers: dict[str, str],
    first: Event,
    events: AsyncGenerator[Event],
    trace: Trace,
    running: RunningRequest,
) -> None:
    response = await request.respond(content_type=STREAM, headers=headers)
    assert response is not None
    is_told = False
    try:
        # Also what waits for a slow reader is cut short.
        async with running.cut_short():
            await response.send(await writer.piece(first))
            async for event in events:
                if data := await writer.piece(event):
                    await response.send(data)
            is_told = True
            await response.eof()
    # The edge of the stream: after any exception, the client must not take a part for the whole.
    except Exception as error:
        # Before anything is sent: the client may read slowly, or not at all.
        await events.aclose()
        shown = error if isinstance(error, ServerError) else ServerError("internal error")
        if shown is not error:
            log.exception("a stream failed")
        if not is_told:
            trace.failed(shown, "generate")
            await response.send(writer.error(shown))
        await response.eof()


def _headers(first: Event, backend: str, *, fresh: bool) -> dict[str, str]:
    hit = isinstance(first, Started) and first.cache == "hit"
    return {
        "x-mlxdeck-cache": "hit" if hit else "bypass" if fresh else "miss",
        BACKEND: backend,
        "cache-control": "no-cache",
    }


def _release(request: BoundedRequest, _: HTTPResponse) -> None:
    """Let go of a body, also of one that the route has no use for."""
    request.drop()


def _check_single(request: Request) -> None:
    """Refuse a request with no place or two places.

    Raises:
        BadHttp: It has none, or two.
    """
    for name in ("host", "origin"):
        if len(request.headers.getall(name, ())) > 1:
            raise BadHttp(f"there is more than one {name} header")
    if request.version != "1.0" and "host" not in request.headers:
        raise BadHttp("the host header is missing")


def _json(body: dict[str, Any], status: int = 200) -> HTTPResponse:
    return raw(msgspec.json.encode(body), status=status, content_type=JSON)
