"""The dashboard in a browser, by textual-serve: each visitor gets a separate dashboard.

Foreign pages in the same browser could also connect, read the streams and press keys. The server
therefore refuses every request that doesn't come from its own page.
"""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler
from textual_serve.server import Server

from mlxdeck.settings.errors import UserError

HOST, PORT = "127.0.0.1", 8090
"""This machine only: anyone who can connect can read the streams."""
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws://{0}; "
    "frame-ancestors 'none'"
)
"""Nothing is fetched from elsewhere, as the page's font would be."""


class OwnServer(Server):
    """A server that refuses requests of foreign pages."""

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        hosts = {f"{name}:{self.port}" for name in (HOST, "localhost")}

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            origin = request.headers.get("Origin")
            # Another name may have been made to point here.
            own = request.host in hosts
            if not own or (origin and origin not in {f"http://{host}" for host in hosts}):
                raise web.HTTPForbidden(text="only for pages of this dashboard")
            return await handler(request)

        async def restrict(request: web.Request, response: web.StreamResponse) -> None:
            del request
            response.headers["Content-Security-Policy"] = _POLICY.format(f"{HOST}:{self.port}")

        app.middlewares.append(guard)
        app.on_response_prepare.append(restrict)
        return app


def serve(command: Sequence[str], port: int = PORT) -> int:
    """Run `command` for everyone who comes, until it is interrupted.

    Raises:
        UserError: The port can't be had.
    """
    _try(port)
    OwnServer(shlex.join(command), host=HOST, port=port, title="mlxdeck").serve()
    return 0


def _try(port: int) -> None:
    """Ask for a port as the server will; it tells of nothing but a traceback."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise UserError(
                f"port {port} can't be had ({why}): --serve PORT takes another"
            ) from error
