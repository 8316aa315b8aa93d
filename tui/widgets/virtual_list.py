"""A list of any length that draws only the visible lines.

Newest first: line 0 is the last item. The cursor stays on its item when newer items arrive. A
cursor on the newest item stays on the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.line_widget import LineWidget

Items = np.ndarray[Any, np.dtype[Any]]
"""Numbers that mean something to a subclass, oldest first."""
Cell = tuple[str, str]
"""A text and the component class that styles it; empty for plain."""


class ListColumn(Protocol):
    """A column that may have to go."""

    @property
    def width(self) -> int:
        """In cells."""

    @property
    def keep(self) -> int:
        """Columns with the lowest number go first when there is no room."""


_Column = TypeVar("_Column", bound=ListColumn)


def fitting_columns(columns: Iterable[_Column], width: int) -> list[_Column]:
    """Those that fit in a width, in their order; one is left in any case."""
    found = list(columns)
    while len(found) > 1 and sum(column.width for column in found) > width:
        found.remove(min(found, key=lambda column: column.keep))
    return found


class VirtualList(ScrollView, LineWidget, can_focus=True, inherit_bindings=False):
    """Subclasses say how a header and an item look, and what choosing one does."""

    ALLOW_MAXIMIZE = False
    """Textual's own method also hides the top line."""

    BINDINGS = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "newest", "Newest", show=False),
        Binding("end,G", "oldest", "Oldest", show=False),
        Binding("enter", "choose", "Open", tooltip="See it in full"),
    ]
    COMPONENT_CLASSES = {
        "list--header",
        "list--cursor",
        "list--muted",
        "list--good",
        "list--warn",
        "list--bad",
        "list--accent",
    }
    DEFAULT_CSS = """
    VirtualList {
        border: round $frame;
        border-title-color: $foreground;
        border-subtitle-color: $dim;
        scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 0;
    }
    VirtualList:focus { border: round $primary; }
    VirtualList > .list--header { color: $dim; text-style: bold; }
    VirtualList > .list--cursor { background: $panel; }
    VirtualList:focus > .list--cursor { background: $chosen; }
    VirtualList > .list--muted { color: $dim; }
    VirtualList > .list--good { color: $text-success; }
    VirtualList > .list--warn { color: $text-warning; }
    VirtualList > .list--bad { color: $text-error; text-style: bold; }
    VirtualList > .list--accent { color: $text-primary; }
    """

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.tell_title(title)
        self._items: Items = np.zeros(0, np.int64)
        self._shown_version: object = None
        self._shown_second = 0
        self.cursor = 0
        """Line of the cursor, counted from the newest item."""
        self.empty: Sequence[str] = ()
        """Lines to draw where no item is listed."""
        self.scope = ""
        """Of which items it lists all, in a word or two."""
        self.first_word = "newest"
        """Name of the first item, in the current order."""

    def header(self, width: int) -> list[Cell]:
        """The line above the items."""
        raise NotImplementedError

    def cells(self, item: int, width: int) -> list[Cell]:
        """An item as one line of cells."""
        raise NotImplementedError

    def chosen(self, item: int) -> None:
        """The user chose an item."""
        raise NotImplementedError

    def moved(self, item: int) -> None:
        """The user moved the cursor to an item."""

    @property
    def n_items(self) -> int:
        """How many items are listed."""
        return len(self._items)

    def grows(self, item: int) -> bool:
        """Whether an item looks another way each second."""
        del item
        return False

    def show(self, items: Items, version: object, second: int = 0) -> None:
        """List these items, oldest first; the cursor stays on its own, if that is still there.

        Nothing is drawn unless `version` is another one than last time; in another `second`, what
        grows.
        """
        is_later, self._shown_second = second != self._shown_second, second
        if version == self._shown_version:
            if is_later:
                self.refresh_changed(self._growing_lines)
            return
        self._shown_version = version
        before, line = self.item, self.cursor
        followed = line == 0 and self.scroll_offset.y == 0
        self._items = items
        if not followed:
            found = np.flatnonzero(items == before)
            line = len(items) - 1 - int(found[-1]) if len(found) else line
        moved = line - self.cursor
        scrolled = self.scroll_offset.y + moved
        self.cursor = max(0, min(line, len(items) - 1))
        self._scroll_over(len(items) + 1)
        if moved:
            self.scroll_to(y=scrolled, animate=False, force=True, immediate=True)
        self._tell_place()
        self.refresh_changed()

    @property
    def _growing_lines(self) -> list[int]:
        newest = self.n_items - self.scroll_offset.y
        seen = range(1, min(self.size.height, newest + 1))
        return [y for y in seen if self.grows(int(self._items[newest - y]))]

    def _scroll_over(self, n_lines: int) -> None:
        size = Size(self.scrollable_content_region.width, n_lines)
        longer = n_lines >= self.virtual_size.height
        if longer and size.width == self.virtual_size.width and self.show_vertical_scrollbar:
            # Setting it lays out the whole screen, which takes 30 ms, where only the bar changes.
            self.set_reactive(VirtualList.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = n_lines
        else:
            self.virtual_size = size

    def _tell_place(self) -> None:
        """Whether the newest item is followed; if not, the cursor's place."""
        if not self.n_items:
            self.tell_subtitle("")
        elif self.cursor == 0:
            self.tell_subtitle(f"{self.first_word} of {self.n_items:,} {self.scope}".rstrip())
        else:
            self.tell_subtitle(f"{self.cursor:,} above · g: {self.first_word}")

    @property
    def item(self) -> int:
        """The item under the cursor; -1 if there is none."""
        return int(self._items[self.n_items - 1 - self.cursor]) if self.n_items else -1

    def go_to(self, item: int) -> None:
        """Put the cursor on an item, if it is listed."""
        found = np.flatnonzero(self._items == item)
        if len(found):
            self._go(self.n_items - 1 - int(found[-1]))

    def make_line(self, y: int) -> Strip:
        """The header stays in place; everything below scrolls."""
        width = self.scrollable_content_region.width
        if y == 0:
            return self._strip(self.header(width), width, self.component("list--header"))
        line = self.scroll_offset.y + y - 1
        if not self.n_items and y <= len(self.empty):
            text = fmt.filled(self.empty[y - 1], width)
            return self._strip([(text, "muted")], width, Style())
        if line >= self.n_items:
            return Strip.blank(width, Style(bgcolor=self.ground.bgcolor))
        cursor = Style()
        if line == self.cursor:
            # Only the background: the colours of the cells carry information.
            cursor = Style(bgcolor=self.get_component_rich_style("list--cursor").bgcolor)
        return self._strip(
            self.cells(int(self._items[self.n_items - 1 - line]), width), width, cursor
        )

    def _kind_style(self, kind: str, *, chosen: bool) -> Style:
        """Nothing in the chosen line is muted."""
        if not kind or (chosen and kind == "muted"):
            return Style()
        return self.component(f"list--{kind}")

    def _strip(self, cells: list[Cell], width: int, over: Style) -> Strip:
        base, chosen = self.ground, over.bgcolor is not None
        styles = {
            kind: base + self._kind_style(kind, chosen=chosen) + over
            for kind in {kind for _, kind in cells}
        }
        segments = [Segment(text, styles[kind]) for text, kind in cells]
        return Strip(segments).adjust_cell_length(width, base + over)

    def action_move(self, lines: int) -> None:
        """Move the cursor by lines."""
        self._go(self.cursor + lines)

    def action_page(self, pages: int) -> None:
        """Move the cursor by pages."""
        self._go(self.cursor + pages * max(1, self.size.height - 2))

    def action_newest(self) -> None:
        """Go to the newest, and follow."""
        self._go(0)

    def action_oldest(self) -> None:
        """Go to the oldest."""
        self._go(self.n_items - 1)

    def action_choose(self) -> None:
        """Open the item under the cursor."""
        if self.n_items:
            self.chosen(self.item)

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; one on the cursor opens."""
        line = self.scroll_offset.y + event.get_content_offset_capture(self).y - 1
        if event.get_content_offset_capture(self).y == 0 or not 0 <= line < self.n_items:
            return
        if line == self.cursor:
            self.action_choose()
        else:
            self._go(line)

    def _go(self, line: int) -> None:
        self.cursor = max(0, min(line, self.n_items - 1))
        # One line for the header that always covers the first.
        height = max(1, self.scrollable_content_region.height - 1)
        top = self.scroll_offset.y
        if self.cursor < top:
            top = self.cursor
        elif self.cursor >= top + height:
            top = self.cursor - height + 1
        self.scroll_to(y=top, animate=False, force=True, immediate=True)
        self._tell_place()
        self.refresh_changed()
        if self.n_items:
            self.moved(self.item)
