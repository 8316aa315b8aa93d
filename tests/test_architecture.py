"""What import-linter can't say of the house: third-party imports, rings, lengths, names, processes.

Its contracts, for imports between our own modules, are in pyproject.toml; `make lint` checks them.
Every check here works on sources held in a dict, so that the second half of this file can plant
violations and see them found, by import-linter too. A new module is covered without being listed.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = "mlxdeck"
PACKAGES = ("cli", "server", "settings", "telemetry", "tui")

MAY_IMPORT = {
    "telemetry": {"msgspec", "numpy"},
    "tui": {"textual", "rich", "numpy"},
    "server": {"msgspec"},
    "settings": {"platformdirs"},
    "cli": set[str](),
}
"""Of third parties, anywhere in a package."""
MAY_ALSO_IMPORT = {
    "mlxdeck.server.app": {"sanic"},
    "mlxdeck.server.launch": {"sanic"},
    "mlxdeck.server.lifecycle.shutdown": {"sanic"},
    "mlxdeck.server.web": {"sanic"},
    "mlxdeck.server.cache.answers.redis": {"redis"},
    "mlxdeck.server.admin.metrics": {"prometheus_client"},
    "mlxdeck.server.dialects.json_parts": {"numpy"},
    "mlxdeck.telemetry.export.tables": {"pyarrow"},
    "mlxdeck.telemetry.export.otlp": {"opentelemetry", "requests"},
    "mlxdeck.cli.completion": {"shtab"},
    "mlxdeck.tui.outputs.browser": {"textual_serve", "aiohttp"},
    "mlxdeck.server.schemas": {"jsonschema", "re2"},
    "mlxdeck.server.backends.upstream": {"httpx2"},
    "mlxdeck.server.backends.local.engine": {
        "mlx", "mlx_lm", "llguidance", "transformers", "tokenizers", "huggingface_hub", "jinja2",
        "numpy", "gguf",
    },
}  # fmt: skip
"""A module, or a package with all that is in it."""

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60

FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef

Sources = Mapping[str, str]
"""Module names, as `mlxdeck.server.app`, and the text of each. Packages are named without
`__init__`."""


def sources(folder: Path, prefix: str) -> dict[str, str]:
    """Every module below a folder."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join([prefix, *(part for part in parts if part != "__init__")])
        found[name] = path.read_text(encoding="utf-8")
    return found


REAL = {
    name: text for package in PACKAGES
    for name, text in sources(ROOT / package, f"{PROJECT}.{package}").items()
}  # fmt: skip
TESTS = sources(ROOT / "tests", "tests")


@functools.cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """Those of a module that checks look at, read once for all of them."""
    asked = ast.Import | ast.ImportFrom | ast.Call | ast.ClassDef
    found = ast.walk(ast.parse(source))
    return tuple(node for node in found if isinstance(node, asked | FUNCTION))


def imported(module: str, source: str, known: Sources) -> set[str]:
    """Names of all that a module imports, at any depth of nesting, relative ones resolved.

    Of `from a import b`, it is `a.b` if that is a module of ours, and `a` otherwise.
    """
    is_package = any(other.startswith(f"{module}.") for other in known)
    parts = module.split(".") if is_package else module.split(".")[:-1]
    found = set()
    for node in nodes(source):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            names = {f"{origin}.{alias.name}" for alias in node.names}
            found |= {name if name in known else origin for name in names}
            # What no source is known of may still be one of the four packages.
            found |= {name for name in names if origin == PROJECT}
    return (found | called_imports(source)) - {PROJECT, "__future__"}


def called_imports(source: str) -> set[str]:
    """Names that are given to `import_module`."""
    if "import_module" not in source:
        return set()
    calls = (node for node in nodes(source) if isinstance(node, ast.Call))
    return {
        str(arg.value)
        for call in calls
        if ast.unparse(call.func).endswith("import_module")
        for arg in call.args
        if isinstance(arg, ast.Constant)
    }


def is_in(name: str, packages: set[str]) -> bool:
    """Whether a dotted name is one of some packages, or inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def is_bare(name: str) -> bool:
    """Whether it would load a second copy of a module, or something else entirely."""
    return name.split(".")[0] in PACKAGES


def third_party_imports(modules: Sources) -> Iterator[str]:
    """Imports of other people's packages where they don't belong, or of ours by half a name."""
    for module, source in modules.items():
        allowed = MAY_IMPORT[module.split(".")[1]]
        for owner, extra in MAY_ALSO_IMPORT.items():
            allowed = allowed | extra if is_in(module, {owner}) else allowed
        for name in sorted(imported(module, source, modules)):
            root = name.split(".")[0]
            is_free = root == PROJECT or root in sys.stdlib_module_names
            if is_bare(name) or not (is_free or is_in(name, allowed)):
                yield f"{module} -> {name}"
        # What import-linter doesn't see.
        for name in called_imports(source):
            if name.startswith(f"{PROJECT}."):
                yield f"{module} -> {name}"


def relative_imports(modules: Sources) -> Iterator[str]:
    """Imports that don't say where they lead."""
    for module, source in modules.items():
        for node in nodes(source):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield f"{module}, line {node.lineno}"


def cycles(modules: Sources) -> Iterator[str]:
    """A ring of modules that import one another, if there is one."""
    graph = {
        module: imported(module, source, modules) & modules.keys() - {module}
        for module, source in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield " -> ".join(error.args[1])


def long_things(modules: Sources) -> Iterator[str]:
    """Modules and functions that should be several."""
    for module, source in modules.items():
        n_lines = len(source.splitlines())
        if n_lines > MAX_MODULE_LINES:
            yield f"{module}: {n_lines} lines"
        for node in functions(source):
            n_lines = (node.end_lineno or 0) - node.lineno + 1
            if n_lines > MAX_FUNCTION_LINES:
                yield f"{module}.{node.name}: {n_lines} lines"


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods of a module."""
    for node in nodes(source):
        if isinstance(node, FUNCTION):
            yield node


def code_in_packages(modules: Sources) -> Iterator[str]:
    """Packages whose `__init__` is more than a docstring: importing a part would run it."""
    for module, source in modules.items():
        if not any(other.startswith(f"{module}.") for other in modules):
            continue
        tree = ast.parse(source)
        if len(tree.body) > bool(ast.get_docstring(tree)):
            yield module


def twice_named_classes(modules: Sources) -> Iterator[str]:
    """Class names, private ones too, that more than one module defines."""
    homes = defaultdict(set)
    for module, source in modules.items():
        for node in nodes(source):
            if isinstance(node, ast.ClassDef):
                homes[node.name].add(module)
    for name, modules_ in homes.items():
        if len(modules_) > 1:
            yield f"{name}: {', '.join(sorted(modules_))}"


def silent_tests(modules: Sources) -> Iterator[str]:
    """Tests that don't say what they are for."""
    for module, source in modules.items():
        for node in functions(source):
            if node.name.startswith("test_") and not ast.get_docstring(node):
                yield f"{module}.{node.name}"


CHECKS = (
    *(third_party_imports, relative_imports, cycles, long_things),
    *(code_in_packages, twice_named_classes),
)


@pytest.mark.parametrize(
    "check",
    CHECKS,
)
def test_packages_keep_the_rules(check: object) -> None:
    """Third-party imports, no rings, house limits, names."""
    assert callable(check)
    assert list(check(REAL)) == []


def test_every_test_says_what_it_tests() -> None:
    """One line each; the names alone don't tell what should happen."""
    assert list(silent_tests(TESTS)) == []


HEAVY = {"mlx", "mlx_lm", "llguidance", "transformers", "tokenizers", "huggingface_hub"}
WEIGHTLESS = [
    "server.dialects",
    "server.cache",
    "server.backends.local.toolcalls",
    "server.backends.local.prompt",
    "server.backends.local.kv",
]


@pytest.mark.parametrize(
    ("prefixes", "absent"),
    [
        (["telemetry"], HEAVY | {"sanic", "textual", "mlxdeck.server", "mlxdeck.tui"}),
        (["settings"], HEAVY | {"sanic", "textual", "numpy", "mlxdeck.server", "mlxdeck.tui"}),
        (["tui"], HEAVY | {"sanic", "mlxdeck.server", "mlxdeck.cli"}),
        (["server"], HEAVY | {"textual", "mlxdeck.tui", "mlxdeck.cli"}),
        (WEIGHTLESS, HEAVY | {"sanic", "textual", "mlxdeck.telemetry"}),
        (["cli"], HEAVY | {"sanic", "textual", "numpy", "mlxdeck.server.app", "mlxdeck.tui.app"}),
    ],
    ids=["telemetry", "settings", "tui", "server", "weightless", "cli"],
)
def test_what_is_not_needed_is_not_loaded(prefixes: list[str], absent: set[str]) -> None:
    """Seen from inside a process, as the static view cannot tell what an import drags in."""
    chosen = {f"{PROJECT}.{prefix}" for prefix in prefixes}
    # The engine's own modules are where MLX belongs; its seam and its test double do without.
    engine = f"{PROJECT}.server.backends.local.engine"
    light = {engine, f"{engine}.api", f"{engine}.echo"}
    weighty = {name for name in REAL if is_in(name, {engine})} - light
    names = [name for name in REAL if is_in(name, chosen) and name not in weighty]
    loaded = modules_after_import(names)
    assert {name for name in loaded if is_in(name, absent)} == set()


def modules_after_import(names: list[str]) -> set[str]:
    """What a fresh process has loaded after importing some modules."""
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    environ = os.environ | {"PYTHONPATH": str(ROOT / ".pkg")}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd="/", capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


LOCAL = "mlxdeck.server.backends.local"
SOUND = {
    "mlxdeck.telemetry.schema.events": "import msgspec",
    "mlxdeck.server.errors": "import enum",
    "mlxdeck.server.chat": "from mlxdeck.server.errors import ServerError",
    f"{LOCAL}.engine": "",
    f"{LOCAL}.engine.api": "from mlxdeck.server.errors import EngineFailed",
    f"{LOCAL}.engine.mlx.engine": f"import mlx.core as mx\nfrom {LOCAL}.engine.api import Engine",
    f"{LOCAL}.prompt.renderer": f"from {LOCAL}.engine.api import Tokenizer",
    "mlxdeck.server.cache": "",
    "mlxdeck.server.cache.cache_keys": "import hashlib",
    "mlxdeck.server.observe.trace": "from mlxdeck.telemetry.schema import events",
    "mlxdeck.server.pipeline": "from mlxdeck.server.cache.cache_keys import key",
    "mlxdeck.settings.program": "import platformdirs",
    "mlxdeck.server.config.settings": "from mlxdeck.settings.program import ProgramSettings",
    f"{LOCAL}.backend": "from mlxdeck.server.config.settings import Settings",
    "mlxdeck.server.app": "import sanic\nfrom mlxdeck.server.config.settings import Settings",
    "mlxdeck.tui.app": "from textual import app\nfrom mlxdeck.telemetry.schema.events import Tick",
    "mlxdeck.cli.main": "def f():\n    from mlxdeck.server import app",
}
"""A small project that keeps every rule."""


def with_(module: str, line: str) -> dict[str, str]:
    """The sound project with one more line somewhere, perhaps in a new module."""
    return {**SOUND, module: f"{SOUND.get(module, '')}\n{line}\n"}


def test_sound_project_passes() -> None:
    """The checks don't find what is not there."""
    for check in CHECKS:
        assert list(check(SOUND)) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("mlxdeck.telemetry.new", "import textual"),
        ("mlxdeck.tui.new", "import msgspec"),
        ("mlxdeck.server.new", "import mlx.core as mx"),
        ("mlxdeck.server.new", "from mlx_lm.utils import load"),
        ("mlxdeck.server.new", "import importlib\nimportlib.import_module('mlx.core')"),
        ("mlxdeck.server.new", "import platformdirs"),
        ("mlxdeck.server.new", "import server.app"),
        ("mlxdeck.server.cache.cache_keys", "from tui import app"),
        ("mlxdeck.server.cache.new", "import tokenizers"),
        ("mlxdeck.server.config.settings", "import sanic"),
        (f"{LOCAL}.engine.new", "import textual"),
        ("mlxdeck.cli.new", "import mlx"),
        ("mlxdeck.tui.new", "import importlib\nimportlib.import_module('mlxdeck.server.app')"),
    ],
)
def test_import_of_third_parties_is_found(module: str, line: str) -> None:
    """Whichever way it is written."""
    found = list(third_party_imports(with_(module, line)))
    assert len(found) == 1
    assert found[0].startswith(f"{module} -> ")


PLANTED = [
    ("mlxdeck.telemetry.new", "import mlxdeck.server.app", "mlxdeck.server.app"),
    ("mlxdeck.telemetry.other", "from mlxdeck import tui", "mlxdeck.tui"),
    ("mlxdeck.settings.new", "import mlxdeck.server.config", "mlxdeck.server.config"),
    ("mlxdeck.tui.new", "from mlxdeck.server.chat import Text", "mlxdeck.server.chat"),
    ("mlxdeck.tui.other", "def f():\n    from mlxdeck import server", "mlxdeck.server"),
    ("mlxdeck.server.service.new", "from mlxdeck.telemetry import schema", "mlxdeck.telemetry"),
    ("mlxdeck.server.chat.new", f"from {LOCAL}.engine import api", f"{LOCAL}.engine.api"),
    (f"{LOCAL}.engine.new", f"from {LOCAL}.prompt import renderer", f"{LOCAL}.prompt.renderer"),
    (f"{LOCAL}.kv.new", f"from {LOCAL}.prompt import renderer", f"{LOCAL}.prompt.renderer"),
    ("mlxdeck.server.cache.new", f"from {LOCAL}.prompt import renderer", f"{LOCAL}.prompt"),
    ("mlxdeck.server.cache.other", "import mlxdeck.server.observe", "mlxdeck.server.observe"),
    ("mlxdeck.server.observe.new", "import mlxdeck.server.pipeline", "mlxdeck.server.pipeline"),
    ("mlxdeck.server.pipeline.new", "import mlxdeck.server.app", "mlxdeck.server.app"),
    ("mlxdeck.server.pipeline.other", "import mlxdeck.server.config", "mlxdeck.server.config"),
    (f"{LOCAL}.kv.other", "import mlxdeck.server.config", "mlxdeck.server.config"),
    (f"{LOCAL}.engine.other", "import mlxdeck.server.cache", "mlxdeck.server.cache"),
    ("mlxdeck.server.app.new", "import mlxdeck.server.launch", "mlxdeck.server.launch"),
    ("mlxdeck.server.backends.base.new", f"import {LOCAL}.kv", f"{LOCAL}.kv"),
]
"""Modules, a line in each, and what import-linter calls the module that is imported."""


def lint_imports(modules: Sources, folder: Path) -> str:
    """What import-linter says of some modules among all that the contracts name."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    names = set(modules)
    for contract in tomllib.loads(text)["tool"]["importlinter"]["contracts"]:
        layers = " ".join(contract.get("layers", [])).replace("(", "").replace(")", "")
        for container in contract.get("containers", []):
            names |= {f"{container}.{name}" for name in re.findall(r"\w+", layers)}
    names |= {f"{PROJECT}.{package}" for package in PACKAGES}
    for name in names:
        path = folder / Path(*name.split(".")) / "__init__.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(modules.get(name, ""))
    for package in (folder / PROJECT).rglob("*"):
        if package.is_dir() and not (package / "__init__.py").exists():
            (package / "__init__.py").touch()
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    run = subprocess.run(
        [*command, str(ROOT / "pyproject.toml")], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "500"},
    )  # fmt: skip
    return run.stdout + run.stderr


def test_contracts_find_imports_that_point_up_or_across(tmp_path: Path) -> None:
    """From a folder or from a file, at any depth; an unlisted module of the server is found too."""
    (tmp_path / "sound").mkdir()
    assert " 0 broken" in lint_imports(SOUND, tmp_path / "sound")
    planted = SOUND | {module: line for module, line, _ in PLANTED}
    found = lint_imports(planted, tmp_path)
    assert {(a, b) for a, _, b in PLANTED if f"{a} -> {b}" not in found} == set()
    unlisted = lint_imports(SOUND | {"mlxdeck.server.unheard_of": ""}, tmp_path / "unlisted")
    assert "- mlxdeck.server.unheard_of" in unlisted


def test_relative_import_is_found() -> None:
    """Imports are absolute, so that one search finds every use of a module."""
    modules = with_("mlxdeck.server.cache.new", "from . import keys")
    assert list(relative_imports(modules)) == ["mlxdeck.server.cache.new, line 2"]


def test_ring_is_found() -> None:
    """Also one that goes through a function."""
    modules = with_("mlxdeck.server.errors", "def f():\n    from mlxdeck.server import chat")
    (ring,) = cycles(modules)
    assert "mlxdeck.server.errors" in ring
    assert "mlxdeck.server.chat" in ring


def test_length_is_found() -> None:
    """One line over is over."""
    body = "    pass\n" * 60
    modules = {"mlxdeck.tui.long": "\n" * 401, "mlxdeck.tui.app": f"async def f():\n{body}"}
    assert list(long_things(modules)) == [
        "mlxdeck.tui.long: 401 lines",
        "mlxdeck.tui.app.f: 61 lines",
    ]


def test_code_in_a_package_is_found() -> None:
    """Whatever it is; a module may hold some."""
    modules = {"mlxdeck.tui": '"""Draws."""', "mlxdeck.tui.app": "import os"}
    assert list(code_in_packages(modules)) == []
    modules["mlxdeck.tui"] += "\nX = 1"
    assert list(code_in_packages(modules)) == ["mlxdeck.tui"]


def test_twice_named_class_is_found() -> None:
    """Also in another package, and inside something else."""
    modules = {"mlxdeck.tui.a": "class A: ...\nclass B: ...", "mlxdeck.server.b": "class B: ..."}
    assert list(twice_named_classes(modules)) == ["B: mlxdeck.server.b, mlxdeck.tui.a"]


def test_silent_test_is_found() -> None:
    """A test without a docstring, also inside a class."""
    modules = {"tests.t": "class A:\n    def test_x(self):\n        pass\n"}
    assert list(silent_tests(modules)) == ["tests.t.test_x"]
