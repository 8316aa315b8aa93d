"""The screen of one request: every figure of it, its neighbours, and what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.events import FirstToken
from mlxdeck.tui.screens.dashboard import DashboardScreen
from mlxdeck.tui.screens.request import NOT_CAPTURED
from mlxdeck.tui.widgets.waterfall import TokenBar, Waterfall
from tests.streams import Made, Stream
from tests.tui.running import LAST, REQUESTS, running

TALL = (120, 130)


async def test_enter_opens_and_escape_goes_back(tmp_path: Path) -> None:
    """The cursor is where it was."""
    async with running(tmp_path) as run:
        await run.press("down", "down", "enter")
        assert run.shown_row == LAST - 2
        await run.press("escape")
        assert isinstance(run.app.screen, DashboardScreen)
        assert run.table.cursor == 2


async def test_n_and_p_go_to_the_neighbours(tmp_path: Path) -> None:
    """And no further than to the ends."""
    async with running(tmp_path) as run:
        await run.press("enter", "p", "p")
        assert run.shown_row == LAST - 2
        await run.press("n")
        assert run.shown_row == LAST - 1
        await run.press("left")
        assert run.shown_row == LAST - 2
        await run.press("right", "right", "n")
        assert run.shown_row == LAST
        await run.press(*["p"] * 10)
        assert run.shown_row == 0


async def test_n_and_p_stay_among_what_is_listed(tmp_path: Path) -> None:
    """In its order and by its filter; what is not listed goes by time."""
    async with running(tmp_path) as run:
        await run.press("o", "enter")
        slowest = run.shown_row
        assert slowest == 0 and "6 of 6 by total" in run.text
        await run.press("p")
        assert run.shown_row == LAST and "5 of 6 by total" in run.text
        await run.press("escape", "o", "o", "o", "o")
        run.app.filter_by("tool:Read or tool:Bash")
        await run.settle()
        await run.press("enter")
        assert run.shown_row == 4 and "2 of 2 that match" in run.text
        await run.press("p")
        assert run.shown_row == 1
        await run.press("S")
        assert run.shown_row == 3 and "4 of 6" in run.text
        await run.press("n")
        assert run.shown_row == 4


async def test_s_stays_in_the_session(tmp_path: Path) -> None:
    """Every second request of the made-up stream belongs to it."""
    async with running(tmp_path) as run:
        await run.press("enter", "s")
        assert run.shown_row == LAST - 2
        await run.press("S")
        assert run.shown_row == LAST


async def test_c_compares_with_the_turn_before(tmp_path: Path) -> None:
    """Of the same session; the first one has none."""
    async with running(tmp_path) as run:
        await run.press("enter", "c")
        assert f"A req_7_{LAST - 2:04d}" in run.text and f"B req_7_{LAST:04d}" in run.text
        await run.press("escape", "s", "s", "c")
        assert run.shown_row == 1 and len(run.app._notifications) == 1


async def test_it_tells_all_that_is_known(tmp_path: Path) -> None:
    """Phases with shares, tokens, caches, parameters, tool calls and the events as JSON."""
    async with running(tmp_path, size=TALL) as run:
        await run.press("down", "enter", "p")
        assert run.shown_row == 3
        await run.press("n")
        text = run.text
        assert "req_7_0004" in text and "5 of 6" in text and "✓ ok" in text
        assert "prefix hit" in text and "session session0" in text
        assert "1.50s" in text and "50%" in text and "3.00s" in text
        assert "1,000 cached" in text and "200 new" in text and "60 out" in text
        assert "miss (cold)" in text and "max_tokens 10" in text
        assert "✓ ok" in text and "Bash" in text and '"path": "a.py"' in text
        assert '"event": "request.end"' in text and '"mlx.prefill_s": 1.5' in text
        assert NOT_CAPTURED.split(":")[0] in text


async def test_a_line_that_python_cannot_read_is_shown_as_it_is(tmp_path: Path) -> None:
    """What later versions add is skipped, however many digits it has."""
    stream = Stream(pid=9)
    start = stream.line(t.RequestStart(model="m"), 95, "req_x")
    added = start.replace(b'"attrs":{', b'"attrs":{"added":%b,' % (b"9" * 5000))
    end = stream.line(t.RequestEnd(outcome="ok"), 96, "req_x")
    async with running(tmp_path, extra=[added, end], size=TALL) as run:
        await run.press("enter")
        assert '"attrs":{"added":99' in run.text and '"event": "request.end"' in run.text


async def test_what_was_captured_is_shown(tmp_path: Path) -> None:
    """The user's words, an error's message, what was left out of the prompt."""
    stream = Stream(pid=9)
    start = t.RequestStart(
        model="m",
        n_messages=1,
        last_user_text="why is it slow?",
        removed=("nonce",),
        temperature=0.5,
    )
    error = t.Error(error_type="overloaded", message="too many", phase="queue")
    extra = [
        stream.line(start, 95, "req_x"),
        stream.line(error, 95, "req_x"),
        stream.line(t.ToolCall(parse_ok=False, parse_error="no [bold]JSON"), 95, "req_x"),
        stream.line(t.ToolCall(name="Read", repaired=True), 95, "req_x"),
        stream.line(t.RequestEnd(outcome="error", status=529), 96, "req_x"),
    ]
    async with running(tmp_path, extra=extra, size=TALL) as run:
        await run.press("enter")
        for words in (
            "why is it slow?", "nonce", "temperature 0.5", "overloaded while queue: too many",
            "✗ unreadable", "no [bold]JSON", "± repaired", "✗ error",
        ):  # fmt: skip
            assert words in run.text


async def test_a_running_request_fills_in(tmp_path: Path) -> None:
    """Its screen follows it to its end."""
    async with running(tmp_path, REQUESTS[:1]) as run:
        start, *_, end = run._stream.request(Made(95, 2.0, 100, 50, 12), 77)
        await run.add(start)
        await run.press("enter")
        assert "◌ open" in run.text and "50 cached" not in run.text
        token = FirstToken(ttft_s=0.9, queue_s=0.1, prefill_s=0.8)
        await run.add(run._stream.line(token, 94, "req_7_0077"))
        await run.until(lambda: "800ms" in run.text and "900ms" in run.text)
        await run.add(end)
        await run.until(lambda: "50 cached" in run.text)
        assert "✓ ok" in run.text


async def test_the_wait_for_a_model_is_a_phase_where_there_is_one(tmp_path: Path) -> None:
    """Others don't show it."""
    stream = Stream()
    end = t.RequestEnd(duration_s=5.0, queue_s=0.5, load_s=3.5, prefill_s=0.5, decode_s=0.5)
    extra = [stream.line(t.RequestStart(model="m"), 94, "req_x"), stream.line(end, 99, "req_x")]
    async with running(tmp_path, extra=extra, size=TALL) as run:

        def phases() -> list[str]:
            bars = str(run.app.screen.query_one(Waterfall).render()).splitlines()
            return [bar.split()[0] for bar in bars]

        await run.press("enter")
        assert "load" in phases() and "3.50s" in run.text
        await run.press("p")
        assert "load" not in phases()


async def test_a_file_that_is_gone_takes_only_the_details(tmp_path: Path) -> None:
    """What the store knows is still shown; what was written there since is not taken for it."""
    async with running(tmp_path) as run:
        run.path.write_bytes(b"x" * 10_000)
        await run.press("enter", "p")
        assert "the file is gone" in run.text
        assert "1,000 cached" in run.text


async def test_other_screens_keys_do_nothing_here(tmp_path: Path) -> None:
    """They are neither in the footer nor in force."""
    async with running(tmp_path) as run:
        await run.press("enter", "w", "space")
        assert run.app.context.window.label == "5m" and not run.app.context.clock.paused
        assert "Pause" not in run.text.splitlines()[-1]
        await run.press("d", "question_mark", "escape", "q")
        assert not run.app.is_running


async def test_bars_span_what_they_say(tmp_path: Path) -> None:
    """Phases follow one another on one scale; the token bar fills its width."""
    async with running(tmp_path) as run:
        await run.press("enter", "p", "p")
        bars = str(run.app.screen.query_one(Waterfall).render()).splitlines()
        prefill, decode = (next(b for b in bars if b.startswith(n)) for n in ("prefill", "decode"))
        assert abs(prefill.count("█") - decode.count("█")) <= 1
        assert prefill.rstrip(" 0123456789.%s").rindex("█") <= decode.index("█")
        bar = run.app.screen.query_one(TokenBar)
        cells = str(bar.render()).splitlines()[0]
        assert abs(len(cells) - bar.content_size.width) <= 1


async def test_a_running_request_is_seen_moving_until_it_ends(tmp_path: Path) -> None:
    """Phase, bar, speed and time left; then the text as it is written; nothing once it is over."""
    stream = Stream(pid=9)
    captured = t.StreamStart(model="m", capture="full")
    extra = [stream.line(captured, 93), stream.line(t.RequestStart(model="m"), 94, "req_x")]
    read: dict[str, Any] = {
        "state": "prefill",
        "state_s": 2.0,
        "prompt_tokens": 58_000,
        "cached_tokens": 2_000,
    }
    written: dict[str, Any] = {
        "state": "decode",
        "state_s": 1.0,
        "read_tokens": 58_000,
        "held": True,
    }
    steps = (
        (t.RequestProgress(**read, read_tokens=12_000), ("reading 21%", "━━", "12,000 of 58,000")),
        (t.RequestProgress(**read, read_tokens=30_000), ("reading 52%", "14.0k/s", "2.00s left")),
        (
            t.RequestProgress(**written, output_tokens=18, text="# Notes\n[b]not markup[/b]"),
            ("writing, held", "18 tok", "18.0/s", "# Notes", "[b]not markup[/b]"),
        ),
    )  # fmt: skip
    async with running(tmp_path, extra=extra, size=TALL) as run:
        await run.press("enter")
        for attrs, words in steps:
            await run.add(stream.line(attrs, 98, "req_x"))
            assert not [each for each in words if each not in run.text], run.text
            assert "There is no text of it" in run.text and "was refused" not in run.text
        await run.add(stream.line(t.RequestEnd(outcome="cancelled", duration_s=5.0), 99, "req_x"))
        assert "writing" not in run.text.partition("raw events")[0] and "– cancelled" in run.text


@pytest.mark.parametrize("width", [40, 60, 100])
async def test_a_narrow_title_says_how_it_ended(tmp_path: Path, width: int) -> None:
    """Before the place in the list, and the session."""
    async with running(tmp_path, size=(width, 10)) as run:
        await run.press("enter")
        title = run.text.splitlines()[0]
        assert "– cancelled" in title and "req_7_0005" in title
        assert ("session" in title) is (width == 100)
