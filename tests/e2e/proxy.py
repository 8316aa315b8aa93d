"""A proxy that changes what a client asks for on its way to the server."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Change = Callable[[dict[str, Any]], None]
"""Changes the body of a request to the Messages API in place."""


@contextmanager
def proxy(target: str, change: Change) -> Iterator[str]:
    """Pass everything on until the block ends; yields the proxy's URL."""

    class Handler(BaseHTTPRequestHandler):
        """One request to the other side."""

        def log_message(self, format: str, *args: Any) -> None:
            """Quietly."""

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))) or None
            if body and self.path.startswith("/v1/messages?"):
                fields = json.loads(body)
                change(fields)
                body = json.dumps(fields).encode()
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("host", "content-length", "accept-encoding", "connection")
            }
            request = urllib.request.Request(target + self.path, body, headers, method=self.command)
            try:
                answer = urllib.request.urlopen(request, timeout=600)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                self.send_response(answer.status or 500)
                for name, value in answer.headers.items():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                # HTTP/1.0: the end of the body is the end of the connection.
                self.end_headers()
                while piece := answer.read1(65536):
                    self.wfile.write(piece)
                    self.wfile.flush()

        do_GET = do_HEAD = do_POST = _pass_on

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
