"""A model's config.json as mlx-lm's classes can take it: numbers as numbers, gaps left to defaults.

Which architectures there are is asked of mlx-lm, without importing any of them but the one.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from mlxdeck.server.backends.local.engine.models.context_window import KEYS

_NUMERIC = re.compile(
    r"(^|_)(size|sizes|dim|dims|heads?|layers?|theta|eps|embeddings|length|factor|freq|base|experts?"
    r"|rank|group|groups|window|scale|period|interval|tok|topk|bits|positions|ctx|len|multiplier"
    r"|intermediate|hidden|embd|scaling|cap|softcapping|limit)$"
)
"""Names of settings that are numbers, at any level."""
_MAX_DIGITS = 18
"""Of a number that came as text: Python refuses to read thousands."""


@cache
def supported_types() -> frozenset[str]:
    """The model types that mlx-lm has classes for."""
    import mlx_lm.models
    from mlx_lm.utils import MODEL_REMAPPING

    found = {module.name for module in pkgutil.iter_modules(mlx_lm.models.__path__)}
    return frozenset(found | set(MODEL_REMAPPING)) - {"base", "cache", "rope_utils", "pipeline"}


def nearest_types(kind: str) -> str:
    """For a message: the type that was probably intended."""
    near = difflib.get_close_matches(kind, supported_types(), n=3, cutoff=0.5)
    return f"the nearest are {', '.join(near)}" if near else "none is called alike"


def mended(raw: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """The config with repairs; `notes` describes them."""
    changed: list[str] = []
    config: dict[str, Any] = _numbers(raw, "", changed)
    if with_ends(config, config.get("vocab_size")):
        changed.append("eos_token_id")
    if changed:
        notes.append(f"config.json: {', '.join(sorted(changed)[:8])} were repaired")
    return config


def with_window(config: dict[str, Any], n_tokens: int) -> dict[str, Any]:
    """The config with a window where the architecture's class insists on one."""
    names = _required(config) & {"max_position_embeddings", "model_max_length"}
    return config | {name: n_tokens for name in names if config.get(name) is None}


def with_ends(config: dict[str, Any], vocabulary: Any) -> bool:
    """Keep only valid ids in `eos_token_id`; return whether that changed anything."""
    told = config.get("eos_token_id")
    cleaned = token_ids(told, vocabulary)
    if told is None or cleaned == (told if isinstance(told, list) else [told]):
        return False
    config["eos_token_id"] = cleaned
    if not cleaned:
        del config["eos_token_id"]
    return True


def token_ids(value: Any, vocabulary: Any = None) -> list[int]:
    """Token ids from one number or a list of them; anything else is left out."""
    limit = vocabulary if isinstance(vocabulary, int) and vocabulary > 0 else math.inf
    found = []
    for each in value if isinstance(value, list) else [value]:
        is_text = isinstance(each, str) and each.isdecimal() and len(each) <= _MAX_DIGITS
        number = int(each) if is_text else each
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < limit:
            found.append(number)
    return found


def _numbers(part: Mapping[str, Any], prefix: str, changed: list[str]) -> dict[str, Any]:
    """Numbers that came as text read as such; numbers that are none left out."""
    found: dict[str, Any] = {}
    for name, value in part.items():
        if isinstance(value, Mapping):
            value = _numbers(value, f"{prefix}{name}.", changed)
        elif _NUMERIC.search(name):
            number = _number(value)
            if number is not value:
                changed.append(f"{prefix}{name}")
            # Null means a default only where it can't mean "none": how far a layer looks can be.
            if number is None and (name in KEYS or value is not None):
                continue
            value = number
        found[name] = value
    return found


def _number(value: Any) -> Any:
    """A number for a text that is one, None for null and NaN, anything else as it is."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value.strip().replace("_", ""))
        except ValueError:
            continue
    return value


def _required(config: Mapping[str, Any]) -> set[str]:
    """Settings that the architecture's class can't do without."""
    from mlx_lm.utils import MODEL_REMAPPING

    kind = config["model_type"]
    try:
        arguments = importlib.import_module(
            f"mlx_lm.models.{MODEL_REMAPPING.get(kind, kind)}"
        ).ModelArgs
        fields = dataclasses.fields(arguments)
    except (ImportError, AttributeError, TypeError):
        return set()
    missing = dataclasses.MISSING
    return {f.name for f in fields if f.default is missing and f.default_factory is missing}
