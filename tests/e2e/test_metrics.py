"""What a scraper gets from a real server, judged by Prometheus' own tool."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request

import pytest

from tests.real import serving

pytestmark = pytest.mark.e2e


def test_promtool_finds_nothing_to_improve() -> None:
    """Names, units and help texts follow Prometheus' conventions; the format is right."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it is in Debian's package prometheus")
    with serving() as server:
        body = {"model": "local", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"content-type": "application/json"}
        asked = urllib.request.Request(
            f"{server.url}/v1/messages", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(asked):
            server.ended(1)
        with urllib.request.urlopen(f"{server.url}/metrics") as answer:
            raw = answer.read()
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=raw, capture_output=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
