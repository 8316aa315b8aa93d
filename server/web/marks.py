"""Headers by which requests say what they are, and how long they may take."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from mlxdeck.server.errors import BadRequest

UNRECORDED = "x-mlxdeck-check"
"""A request with it is answered like any other, and stays out of telemetry and totals.

`mlxdeck check` sends it.
"""
TIMEOUT_S = "x-mlxdeck-timeout-s"
"""Seconds that a request may take; it can shorten the limit of the settings."""
MAX_S = 999_999_999
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def limit_s(headers: Mapping[str, str], most_s: float) -> float:
    """How long a request may take, where the settings allow `most_s`; 0 for any time.

    Raises:
        BadRequest: The header is no number above 0 and up to `MAX_S`.
    """
    sent = headers.get(TIMEOUT_S)
    if sent is None:
        return most_s
    asked_s = float(sent) if _SECONDS.fullmatch(sent.strip()) else 0.0
    if not 0 < asked_s <= MAX_S:
        wanted = f"must be a number of seconds above 0 and at most {MAX_S:,}, such as 2.5"
        raise BadRequest(TIMEOUT_S, f"{wanted}, not {sent[:50]!r}")
    return min(asked_s, most_s or math.inf)
