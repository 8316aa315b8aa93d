"""The header of a GGUF file: its metadata, and the type and shape of each tensor.

The library that reads the tensors does not read the header here. It refuses a file with an unknown
type without naming the type, and allocates memory for impossible lengths. Layout:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_NAMES = {
    **dict(enumerate(("F32", "F16", "Q4_0", "Q4_1"))),
    **dict(enumerate(("Q5_0", "Q5_1", "Q8_0", "Q8_1"), 6)),
    **dict(enumerate(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"), 10)),
    **dict(enumerate(("IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S"), 16)),
    **dict(enumerate(("IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"), 22)),
    **{34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4"},
}
_LAYOUTS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_MAX_NAME_BYTES = 65_535
_MAX_DEPTH = 4


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The part of a file that can be read without knowing anything about tensors."""

    metadata: dict[str, Any]
    types: dict[str, str]
    """The type of each tensor, by name; an unknown type is a number."""
    shapes: dict[str, tuple[int, ...]]
    """Rows first, as MLX has them."""


def read_header(path: Path) -> GgufHeader:
    """Read it.

    Raises:
        ValueError: It is no GGUF file, or an incomplete one.
    """
    with path.open("rb") as file:
        try:
            if file.read(4) != b"GGUF":
                raise ValueError("it does not begin as one")
            version, n_tensors, n_values = _read(file, "<IQQ")
            if version not in (2, 3):
                raise ValueError(f"it is of version {version}; versions 2 and 3 are supported")
            header = GgufHeader({}, {}, {})
            for _ in range(n_values):
                key = _string(file, _MAX_NAME_BYTES)
                header.metadata[key] = _value(file, _read(file, "<I")[0])
            for _ in range(n_tensors):
                _tensor(file, header)
        except struct.error as error:
            raise ValueError("it ends before its header does") from error
    return header


def _tensor(file: BinaryIO, header: GgufHeader) -> None:
    name = _string(file, _MAX_NAME_BYTES)
    (n_dimensions,) = _read(file, "<I")
    if n_dimensions > 8:
        raise ValueError("its header is damaged")
    shape = _read(file, f"<{n_dimensions}Q")
    number, _offset = _read(file, "<IQ")
    header.types[name] = _NAMES.get(number, f"number {number}")
    header.shapes[name] = tuple(reversed(shape))


def _value(file: BinaryIO, kind: int, depth: int = 0) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind in _LAYOUTS:
        return _read(file, f"<{_LAYOUTS[kind]}")[0]
    if kind != _ARRAY or depth > _MAX_DEPTH:
        raise ValueError(f"its header has a value of unknown kind {kind}")
    inner, n_items = _read(file, "<IQ")
    if inner in _LAYOUTS:
        n_bytes = n_items * struct.calcsize(f"<{_LAYOUTS[inner]}")
        return list(struct.unpack(f"<{n_items}{_LAYOUTS[inner]}", _bytes(file, n_bytes)))
    return [_value(file, inner, depth + 1) for _ in range(n_items)]


def _string(file: BinaryIO, most_bytes: int = 1 << 30) -> str:
    (n_bytes,) = _read(file, "<Q")
    if n_bytes > most_bytes:
        raise ValueError("its header is damaged")
    return _bytes(file, n_bytes).decode(errors="replace")


def _bytes(file: BinaryIO, n_bytes: int) -> bytes:
    """So many bytes; memory is taken for those that are there."""
    if n_bytes >= 1 << 40:
        raise ValueError("its header is damaged")
    parts = []
    while n_bytes:
        part = file.read(min(n_bytes, 1 << 24))
        if not part:
            raise struct.error
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


def _read(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    """Unpack the next bytes; a short read raises `struct.error`."""
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
