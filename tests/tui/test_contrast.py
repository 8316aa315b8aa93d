"""What is drawn can be read: colours against their ground, in every theme, on every screen."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from rich.style import Style
from textual.color import Color
from textual.pilot import Pilot
from textual.screen import ModalScreen

from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.panels.registry import PANEL_IDS
from mlxdeck.tui.themes import THEME_NAMES
from tests.shots import Shot, shown

TEXT = dict.fromkeys(THEME_NAMES, 4.5) | {"mlxdeck-contrast": 7.0}
LINE = 3.0
LINES = range(0x2500, 0x25A0), range(0x2800, 0x2900)
"""Box drawing, blocks and braille."""
BLOCKS = "▁▂▃▄▅▆▇█"
FILLS = ("success", "primary")
WALK = (
    (), ("slash", "c", "a"), ("escape", "escape", "question_mark"), ("escape", "s"),
    ("escape", "x"), ("escape", "e"), ("escape", "c", "down", "c"), ("escape", "enter"),
)  # fmt: skip
"""Keys from one screen to the next: filter, help, sessions, bad lines, export, compare, request."""


def unreadable(app: Dashboard) -> Iterator[tuple[str, str, float]]:
    """A theme, a text, and its contrast, where it is too low."""
    strips = app.screen._compositor.render_strips()
    # What a dialog covers is dimmed on purpose.
    dialogs = app.screen.children if isinstance(app.screen, ModalScreen) else [app.screen]
    for region in (dialog.region for dialog in dialogs):
        for strip in strips[region.y : region.bottom]:
            for text, style, _ in strip.crop(region.x, region.right):
                for alone in _parts(style or Style(), app, text):
                    yield from _too_low(app.theme, text, alone)


def _parts(style: Style, app: Dashboard, text: str) -> list[Style]:
    """A cell's colours against its ground: where two parts of a bar meet, both against that of
    the screen.
    """
    fills = {Color.parse(app.theme_variables[name]).rich_color for name in FILLS}
    if style.bgcolor not in fills or not all(letter in BLOCKS for letter in text):
        return [style]
    ground = Color.parse(app.theme_variables["background"]).rich_color
    return [Style(color=each, bgcolor=ground) for each in (style.color, style.bgcolor)]


def _too_low(theme: str, text: str, style: Style) -> Iterator[tuple[str, str, float]]:
    for is_line, least in ((True, LINE), (False, TEXT[theme])):
        own = "".join(each for each in text if _is_line(each) == is_line).strip()
        ratio = _contrast(style) if own else least
        if ratio < least - 0.005:
            yield theme, own, round(ratio, 2)


def _is_line(letter: str) -> bool:
    return any(ord(letter) in each for each in LINES) or unicodedata.category(letter) == "Zs"


def _contrast(style: Style) -> float:
    assert style.color and style.bgcolor and not style.dim
    one, other = (Color.from_rich_color(each) for each in (style.color, style.bgcolor))
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Color) -> float:
    """As WCAG 2 defines it."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
             for part in colour.normalized]  # fmt: skip
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


async def test_everything_can_be_read_in_every_theme() -> None:
    """Texts have 4.5:1, in the theme of high contrast 7:1; lines, bars and dots have 3:1."""
    found, screens = set[tuple[str, str, float]](), list[str]()
    async with shown(Shot("", (200, 56), recording="afternoon.jsonl")) as app:
        pilot = Pilot[None](app)
        for panel in [*app.context.ways.hidden]:
            await pilot.press(str(PANEL_IDS.index(panel) + 1))
        for keys in WALK:
            await pilot.press(*keys)
            for theme in THEME_NAMES:
                # Nothing is drawn for a terminal, as `unreadable` draws it all.
                with app.batch_update():
                    app.theme = theme
                    app.redraw_now()
                    await pilot.pause()
                    found.update(unreadable(app))
            screens.append(type(app.screen).__name__)
    assert not found
    assert len({*screens}) == len(WALK) - 1
