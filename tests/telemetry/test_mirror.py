"""Streams of a server elsewhere, copied here: equal to what is there, whatever happens."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.telemetry.mirror import mirror as mirroring
from mlxdeck.telemetry.mirror.mirror import Mirror
from mlxdeck.telemetry.mirror.server_files import (
    NotOurs,
    RemoteFile,
    ServerFiles,
    ServerFilesError,
    server_address,
)

NAMES = [f"mlxdeck-20261126-09000{n}-1.jsonl" for n in range(3)]


class Elsewhere:
    """Files of a server as its routes give them: parts of three bytes at most."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.url, self.place, self.is_recording = "http://x:1", "x:1", True

    def files(self) -> list[RemoteFile]:
        """Their list."""
        return [RemoteFile(name, len(raw), 1.0) for name, raw in self.held.items()]

    def part(self, name: str, start: int) -> bytes:
        """A few bytes."""
        return self.held[name][start : start + 3]

    def close(self) -> None:
        """Nothing is open."""


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["append", "append", "cut", "remove", "step"]),
            st.sampled_from(NAMES),
            st.binary(max_size=20),
        ),
        max_size=30,
    )
)
def test_copies_become_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, str, bytes]]
) -> None:
    """Files that grow, that begin anew, that go and come, with looks in between."""
    elsewhere, folder = Elsewhere(), tmp_path_factory.mktemp("copies")
    made = Mirror(elsewhere, folder)  # type: ignore[arg-type]
    for act, name, raw in acts:
        if act == "append":
            elsewhere.held[name] = elsewhere.held.get(name, b"") + raw
        elif act == "cut" and name in elsewhere.held:
            # What is shorter is seen to be another one.
            made.copy()
            elsewhere.held[name] = b""
            made.copy()
        elif act == "remove":
            elsewhere.held.pop(name, None)
            # A name tells when its file was begun, and by whom: it doesn't come again unseen.
            made.copy()
        else:
            made.step()
    made.copy()
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert there == elsewhere.held
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())


def test_the_newest_stream_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old one of many bytes doesn't hold up what happens now."""
    monkeypatch.setattr(mirroring, "STEP_BYTES", 6)
    elsewhere = Elsewhere()
    elsewhere.held = {NAMES[0]: b"o" * 30, NAMES[1]: b"n" * 3}
    made = Mirror(elsewhere, tmp_path)  # type: ignore[arg-type]
    made.step()
    assert (tmp_path / NAMES[1]).read_bytes() == b"nnn"
    elsewhere.held[NAMES[1]] += b"n" * 6
    made.step()
    assert (tmp_path / NAMES[1]).read_bytes() == b"n" * 9
    assert len((tmp_path / NAMES[0]).read_bytes()) == 3


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers as the test has set them."""

    status, body, location = 200, b"", ""

    def do_GET(self) -> None:
        """One answer for every path."""
        self.send_response(type(self).status)
        if self.location:
            self.send_header("location", self.location)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def url() -> Iterator[str]:
    """Of a server that gives such answers."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


LISTED = json.dumps({"recording": True, "files": []}).encode()


@pytest.mark.parametrize(
    ("status", "body", "key", "said"),
    [
        (401, b"", "", "set MLXDECK_API_KEY"),
        (401, b"", "k", "does not take this API key"),
        (403, b"", "k", "only the first one"),
        (404, b"", "", "is no mlxdeck"),
        (302, b"", "", "is no mlxdeck"),
        (200, b"<html>", "", "is no mlxdeck"),
        (200, b'{"object":"list"}', "", "is no mlxdeck"),
        (200, b"x" * (2 << 20), "", "more than it was asked for"),
        (503, b"", "", "status 503"),
    ],
)
def test_it_is_said_why_there_is_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, key: str, said: str
) -> None:
    """A wrong key, another program, another version; only what may pass is worth another try."""
    monkeypatch.setattr(Answers, "status", status)
    monkeypatch.setattr(Answers, "body", body)
    monkeypatch.setattr(Answers, "location", f"{url}/elsewhere" if status == 302 else "")
    with closing(ServerFiles(url, key)) as server, pytest.raises(ServerFilesError) as raised:
        server.files()
    assert said in str(raised.value)
    assert isinstance(raised.value, NotOurs) == (status != 503)


def test_names_of_other_files_are_never_written(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may say what it likes."""
    names = ["../x.jsonl", "/etc/x", f"../{NAMES[0]}", ".bashrc", NAMES[0]]
    files = [{"name": name, "bytes": 3} for name in names]
    monkeypatch.setattr(Answers, "body", json.dumps({"recording": True, "files": files}).encode())
    with closing(ServerFiles(url)) as server:
        assert [each.name for each in server.files()] == [NAMES[0]]


def test_a_server_that_goes_and_comes_is_followed_on(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trouble is told while it lasts, and what was copied stays."""
    monkeypatch.setattr(mirroring, "POLL_S", 0.01)
    monkeypatch.setattr(mirroring, "MAX_REST_S", 0.01)
    monkeypatch.setattr(Answers, "body", LISTED)
    made = Mirror(ServerFiles(url), tmp_path)
    made.start()
    until(lambda: made.answered_ts > 0 and not made.trouble)
    monkeypatch.setattr(Answers, "status", 529)
    until(lambda: "status 529" in made.trouble)
    monkeypatch.setattr(Answers, "status", 200)
    until(lambda: not made.trouble)
    made.close()
    assert made.is_recording


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it never came about")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("http://mac:8081", "http://mac:8081"),
        ("http://mac:8081/v1/", "http://mac:8081"),
        ("https://here.example/deck", "https://here.example/deck"),
        ("http://[::1]:8081", "http://[::1]:8081"),
        ("ftp://mac", None),
        ("http://", None),
        ("http://mac:99999", None),
        ("http://me:secret@mac", None),
        ("http://mac/?q=1", None),
        ("http://m\x1bac", None),
        ("http://[::1", None),
    ],
)
def test_what_is_the_url_of_a_server(text: str, wanted: str | None) -> None:
    """A path may stand in front of the routes; names, queries and control characters may not."""
    if wanted is None:
        with pytest.raises(ValueError, match="expected a"):
            server_address(text)
    else:
        assert server_address(text).geturl() == wanted
