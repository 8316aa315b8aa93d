"""Who may import whom, and how long things may get. A new module is covered without being listed.

The rules are in ARCHITECTURE.md; the tables below are them. Every check works on sources held in a
dict, so that the second half of this file can plant violations and see them found.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = "mlxdeck"
PACKAGES = ("cli", "server", "telemetry", "tui")

MAY_IMPORT = {
    "telemetry": {"msgspec", "numpy"},
    "tui": {"mlxdeck.telemetry", "textual", "rich", "numpy"},
    "server": {"sanic", "msgspec"},
    "cli": {"mlxdeck.server", "mlxdeck.telemetry", "mlxdeck.tui"},
}
"""Beside the standard library and itself."""
MAY_ALSO_IMPORT = {
    "mlxdeck.server.config.settings": {"platformdirs"},
    "mlxdeck.server.observe": {"mlxdeck.telemetry"},
    "mlxdeck.server.cache.answers.redis": {"redis"},
    "mlxdeck.server.admin.metrics": {"prometheus_client"},
    "mlxdeck.server.dialects.json_parts": {"numpy"},
    "mlxdeck.telemetry.export.tables": {"pyarrow"},
    "mlxdeck.tui.outputs.browser": {"textual_serve", "aiohttp"},
    "mlxdeck.server.schemas": {"jsonschema", "re2"},
    "mlxdeck.server.backends.local.engine": {
        "mlx", "mlx_lm", "llguidance", "transformers", "tokenizers", "huggingface_hub", "jinja2",
        "numpy", "gguf",
    },
}  # fmt: skip
"""A module, or a package with all that is in it."""

LAYERS = (
    {"checkpoints", "errors", "lenient_json"},
    {"chat", "schemas", "load"},
    {"request_facts"},
    {"canonicalize", "cache", "dialects", "observe", "backends.local.engine"},
    {"backends.base", "backends.local.handover", "backends.local.activity"},
    {
        "backends.local.prompt",
        "backends.local.kv",
        "backends.local.scheduler",
        "backends.local.toolcalls",
    },
    {
        "pipeline",
        "backends.local.preparation",
        "backends.local.prompt_thread",
        "backends.local.sampling",
    },
)
"""Inside server, from the bottom up. Members of a layer don't import one another; what isn't named
here stands on top of them all, below the two that put a server together."""
ONLY_ON_TOP = {"config"}
"""Components take plain arguments: these don't reach below `pipeline`'s callers."""

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60

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


def imported(module: str, source: str, known: Sources) -> set[str]:
    """Names of all that a module imports, at any depth of nesting, relative ones resolved.

    Of `from a import b`, it is `a.b` if that is a module of ours, and `a` otherwise.
    """
    is_package = any(other.startswith(f"{module}.") for other in known)
    parts = module.split(".") if is_package else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            names = {f"{origin}.{alias.name}" for alias in node.names}
            found |= {name if name in known else origin for name in names}
            # What no source is known of may still be one of the four packages.
            found |= {name for name in names if origin == PROJECT}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)}
    return found - {PROJECT, "__future__"}


def is_in(name: str, packages: set[str]) -> bool:
    """Whether a dotted name is one of some packages, or inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def is_bare(name: str) -> bool:
    """Whether it would load a second copy of a module, or something else entirely."""
    return name.split(".")[0] in PACKAGES


def forbidden_imports(modules: Sources) -> Iterator[str]:
    """Imports that no arrow allows."""
    for module, source in modules.items():
        package = module.split(".")[1]
        allowed = MAY_IMPORT[package] | {f"{PROJECT}.{package}"}
        for owner, extra in MAY_ALSO_IMPORT.items():
            allowed = allowed | extra if is_in(module, {owner}) else allowed
        for name in sorted(imported(module, source, modules)):
            is_standard = name.split(".")[0] in sys.stdlib_module_names
            if is_bare(name) or not (is_standard or is_in(name, allowed)):
                yield f"{module} -> {name}"


def relative_imports(modules: Sources) -> Iterator[str]:
    """Imports that don't say where they lead."""
    for module, source in modules.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield f"{module}, line {node.lineno}"


def unit(module: str) -> str:
    """What a module of the server belongs to: a unit of `LAYERS`, or else its first folder."""
    name = module.removeprefix(f"{PROJECT}.server.")
    named = (unit for layer in LAYERS for unit in layer if is_in(name, {unit}))
    return next(named, name.split(".")[0])


def rank(name: str) -> int:
    """Height of a unit of the server."""
    heights = {member: height for height, layer in enumerate(LAYERS) for member in layer}
    top = len(LAYERS)
    return ({"app": top + 1, "launch": top + 2} | heights).get(name, top)


def upward_imports(modules: Sources) -> Iterator[str]:
    """Imports within the server that point up, or across a layer."""
    server = f"{PROJECT}.server"
    for module, source in modules.items():
        if not module.startswith(f"{server}."):
            continue
        here = unit(module)
        for name in sorted(imported(module, source, modules)):
            there = unit(name)
            if not name.startswith(f"{server}.") or there == here:
                continue
            up = rank(there) > rank(here)
            across = rank(there) == rank(here) < len(LAYERS)
            if up or across or (there in ONLY_ON_TOP and rank(here) < len(LAYERS)):
                yield f"{module} -> {name}"


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
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_in_packages(modules: Sources) -> Iterator[str]:
    """Packages whose `__init__` is more than a docstring: importing a part would run it."""
    for module, source in modules.items():
        is_package = any(other.startswith(f"{module}.") for other in modules)
        body = ast.parse(source).body
        n_docstrings = int(bool(ast.get_docstring(ast.parse(source))))
        if is_package and len(body) > n_docstrings:
            yield module


def twice_named_classes(modules: Sources) -> Iterator[str]:
    """Class names, private ones too, that more than one module defines."""
    homes = defaultdict(set)
    for module, source in modules.items():
        for node in ast.walk(ast.parse(source)):
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
    *(forbidden_imports, relative_imports, upward_imports, cycles, long_things),
    *(code_in_packages, twice_named_classes),
)


@pytest.mark.parametrize(
    "check",
    CHECKS,
)
def test_packages_keep_the_rules(check: object) -> None:
    """Arrows, order inside the server, no rings, house limits, names."""
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
        (["tui"], HEAVY | {"sanic", "mlxdeck.server", "mlxdeck.cli"}),
        (["server"], HEAVY | {"textual", "mlxdeck.tui", "mlxdeck.cli"}),
        (WEIGHTLESS, HEAVY | {"sanic", "textual", "mlxdeck.telemetry"}),
        (["cli"], HEAVY | {"sanic", "textual", "numpy", "mlxdeck.server.app", "mlxdeck.tui.app"}),
    ],
    ids=["telemetry", "tui", "server", "weightless", "cli"],
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
    "mlxdeck.server.observe": "from mlxdeck.telemetry.schema import events",
    "mlxdeck.server.pipeline": "from mlxdeck.server.cache.cache_keys import key",
    "mlxdeck.server.config.settings": "import platformdirs",
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
        ("mlxdeck.telemetry.new", "import mlxdeck.server.app"),
        ("mlxdeck.telemetry.new", "from mlxdeck import server"),
        ("mlxdeck.telemetry.new", "from ..server import app"),
        ("mlxdeck.telemetry.new", "import textual"),
        ("mlxdeck.tui.new", "from mlxdeck.server.chat import Text"),
        ("mlxdeck.tui.new", "from mlxdeck import server"),
        ("mlxdeck.tui.new", "def f():\n    from .. import server"),
        ("mlxdeck.tui.new", "import msgspec"),
        ("mlxdeck.server.new", "import mlx.core as mx"),
        ("mlxdeck.server.new", "from mlx_lm.utils import load"),
        ("mlxdeck.server.new", "import importlib\nimportlib.import_module('mlx.core')"),
        ("mlxdeck.server.new", "from mlxdeck.telemetry.schema.events import Tick"),
        ("mlxdeck.server.new", "from mlxdeck import telemetry"),
        ("mlxdeck.server.new", "import platformdirs"),
        ("mlxdeck.server.new", "import server.app"),
        ("mlxdeck.server.cache.cache_keys", "from tui import app"),
        ("mlxdeck.server.cache.new", "import tokenizers"),
        ("mlxdeck.server.config.settings", "import sanic, textual"),
        (f"{LOCAL}.engine.new", "import textual"),
        ("mlxdeck.cli.new", "import mlx"),
    ],
)
def test_forbidden_import_is_found(module: str, line: str) -> None:
    """Whichever way it is written."""
    found = list(forbidden_imports(with_(module, line)))
    assert len(found) == 1
    assert found[0].startswith(f"{module} -> ")


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("mlxdeck.server.errors", "from mlxdeck.server.chat import Text"),
        ("mlxdeck.server.chat", f"from {LOCAL}.engine import api"),
        (f"{LOCAL}.engine.mlx.engine", f"from {LOCAL}.prompt.renderer import Prompt"),
        (f"{LOCAL}.kv.new", f"from {LOCAL}.prompt import renderer"),
        ("mlxdeck.server.cache.cache_keys", f"from {LOCAL}.prompt import renderer"),
        ("mlxdeck.server.cache.new", "from ..observe import Trace"),
        ("mlxdeck.server.observe", "def f():\n    import mlxdeck.server.pipeline"),
        ("mlxdeck.server.pipeline", "from mlxdeck.server.app import create_app"),
        ("mlxdeck.server.pipeline", "from mlxdeck.server.config.settings import Settings"),
        ("mlxdeck.server.pipeline", "from mlxdeck.server.unheard_of import x"),
        ("mlxdeck.server.new", "from mlxdeck.server.app import create_app"),
        ("mlxdeck.server.app", "from mlxdeck.server.launch import serve"),
    ],
)
def test_arrow_that_points_up_is_found(module: str, line: str) -> None:
    """Up or across, from a folder or from a file."""
    modules = {**with_(module, line), "mlxdeck.server.unheard_of": ""}
    found = list(upward_imports(modules))
    assert len(found) == 1
    assert found[0].startswith(f"{module} -> ")


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
