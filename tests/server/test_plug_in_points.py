"""Backends and APIs of other packages: used where settings name them, and one line if they fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxdeck.server import backend_names
from mlxdeck.server.backends.base import Backend
from mlxdeck.server.backends.making import make_backend
from mlxdeck.server.backends.upstream.backend import UpstreamBackend
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.dialects import plug_ins as dialects
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.plug_ins import PlugInFault
from mlxdeck.settings.errors import SettingsError
from tests.packages import install, install_example
from tests.server.backends.scripted import ScriptedBackend
from tests.server.http import running

FILE = """
[backends]
default = "bird"
[backends.bird]
kind = "{kind}"
[backends.loud]
kind = "{kind}"
options = {{ loud = true }}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def made(site: Path, kind: str) -> tuple[Settings, Backend]:
    """The backends of a settings file that names a plug-in twice."""
    (site / "mlxdeck.toml").write_text(FILE.format(kind=kind))
    settings = Settings.load({}, {}, site)
    return settings, make_backend(settings, lambda _: ScriptedBackend("local"))


async def test_the_example_of_a_backend_answers(site: Path) -> None:
    """Under each of its names with the options of that table, and from caches of its own."""
    kind = install_example(site, "backend_plug_in", backend_names.GROUP)
    _, backend = made(site, kind)
    async with running(backend=backend) as server:
        told = []
        for model in ("anything", "loud", "bird", "loud/x"):
            answer = await server.ask("hello you", model=model)
            cache = answer.headers["x-mlxdeck-cache"]
            told.append((answer.json()["content"][0]["text"].strip(), cache))
        ends = await server.ended(4)
    assert told == [
        ("hello you", "miss"), ("HELLO YOU", "miss"), ("hello you", "hit"), ("HELLO YOU", "hit"),
    ]  # fmt: skip
    assert [end.backend for end in ends] == ["bird", "loud", "bird", "loud"]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("import no_such_module", "ModuleNotFoundError"),
        ("make = 3", "has to be a function"),
        ("def make(name, options): raise KeyError('url')", "KeyError: 'url'"),
        ("def make(name, options): return 3", "lacks answer, cache_report, check"),
    ],
)
def test_a_backend_that_fails_is_one_line(site: Path, code: str, why: str) -> None:
    """With the table, the plug-in and its package."""
    entries = {"faulty": "faulty_backend:make"}
    install(site, "mlxdeck-faulty", backend_names.GROUP, entries, faulty_backend=code)
    with pytest.raises(SettingsError, match=f"^backends.bird: .*faulty of mlxdeck-faulty: .*{why}"):
        made(site, "faulty")


async def test_a_backend_that_raises_costs_one_answer(site: Path) -> None:
    """The client is told in the API's own shape, and the next request is answered."""
    code = (
        "from mlxdeck.server.backends.base import BackendInfo\n"
        "from mlxdeck.server.backends.simple import SimpleBackend\n"
        "class Faulty(SimpleBackend):\n"
        "    def __init__(self, name, options):\n"
        "        super().__init__(name, BackendInfo('m', name, 9, 'none'))\n"
        "    async def answer(self, chat, parts):\n"
        "        raise ZeroDivisionError('no')\n"
        "        yield\n"
    )
    entries = {"faulty": "raising_backend:Faulty"}
    install(site, "mlxdeck-faulty", backend_names.GROUP, entries, raising_backend=code)
    async with running(backend=made(site, "faulty")[1]) as server:
        for _ in range(2):
            answer = await server.ask("hello")
            assert (answer.status_code, answer.json()["error"]["type"]) == (500, "api_error")
            assert "ZeroDivisionError: no" in answer.json()["error"]["message"]


def test_own_kinds_cannot_be_taken_and_others_are_not_loaded(site: Path) -> None:
    """A package that nobody names does nothing, whatever it calls itself."""
    taken = {"ollama": "taking_backend", "other": "taking_backend"}
    install(site, "taker", backend_names.GROUP, taken, taking_backend="raise SystemExit(9)")
    assert set(backend_names.plug_ins()) == {"other"}
    assert isinstance(make_backend(Settings(upstream="ollama"), _no_local), UpstreamBackend)


def _no_local(_: bool) -> Backend:
    raise AssertionError("no model was wanted here")


async def test_the_example_of_a_dialect_is_served(site: Path) -> None:
    """Beside the others, with its own errors, streams and place in telemetry."""
    name = install_example(site, "dialect_plug_in", dialects.GROUP)
    async with running(dialects=name) as server:
        whole = await server.http.post("/ask", json={"question": "hello"})
        streamed = await server.http.post("/ask", json={"question": "hello", "stream": True})
        bad = await server.http.post("/ask", json={"question": 3})
        odd = await server.http.post("/ask", content=b"[1]")
        lost = await server.http.get("/ask/more")
        assert (await server.ask("hello")).status_code == 200
        (start, *_) = server.telemetry.named("request.start")
    assert whole.json() == {"answer": "hello"} and whole.headers["x-mlxdeck-cache"] == "miss"
    pieces = [json.loads(each[6:])["more"] for each in streamed.text.strip().split("\n\n")]
    assert "".join(pieces) == "hello" and streamed.headers["x-mlxdeck-cache"] == "hit"
    assert (bad.status_code, bad.json()) == (400, {"error": "question: expected text"})
    assert odd.status_code == 400 and "AttributeError" in odd.json()["error"]
    assert lost.status_code == 404 and "POST /ask" in lost.json()["error"]
    assert getattr(start.attrs, "dialect", "") == "one_question"


PARTS = """
class Faulty:
    name, path, roots, count_path = {parts}
    def decode(self, body, headers): ...
    decode_count = count = encoder = encode_error = decode
"""


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("syntax error", "SyntaxError"),
        ("class Faulty: name = 'x'", "lacks count, count_path, decode"),
        (PARTS.format(parts="'anthropic', '/x', ('/x',), ''"), "the name anthropic is taken"),
        (PARTS.format(parts="'x', '/v1/messages', (), ''"), "/v1/messages belongs to .*anthropic"),
        (PARTS.format(parts="'x', '/x', ('/v1/messages',), ''"), "/v1/messages belongs to"),
        (PARTS.format(parts="'x', '/<y:path>', (), ''"), "paths have to be"),
        (PARTS.format(parts="'X y', '/x', (), ''"), "its name has to be"),
    ],
)
def test_a_dialect_that_fails_is_one_line(site: Path, code: str, why: str) -> None:
    """Also one that claims what is another's."""
    entries = {"faulty": "faulty_dialect:Faulty"}
    install(site, "mlxdeck-faulty", dialects.GROUP, entries, faulty_dialect=code)
    with pytest.raises(PlugInFault, match=f"^dialect faulty of mlxdeck-faulty: .*{why}") as fault:
        dialects.plugged_dialects(["faulty"], DIALECTS)
    assert "\n" not in str(fault.value)


async def test_a_path_of_the_server_itself_cannot_be_taken(site: Path) -> None:
    """Nor a name that no package has be served."""
    code = PARTS.format(parts="'x', '/health', ('/health',), ''")
    entries = {"faulty": "taking_dialect:Faulty"}
    install(site, "mlxdeck-faulty", dialects.GROUP, entries, taking_dialect=code)
    with pytest.raises(PlugInFault, match="/health belongs to the server"):
        async with running(dialects="faulty"):
            pass
    with pytest.raises(PlugInFault, match="there is no dialect 'nope'; installed are faulty"):
        async with running(dialects="nope"):
            pass
