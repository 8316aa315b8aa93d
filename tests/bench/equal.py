"""Equal greedy answers with and without each of what only saves time, on the corpora.

Three quarters of the answers are those of small random models, one of each kind of KV cache, and
the rest the built-in model's. A prompt is read twice only: as the reference, and for the caches.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from tests.bench.equality import Recording, answered, compared
from tests.bench.figures import figure
from tests.bench.load import heading
from tests.corpora.chats import chats
from tests.corpora.edits import edits

N_TOKENS = 64
N_ANSWERS = {"smollm2": 20, "small": 60, "gemma3": 40, "qwen3_5": 40, "deepseek_v3": 40}
"""Answers by model: the built-in one, plain, sliding, hybrid and latent attention."""
MAX_PROMPT_CHARS = {"smollm2": 1_500}
PLAIN: Mapping[str, Any] = {"prompt_lookup": False, "forced_spans": False}
REFERENCE: Mapping[str, Any] = {**PLAIN, "prefix_cache_bytes": 1, "disk_cache": False}
"""Nothing is reused, guessed or forced."""
FORM = {
    "type": "object",
    "properties": {
        "kind_of_change": {"enum": ["fix", "feature", "documentation"]},
        "number_of_lines": {"type": "integer", "minimum": 0, "maximum": 999},
        "needs_a_test": {"type": "boolean"},
        "short_description": {"type": "string", "maxLength": 60},
    },
    "required": ["kind_of_change", "number_of_lines", "needs_a_test", "short_description"],
}
TOOL = {"name": "record_change", "description": "Records it.", "input_schema": FORM}


def bodies(n: int, max_chars: int = 6_000, n_tokens: int = N_TOKENS) -> list[dict[str, Any]]:
    """So many requests of the corpora, all prompts different: edits of files, and chats."""
    examples = sorted([*edits(), *chats()], key=lambda each: each.name)
    short = [each.request for each in examples if len(json.dumps(each.request)) <= max_chars]
    step = max(1, len(short) // n)
    # The last token of an answer isn't told.
    return [{**body, "max_tokens": n_tokens + 1} for body in short[::step][:n]]


def held(asked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same requests, answered by a call whose arguments are held to a schema."""
    forced = {"tools": [TOOL], "tool_choice": {"type": "tool", "name": TOOL["name"]}}
    return [{**body, **forced} for body in asked]


async def recordings(folder: Path, asked: Sequence[Mapping[str, Any]]) -> dict[str, Recording]:
    """What is answered, by the row that says what is on; the reference has no row.

    Every fourth answer is held to a schema.
    """
    asked = [*asked[: -len(asked) // 4], *held(asked[-len(asked) // 4 :])]
    (found,) = await answered(folder, asked, **REFERENCE)
    rows = {"": found}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        _, rows["equal_blocks"] = await answered(folder, asked, 2, home=home, **PLAIN)
        (rows["equal_restore"],) = await answered(folder, asked, home=home, **PLAIN)
        # From here on, prompts are restored too: that needs no further time.
        for row, setting in (("equal_lookup", "prompt_lookup"), ("equal_forced", "forced_spans")):
            (rows[row],) = await answered(folder, asked, home=home, **{**PLAIN, setting: True})
    return rows


def model_folder(name: str, scratch: Path) -> Path:
    """Where a model is, made if it isn't there yet."""
    from mlxdeck.server.backends.local.engine.models.loader import resolve
    from tests.real import models_home
    from tests.zoo.families import FAMILIES
    from tests.zoo.models import small_smollm2

    if name == "smollm2":
        return resolve(name, models_home(), lambda _: None).path
    return small_smollm2(scratch / name) if name == "small" else FAMILIES[name].folder()


def equal_texts() -> None:
    """A line a model and a variant; the rows count answers that rounding does not explain."""
    load_fast_blas()
    heading(f"Greedy answers of {N_TOKENS} tokens that differ from those of nothing reused")
    wrong: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, n in N_ANSWERS.items():
            folder = model_folder(name, Path(scratch))
            asked = bodies(n, MAX_PROMPT_CHARS.get(name, 6_000))
            rows = asyncio.run(recordings(folder, asked))
            reference = rows.pop("")
            for row, recording in rows.items():
                found = compared(folder, reference, recording)
                share = recording.n_cached / recording.n_prompt
                print(
                    f"{name:<12} {row:<16} {found.n_answers:>4} answers,"
                    f" {len(found.gaps)} differ, {found.n_wrong} not by rounding"
                    f" (largest gap {max(found.gaps, default=0):.1e}); {share:.0%} known,"
                    f" {recording.n_passless / recording.n_written:.0%} without a pass",
                    flush=True,
                )
                wrong[row] = wrong.get(row, 0) + found.n_wrong
    for row, n_wrong in wrong.items():
        figure(row, n_wrong)
