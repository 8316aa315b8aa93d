"""Exit statuses of the server.

0: a signal stopped it · 1: it could not start · 2: the command line or a setting is wrong ·
75: the engine was lost · a signal's number: it crashed, or was killed
"""

from __future__ import annotations

import signal

STATUS_ENGINE_LOST = 75
"""EX_TEMPFAIL of sysexits.h: the engine hangs or can't be rebuilt; starting again may help."""
ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a program to end."""


def is_fault(status: int) -> bool:
    """Whether starting again may help; `status` as `subprocess` has it, negative for a signal."""
    return status == STATUS_ENGINE_LOST or (status < 0 and -status not in ASKED)


def described(status: int) -> str:
    """A status in words."""
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
