"""What is drawn line by line, and draws again only the lines that look another way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget


class LineWidget(Widget):
    """Subclasses make the lines, and call `refresh_changed` when there may be other ones."""

    def __init__(self, *children: Widget, **options: Any) -> None:
        super().__init__(*children, **options)
        self._drawn_lines: dict[int, Strip] = {}
        """As they are on the screen."""
        self._made_lines: dict[int, Strip] = {}
        """Lines that are about to be drawn, so that they are not made twice."""
        self._made_size = Size()
        self._is_drawing = False
        self._ground: Style | None = None
        self._components: dict[str, Style] = {}
        self._border_texts: dict[str, str] = {}
        self._border_line: tuple[Region, ...] = ()

    def make_line(self, y: int) -> Strip:
        """One line of cells, as it has to look now."""
        raise NotImplementedError

    @property
    def ground(self) -> Style:
        """Colours of the widget itself; looked up once for all the lines that are made together."""
        if self._ground is None:
            own = self.rich_style
            self._ground = Style(color=own.color, bgcolor=own.bgcolor)
        return self._ground

    def component(self, name: str) -> Style:
        """Colour and weight of a component class. Textual looks it up anew after each drawing."""
        if (found := self._components.get(name)) is None:
            own = self.get_component_rich_style(name)
            found = self._components[name] = Style(color=own.color, bold=own.bold)
        return found

    def notify_style_update(self) -> None:
        """The theme or the focus has changed."""
        self._components, self._made_lines = {}, {}
        super().notify_style_update()

    def refresh_changed(self, lines: Iterable[int] | None = None) -> None:
        """Draw again what looks another way than on the screen; `lines` are all that may."""
        size = self.size
        if not (self.is_mounted and self.display and size):
            self.refresh()
            return
        self._ground = None
        made = {y: self.make_line(y) for y in (range(size.height) if lines is None else lines)}
        changed = {y: line for y, line in made.items() if line != self._drawn_lines.get(y)}
        if changed:
            self.refresh(*(Region(0, y, size.width, 1) for y in changed))
        # Also if there are none: a line that waits to be drawn may be back at what it was.
        self._made_lines, self._made_size = changed, size

    def refresh(self, *regions: Region, **options: bool) -> Self:
        """As of any widget; what was made before may be out of date."""
        if not self._border_line:
            self._made_lines = {}
        return super().refresh(*regions or self._border_line, **options)

    def render_lines(self, crop: Region) -> list[Strip]:
        """What goes to the screen."""
        self._is_drawing, self._ground = True, None
        try:
            return super().render_lines(crop)
        finally:
            self._is_drawing = False

    def render_line(self, y: int) -> Strip:
        """One line of cells; the mouse also asks for it, and then it is not drawn."""
        line = self._made_lines.pop(y, None) if self.size == self._made_size else None
        line = self.make_line(y) if line is None else line
        if self._is_drawing:
            self._drawn_lines[y] = line
        return line

    def tell_title(self, text: str) -> bool:
        """Set the text in the upper border, as markup. Only that line is drawn, and if it changed.

        Returns whether it changed.
        """
        return self._tell_border("border_title", text, -self.gutter.top)

    def tell_subtitle(self, text: str) -> bool:
        """The same in the lower border."""
        return self._tell_border(
            "border_subtitle", text, self.outer_size.height - self.gutter.top - 1
        )

    def _tell_border(self, name: str, text: str, y: int) -> bool:
        if self._border_texts.get(name) == text:
            return False
        self._border_texts[name] = text
        # Textual draws all of a widget whose border gets a text.
        self._border_line = (Region(-self.gutter.left, y, self.outer_size.width, 1),)
        try:
            setattr(self, name, text)
        finally:
            self._border_line = ()
        return True
