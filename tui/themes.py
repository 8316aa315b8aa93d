"""The dashboard's own themes, and the colours that it needs beside those of Textual's themes.

Text has a contrast of at least 4.5:1 on every ground that it stands on, and lines have 3:1; in the
theme of high contrast text has 7:1. A test measures this on what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.color import Color
from textual.theme import Theme

_GROUNDS = ("background", "surface", "panel")
_ROLES = ("primary", "secondary", "success", "warning", "error", "accent")


def _theme(name: str, *, dark: bool, **colours: str) -> Theme:
    foreground, chosen, dim, frame = (
        colours[each] for each in ("foreground", "chosen", "dim", "frame")
    )
    variables = {
        **{each: colours[each] for each in ("chosen", "dim", "frame", "grid")},
        # Textual makes texts of these by blending, with whatever contrast that gives.
        **{f"text-{role}": colours[role] for role in _ROLES},
        "text": foreground,
        "text-muted": dim,
        "text-disabled": dim,
        "border": colours["primary"],
        "border-blurred": frame,
        "scrollbar": frame,
        "scrollbar-background": colours["background"],
        "footer-key-foreground": colours["primary"],
        "block-cursor-foreground": foreground,
        "block-cursor-background": chosen,
        "block-cursor-blurred-foreground": foreground,
        "block-cursor-blurred-background": chosen,
        "input-selection-background": chosen,
        "input-selection-foreground": foreground,
    }
    own: Any = {each: colours[each] for each in ("foreground", *_GROUNDS, *_ROLES)}
    return Theme(name=name, dark=dark, variables=variables, **own)


THEMES = (
    _theme(
        "mlxdeck-dark",
        dark=True,
        background="#14161e",
        surface="#1c1f2a",
        panel="#272b3a",
        chosen="#2b3350",
        foreground="#dbe0f0",
        dim="#a0a8c0",
        frame="#707896",
        grid="#5c6480",
        primary="#82aaff",
        secondary="#7fd5e8",
        success="#a3d977",
        warning="#e8b86b",
        error="#ff8b9c",
        accent="#c3a6ff",
    ),
    _theme(
        "mlxdeck-light",
        dark=False,
        background="#fcfcfd",
        surface="#f1f3f6",
        panel="#e3e7ed",
        chosen="#d6e6fb",
        foreground="#1f2328",
        dim="#4c535d",
        frame="#767d88",
        grid="#858c97",
        primary="#0a51b3",
        secondary="#0b5f78",
        success="#116329",
        warning="#7a4a00",
        error="#b0122b",
        accent="#6233b5",
    ),
    _theme(
        "mlxdeck-contrast",
        dark=True,
        background="#000000",
        surface="#121212",
        panel="#1c1c1c",
        chosen="#1f2a5c",
        foreground="#ffffff",
        dim="#dcdcdc",
        frame="#c8c8c8",
        grid="#9a9a9a",
        primary="#8fd3ff",
        secondary="#7ff0f0",
        success="#7dff7d",
        warning="#ffd84d",
        error="#ffb0b0",
        accent="#f0b8ff",
    ),
)
"""In the order in which a key goes through them."""
THEME_NAMES = tuple(theme.name for theme in THEMES)
_SHARES = {"dim": 0.75, "frame": 0.45, "grid": 0.4}
"""Of the foreground over the background, in themes that don't say these colours."""


def further_colours(theme: Theme) -> Mapping[str, str]:
    """What a theme of Textual's own lacks of the colours that the dashboard needs."""
    if theme.name in THEME_NAMES:
        return {}
    told = theme.to_color_system().generate()
    if theme.ansi:
        shares = dict.fromkeys(_SHARES, told["foreground"])
        return {**shares, "chosen": told["block-cursor-blurred-background"]}
    ground, ink, primary = (
        Color.parse(told[name]) for name in ("background", "foreground", "primary")
    )
    shares = {name: ground.blend(ink, share).hex for name, share in _SHARES.items()}
    return {**shares, "chosen": ground.blend(primary, 0.25).hex}


def next_theme(name: str) -> str:
    """The theme after this one; after one of Textual's own, the first."""
    place = THEME_NAMES.index(name) + 1 if name in THEME_NAMES else 0
    return THEME_NAMES[place % len(THEME_NAMES)]
