"""How the agents that people run are told to use a server: variables and arguments, no files.

Nothing is written into an agent's own settings. Pure values, no I/O.
"""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server as its clients see it."""

    url: str
    key: str
    """Empty if it wants none."""
    model: str
    context_tokens: int
    """Length of the model's window; 0 if it is not known."""


def claude_variables(of: Endpoint) -> dict[str, str]:
    """The variables of Claude Code (names as its version 2.1 reads them)."""
    window = {
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(of.context_tokens),
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(of.context_tokens),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(min(32_000, of.context_tokens // OUTPUT_SHARE)),
    }
    return {
        "ANTHROPIC_BASE_URL": of.url,
        "ANTHROPIC_AUTH_TOKEN": of.key or NO_KEY,
        **dict.fromkeys(CLAUDE_MODELS, of.model),
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


def environment(of: Endpoint, own: Mapping[str, str]) -> dict[str, str]:
    """The environment of an agent, from that of this process."""
    host = urlsplit(of.url).hostname or ""
    direct = [each for each in own.get("NO_PROXY", own.get("no_proxy", "")).split(",") if each]
    direct += [] if host in direct else [host]
    proxies = {name: ",".join(direct) for name in ("NO_PROXY", "no_proxy")}
    kept = {name: value for name, value in own.items() if name not in OTHER_PROVIDERS}
    # The user's own limit of an answer holds.
    limit = {k: v for k, v in own.items() if k == "CLAUDE_CODE_MAX_OUTPUT_TOKENS"}
    return kept | proxies | variables(of) | limit


Arguments = Callable[[Endpoint], Sequence[str]]
"""What an agent is told on its command line, in front of the user's own arguments."""
ARGUMENTS: Mapping[str, Arguments] = {}
"""By the name of the agent's program, for those that read no variables."""


def command_line(of: Endpoint, command: Sequence[str]) -> list[str]:
    """An agent's command with the arguments that it needs."""
    program, *rest = command
    told = ARGUMENTS.get(PurePath(program).name)
    return [program, *(told(of) if told else ()), *rest]


def narrow_window(of: Endpoint, arguments: Sequence[str]) -> str:
    """What to tell a user of Claude Code whose prompt won't fit; empty if it will."""
    if {"--help", "--version", "-h", "-v"} & set(arguments):
        return ""
    small = "--bare" in arguments
    needed = CLAUDE_SMALL_PROMPT_TOKENS if small else CLAUDE_PROMPT_TOKENS
    if not of.context_tokens or of.context_tokens > needed * OUTPUT_SHARE / (OUTPUT_SHARE - 1):
        return ""
    told = (
        f"{of.model} has a context window of {of.context_tokens:,} tokens; "
        f"Claude Code's prompt needs about {needed:,} of them"
    )
    if small:
        return told
    return f"{told}. Its small prompt fits: mlxdeck claude -- {' '.join(CLAUDE_SMALL_ARGUMENTS)}"
