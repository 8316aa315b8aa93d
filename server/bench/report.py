"""The benchmark's result, as one JSON document and for a person. Nothing in it is private."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from mlxdeck.server.bench.figures import table
from mlxdeck.server.bench.machine import machine
from mlxdeck.server.bench.measures import BenchTarget
from mlxdeck.server.bench.sizes import Sizes
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.declaration import declared

FORMAT = 1
"""Of the document. It rises when a figure changes its meaning."""


def report(
    targets: Sequence[BenchTarget], sizes: Sizes, *, quick: bool, settings: Settings | None
) -> dict[str, Any]:
    """Everything that is to be shared; `settings` are those of a server of our own."""
    return {
        "mlxdeck_bench": FORMAT,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "quick": quick,
        "settings": changed(settings) if settings else {},
        "sizes": asdict(sizes),
        "servers": [_server(each) for each in targets],
    }


def _server(target: BenchTarget) -> dict[str, Any]:
    status = target.client.status()
    facts = {
        "context_tokens": status.get("context_tokens"),
        "device": status.get("device"),
        "versions": status.get("versions"),
        "memory": {
            name: status.get("memory", {}).get(name) for name in ("peak_bytes", "process_bytes")
        } if status else None,
    }  # fmt: skip
    return {
        "name": target.name,
        "model": model_name(str(status.get("model") or target.client.model)),
        "api": target.client.api,
        **{name: value for name, value in facts.items() if value},
        "figures": {
            name: float(f"{value:.4g}") for name, value in target.measured.figures().items()
        },
        "not_measured": target.measured.lacking,
    }


def model_name(name: str) -> str:
    """A model's name without the folders around it, which are the user's."""
    is_path = name.startswith(("/", "~", ".")) or name.count("/") > 1
    return name.rstrip("/").rpartition("/")[2] if is_path else name


def changed(settings: Settings) -> dict[str, bool | int | float]:
    """Numbers and switches that differ from their defaults. Texts could be private."""
    found = {}
    for name, each in declared(Settings).items():
        now = getattr(settings, name)
        if name != "port" and isinstance(now, bool | int | float) and now != each.default:
            found[name] = now
    return found


def lines(told: dict[str, Any], targets: Sequence[BenchTarget]) -> Iterator[str]:
    """For a terminal: what was measured on what, a row a figure, and the JSON to be pasted."""
    own, where = told["servers"][0], told["machine"]
    yield (
        f"{own['model']} on {where['chip']}, {where['cores']} cores, "
        f"{where['memory_gib']} GiB, {where['system']}"
    )
    if versions := own.get("versions"):
        yield ", ".join(f"{name} {number}" for name, number in versions.items())
    yield ""
    yield from table((each.name, each.measured) for each in targets)
    yield ""
    yield "To share these figures, paste this line:"
    yield as_line(told)


def as_line(told: dict[str, Any]) -> str:
    """The same as one line of JSON."""
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False)
