"""What is released is what is in the repository: version, modules, data files."""

from __future__ import annotations

import re
import subprocess
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from importlib import import_module
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent
PACKAGES = ("cli", "server", "settings", "telemetry", "tui")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel as pip would build it, without a network."""
    folder = tmp_path_factory.mktemp("dist")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a source distribution, by their path in the repository."""
    folder = tmp_path_factory.mktemp("sdist")
    (path,) = SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def sources() -> set[str]:
    """All files of the packages, by their path in the repository, without what is ignored."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*"))
    return {
        str(path.relative_to(ROOT)).replace("cli/__main__.py", "__main__.py")
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_version_is_the_newest_in_the_changelog() -> None:
    """Who releases one has described the other."""
    headings = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", changelog(), re.MULTILINE)
    assert headings[0] == PYPROJECT["project"]["version"]


def test_changelog_has_the_headings_of_its_format() -> None:
    """https://keepachangelog.com/en/1.1.0/"""
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", changelog(), re.MULTILINE)) <= known


def changelog() -> str:
    """The text of CHANGELOG.md."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_wheel_holds_everything_below_its_own_name(wheel: zipfile.ZipFile) -> None:
    """Every module and data file is in it, nothing else is, and no general name is taken."""
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == {f"mlxdeck/{name}" for name in sources()}


def test_wheel_holds_data_files(wheel: zipfile.ZipFile) -> None:
    """Types, styles and the schema are read at run time, by their place beside the code."""
    names = set(wheel.namelist())
    assert {f"mlxdeck/{package}/py.typed" for package in PACKAGES} <= names
    assert "mlxdeck/telemetry/schema/schema-v1.json" in names
    styles = {f"mlxdeck/{name}" for name in sources() if name.endswith(".tcss")}
    assert styles <= names


def test_wheel_says_who_it_is(wheel: zipfile.ZipFile) -> None:
    """Name, version, licence and the command."""
    info = f"mlxdeck-{PYPROJECT['project']['version']}.dist-info"
    metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert (metadata["Name"], metadata["License-Expression"]) == ("mlxdeck", "Apache-2.0")
    assert metadata["Requires-Python"] == ">=3.11"
    assert b"mlxdeck = mlxdeck.cli.main:main" in wheel.read(f"{info}/entry_points.txt")
    assert f"{info}/licenses/LICENSE" in wheel.namelist()


def test_page_of_the_package_index_has_no_relative_links(wheel: zipfile.ZipFile) -> None:
    """Its readers have no files beside it; links lead to those of this release."""
    version, urls = PYPROJECT["project"]["version"], PYPROJECT["project"]["urls"]
    info = f"mlxdeck-{version}.dist-info"
    page = str(message_from_bytes(wheel.read(f"{info}/METADATA")).get_payload())
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links and all(re.match(r"https?://|#", link) for link in links)
    ours = [link for link in links if "/mlxdeck/" in link]
    home = urls["Repository"].removeprefix("https://github.com")
    hosts = ("https://github.com", "https://raw.githubusercontent.com")
    assert ours and all(link.startswith(tuple(f"{host}{home}/" for host in hosts)) for link in ours)
    assert all(f"/v{version}/" in link for link in ours)
    for link in ours:
        assert (ROOT / link.partition(f"/v{version}/")[2].partition("#")[0]).exists()


def test_source_distribution_is_complete(sdist: set[str]) -> None:
    """All that a fork needs: tests, documents, targets, tested versions."""
    made = {"build", "dist", "node_modules"}
    top = {each.name for each in ROOT.iterdir() if each.name[0] != "." and each.name not in made}
    assert top <= {name.partition("/")[0] for name in sdist}
    assert sources() - {"__main__.py"} <= sdist
    assert {"tests/conftest.py", "docs/decisions.md", "cli/__main__.py"} <= sdist
    assert not any("__pycache__" in name or name.startswith(".venv") for name in sdist)


@pytest.mark.parametrize("failing", [False, True])
def test_installation_shows_its_progress(tmp_path: Path, *, failing: bool) -> None:
    """A line a package, in any terminal; an error is shown, and ends it."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    program = re.search(r"(?s)^define SHOW_PROGRESS\n(.*?)^endef", makefile, re.MULTILINE)
    assert program is not None
    pip = "Collecting a==1\n  Downloading a.whl (1 MB)\nRequirement already satisfied: b==2 in x\n"
    pip += "Processing ./wheels/c-3-py3-none-any.whl\n"
    pip += "ERROR: No matching distribution\npip failed\n" if failing else "Installing collected "
    pip += "" if failing else "packages: a\nSuccessfully installed a-1\n"
    ran = subprocess.run(
        ["awk", "-v", "all=9", program[1].replace("$$", "$")],
        input=pip, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == int(failing)
    last = "ERROR: No matching distribution" if failing else "  unpacking them"
    shown = ["a==1", "b==2", "c-3-py3-none-any.whl"]
    lines = [f"  {n} of about 9  {name}" for n, name in enumerate(shown, 1)]
    assert ran.stdout.splitlines() == [*lines, last]


def test_command_exists() -> None:
    """What the entry point names can be called."""
    module, _, name = PYPROJECT["project"]["scripts"]["mlxdeck"].partition(":")
    assert callable(getattr(import_module(module), name))


def test_import_root_is_four_links() -> None:
    """A checkout imports through links, so that an edit needs no install."""
    for package in PACKAGES:
        link = ROOT / ".pkg" / "mlxdeck" / package
        assert link.is_symlink()
        assert link.resolve() == ROOT / package


def test_lock_has_every_requirement_and_no_place_to_get_it_from() -> None:
    """Names and versions only: where packages come from is the machine's business."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    requirements = PYPROJECT["project"]["dependencies"] + PYPROJECT["dependency-groups"]["dev"]
    names = {re.split(r"[^A-Za-z0-9-]", requirement)[0] for requirement in requirements}
    assert names <= set(pinned)
    assert not re.search(r"://|--index|--find-links|--hash|@ ", lock)


def test_every_make_target_has_a_line_of_help() -> None:
    """`make help` lists what there is, and nothing that isn't there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    targets = set(phony[1].split())
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  make (\w+) ", shown.stdout, re.MULTILINE)) == targets
