"""The real Codex, against a server on this machine, with the settings of docs/examples/codex/.

It runs in an environment and a home of its own, talks to one loopback URL only, and needs no
account.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.e2e.npm_clients import CODEX
from tests.real import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "codex"


def codex(
    url: str,
    task: str,
    *arguments: str,
    cwd: Path,
    home: Path,
    sandbox: str = "read-only",
    timeout_s: float = 300,
) -> list[dict[str, Any]]:
    """Run `codex exec --json` once; return the events that it reports."""
    assert url.startswith("http://127.0.0.1:"), "only a loopback URL"
    home.mkdir(exist_ok=True)
    for file in EXAMPLE.iterdir():
        shutil.copy(file, home)
    flags = ["--json", "--skip-git-repo-check", "--sandbox", sandbox]
    flags += ["--config", f'model_providers.mlxdeck.base_url="{url}/v1"']
    done = CODEX.run(
        ["exec", *flags, *arguments, task],
        cwd=cwd,
        home=home,
        variables={"CODEX_HOME": str(home)},
        timeout_s=timeout_s,
    )
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert events, f"the client said: {done.stderr}"
    return events


def said(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The complete items of a kind that a run reported."""
    items = (event["item"] for event in events if event["type"] == "item.completed")
    return [item for item in items if item["type"] == kind]
