"""Real clients from npm, each in a version that was tried, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

INSTALL_S = 900


@dataclass(frozen=True, slots=True)
class NpmClient:
    """A package and the command that it brings."""

    package: str
    version: str
    command: str

    def executable(self) -> Path:
        """The command's path; the first use installs the package.

        Cached below `MLXDECK_TEST_CLIENTS`, or else below the user's cache folder.
        """
        default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlxdeck-clients"
        home = Path(os.environ.get("MLXDECK_TEST_CLIENTS", default))
        folder = home / f"{self.command}-{self.version}"
        binary = folder / "node_modules" / ".bin" / self.command
        if not binary.exists():
            folder.mkdir(parents=True, exist_ok=True)
            flags = ["--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
            package = f"{self.package}@{self.version}"
            subprocess.run(["npm", "install", *flags, package], check=True, timeout=INSTALL_S)
        return binary

    def run(
        self,
        arguments: list[str],
        *,
        cwd: Path,
        home: Path,
        variables: dict[str, str],
        said: str = "",
        timeout_s: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command once, in an environment and a home of its own."""
        home.mkdir(exist_ok=True)
        own = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb"}
        return subprocess.run(
            [str(self.executable()), *arguments],
            env=own | variables,
            cwd=cwd,
            input=said,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


CLAUDE_CODE = NpmClient("@anthropic-ai/claude-code", "2.1.332", "claude")
OPENCODE = NpmClient("opencode-ai", "1.18.33", "opencode")
CONTINUE = NpmClient("@continuedev/cli", "1.5.47", "cn")
CODEX = NpmClient("@openai/codex", "0.169.0", "codex")
