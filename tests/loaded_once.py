"""Tokenizers and vocabularies of models, made once for all tests of a process.

Most models of tests share a few tokenizers, under other weights. To load one takes a quarter of a
second, to read its vocabulary for grammars another half.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

MOST_KEPT = 8
"""Those used last. A tokenizer of a large vocabulary takes hundreds of megabytes."""
_lock = threading.Lock()


@cache
def install() -> None:
    """Let engines find what another one has loaded."""
    import mlx_lm.utils

    from mlxdeck.server.backends.local.engine.mlx import grammars

    of_mlx_lm, of_grammars = vars(mlx_lm.utils), vars(grammars)
    of_mlx_lm["load_tokenizer"] = _tokenizer_once(of_mlx_lm["load_tokenizer"])
    of_grammars["Vocabulary"] = _vocabulary_once(of_grammars["Vocabulary"])


def _tokenizer_once(load: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[object, Any] = {}

    def loaded(path: Any, extra: Any = None, eos_token_ids: Any = None) -> Any:
        key = (_content(Path(path)), repr(extra), repr(eos_token_ids))
        found = _kept(known, key, lambda: load(path, extra, eos_token_ids=eos_token_ids))
        wrapper = copy.copy(found)
        wrapper._tokenizer = copy.copy(wrapper._tokenizer)
        wrapper._eos_token_ids = {*wrapper._eos_token_ids}
        return wrapper

    return loaded


def _content(folder: Path) -> str:
    """A digest of all files but the weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix != ".safetensors":
            digest.update(f"{path.name} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()


def _vocabulary_once(make: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[object, tuple[Any, Any]] = {}

    def made(tokenizer: Any, eos: Sequence[int]) -> Any:
        fast = tokenizer.backend_tokenizer
        # Kept with the tokenizer, so that none that is made later has its identity.
        key = (id(fast), len(tokenizer), tuple(eos))
        return _kept(known, key, lambda: (make(tokenizer, eos), fast))[0]

    return made


def _kept(known: dict[object, Any], key: object, make: Callable[[], Any]) -> Any:
    # Engines load on threads of their own.
    with _lock:
        found = known.pop(key) if key in known else make()
        known[key] = found
        if len(known) > MOST_KEPT:
            del known[next(iter(known))]
        return found
