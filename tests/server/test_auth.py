"""Who may ask, from the head of a request."""

from __future__ import annotations

import pytest

from mlxdeck.server.auth import Gate
from mlxdeck.server.errors import BadHttp, Forbidden, ServerError, Unauthorized

HOST = {"host": "localhost:8081"}


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"host": "127.0.0.1:8081"}, None),
        ({"host": "[::1]:8081"}, None),
        ({"host": "LOCALHOST"}, None),
        ({"host": "host.docker.internal:8081"}, None),
        ({"host": "app.localhost"}, None),
        ({"host": "rebound.example"}, Forbidden),
        ({"host": "localhost.evil.example"}, Forbidden),
        ({"host": "listed.example"}, None),
        ({}, None),
        ({"host": ""}, BadHttp),
        ({"host": "[::1"}, BadHttp),
        ({"host": "localhost:port"}, BadHttp),
        ({"host": "localhost:99999"}, BadHttp),
        ({"host": "\udcff"}, BadHttp),
        ({**HOST, "origin": "http://localhost:3000"}, None),
        ({**HOST, "origin": "http://127.0.0.1"}, None),
        ({**HOST, "origin": "https://evil.example"}, Forbidden),
        ({**HOST, "origin": "null"}, Forbidden),
        ({**HOST, "origin": "http://listed.example:3000"}, None),
        ({**HOST, "origin": "http://host.docker.internal"}, Forbidden),
        ({**HOST, "origin": "http://["}, BadHttp),
        ({**HOST, "origin": ""}, BadHttp),
        ({**HOST, "origin": "http://localhost\nx: y"}, BadHttp),
        ({**HOST, "origin": "\udcff"}, BadHttp),
        ({**HOST, "origin": "http://localhost@evil.example"}, BadHttp),
    ],
)
def test_web_pages_are_kept_out(headers: dict[str, str], error: type[ServerError] | None) -> None:
    """By their origin, or by a name made to lead here; what is malformed is refused too."""
    gate = Gate((), local=True, allowed={"listed.example"})
    if error is None:
        gate.admit(headers, "/health")
    else:
        with pytest.raises(error):
            gate.admit(headers, "/health")


def test_any_host_is_meant_where_the_server_listens_for_others() -> None:
    """Its name is then whatever the network calls it; pages are still kept out."""
    gate = Gate(("k",), local=False)
    gate.admit({"host": "mac.lan", "x-api-key": "k"}, "/v1/messages")
    with pytest.raises(Forbidden):
        gate.admit({"origin": "https://evil.example", "x-api-key": "k"}, "/v1/messages")


@pytest.mark.parametrize(
    ("headers", "fits"),
    [
        ({"x-api-key": "clé"}, True),
        ({"authorization": "Bearer clé"}, True),
        ({"authorization": "bearer  clé"}, True),
        ({"authorization": "clé"}, True),
        ({"authorization": "Basic clé"}, False),
        ({"x-api-key": "cl\udce9"}, False),
        ({"x-api-key": "cl"}, False),
        ({"authorization": ""}, False),
        ({}, False),
    ],
)
def test_a_key_is_asked_for(headers: dict[str, str], fits: bool) -> None:
    """In either header; bytes that are no text are a wrong key."""
    gate = Gate(("other", "clé"), local=True)
    gate.admit(HOST, "/health")
    if fits:
        gate.admit({**HOST, **headers}, "/v1/messages")
    else:
        with pytest.raises(Unauthorized):
            gate.admit({**HOST, **headers}, "/v1/messages")
