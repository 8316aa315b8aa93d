"""Arrays of KV states as bytes and back, with a description in JSON.

An array that is made of bytes in memory is complete at once. Types that numpy lacks travel as
numbers of the same size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models import cache as caches

from mlxdeck.server.backends.local.engine.api import PackedPart, StateDamaged
from mlxdeck.server.errors import one_line

DTYPES: dict[str, tuple[str, Any]] = {
    "bool": ("?", None),
    "bfloat16": ("<u2", mx.bfloat16),
    "float16": ("<f2", None),
    "float32": ("<f4", None),
    **{f"int{8 * n}": (f"<i{n}", None) for n in (1, 2, 4, 8)},
    **{f"uint{8 * n}": (f"<u{n}", None) for n in (1, 2, 4, 8)},
}
"""numpy's type of the bytes, and MLX's where that is another."""


def packed(told: dict[str, Any], held: Any) -> PackedPart:
    """Lists of arrays, numbers and texts, and what is told beside them. They are evaluated."""
    arrays: list[mx.array] = []
    tree = _described(held, arrays)
    kinds = [[str(each.dtype).rpartition(".")[2], list(each.shape)] for each in arrays]
    about = json.dumps(told | {"held": tree, "arrays": kinds}, separators=(",", ":"))
    return PackedPart(about, [memoryview(each) for each in arrays if each.size])  # type: ignore[arg-type]


def _described(held: Any, arrays: list[mx.array]) -> Any:
    """JSON of the same form: an array is its number in an object of its own."""
    if isinstance(held, mx.array):
        arrays.append(held)
        return {"array": len(arrays) - 1}
    if isinstance(held, list):
        return [_described(each, arrays) for each in held]
    if isinstance(held, tuple):
        return {"tuple": [_described(each, arrays) for each in held]}
    if held is None or isinstance(held, bool | int | float | str):
        return held
    raise ValueError(f"a state holds a {type(held).__name__}")


def unpacked(about: str, data: Any) -> tuple[dict[str, Any], Any]:
    """What was told, and what was held. Engine thread.

    Raises:
        StateDamaged: The bytes are something else.
    """
    with refused():
        told = json.loads(about)
        arrays, start, whole = [], 0, memoryview(data)
        for name, shape in told.pop("arrays"):
            kind, view = DTYPES[name]
            n = math.prod(shape)
            numbers = np.frombuffer(whole, kind, n, start) if n else np.zeros(0, kind)
            start += numbers.nbytes
            array = mx.array(numbers.reshape(shape))
            arrays.append(array if view is None else array.view(view))
        if start != len(whole):
            raise ValueError("it has bytes that belong to nothing")
        held = _rebuilt(told.pop("held"), arrays)
        mx.eval(arrays)
        return told, held


def _rebuilt(tree: Any, arrays: list[mx.array]) -> Any:
    if isinstance(tree, dict):
        if "array" in tree:
            return arrays[tree["array"]]
        return tuple(_rebuilt(each, arrays) for each in tree["tuple"])
    return [_rebuilt(each, arrays) for each in tree] if isinstance(tree, list) else tree


@contextmanager
def refused() -> Iterator[None]:
    """Whatever is wrong with bytes is told as one error."""
    try:
        yield
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise StateDamaged(f"the bytes hold no state: {one_line(error)}") from None


def cache_class(name: str) -> type[Any]:
    """One of mlx-lm's caches, and nothing else that has a name there.

    Raises:
        ValueError: It is none.
    """
    found = getattr(caches, name, None)
    if not (isinstance(found, type) and issubclass(found, caches._BaseCache)):
        raise ValueError(f"{name!r:.40} is no cache")
    return found
