"""Coding agents other than Claude Code, against a server on this machine.

Each gets its settings from a file or a variable, as its users write them, and a home of its own. No
address but the server's is told to it, and what it would fetch from elsewhere is switched off.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.npm_clients import CONTINUE, OPENCODE

OPENCODE_APIS = {"chat": "@ai-sdk/openai-compatible", "messages": "@ai-sdk/anthropic"}
CONTINUE_APIS = {"chat": "openai", "messages": "anthropic"}
BRIEF = "You answer in one short sentence."


def opencode(
    url: str,
    api: str,
    prompt: str,
    *,
    cwd: Path,
    allowed: tuple[str, ...] = (),
    output_tokens: int = 1000,
    model: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Run opencode once with the tools that are `allowed`; return its events.

    `model` are further fields of the model in its settings. Without tools, it also gets a short
    system prompt.
    """
    limits = {"context": 8192 if not allowed else 1 << 20, "output": output_tokens}
    settings = {
        "autoupdate": False,
        "share": "disabled",
        "model": "mlxdeck/local",
        "small_model": "mlxdeck/local",
        "enabled_providers": ["mlxdeck"],
        "provider": {
            "mlxdeck": {
                "npm": OPENCODE_APIS[api],
                "options": {"baseURL": f"{url}/v1", "apiKey": "local"},
                "models": {"local": {"limit": limits, "tool_call": True, **(model or {})}},
            }
        },
        "permission": {"*": "deny", **dict.fromkeys(allowed, "allow")},
        "agent": {"plain": {"mode": "primary", "prompt": BRIEF, "tools": {"*": False}}},
    }
    variables = {
        "OPENCODE_CONFIG_CONTENT": json.dumps(settings),
        # The list of all models and providers, which it would fetch.
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    }
    agent = [] if allowed else ["--agent", "plain"]
    arguments = ["run", "--format", "json", *agent, prompt]
    with tempfile.TemporaryDirectory() as home:
        done = OPENCODE.run(arguments, cwd=cwd, home=Path(home), variables=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def said(events: list[dict[str, Any]]) -> str:
    """All that opencode's model said."""
    return "".join(each["part"]["text"] for each in events if each["type"] == "text")


def continue_cli(
    url: str,
    api: str,
    prompt: str,
    *,
    cwd: Path,
    allowed: tuple[str, ...] = (),
    output_tokens: int = 1000,
) -> str:
    """Run Continue's command line once; return what its model said last."""
    with tempfile.TemporaryDirectory() as home:
        config = Path(home) / "config.yaml"
        # Its settings are YAML, of which JSON is a part.
        model = {
            "name": "local",
            "provider": CONTINUE_APIS[api],
            "model": "local",
            "apiBase": f"{url}/v1",
            "apiKey": "local",
            "roles": ["chat"],
            "capabilities": ["tool_use"],
            "defaultCompletionOptions": {"maxTokens": output_tokens},
        }
        named = {"name": "local", "version": "1.0.0", "schema": "v1", "models": [model]}
        config.write_text(json.dumps(named), encoding="utf-8")
        tools = ["Read", "List", "Search", "Bash", "Write", "Edit", "MultiEdit", "Fetch"]
        flags = [flag for each in allowed for flag in ("--allow", each)]
        flags += [flag for each in tools if each not in allowed for flag in ("--exclude", each)]
        variables = {
            "CI": "1",
            "CONTINUE_GLOBAL_DIR": f"{home}/.continue",
            "CONTINUE_TELEMETRY_ENABLED": "0",
            "CONTINUE_CLI_ENABLE_TELEMETRY": "0",
        }
        arguments = ["--config", str(config), "-p", prompt, "--format", "json", *flags]
        done = CONTINUE.run(arguments, cwd=cwd, home=Path(home), variables=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["status"] == "success", report
    return str(report["response"])
