"""What an event goes through before it is written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import msgspec
import pytest

from mlxdeck.telemetry.redact import MASK
from mlxdeck.telemetry.schema.events import (
    Content,
    Error,
    RequestEnd,
    RequestStart,
    StreamStart,
    Tick,
    ToolCall,
)
from mlxdeck.telemetry.write import processors
from mlxdeck.telemetry.write.processors import Chain, Sample, UnknownProcessor, named
from mlxdeck.telemetry.write.records import Record
from mlxdeck.telemetry.write.writer import MemoryWriter, Writer

SECRET = "ghp_0123456789abcdefghijABCDEFGHIJ"


def record(attrs: object, name: str = "r") -> Record:
    """An event as it waits to be written."""
    return Record(attrs, 1.0, 2.0, name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "attrs",
    [
        ToolCall(arguments=f'{{"x": "{SECRET}"}}'),
        ToolCall(parse_error=f"at {SECRET}"),
        Content(content=f'[{{"text": "{SECRET}"}}]'),
        Error(message=f"refused {SECRET}"),
        RequestStart(last_user_text=SECRET, stop_sequences=(SECRET,), answer_schema=SECRET),
    ],
)
def test_secrets_are_masked_wherever_words_are_told(attrs: object) -> None:
    """Whatever is captured, and in messages of errors in every mode."""
    (found,) = Chain().run(record(attrs)) or [record(None)]
    line = msgspec.json.encode(found.attrs).decode()
    assert MASK in line and SECRET not in line


def test_processors_see_what_those_before_them_gave() -> None:
    """They may change an event, leave it out, or give several."""

    def twice(each: Record) -> list[Record]:
        return [each, each]

    def busy(each: Record) -> Record | None:
        return None if each.attrs == Tick() else each

    chain = Chain([busy, twice])
    assert chain.run(record(Tick())) == []
    assert chain.run(record(Tick(active=1))) == [record(Tick(active=1))] * 2


def test_one_that_raises_is_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The event is written all the same; it is said once."""

    def broken(each: Record) -> Record:
        raise RuntimeError(f"no idea of {type(each.attrs).__name__}")

    def wrong(each: Record) -> Record:
        return each.attrs  # type: ignore[return-value]

    writer = MemoryWriter([broken, wrong])
    for _ in range(3):
        writer.emit(Tick(active=1))
    assert [line.attrs for line in writer.lines] == [Tick(active=1)] * 3
    assert writer.processor_failures == 6
    messages = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(messages) == 2 and "no idea of Tick" in messages[0]


def test_nothing_is_written_that_could_not_be_searched_for_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is lost, and counted as that."""

    def broken(text: str) -> str:
        raise RuntimeError(text)

    monkeypatch.setattr(processors, "redacted", broken)
    writer = Writer(tmp_path, StreamStart())
    writer.emit(ToolCall(arguments=SECRET))
    writer.emit(Tick(active=1))
    writer.close()
    assert writer.dropped_lines == 1 and writer.path
    assert SECRET not in writer.path.read_text() and '"mlx.active":1' in writer.path.read_text()


def test_a_sample_holds_whole_requests_and_all_errors() -> None:
    """And what belongs to no request."""
    writer = MemoryWriter([Sample(0.2)])
    for n in range(500):
        name = f"req_{n:04}"
        writer.emit(RequestStart(n_messages=1), name)
        writer.emit(ToolCall(name="Read"), name)
        if n % 10 == 0:
            writer.emit(Error(message="no"), name)
        writer.emit(RequestEnd(outcome="ok" if n % 10 else "error"), name)
    writer.emit(Tick(active=1))
    found: dict[str, list[str]] = {}
    for line in writer.lines:
        found.setdefault(line.request_id, []).append(line.event)
    assert found.pop("") == ["tick"]
    failed = {name: events for name, events in found.items() if "error" in events}
    whole = {name: events for name, events in found.items() if "error" not in events}
    assert len(failed) == 50 and 50 < len(whole) < 140
    assert set(map(tuple, whole.values())) == {("request.start", "tool_call", "request.end")}
    assert all(events[0] == "request.start" for events in failed.values())


def test_a_sample_holds_back_only_so_much() -> None:
    """Requests that never end don't add up."""
    sample = Sample(0.0)
    for n in range(3 * processors.MAX_HELD):
        assert sample(record(Tick(), f"r{n}")) is None
    assert sum(map(len, sample._held.values())) == processors.MAX_HELD


def test_processors_of_other_packages_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are named, and no others."""
    entries = {"ours": "msgspec:convert", "bad": "msgspec:nothing", "worse": "msgspec:__name__"}
    found = [EntryPoint(name, value, processors.GROUP) for name, value in entries.items()]
    listed: Callable[..., list[EntryPoint]] = lambda group: found  # noqa: E731
    monkeypatch.setattr(processors, "entry_points", listed)
    assert named(["ours"]) == [msgspec.convert]  # type: ignore[comparison-overlap]
    for name, reason in (("other", "there are ours"), ("bad", "nothing"), ("worse", "be called")):
        with pytest.raises(UnknownProcessor, match=reason):
            named([name])


def test_a_secret_is_masked_before_a_text_is_cut() -> None:
    """Half of one is none that anybody knows."""
    text = "x" * (processors.MAX_MESSAGE - 10) + f" {SECRET}"
    (found,) = Chain().run(record(Error(message=text))) or [record(None)]
    assert isinstance(found.attrs, Error)
    assert "ghp_" not in found.attrs.message and len(found.attrs.message) <= processors.MAX_MESSAGE


def test_what_a_tool_wants_is_no_secret() -> None:
    """Its schema stays one that can be sent again."""
    tools = '[{"name":"login","input_schema":{"properties":{"password":{"description":"a"}}}}]'
    (found,) = Chain().run(record(Content(kind="tools", content=tools))) or [record(None)]
    assert found.attrs == Content(kind="tools", content=tools)


def test_names_that_a_client_chose_are_masked_too() -> None:
    """A model's, a tool's, a kind of block, a conversation; others stay as they are."""
    start = RequestStart(
        model=SECRET,
        conversation_id=SECRET,
        tool_names=("Read", SECRET),
        history_notes=(f"told {SECRET}",),
    )
    told = processors.redact(Record(start, 0.0, 0.0, "req_1", SECRET))
    assert SECRET not in repr(told)
    assert isinstance(told.attrs, RequestStart) and told.attrs.tool_names[0] == "Read"
    end = Record(RequestEnd(), 0.0, 0.0, "req_1", "6c9f0f0e-2b0e-4b7e-9d3c-3f6f0c9a1b2c")
    assert processors.redact(end) is end
