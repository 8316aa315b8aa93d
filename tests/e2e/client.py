"""The real Claude Code, against a server on this machine.

The client runs in an environment and a home of its own, talks to one loopback URL only, and needs
no account: the token is a dummy.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e.npm_clients import CLAUDE_CODE


def claude(
    url: str,
    *arguments: str,
    cwd: Path,
    home: Path | None = None,
    max_output_tokens: int = 200,
    timeout_s: float = 300,
    headers: str = "",
) -> dict[str, Any]:
    """Run the client once with `--output-format json`; return what it reports.

    Without a `home` it gets a new one. `headers` are sent with each request, as `name: value`.
    """
    flags = [*arguments, "--output-format", "json"]
    said = _run(url, flags, "", cwd, home, max_output_tokens, timeout_s, headers)
    try:
        report: dict[str, Any] = json.loads(said)
    except json.JSONDecodeError:
        raise AssertionError(f"the client said: {said}") from None
    return report


def talk(url: str, turns: list[list[Any]], *arguments: str, cwd: Path) -> list[dict[str, Any]]:
    """Say several things to one client, each as blocks; return what it reports of each."""
    flags = [*arguments, "--verbose"]
    for way in ("--input-format", "--output-format"):
        flags += [way, "stream-json"]
    said = [
        json.dumps({"type": "user", "message": {"role": "user", "content": blocks}})
        for blocks in turns
    ]
    out = _run(url, flags, "\n".join(said) + "\n", cwd, None, 200, 300)
    reports = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [report for report in reports if report["type"] == "result"]


def _run(
    url: str,
    arguments: list[str],
    said: str,
    cwd: Path,
    home: Path | None,
    max_output_tokens: int,
    timeout_s: float,
    headers: str = "",
) -> str:
    """All that the client writes."""
    assert url.startswith("http://127.0.0.1:"), "only a loopback URL"
    with tempfile.TemporaryDirectory() as fallback:
        place = home or Path(fallback)
        variables = {
            "CLAUDE_CONFIG_DIR": f"{place}/.claude",
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_AUTH_TOKEN": "dummy",
            "ANTHROPIC_CUSTOM_HEADERS": headers,
            "ANTHROPIC_MODEL": "local",
            "ANTHROPIC_SMALL_FAST_MODEL": "local",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(max_output_tokens),
            "API_TIMEOUT_MS": "600000",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_BUG_COMMAND": "1",
        }
        done = CLAUDE_CODE.run(
            arguments, cwd=cwd, home=place, variables=variables, said=said, timeout_s=timeout_s
        )
    return done.stdout or done.stderr
