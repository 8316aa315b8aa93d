"""Server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from __future__ import annotations

from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()


def sse(name: str, data: dict[str, Any]) -> bytes:
    """One event with a JSON body; JSON text holds no line breaks, so one data line is enough."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encoder.encode(data))
