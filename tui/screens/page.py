"""A page of text in a box over the screen below."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static


class PageScreen(ModalScreen[None]):
    """Subclasses say which keys close it."""

    DEFAULT_CSS = """
    PageScreen { align: center middle; }
    PageScreen > VerticalScroll {
        width: 70; max-width: 96%; height: auto; max-height: 90%;
        border: round $primary; border-title-color: $foreground; background: $surface;
        border-subtitle-color: $dim;
        padding: 1 2;
    }
    PageScreen Static { width: 1fr; height: auto; }
    """

    def __init__(self, title: str, texts: Iterable[RenderableType]) -> None:
        super().__init__()
        self._title = title
        self._texts = texts

    def compose(self) -> ComposeResult:
        """One text below the other, as long as the screen allows."""
        with VerticalScroll() as box:
            box.border_title, box.border_subtitle = self._title, "esc closes"
            for text in self._texts:
                yield Static(text, markup=False)
