"""JSON bodies and server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()


def to_json(value: Any) -> bytes:
    """Encode; text that is no valid Unicode, as a model may escape it, is sent as escapes."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def sse(name: str, data: dict[str, Any]) -> bytes:
    """One event with a JSON body; JSON text holds no line breaks, so one data line is enough."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), to_json(data))
