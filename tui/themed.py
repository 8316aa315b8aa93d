"""The part of the application that colours what is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import App
from textual.filter import LineFilter

from mlxdeck.tui.themes import THEMES, further_colours, next_theme
from mlxdeck.tui.widgets.shown_text import ShownText


class Themed(App[None]):
    """Has the dashboard's own themes beside those of Textual."""

    def __init__(self) -> None:
        super().__init__()
        self._shown_texts: dict[str, ShownText] = {}
        """By the colour of dim text."""
        for theme in THEMES:
            self.register_theme(theme)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and those that keep foreign text plain and dim text readable."""
        colour = self.theme_variables.get("dim", "")
        if (own := self._shown_texts.get(colour)) is None:
            # The same one each time: Textual keeps what a filter has made of a line.
            own = self._shown_texts[colour] = ShownText(colour)
        return [own, *super().get_line_filters()]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours that Textual's own themes don't have."""
        return dict(further_colours(self.current_theme))

    def action_dark(self) -> None:
        """Go through the dark, the light and the high-contrast theme."""
        self.theme = next_theme(self.theme)
