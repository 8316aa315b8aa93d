"""The part of the application that colours what is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import App
from textual.filter import LineFilter

from mlxdeck.tui.text.sanitize import Plain
from mlxdeck.tui.themes import THEMES, further_colours, next_theme
from mlxdeck.tui.widgets.dimmed import Dimmed


class Themed(App[None]):
    """Has the dashboard's own themes beside those of Textual."""

    def __init__(self) -> None:
        super().__init__()
        self._filters_by_dim: dict[str, tuple[LineFilter, LineFilter]] = {}
        for theme in THEMES:
            self.register_theme(theme)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and those that keep foreign text plain and dim text readable."""
        colour = self.theme_variables.get("dim", "")
        if (own := self._filters_by_dim.get(colour)) is None:
            # The same objects each time: Textual keeps what a filter has made of a line.
            own = self._filters_by_dim[colour] = Dimmed(colour), Plain()
        return [own[0], *super().get_line_filters(), own[1]]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours that Textual's own themes don't have."""
        return dict(further_colours(self.current_theme))

    def action_dark(self) -> None:
        """Go through the dark, the light and the high-contrast theme."""
        self.theme = next_theme(self.theme)
