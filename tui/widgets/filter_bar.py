"""One line for a filter: completion while it is typed, the count of matches, help on a mistake."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.events import DescendantBlur
from textual.suggester import Suggester
from textual.widgets import Input, Static

from mlxdeck.telemetry.query.completion import Completion, complete
from mlxdeck.telemetry.query.filters import FilterError
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
            if value and before.startswith(value) and before != value:
                return before
        for each in complete(value, len(value), self._store, self._ways.kept):
            whole = value[: each.start] + each.text
            if whole.startswith(value) and whole != value:
                return whole
        return None


class FilterLine(Input, can_focus=False):
    """The text of the filter. It can have the focus only while the bar is open."""


class FilterBar(Vertical):
    """The input line of the filter, hidden until it is opened."""

    BINDINGS = [
        Binding("tab", "cycle(1)", "Complete", tooltip="The next of what could be here"),
        Binding("shift+tab", "cycle(-1)", "Back", show=False),
        Binding("escape", "leave", "Close", show=False),
        Binding("down", "cycle(1)", "Complete", show=False),
        Binding("up", "before", "Used before", show=False),
        Binding("f1", "screen.language", "Help", tooltip="What can be filtered by"),
        Binding("ctrl+s", "screen.keep", "Keep", tooltip="Give this filter a name"),
    ]
    DEFAULT_CSS = """
    FilterBar { height: auto; display: none; background: $panel; padding: 0 1; }
    FilterBar Input, FilterBar Input:focus { background: $panel; }
    FilterBar Static { height: 1; color: $foreground; }
    FilterBar .-bad { color: $text-error; }
    """

    def __init__(self, store: Store, ways: Preferences, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._store = store
        self._ways = ways
        self._mistake = ""
        self._before = ""
        self._set = ""
        """What the bar itself has put into the line."""
        self._cycle: list[Completion] = []
        """What Tab goes through; the first is what was typed."""
        self._place = 0
        self._hides_choices = False

    def compose(self) -> ComposeResult:
        """The input line and a line of information about it."""
        suggester = _Suggester(self._store, self._ways)
        yield FilterLine(placeholder=PLACEHOLDER, suggester=suggester, compact=True)
        yield Static(id="about")

    @property
    def _line(self) -> FilterLine:
        return self.query_one(FilterLine)

    def open(self, text: str) -> None:
        """Show the bar with the active filter."""
        if self.display:
            self._line.focus()
            return
        field = self._line
        self.display, self._before, field.can_focus = True, text, True
        self._hides_choices, self._mistake = False, ""
        self._put(text, len(text))
        # At once: the next key may be here already.
        self.screen.set_focus(field)

    def close(self) -> None:
        """Hide the bar; its line can't have the focus then."""
        self.display, self._mistake, self._line.can_focus = False, "", False
        self._cycle = []
        self._put("", 0)

    def _finish(self, text: str) -> None:
        """Ask for a filter; the bar closes if it can be understood."""
        self.post_message(FilterChanged(text))

    def tell(self, n_matching: int, hint: str = "", *, searching: bool = False) -> None:
        """Show the number of matches and the completions, unless there is a mistake to correct."""
        if self._mistake:
            return
        so_far = " so far" if searching else ""
        parts = [Content(f"{n_matching:,} match{so_far}")]
        if hint:
            parts.append(Content.styled(hint, "$text-warning"))
        if choices := self._choices():
            parts.append(choices)
        self._say(Content("  │  ").join(parts))

    def mistake(self, error: FilterError | None, *, go: bool = False) -> None:
        """Show a mistake, or that there is none any more; `go` sets the cursor behind it."""
        self._mistake = f"✗ {error}" if error else ""
        if error is None or not self.display:
            return
        self._say(Content(self._mistake))
        if go:
            self._line.cursor_position = min(error.end, len(self._line.value))
            self.app.bell()

    def _say(self, text: Content) -> None:
        about = self.query_one("#about", Static)
        about.set_class(bool(self._mistake), "-bad")
        about.update(text, layout=False)

    def _found(self) -> list[Completion]:
        field = self._line
        return complete(field.value, field.cursor_position, self._store, self._ways.kept)

    def _choices(self) -> Content | None:
        """What could be here; the one that Tab has put here is marked."""
        if self._cycle:
            shown, marked = self._cycle[1:], self._place - 1
        else:
            shown, marked = [] if self._hides_choices else self._found(), -1
        # The marked one stays in view.
        first = max(0, min(marked - MAX_CHOICES // 2, len(shown) - MAX_CHOICES))
        words = [
            Content.styled(each.text, "reverse" if at == marked else "")
            for at, each in enumerate(shown)
        ]
        return Content("  ").join(words[first : first + MAX_CHOICES]) if words else None

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        event.stop()
        if not self.display or event.value != self._line.value:
            # It is closed, or something else was typed meanwhile.
            return
        if event.value != self._set:
            self._cycle, self._hides_choices = [], False
        self._set = event.value
        self.post_message(FilterChanged(event.value, self._line.cursor_position))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep it, and go back to the lists."""
        event.stop()
        self._finish(event.value)

    def action_leave(self) -> None:
        """Leave the completions, or cancel and restore the filter that was active before."""
        if self._cycle:
            typed = self._cycle[0]
            self._hides_choices = True
            self._swap(typed)
            self._cycle = []
        elif self._line.value and not self._hides_choices and not self._mistake and self._found():
            self._hides_choices = True
            self.post_message(FilterChanged(self._line.value, self._line.cursor_position))
        else:
            self._finish(self._before)

    def on_descendant_blur(self, event: DescendantBlur) -> None:
        """Another panel was clicked: what was typed stays, as far as it can be understood."""
        event.stop()
        if self.display and self.screen.is_current and self.app.app_focus:
            self.call_later(self._left)

    def _left(self) -> None:
        focused = self.screen.focused
        if (
            self.display
            and self.screen.is_current
            and focused is not None
            and focused is not self._line
        ):
            self._finish(self._before if self._mistake else self._line.value)

    def action_before(self) -> None:
        """The filter that was used before this one; after the last of them, the first again."""
        field, used = self._line, self._ways.filters
        if used:
            place = used.index(field.value) + 1 if field.value in used else 0
            text = used[place % len(used)]
            self._cycle = []
            self._put(text, len(text))

    def action_cycle(self, step: int) -> None:
        """The next of what could be here, or the one before; after the last, what was typed."""
        if not self._cycle:
            found = self._found()
            if not found:
                return
            start, end = found[0].start, self._line.cursor_position
            self._cycle = [Completion(self._line.value[start:end], start, end), *found]
            self._place = 0
        self._place = (self._place + step) % len(self._cycle)
        self._swap(self._cycle[self._place])
        if len(self._cycle) == 2 and self._place:
            # There was nothing to choose: the next Tab completes what follows.
            self._cycle = []

    def _swap(self, chosen: Completion) -> None:
        """Put it where the one before is, or what was typed."""
        field, start = self._line, self._cycle[0].start
        text = field.value[:start] + chosen.text + field.value[field.cursor_position :]
        self._put(text, start + len(chosen.text))

    def _put(self, text: str, cursor: int) -> None:
        self._set = text
        self._line.value = text
        self._line.cursor_position = cursor
