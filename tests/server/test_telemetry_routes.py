"""Telemetry over HTTP: the list of files, and their bytes, for those who may read it all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.server.http import Running, running

NAME, OTHER = "mlxdeck-20261126-090000-1.jsonl", "mlxdeck-20261126-100000-2.jsonl"
RAW = b"".join(b"%05d" % n for n in range(2048))
ROUTE = "/v1/telemetry"


async def status_of(server: Running, path: str, **headers: str) -> int:
    """What a GET is answered with."""
    return (await server.http.get(path, headers=headers)).status_code


async def test_the_bytes_of_each_file_are_served_by_range(tmp_path: Path) -> None:
    """All, a part, the end; HEAD; a range that is none or lies behind the end is a 416."""
    (tmp_path / NAME).write_bytes(RAW)
    (tmp_path / OTHER).write_bytes(b"")
    async with running(telemetry_dir=str(tmp_path)) as server:
        body = (await server.http.get(ROUTE)).json()
        assert body["recording"] is True
        assert {each["name"]: each["bytes"] for each in body["files"]} == {NAME: 10240, OTHER: 0}
        for asked, wanted in (
            ("bytes=0-99", RAW[:100]),
            ("bytes=100-", RAW[100:]),
            ("bytes=-5", RAW[-5:]),
            ("bytes=10000-99999999999", RAW[10000:]),
            ("bytes=-99999", RAW),
        ):
            got = await server.http.get(f"{ROUTE}/{NAME}", headers={"range": asked})
            assert (got.status_code, got.content) == (206, wanted)
            end = got.headers["content-range"].removeprefix("bytes ").split("/")
            assert end[1] == "10240" and int(end[0].split("-")[0]) == RAW.index(wanted[:256])
        whole = await server.http.get(f"{ROUTE}/{NAME}")
        assert (whole.status_code, whole.content) == (200, RAW)
        empty = await server.http.get(f"{ROUTE}/{OTHER}")
        assert (empty.status_code, empty.content) == (200, b"")
        head = await server.http.head(f"{ROUTE}/{NAME}")
        assert (head.status_code, head.content) == (200, b"")
        for bad in ("bytes=10240-", "bytes=5-4", "bytes=-", "bytes=0-1,3-4", "lines=0-1", "x"):
            assert await status_of(server, f"{ROUTE}/{NAME}", range=bad) == 416
        assert await status_of(server, f"{ROUTE}/{OTHER}", range="bytes=0-9") == 416


async def test_nothing_else_is_served(tmp_path: Path) -> None:
    """No path, no link, no pipe, no file of another name; nothing where nothing is recorded."""
    folder = tmp_path / "telemetry"
    folder.mkdir()
    (folder / "secret.jsonl").write_bytes(b"s")
    (tmp_path / NAME).write_bytes(b"s")
    (folder / NAME).symlink_to(tmp_path / NAME)
    os.mkfifo(folder / OTHER)
    paths = ("secret.jsonl", NAME, OTHER, f"..%2f{NAME}", f"%2e%2e/{NAME}", f"{NAME}%00", "%ff")
    async with running(telemetry_dir=str(folder)) as server:
        assert (await server.http.get(ROUTE)).json()["files"] == []
        for path in paths:
            assert await status_of(server, f"{ROUTE}/{path}") == 404, path
    (folder / NAME).unlink()
    (folder / NAME).write_bytes(b"s")
    async with running(telemetry_dir=str(folder), telemetry=False) as server:
        assert (await server.http.get(ROUTE)).json() == {"recording": False, "files": []}
        assert await status_of(server, f"{ROUTE}/{NAME}") == 404
    async with running(telemetry_dir=str(tmp_path / "none")) as server:
        assert (await server.http.get(ROUTE)).json() == {"recording": True, "files": []}


@pytest.mark.parametrize("path", [ROUTE, f"{ROUTE}/{NAME}"])
async def test_only_the_first_key_reads_what_all_clients_did(tmp_path: Path, path: str) -> None:
    """No key is a 401, another one a 403; a web page is kept out as everywhere."""
    (tmp_path / NAME).write_bytes(b"x")
    async with running(telemetry_dir=str(tmp_path), api_key="first,second") as server:
        assert await status_of(server, path) == 401
        assert await status_of(server, path, **{"x-api-key": "second"}) == 403
        assert await status_of(server, path, authorization="Bearer first") == 200
    async with running(telemetry_dir=str(tmp_path)) as server:
        assert await status_of(server, path) == 200
        assert await status_of(server, path, origin="https://evil.example") == 403
