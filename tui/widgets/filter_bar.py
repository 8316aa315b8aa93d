"""One line for a filter: completion while it is typed, the count of matches, help on a mistake."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.suggester import Suggester
from textual.widgets import Input, Static

from mlxdeck.telemetry.query.completion import complete
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.messages import FilterChanged
from mlxdeck.tui.state.preferences import Preferences

MAX_CHOICES = 8
PLACEHOLDER = (
    'tool:Read status:error latency>2s ttft>1s hit<0.5 tokens_in>8k text:"..."  and or not ( )'
)


class _Suggester(Suggester):
    """The first completion, shown behind the cursor; right arrow takes it."""

    def __init__(self, store: Store, ways: Preferences) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._store = store
        self._ways = ways

    async def get_suggestion(self, value: str) -> str | None:
        """An earlier filter, or the field or value that completes `value`."""
        for before in self._ways.filters:
            if value and before.startswith(value):
                return before
        for each in complete(value, len(value), self._store, self._ways.kept):
            whole = value[: each.start] + each.text
            if whole.startswith(value) and whole != value:
                return whole
        return None


class FilterBar(Vertical):
    """The input line of the filter, hidden until it is opened."""

    BINDINGS = [
        Binding("escape", "close", "Close", show=False),
        Binding("down", "take", "Take the first", show=False),
        Binding("up", "before", "Used before", show=False),
        Binding("f1", "screen.language", "Help", tooltip="What can be filtered by"),
        Binding("ctrl+s", "screen.keep", "Keep", tooltip="Give this filter a name"),
    ]
    DEFAULT_CSS = """
    FilterBar { height: auto; display: none; background: $panel; padding: 0 1; }
    FilterBar Input, FilterBar Input:focus { background: $panel; }
    FilterBar Static { height: 1; color: $dim; }
    FilterBar .-bad { color: $text-error; }
    """

    def __init__(self, store: Store, ways: Preferences, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._store = store
        self._ways = ways
        self._mistake = ""
        self._before = ""

    def compose(self) -> ComposeResult:
        """The input line and a line of information about it."""
        suggester = _Suggester(self._store, self._ways)
        yield Input(placeholder=PLACEHOLDER, suggester=suggester, compact=True)
        yield Static(id="about")

    def open(self, text: str) -> None:
        """Show the bar with the active filter."""
        self.display, self._before = True, text
        field = self.query_one(Input)
        field.value = text
        # At once: the next key may be here already.
        self.screen.set_focus(field)

    def tell(self, n_matching: int, *, searching: bool) -> None:
        """Show the number of matches and the completions, unless there is a mistake to correct."""
        if not self._mistake and self.display:
            choices = self._choices()
            so_far = " so far" if searching else ""
            self._say(f"{n_matching:,} match{so_far}" + (f"  │  {choices}" if choices else ""))

    def mistake(self, text: str) -> None:
        """Show a mistake; empty if there is none."""
        self._mistake = text
        if text:
            self._say(f"✗ {text}")

    def _say(self, text: str) -> None:
        about = self.query_one("#about", Static)
        about.set_class(bool(self._mistake), "-bad")
        about.update(Content(text))

    def _choices(self) -> str:
        field = self.query_one(Input)
        found = complete(field.value, field.cursor_position, self._store, self._ways.kept)
        return "  ".join(each.text for each in found[:MAX_CHOICES])

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        event.stop()
        self.post_message(FilterChanged(event.value, done=False))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep it, and go back to the lists."""
        event.stop()
        if self._mistake:
            # The bar stays open, so that the user can correct the mistake.
            self.app.bell()
            return
        self.display = False
        self.post_message(FilterChanged(event.value, done=True))

    def action_close(self) -> None:
        """Cancel, and restore the filter that was active before."""
        self.display, self._mistake = False, ""
        self.post_message(FilterChanged(self._before, done=True))

    def action_before(self) -> None:
        """The filter that was used before this one; after the last of them, the first again."""
        field, used = self.query_one(Input), self._ways.filters
        if used:
            place = used.index(field.value) + 1 if field.value in used else 0
            field.value = used[place % len(used)]
            field.cursor_position = len(field.value)

    def action_take(self) -> None:
        """Take the first of what could come next."""
        field = self.query_one(Input)
        for each in complete(field.value, field.cursor_position, self._store, self._ways.kept)[:1]:
            field.value = field.value[: each.start] + each.text + field.value[each.end :]
            field.cursor_position = each.start + len(each.text)
