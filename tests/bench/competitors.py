"""Those that mlxdeck is compared with, each in a process of its own on the same weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from tests.real import ROOT, free_port, get

PEERS = ("mlx_lm.server", "vllm-mlx")
"""The first is a part of mlx-lm, and always there."""


class Bare:
    """The bare batch loop, behind a pipe."""

    def __init__(self, folder: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.bare", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        assert self._process.stdout and self._process.stdin
        while "ready" not in self._process.stdout.readline():
            if self._process.poll() is not None:
                raise RuntimeError("the bare loop did not start")

    def tokens_per_s(self, n: int, first: int) -> float:
        """One batch of `n`."""
        return self._ask(f"{first} {n}")

    def turn_s(self, known_tokens: int, new_tokens: int) -> float:
        """Seconds to a first token, with so many tokens known and so many new."""
        return self._ask(f"turn {known_tokens} {new_tokens}")

    def n_tokens(self, system: str, *turns: str) -> int:
        """Tokens of a conversation, up to where the answer begins; turns as in `known.ask`."""
        roles = ("user", "assistant")
        messages = [{"role": "system", "content": system}]
        messages += [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
        return int(self._ask(f"count {json.dumps(messages)}"))

    def _ask(self, line: str) -> float:
        assert self._process.stdout and self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def environment() -> dict[str, str]:
    """For a child that imports mlxdeck and the tests from this checkout."""
    return {**os.environ, "PYTHONPATH": f"{ROOT / '.pkg'}{os.pathsep}{ROOT}"}


def fast_blas() -> dict[str, str]:
    """Variables that give a program, which knows nothing of it, the BLAS that mlxdeck uses."""
    path = load_fast_blas().path
    return {"LD_PRELOAD": str(path)} if path else {}


@contextmanager
def served(
    command: list[str], port: int, environ: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run another server until the block ends; yields its URL."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**environment(), **(environ or {})},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                get(f"{url}/health")
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def peers(folder: Path) -> Iterator[dict[str, str]]:
    """Other servers of the same model, by name: their URLs; vllm-mlx only if it is on PATH."""
    with ExitStack() as stack:
        full = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        full_precision(folder, full)
        port = free_port()
        command = [sys.executable, "-m", "tests.bench.bare", "--serve", str(full), str(port)]
        urls = {"mlx_lm.server": stack.enter_context(served(command, port))}
        if binary := shutil.which("vllm-mlx"):
            port = free_port()
            command = [binary, "serve", str(full), "--port", str(port), "--host", "127.0.0.1"]
            command += ["--continuous-batching", "--served-model-name", "default_model"]
            # It would run on the reference BLAS: the same one as ours is only fair.
            urls["vllm-mlx"] = stack.enter_context(served(command, port, fast_blas()))
        yield urls


def full_precision(folder: Path, target: Path) -> None:
    """Write the weights as mlxdeck holds them, for servers that would not convert them."""
    code = (
        "import sys; from pathlib import Path;"
        "from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas; "
        "load_fast_blas();"
        "from mlxdeck.server.backends.local.engine.models.loader import load_weights;"
        "from mlx_lm.utils import save_model, save_config;"
        "m, t, c = load_weights(Path(sys.argv[1])); out = Path(sys.argv[2]);"
        "save_model(out, m); c.pop('quantization', None); c.pop('quantization_config', None);"
        "save_config(c, out / 'config.json')"
    )
    command = [sys.executable, "-c", code, str(folder), str(target)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment())
    for file in folder.iterdir():
        told = file.suffix in {".json", ".jinja", ".txt"} and "index" not in file.name
        if told and file.name != "config.json":
            (target / file.name).write_bytes(file.read_bytes())
