"""The line that says how things are. It takes the focus, and lists the requests behind it."""

from __future__ import annotations

from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.widget import Widget

from mlxdeck.tui.present.verdict import Mood, Verdict
from mlxdeck.tui.text import format as fmt

MARKS: dict[Mood, str] = {"good": "✓", "note": "·", "warn": "▲", "bad": "✗"}
"""Beside the colour, for those who don't see it."""
_STYLES: dict[Mood, str] = {
    "good": "$text-success",
    "note": "$foreground",
    "warn": "b $text-warning",
    "bad": "b $text-error",
}


class VerdictLine(Widget, can_focus=True):
    """One line of text."""

    BINDINGS = [Binding("enter", "screen.verdict", "List them", tooltip="The requests behind it")]
    DEFAULT_CSS = """
    VerdictLine { height: 1; padding: 0 1; background: $background; text-wrap: nowrap; }
    VerdictLine:focus { background: $chosen; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.verdict = Verdict("calm", "")
        self._is_listed = False

    def show(self, verdict: Verdict, *, is_listed: bool) -> None:
        """`is_listed` says that the requests behind it are what the list is filtered by."""
        if (verdict, is_listed) != (self.verdict, self._is_listed):
            self.verdict, self._is_listed = verdict, is_listed
            self.refresh()

    def render(self) -> Content:
        """The sentence, and what helps as far as there is room."""
        told, width = self.verdict, self.content_size.width
        text = f"{MARKS[told.mood]} {fmt.one_line(told.text, max(1, width - 2))}"
        shown = Content.styled(text, _STYLES[told.mood])
        hint = "v: all of them again" if self._is_listed else "v: which" if told.filter else ""
        for more in ((told.advice, hint), (told.advice,), (hint,)):
            rest = "".join(f"  ·  {each}" for each in more if each)
            if rest and shown.cell_length + len(rest) <= width:
                return Content.assemble(shown, (rest, "$dim"))
        return shown

    async def on_click(self, event: events.Click) -> None:
        """A second click lists them, as `Enter` does."""
        if event.chain == 2:
            await self.screen.run_action("verdict")
