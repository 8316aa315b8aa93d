"""Two routes for dashboards on other machines: the list of telemetry files, and bytes of one."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec
from sanic import HTTPResponse, Request, Sanic
from sanic.response import raw

from mlxdeck.server.auth import Gate
from mlxdeck.server.errors import BadHttp, NotFound
from mlxdeck.server.observe.stream_files import MAX_READ_BYTES, ByteRange, file_part, listed
from mlxdeck.server.web.error_responses import JSON

PATH = "/v1/telemetry"
LINES = "application/x-ndjson"
_IN_RANGES = {"accept-ranges": "bytes"}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def add_telemetry_routes(app: Sanic[Any, Any], folder: Path | None, gate: Gate) -> None:
    """Serve the files of a folder; None if nothing is recorded. Only the first key may read."""

    async def files(request: Request) -> HTTPResponse:
        gate.check_first(request.headers)
        found = await asyncio.to_thread(listed, folder) if folder else []
        body = {"recording": folder is not None, "files": found}
        return raw(msgspec.json.encode(body), content_type=JSON)

    async def part(name: str, start: int, n_bytes: int) -> ByteRange:
        found = await asyncio.to_thread(file_part, folder, name, start, n_bytes) if folder else None
        if found is None:
            raise NotFound("there is no telemetry file of this name")
        return found

    async def one(request: Request, name: str) -> HTTPResponse | None:
        gate.check_first(request.headers)
        asked = byte_range(request.headers.get("range", ""))
        if asked is not None:
            return _ranged(await part(name, *asked))
        found = await part(name, 0, MAX_READ_BYTES)
        if request.method == "HEAD":
            return raw(b"", headers=_IN_RANGES, content_type=LINES)
        response = await request.respond(content_type=LINES, headers=_IN_RANGES)
        # In pieces, to the end that it has now: all of it may be more than fits in memory.
        while response is not None and found.raw:
            await response.send(found.raw)
            found = await part(name, found.start + len(found.raw), MAX_READ_BYTES)
        return None

    app.add_route(files, PATH, methods=["GET", "HEAD"], name="telemetry_files")
    app.add_route(one, f"{PATH}/<name:str>", methods=["GET", "HEAD"], name="telemetry_file")


def byte_range(text: str) -> tuple[int, int] | None:
    """Start and length of a `Range` header; a negative start counts from the end. None without one.

    Raises:
        BadHttp: It is none of bytes, or several.
    """
    if not text:
        return None
    found = _RANGE.fullmatch(text.replace(" ", ""))
    first, last = found.groups() if found else ("", "")
    if first and (not last or int(first) <= int(last)):
        return int(first), int(last) - int(first) + 1 if last else MAX_READ_BYTES
    if last and not first:
        return -int(last), int(last)
    raise BadHttp("range: expected one range of bytes, as in bytes=0-1023", 416)


def _ranged(part: ByteRange) -> HTTPResponse:
    if not part.raw:
        raise BadHttp(f"range: the file has {part.file_bytes} bytes", 416)
    place = f"bytes {part.start}-{part.start + len(part.raw) - 1}/{part.file_bytes}"
    headers = {**_IN_RANGES, "content-range": place}
    return raw(part.raw, 206, headers=headers, content_type=LINES)
