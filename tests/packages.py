"""Packages of others, put into a folder as an installer would."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def install(
    folder: Path, package: str, group: str, entries: dict[str, str], **modules: str
) -> None:
    """Modules beside their metadata, with entry points of one group."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
        # As in a process of its own.
        sys.modules.pop(name, None)
    told = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {value}" for name, value in entries.items())
    (told / "entry_points.txt").write_text(f"[{group}]\n{lines}\n")


def install_example(folder: Path, example: str, group: str) -> str:
    """Install a package of the documentation; the name of its entry point."""
    source = EXAMPLES / example
    told = tomllib.loads((source / "pyproject.toml").read_text())
    project, wheel = told["project"], told["tool"]["hatch"]["build"]["targets"]["wheel"]
    entries = project["entry-points"][group]
    modules = {Path(name).stem: (source / name).read_text() for name in wheel["only-include"]}
    install(folder, project["name"], group, entries, **modules)
    (name,) = entries
    return str(name)
