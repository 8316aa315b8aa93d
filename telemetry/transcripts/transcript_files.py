"""Where Claude Code keeps its transcripts: one file a session, and one for each of its agents.

projects/<project>/<session>.jsonl
projects/<project>/<session>/subagents/agent-<id>.jsonl, beside it agent-<id>.meta.json
projects/<project>/agent-<id>.jsonl           in earlier versions
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlxdeck.telemetry.read.recognition import ForeignData, head_of, kind_of

SUFFIX = ".jsonl"
_PROJECTS = "projects"
_AGENT = "agent-"
_MAX_DEPTH = 5
_MAX_LOOKED_AT = 20
"""So many files tell what a folder is."""


class _Meta(msgspec.Struct):
    kind: str = msgspec.field(default="", name="agentType")
    task: str = msgspec.field(default="", name="description")
    started_by: str = msgspec.field(default="", name="toolUseId")
    depth: int = msgspec.field(default=0, name="spawnDepth")


@dataclass(frozen=True, slots=True)
class TranscriptFile:
    """A file, and what its place tells."""

    path: Path
    session: str
    """Empty where only its lines tell."""
    agent: str
    meta: _Meta


def projects_in(folder: Path) -> Path | None:
    """The folder of transcripts that is meant by a folder; None if it holds none."""
    if folder.name == ".claude" and (folder / _PROJECTS).is_dir():
        return folder / _PROJECTS
    if folder.name == _PROJECTS and folder.parent.name == ".claude":
        return folder
    for place, _ in zip(_paths(folder, _MAX_DEPTH - 1), range(_MAX_LOOKED_AT), strict=False):
        try:
            kind = kind_of(head_of(place))
        except (ForeignData, OSError):
            continue
        if kind:
            return folder if kind == "transcript" else None
    return None


def found_in(folder: Path) -> list[TranscriptFile]:
    """All files in a folder, in the order in which they are read.

    Sessions that ended first come first, as later ones may repeat what they hold. An agent comes
    behind whoever started it.
    """
    files = [one_file(path) for path in _paths(folder)]
    written = {each.path.stem: _mtime(each.path) for each in files if not each.agent}

    def order(each: TranscriptFile) -> tuple[float, bool, int, str]:
        own = written.get(each.session or each.path.stem)
        when = _mtime(each.path) if own is None else own
        return when, bool(each.agent), each.meta.depth, each.path.name

    return sorted(files, key=order)


def one_file(path: Path) -> TranscriptFile:
    """A single file: what its name and its folder tell."""
    agent = path.stem.removeprefix(_AGENT) if path.name.startswith(_AGENT) else ""
    in_session = path.parent.name == "subagents"
    session = path.parent.parent.name if in_session else ""
    return TranscriptFile(path, session, agent, _meta(path) if in_session else _Meta())


def _meta(path: Path) -> _Meta:
    try:
        return msgspec.json.decode(path.with_suffix(".meta.json").read_bytes(), type=_Meta)
    except (OSError, msgspec.DecodeError):
        return _Meta()


def _paths(folder: Path, depth: int = 0) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in found:
        if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
    for entry in found:
        if depth < _MAX_DEPTH and entry.is_dir(follow_symlinks=False):
            yield from _paths(Path(entry.path), depth + 1)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
