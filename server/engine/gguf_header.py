"""Which types of tensor a GGUF file holds, read from its header.

MLX doesn't tell: it leaves out tensors of types that are newer than itself, and names no type when
it refuses one. Read before MLX reads it, as some files end the process there. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

_NAMES = {
    **dict(enumerate(("F32", "F16", "Q4_0", "Q4_1"))),
    **dict(enumerate(("Q5_0", "Q5_1", "Q8_0", "Q8_1"), 6)),
    **dict(enumerate(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"), 10)),
    **dict(enumerate(("IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S"), 16)),
    **dict(enumerate(("IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"), 22)),
    **{34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4"},
}
_VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8}
_STRING, _ARRAY, _DOUBLE = 8, 9, 12
_MAX_NAME_BYTES = 65_535


def tensor_types(path: Path) -> dict[str, str]:
    """The type of each tensor, by name; a type that isn't known is told by its number.

    Raises:
        ValueError: It is no GGUF file, an incomplete one, or one that MLX can't open.
    """
    with path.open("rb") as file:
        try:
            if file.read(4) != b"GGUF":
                raise ValueError("it does not begin as one")
            version, n_tensors, n_values = _read(file, "<IQQ")
            if version not in (2, 3):
                raise ValueError(f"it is of version {version}; versions 2 and 3 are supported")
            for _ in range(n_values):
                _skip_string(file)
                _skip_value(file, _read(file, "<I")[0])
            return dict(_tensor(file) for _ in range(n_tensors))
        except struct.error as error:
            raise ValueError("it ends before its header does") from error


def _tensor(file: BinaryIO) -> tuple[str, str]:
    (n_bytes,) = _read(file, "<Q")
    if n_bytes > _MAX_NAME_BYTES:
        raise ValueError("its header is damaged")
    name = file.read(n_bytes).decode(errors="replace")
    (n_dimensions,) = _read(file, "<I")
    _skip(file, 8 * n_dimensions)
    number, _offset = _read(file, "<IQ")
    return name, _NAMES.get(number, f"number {number}")


def _skip_value(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        _skip_string(file)
    elif kind == _ARRAY:
        inner, n_items = _read(file, "<IQ")
        if inner in _VALUE_BYTES:
            _skip(file, n_items * _VALUE_BYTES[inner])
        else:
            for _ in range(n_items):
                _skip_value(file, inner)
    elif kind in _VALUE_BYTES:
        _skip(file, _VALUE_BYTES[kind])
    elif kind == _DOUBLE:
        raise ValueError("it has a 64-bit fraction in its metadata, at which MLX 0.32 crashes")
    else:
        raise ValueError(f"its header has a value of unknown kind {kind}")


def _skip_string(file: BinaryIO) -> None:
    _skip(file, _read(file, "<Q")[0])


def _skip(file: BinaryIO, n_bytes: int) -> None:
    if n_bytes >= 1 << 62:
        raise ValueError("its header is damaged")
    file.seek(n_bytes, os.SEEK_CUR)


def _read(file: BinaryIO, layout: str) -> tuple[int, ...]:
    """Unpack the next bytes; a short read raises `struct.error`."""
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
