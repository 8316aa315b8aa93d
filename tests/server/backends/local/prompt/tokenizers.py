"""The real tokenizers of families, without their models."""

from __future__ import annotations

import copy
import functools
import os
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from mlx_lm.tokenizer_utils import load

from mlxdeck.server.backends.local.engine.mlx.tokenizer import MlxTokenizer
from tests.zoo.vocabularies import VOCABULARIES


@functools.cache
def tokenizer(vocabulary: str, template: str = "") -> MlxTokenizer:
    """A family's tokenizer, with its own template or another one.

    Raises:
        Unavailable: It can't be had here.
    """
    return MlxTokenizer(_wrapper(vocabulary), template)


@functools.cache
def _loaded(vocabulary: str) -> Any:
    return load(VOCABULARIES[vocabulary].folder())


def _wrapper(vocabulary: str) -> Any:
    """A copy with a template of its own, over the same tokenizer."""
    wrapper = copy.copy(_loaded(vocabulary))
    wrapper._tokenizer = copy.copy(wrapper._tokenizer)
    return wrapper
