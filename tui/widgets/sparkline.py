"""Values as bars, in one line or in several: pure."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

BARS = "▁▂▃▄▅▆▇█"
_EIGHTHS = 8


def sparkline(
    values: Iterable[float], width: int, top: float | None = None, height: int = 1
) -> list[str]:
    """The last `width` values as bars from zero to `top` or the highest, the top line first.

    Blank where there is none; a value that is known shows at least the lowest bar.
    """
    shown = np.array(list(values)[-width:], float)
    known = shown[~np.isnan(shown)]
    if not len(known) or known.max() <= 0:
        return [" " * width] * height
    span, full = top or float(known.max()), height * _EIGHTHS
    eighths = np.clip(np.nan_to_num(shown) / span * full, 1, full).astype(int)
    eighths[np.isnan(shown)] = 0
    return [
        "".join(_bar(n - line * _EIGHTHS) for n in eighths.tolist()).rjust(width)
        for line in reversed(range(height))
    ]


def _bar(eighths: int) -> str:
    return BARS[min(eighths, _EIGHTHS) - 1] if eighths > 0 else " "
