"""A small server with OpenAI's API alone, as `mlxdeck bench` meets them; it can't hold answers."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Peer(http.server.BaseHTTPRequestHandler):
    """Answers with as many pieces as are allowed, and tells nothing of a cache."""

    def do_GET(self) -> None:
        """The list of models."""
        self._send(200, json.dumps({"data": [{"id": "tiny"}]}).encode())

    def do_POST(self) -> None:
        """A streamed answer, or a refusal."""
        raw = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(raw)
        if self.path != "/v1/chat/completions":
            self._send(404, b"{}")
        elif not body:
            self._send(400, b'{"error": "messages: missing"}')
        elif "tool_choice" in body:
            self._send(400, b'{"error": {"message": "tool_choice is not supported"}}')
        else:
            pieces = [{"content": "word "}] * min(8, body["max_tokens"])
            events: list[dict[str, Any]] = [{"choices": [{"delta": each}]} for each in pieces]
            n_words = sum(len(each["content"].split()) for each in body["messages"])
            usage = {"prompt_tokens": n_words, "completion_tokens": len(pieces)}
            events.append({"choices": [], "usage": usage})
            lines = [f"data: {json.dumps(each)}\n\n" for each in events]
            self._send(200, "".join([*lines, "data: [DONE]\n\n"]).encode())

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def version_string(self) -> str:
        """As a server that isn't mlx_lm.server."""
        return "peer/1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def peer() -> Iterator[str]:
    """Its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
