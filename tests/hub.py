"""A Hugging Face Hub on this machine with one model, as far as downloads need it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


class Hub:
    """What the server holds, and what it was asked for."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.url = ""
        self.sent_bytes: dict[str, int] = {}
        """How much of each file went out."""
        self.cut_after_bytes = 0
        """A file that is longer is cut there, once."""

    def files(self) -> list[Path]:
        """All of the model's files."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith(f"/api/models/{self.hub.name}"):
            self._api(path)
        elif path.startswith(f"/{self.hub.name}/resolve/"):
            self._file(self.hub.folder / path.rpartition("/")[2], body=body)
        else:
            self._json(404, {"error": "Repository not found"}, "RepoNotFound")

    def _api(self, path: str) -> None:
        if "/tree/" in path:
            files = [
                {
                    "type": "file",
                    "path": each.name,
                    "size": each.stat().st_size,
                    "oid": "b" * 40,
                }
                for each in self.hub.files()
            ]
            self._json(200, files)
            return
        siblings = [{"rfilename": each.name} for each in self.hub.files()]
        self._json(200, {"id": self.hub.name, "sha": COMMIT, "siblings": siblings})

    def _json(self, status: int, content: object, code: str = "") -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _file(self, path: Path, *, body: bool) -> None:
        if not path.is_file():
            self._json(404, {"error": "Entry not found"}, "EntryNotFound")
            return
        content = path.read_bytes()
        first, last = 0, len(content) - 1
        if wanted := self.headers.get("Range"):
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if not body:
            return
        part = content[first : last + 1]
        if self.hub.cut_after_bytes and len(part) > self.hub.cut_after_bytes:
            part, self.hub.cut_after_bytes = part[: self.hub.cut_after_bytes], 0
            self.close_connection = True
        self.hub.sent_bytes[path.name] = self.hub.sent_bytes.get(path.name, 0) + len(part)
        self.wfile.write(part)


@contextmanager
def serving_hub(name: str, folder: Path) -> Iterator[Hub]:
    """A Hub with the model `name` out of a folder."""
    hub = Hub(name, folder)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
