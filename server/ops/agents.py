"""How the agents that people run are told to use a server: variables and arguments, no files.

Nothing is written into an agent's own settings. Pure values, no I/O.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from urllib.parse import urlsplit

NO_KEY = "local"
"""Agents want a key, also where the server wants none."""
TIMEOUT_MS = 3_600_000
"""The server's pings keep a stream alive; this limit is for answers that are not streamed."""
CLAUDE_PROMPT_TOKENS = 20_000
"""Claude Code's system prompt and tools; its conversation comes on top."""
LEAST_COMPACT_WINDOW_TOKENS = 100_000
"""Claude Code warns of less. It compacts by the smaller one of this and the model's window."""
OTHER_PROMPT_TOKENS = {"codex": 10_000, "opencode": 10_000}
"""What the prompts of other agents take, rounded up; their tools depend on the machine."""
CLAUDE_SMALL_ARGUMENTS = ("--bare", "--tools", "Read")
CLAUDE_SMALL_PROMPT_TOKENS = 1_500
"""With these arguments."""
OUTPUT_SHARE = 4
"""An answer may take this part of the window; Claude Code reserves as much of it."""
OTHER_PROVIDERS = (
    *("ANTHROPIC_API_KEY", "ANTHROPIC_BEDROCK_BASE_URL", "ANTHROPIC_VERTEX_BASE_URL"),
    *("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"),
)
"""With one of these, Claude Code would talk to someone else."""


CLAUDE_MODELS = (
    *("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"),
    *("ANTHROPIC_DEFAULT_SONNET_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL"),
)
"""Variables of Claude Code that name a model."""
CLAUDE_SMALL_MODELS = ("ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL")
"""Those of them that name the model for small requests."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server as its clients see it."""

    url: str
    key: str
    """Empty if it wants none."""
    model: str
    context_tokens: int
    """Length of the model's window; 0 if it is not known."""
    small_model: str = ""
    """The model for small requests; empty if it is the same."""
    is_recorded: bool = True
    """Whether it writes telemetry."""


def claude_variables(of: Endpoint) -> dict[str, str]:
    """The variables of Claude Code (names as its version 2.1 reads them)."""
    window = {
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(of.context_tokens),
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(max(of.context_tokens, LEAST_COMPACT_WINDOW_TOKENS)),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(min(32_000, of.context_tokens // OUTPUT_SHARE)),
    }
    return {
        "ANTHROPIC_BASE_URL": of.url,
        "ANTHROPIC_AUTH_TOKEN": of.key or NO_KEY,
        **dict.fromkeys(CLAUDE_MODELS, of.model),
        **dict.fromkeys(CLAUDE_SMALL_MODELS, of.small_model or of.model),
        "API_TIMEOUT_MS": str(TIMEOUT_MS),
        **(window if of.context_tokens else {}),
        # An accounting line in front of the prompt, different in every request.
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def openai_variables(of: Endpoint) -> dict[str, str]:
    """The variables that OpenAI's SDKs and most agents read."""
    base = f"{of.url}/v1"
    return {
        "OPENAI_BASE_URL": base,
        "OPENAI_API_BASE": base,
        "OPENAI_API_KEY": of.key or NO_KEY,
        "OPENAI_MODEL": of.model,
    }


def variables(of: Endpoint) -> dict[str, str]:
    """All variables, for an agent that reads either API's."""
    return claude_variables(of) | openai_variables(of)


def environment(of: Endpoint, command: Sequence[str], own: Mapping[str, str]) -> dict[str, str]:
    """The environment of an agent, from that of this process."""
    host = urlsplit(of.url).hostname or ""
    direct = [each for each in own.get("NO_PROXY", own.get("no_proxy", "")).split(",") if each]
    direct += [] if host in direct else [host]
    proxies = {name: ",".join(direct) for name in ("NO_PROXY", "no_proxy")}
    kept = {name: value for name, value in own.items() if name not in OTHER_PROVIDERS}
    # The user's own limit of an answer holds.
    limit = {k: v for k, v in own.items() if k == "CLAUDE_CODE_MAX_OUTPUT_TOKENS"}
    return kept | proxies | variables(of) | limit | dict(_agent(command).variables(of))


def exports(of: Endpoint, own: Mapping[str, str]) -> list[str]:
    """The same as lines of a shell, as far as they differ from its environment."""
    wanted = environment(of, ["sh"], own)
    proxied = any(name.lower().endswith("_proxy") and name.lower() != "no_proxy" for name in own)
    names = [*variables(of), *(("NO_PROXY", "no_proxy") if proxied else ())]
    unset = [f"unset {name}" for name in OTHER_PROVIDERS if name in own]
    return unset + [f"export {name}={shlex.quote(wanted[name])}" for name in names]


def _codex_arguments(of: Endpoint) -> Sequence[str]:
    """Codex reads its provider from config.toml alone, or from arguments in the same words."""
    provider = (
        f'{{name="mlxdeck",base_url={json.dumps(f"{of.url}/v1")},'
        'env_key="OPENAI_API_KEY",wire_api="responses"}'
    )
    told = {
        "model": json.dumps(of.model),
        "model_provider": '"mlxdeck"',
        "model_providers.mlxdeck": provider,
    }
    if of.context_tokens:
        told["model_context_window"] = str(of.context_tokens)
    return [part for name, value in told.items() for part in ("-c", f"{name}={value}")]


def _opencode_variables(of: Endpoint) -> Mapping[str, str]:
    """opencode reads a provider from a file, or from this variable."""
    limit = {"context": of.context_tokens, "output": of.context_tokens // OUTPUT_SHARE}
    model = {"name": of.model, **({"limit": limit} if of.context_tokens else {})}
    options = {"baseURL": f"{of.url}/v1", "apiKey": of.key or NO_KEY}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "mlxdeck",
        "options": options,
        "models": {of.model: model},
    }
    if of.small_model:
        provider["models"] = {of.model: model, of.small_model: {"name": of.small_model}}
    name, small = f"mlxdeck/{of.model}", f"mlxdeck/{of.small_model or of.model}"
    config = {"model": name, "small_model": small, "provider": {"mlxdeck": provider}}
    return {"OPENCODE_CONFIG_CONTENT": json.dumps(config)}


@dataclass(frozen=True, slots=True)
class Agent:
    """What an agent needs beside the variables of its API."""

    arguments: Callable[[Endpoint], Sequence[str]] = lambda _: ()
    """In front of the user's own."""
    variables: Callable[[Endpoint], Mapping[str, str]] = lambda _: {}


AGENTS: Mapping[str, Agent] = {
    "codex": Agent(arguments=_codex_arguments),
    "opencode": Agent(variables=_opencode_variables),
}
"""By the name of the program."""


def command_line(of: Endpoint, command: Sequence[str]) -> list[str]:
    """An agent's command with the arguments that it needs."""
    program, *rest = command
    return [program, *_agent(command).arguments(of), *rest]


def _agent(command: Sequence[str]) -> Agent:
    return AGENTS.get(PurePath(command[0]).name, Agent())


def narrow_window(of: Endpoint, command: Sequence[str]) -> str:
    """What to tell a user whose agent's prompt won't fit; empty if it will, or isn't known."""
    program, arguments = PurePath(command[0]).name, command[1:]
    if {"--help", "--version", "-h", "-v", "-V"} & set(arguments):
        return ""
    is_claude = program == "claude"
    small = is_claude and "--bare" in arguments
    claude_tokens = CLAUDE_SMALL_PROMPT_TOKENS if small else CLAUDE_PROMPT_TOKENS
    needed = claude_tokens if is_claude else OTHER_PROMPT_TOKENS.get(program, 0)
    if not of.context_tokens or of.context_tokens > needed * OUTPUT_SHARE / (OUTPUT_SHARE - 1):
        return ""
    told = (
        f"{of.model} has a context window of {of.context_tokens:,} tokens; "
        f"the prompt of {'Claude Code' if is_claude else program} needs about {needed:,} of them"
    )
    if small:
        return told
    if not is_claude:
        return f"{told}. Choose a larger model with --model"
    return f"{told}. Its small prompt fits: mlxdeck claude -- {' '.join(CLAUDE_SMALL_ARGUMENTS)}"
