"""Models of the Hugging Face Hub: whole ones, or their headers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlxdeck.server.backends.local.engine.models.weight_sizes import TensorHeader
from mlxdeck.server.errors import EngineFailed

WEIGHTS = "model*.safetensors"
_SMALL_FILES = ["*.json", "*.jinja", "*.txt", "tokenizer.model", "*.tiktoken"]
"""Never *.py: no code comes with a model."""


class ModelNotFound(EngineFailed):
    """The name leads to no model; the text says what names there are."""


def fetched(name: str) -> Path:
    """The folder of a model, downloaded if it isn't there yet; a cut-off download continues.

    Raises:
        ModelNotFound: It can't be had.
    """
    from huggingface_hub import snapshot_download

    with _one_line_of(name):
        return Path(snapshot_download(name, allow_patterns=[*_SMALL_FILES, WEIGHTS]))


@contextmanager
def headers(name: str) -> Iterator[tuple[Path, list[TensorHeader]]]:
    """A folder with a model's small files, until the block ends, and what its weights are.

    Raises:
        ModelNotFound: It can't be had.
    """
    from huggingface_hub import get_safetensors_metadata, snapshot_download

    with tempfile.TemporaryDirectory(prefix="mlxdeck-hub-") as scratch:
        with _one_line_of(name):
            snapshot_download(name, local_dir=scratch, allow_patterns=_SMALL_FILES)
            told = get_safetensors_metadata(name)
        yield (
            Path(scratch),
            [
                TensorHeader(tensor, str(info.dtype), info.shape)
                for file in told.files_metadata.values()
                for tensor, info in file.tensors.items()
            ],
        )


@contextmanager
def _one_line_of(name: str) -> Iterator[None]:
    """Turn what the Hub's client raises inside the block into one line.

    Raises:
        ModelNotFound: The model can't be had.
    """
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        NotASafetensorsRepoError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except NotASafetensorsRepoError as error:
        raise ModelNotFound(f"{name} is no MLX model: it has no {WEIGHTS}") from error
    except RepositoryNotFoundError as error:
        reason = "there is none, or it needs a token (HF_TOKEN)"
        raise ModelNotFound(f"cannot fetch {name} from Hugging Face: {reason}") from error
    except LocalEntryNotFoundError as error:
        reason = "the Hub is out of reach and no copy is on this machine"
        remedy = "smollm2, a folder or a .gguf file needs no Hub"
        raise ModelNotFound(f"cannot fetch {name} from Hugging Face: {reason}; {remedy}") from error
    except (HfHubHTTPError, ValueError, OSError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelNotFound(f"cannot fetch {name} from Hugging Face: {reason}") from error
