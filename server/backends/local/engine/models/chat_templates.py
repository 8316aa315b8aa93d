"""Where a model's folder keeps its chat templates: four places, one or several in each."""

from __future__ import annotations

import json
import os
import pkgutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

FILE = "chat_template.jinja"
FOLDER = "additional_chat_templates"
PROCESSORS_FILE = "chat_template.json"
PREFERRED = ("tool_use", "default")
MAX_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Templates:
    """All that there are, by name; `chosen` is the one that requests are rendered with."""

    by_name: Mapping[str, str] = field(default_factory=dict)
    chosen: str = ""

    def without_unknown_parts(
        self, tokenizer_config: Mapping[str, Any], notes: list[str]
    ) -> dict[str, Any]:
        """The tokenizer's config with the chosen template, and without what mlx-lm lacks."""
        config = {k: v for k, v in tokenizer_config.items() if k != "chat_template"}
        if self.chosen:
            config["chat_template"] = self.by_name[self.chosen]
        instead = "its own template is used" if self.chosen else "it is left out"
        for key, package, remedy in (
            ("chat_template_type", "mlx_lm.chat_templates", instead),
            ("tool_parser_type", "mlx_lm.tool_parsers", "the template tells the format"),
        ):
            if key in config and config[key] not in _modules(package):
                if config[key] is not None:
                    name = str(config[key])[:50]
                    notes.append(f"mlx-lm has no {key} {name!r}: {remedy}")
                del config[key]
        return config


def find_templates(
    folder: Path, tokenizer_config: Mapping[str, Any], notes: list[str]
) -> Templates:
    """Every template of a folder; of two with the same name, the one in a separate file counts."""
    found: dict[str, str] = {}
    found |= _named(_processors(folder / PROCESSORS_FILE, notes))
    found |= _named(tokenizer_config.get("chat_template"))
    beside = folder / FOLDER
    names = sorted(os.listdir(beside)) if beside.is_dir() else []
    for name in names:
        if name.endswith(".jinja") and (text := _text(beside / name, notes)):
            found[name.removesuffix(".jinja")] = text
    if text := _text(folder / FILE, notes):
        found["default"] = text
    chosen = next((name for name in PREFERRED if name in found), next(iter(found), ""))
    return Templates(found, chosen)


def _named(told: Any) -> dict[str, str]:
    """One template, a list of named ones, or an object of them."""
    if isinstance(told, str):
        return {"default": told} if told.strip() else {}
    if isinstance(told, list):
        told = {
            each["name"]: each["template"]
            for each in told
            if isinstance(each, Mapping) and {"name", "template"} <= each.keys()
        }
    if not isinstance(told, Mapping):
        return {}
    return {str(name): text for name, text in told.items() if isinstance(text, str)}


def _processors(path: Path, notes: list[str]) -> Any:
    text = _text(path, notes)
    if not text:
        return None
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        notes.append(f"{path.name} is broken: it is left out")
        return None
    return told.get("chat_template", told) if isinstance(told, dict) else told


def _text(path: Path, notes: list[str]) -> str:
    """A file's text; empty, with a note, if it is there and can't be read."""
    if not path.exists() and not path.is_symlink():
        return ""
    try:
        told = path.stat()
        if stat.S_ISREG(told.st_mode) and told.st_size <= MAX_BYTES:
            return path.read_text(encoding="utf-8")
        reason = "it is no file of text"
    except OSError as error:
        reason = error.strerror or "it can't be read"
    except UnicodeDecodeError:
        reason = "it is not in UTF-8"
    notes.append(f"{path.name} is left out: {reason}")
    return ""


def _modules(package: str) -> set[str]:
    return {each.name for each in pkgutil.iter_modules(import_module(package).__path__)}
