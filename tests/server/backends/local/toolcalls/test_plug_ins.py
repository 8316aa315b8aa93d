"""Tool formats of other packages: found, listed, chosen, used; what fails costs little."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxdeck.cli.main import main
from mlxdeck.server.backends.local.engine.api import TemplateTraits
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.toolcalls.formats.plug_ins import load
from mlxdeck.server.backends.local.toolcalls.formats.registry import choose_format
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.plug_ins import PlugInFault
from mlxdeck.server.tool_format_names import GROUP, plug_ins
from mlxdeck.settings.errors import SettingsError
from mlxdeck.telemetry.schema.events import ToolCall
from tests.packages import install, install_example
from tests.server.http import running

READ = {"name": "Read", "input_schema": {"type": "object", "properties": {"path": {}}}}
CALL = 'Let me look. <<call Read: {"path": "a.py"}>>'


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def example(site: Path) -> str:
    """The example of the documentation, installed; its name."""
    return install_example(site, "tool_format_plug_in", GROUP)


def faulty(site: Path, code: str, value: str = "faulty_format") -> str:
    """Install a plug-in with this code; its name."""
    install(site, "mlxdeck-faulty", GROUP, {"faulty": value}, faulty_format=code)
    return "faulty"


PARTS = "tool_call_start, tool_call_end = '<<call', '>>'\n"


async def test_the_example_serves_calls(example: str) -> None:
    """End to end: the setting takes its name, and its call is a tool use block."""
    async with running(EchoEngine(lambda _: CALL), tool_format=example) as server:
        answer = (await server.ask("x", tools=[READ])).json()
        assert answer["stop_reason"] == "tool_use"
        text, call = answer["content"]
        assert text["text"].strip() == "Let me look."
        assert (call["name"], call["input"]) == ("Read", {"path": "a.py"})
        (told,) = server.telemetry.named("tool_call")
        assert isinstance(told.attrs, ToolCall) and told.attrs.parser == example


def test_the_example_is_listed_and_parses(
    example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`mlxdeck parse --formats` names the package, `--format` takes the name."""
    assert main(["parse", "--formats"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "json_tags" in shown and f"{example} (plug-in of mlxdeck-angle-calls)" in shown
    answer = tmp_path / "answer.txt"
    answer.write_text(CALL)
    tools = tmp_path / "tools.json"
    tools.write_text('[{"name": "Read"}]')
    assert main(["parse", str(answer), "--format", example, "--tools", str(tools)]) == 0
    assert '"name": "Read"' in capsys.readouterr().out
    assert main(["parse", str(answer), "--format", "nope"]) == 2
    assert example in capsys.readouterr().err


def test_an_unknown_name_is_refused_with_those_that_are_there(example: str) -> None:
    """Plug-ins among them."""
    with pytest.raises(SettingsError, match=f"tool_format: .*json_tags.*{example}.*'nope'"):
        Settings(tool_format="nope")


def test_own_names_cannot_be_taken(site: Path) -> None:
    """A package can't put itself in the place of a format that is here."""
    install(site, "taker", GROUP, {"json_tags": "taker", "auto": "taker", "other": "taker"})
    assert set(plug_ins()) == {"other"}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import no_such_module", "ModuleNotFoundError"),
        ("syntax error", "SyntaxError"),
        (PARTS, "no attribute 'parse_tool_call'"),
        (PARTS + "parse_tool_call = 3", "have to be"),
        ("tool_call_start, tool_call_end, parse_tool_call = ' ', '', print", "have to be"),
        ("tool_call_start, tool_call_end, parse_tool_call = '<', None, print", "have to be"),
    ],
)
async def test_a_plug_in_that_fails_to_load_costs_itself(
    site: Path, code: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line names it and its package; the server goes by the chat template instead."""
    name = faulty(site, code)
    with pytest.raises(PlugInFault, match=f"^tool format faulty of mlxdeck-faulty: .*{why}") as e:
        load(name)
    assert "\n" not in str(e.value)
    assert Settings(tool_format=name).tool_format == name
    assert choose_format(name, TemplateTraits()).name == "json_tags"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize(
    "body",
    [
        "raise RuntimeError('no')",
        "raise SystemExit",
        "return parse_tool_call(text, tools)",
        "return {'name': 'Read', 'arguments': {'path': object()}}",
        "return (each for each in [])",
        "tools[0]['function'].clear(); raise KeyError",
        "return 3",
        "return None",
    ],
)
async def test_a_parser_that_fails_costs_the_call(site: Path, body: str) -> None:
    """The call's text is the answer's, and the next request is answered too."""
    name = faulty(site, f"{PARTS}def parse_tool_call(text, tools=None):\n    {body}\n")
    async with running(EchoEngine(lambda _: CALL), tool_format=name) as server:
        for _ in range(2):
            answer = await server.ask("x", tools=[READ])
            assert answer.status_code == 200
            assert answer.json()["content"] == [{"type": "text", "text": CALL}]
        (told, *_) = server.telemetry.named("tool_call")
        assert isinstance(told.attrs, ToolCall) and not told.attrs.parse_ok


async def test_an_object_will_do(site: Path) -> None:
    """An entry point may name one in a module; a list of calls is fine too."""
    code = (
        "class Format:\n"
        "    tool_call_start, tool_call_end = '<<call', ''\n"
        "    def parse_tool_call(self, text, tools):\n"
        "        return [{'name': t['function']['name'], 'arguments': {}} for t in tools]\n"
        "form = Format()\n"
    )
    name = faulty(site, code, "faulty_format:form")
    async with running(EchoEngine(lambda _: "<<call"), tool_format=name) as server:
        (call,) = (await server.ask("x", tools=[READ])).json()["content"]
        assert (call["name"], call["input"]) == ("Read", {})
