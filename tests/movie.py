"""The moving picture of the README: frames of the real dashboard as one SVG that CSS animates.

A line that stands in several frames is drawn once. No script and nothing that must be fetched, so
that it also moves where a page shows it as an image. Blocks and frames are drawn as shapes, as
fonts leave gaps between them.

    python -m tests.movie
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from rich.color import Color
from rich.segment import Segment
from textual.pilot import Pilot
from textual.strip import Strip

from mlxdeck.tui.app import Dashboard
from tests.shots import FOLDER, RECORDINGS, WINDOW, loaded, read

SIZE = (132, 36)
CELL = (8.4, 17.0)
"""Width and height of a cell in pixels."""
FONT_PX = 14
FONTS = "Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
STORY: tuple[tuple[tuple[str, ...], int, float], ...] = (
    # keys, frames, and the seconds of the recording between two of them
    ((), 12, 1.5),
    (("v",), 3, 0.0),
    (("escape", "slash", *"agent:Explore"), 3, 0.0),
    (("escape", "escape", "s"), 4, 0.0),
    (("escape", "down", "down", "down", "enter"), 4, 0.0),
)
FRAME_S = 0.7
_SHAPES = {
    "█": (0, 0, 1, 1),
    "▀": (0, 0, 1, 1 / 2),
    "▌": (0, 0, 1 / 2, 1),
    "▐": (1 / 2, 0, 1 / 2, 1),
    "│": (0.45, 0, 0.1, 1),
    "─": (0, 0.47, 1, 0.06),
    "━": (0, 0.42, 1, 0.16),
    **{chr(0x2580 + n): (0, 1 - n / 8, 1, n / 8) for n in range(1, 8)},
    **{chr(0x2590 - n): (0, 0, n / 8, 1) for n in range(1, 4)},
}
"""Characters that are drawn as a box: its place and its size in shares of a cell."""
_PIECES = re.compile(
    rf"([{''.join(_SHAPES)}])\1*| +|[^ {''.join(_SHAPES)}]+(?: [^ {''.join(_SHAPES)}]+)*"
)
BEGINS_AT = 0.62
"""The share of the recording that has passed in the first frame."""


@dataclass(slots=True)
class Drawing:
    """Lines by their content, and the classes of their colours."""

    lines: dict[str, int] = field(default_factory=dict)
    colours: dict[str, str] = field(default_factory=dict)

    def line(self, strip: Strip) -> int:
        """The number of a line; one that was drawn before has its old number."""
        drawn = "".join(self._runs(strip))
        return self.lines.setdefault(drawn, len(self.lines))

    def _runs(self, strip: Strip) -> Iterator[str]:
        column = 0
        for segment in Segment.simplify(strip):
            width = segment.cell_length
            fore, back, bold = _look(segment)
            x, length = column * CELL[0], width * CELL[0]
            column += width
            if back:
                place = f'x="{x:.1f}" width="{length + 0.3:.1f}" height="{CELL[1]:.1f}"'
                yield f'<rect class="{self._class(back)}" {place}/>'
            weight = " b" if bold else ""
            for found in _PIECES.finditer(segment.text):
                cells, piece = Segment(found[0]).cell_length, found[0]
                if piece[0] in _SHAPES:
                    yield f'<rect class="{self._class(fore)}" {_box(piece, x)}/>'
                elif piece[0] != " ":
                    yield (
                        f'<text class="{self._class(fore)}{weight}" x="{x:.1f}" y="13" '
                        f'textLength="{cells * CELL[0]:.1f}">{escape(piece, quote=False)}</text>'
                    )
                x += cells * CELL[0]

    def _class(self, colour: str) -> str:
        return self.colours.setdefault(colour, f"c{len(self.colours)}")


def _box(piece: str, x: float) -> str:
    """Where the shape of one or more equal characters is."""
    left, top, width, height = _SHAPES[piece[0]]
    if width == 1:
        width = len(piece)
    return (
        f'x="{x + left * CELL[0]:.1f}" y="{top * CELL[1]:.1f}" '
        f'width="{width * CELL[0]:.1f}" height="{height * CELL[1]:.1f}"'
    )


def _look(segment: Segment) -> tuple[str, str, bool]:
    """Colour of the text, colour behind it, and whether it is bold."""
    style = segment.style
    if style is None:
        return "#c0c0c0", "", False
    fore, back = _hex(style.color), _hex(style.bgcolor)
    if style.reverse:
        fore, back = back, fore
    return fore or "#c0c0c0", back, bool(style.bold)


def _hex(colour: Color | None) -> str:
    return colour.get_truecolor().hex if colour is not None else ""


def svg(frames: Sequence[tuple[Sequence[Strip], float]], size: tuple[int, int]) -> str:
    """Frames, each with the seconds that it is seen, one after the other and round again."""
    drawing, total_s, at_s = Drawing(), sum(seconds for _, seconds in frames), 0.0
    groups, rules = list[str](), list[str]()
    for number, (strips, seconds) in enumerate(frames):
        uses = "".join(
            f'<use href="#l{drawing.line(strip)}" y="{row * CELL[1]:.0f}"/>'
            for row, strip in enumerate(strips)
        )
        groups.append(f'<g class="f" style="animation-name:f{number}">{uses}</g>')
        begin, end = (100 * moment / total_s for moment in (at_s, at_s + seconds))
        hidden = "0%{visibility:hidden}" if number else ""
        rules.append(
            f"@keyframes f{number}{{{hidden}{begin:.3f}%{{visibility:visible}}"
            f"{end:.3f}%,100%{{visibility:hidden}}}}"
        )
        at_s += seconds
    width, height = size[0] * CELL[0], size[1] * CELL[1]
    style = "".join(
        (
            f"text{{font:{FONT_PX}px {FONTS};white-space:pre}}.b{{font-weight:bold}}",
            f".f{{visibility:hidden;animation:{total_s:.1f}s step-end infinite}}",
            *rules,
            *(f".{name}{{fill:{colour}}}" for colour, name in drawing.colours.items()),
        )
    )
    lines = "".join(f'<g id="l{number}">{drawn}</g>' for drawn, number in drawing.lines.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'xml:space="preserve"><style>{style}</style><defs>{lines}</defs>'
        f'<rect width="100%" height="100%" fill="#14161e"/>{"".join(groups)}</svg>\n'
    )


async def frames(recording: Path) -> list[tuple[list[Strip], float]]:
    """What the dashboard shows as the story goes on."""
    expected = read(recording)
    app = Dashboard([recording], window=WINDOW, replay=True)
    now_ts = expected.first_ts + (expected.last_ts - expected.first_ts) * BEGINS_AT
    found = list[tuple[list[Strip], float]]()
    async with app.run_test(size=SIZE) as pilot:
        await loaded(pilot, app, expected.n_lines)
        for keys, n_frames, step_s in STORY:
            for key in keys:
                await pilot.press(key)
            for _ in range(n_frames if step_s else 1):
                now_ts += step_s
                app.context.clock.hold_at(now_ts)
                await _drawn(pilot, app)
                seen_s = FRAME_S if step_s else FRAME_S * n_frames
                found.append((app.screen._compositor.render_strips(), seen_s))
    return found


async def _drawn(pilot: Pilot[None], app: Dashboard) -> None:
    app.redraw_now()
    await pilot.pause()
    await pilot.pause()


def main() -> None:
    """Write the moving picture."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    target = FOLDER / "dashboard.svg"
    made = svg(asyncio.run(frames(RECORDINGS / "afternoon.jsonl")), SIZE)
    target.write_text(made, encoding="utf-8")
    print(f"{target}: {len(made.encode()) // 1000} KB")


if __name__ == "__main__":
    main()
