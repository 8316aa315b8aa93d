"""JSON bodies and server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from typing import Any

import msgspec

from mlxdeck.server.dialects.surrogates import whole_value

_encoder = msgspec.json.Encoder()


def to_json(value: Any) -> bytes:
    """Encode; halves of surrogate pairs, as a model may escape them, are replaced."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(whole_value(value))


def sse(name: str, data: dict[str, Any]) -> bytes:
    """One event with a JSON body; JSON text holds no line breaks, so one data line is enough."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), to_json(data))
