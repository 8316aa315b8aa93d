"""The real tokenizers of families, without their models."""

from __future__ import annotations

import functools
import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from mlx_lm.tokenizer_utils import load

from mlxdeck.server.engine.mlx_tokenizer import MlxTokenizer
from tests.zoo.vocabularies import VOCABULARIES


@functools.cache
def tokenizer(vocabulary: str, template: str = "") -> MlxTokenizer:
    """A family's tokenizer, with its own template or another one.

    Raises:
        Unavailable: It can't be had here.
    """
    return MlxTokenizer(_wrapper(vocabulary, template), template)


@functools.cache
def _wrapper(vocabulary: str, template: str) -> object:
    del template
    return load(VOCABULARIES[vocabulary].folder())
