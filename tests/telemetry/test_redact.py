"""Secrets that must not reach telemetry."""

from __future__ import annotations

import json

import pytest

from mlxdeck.telemetry.redact import MASK, redacted

KEPT = [
    '{"path": "a.py", "tokens": 5, "max_tokens": "10"}',
    '{"command": "grep -n password config.py"}',
    '{"author": "me", "text": "the token is gone"}',
    "not json",
]
HIDDEN = [
    {"password": "hunter2"},
    {"headers": {"Authorization": "Basic c2VjcmV0"}},
    {"env": [{"API_KEY": "abc", "name": "x"}]},
    {"command": "curl -H 'Authorization: Bearer abcdef0123456789' http://x"},
    {"command": "export K=sk-ant-REDACTED-EXAMPLE_0123456789"},
    {"url": "https://me:hunter22@example.com/x"},
    {"auth_token": "t0ps3cret"},
]


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays_byte_for_byte(text: str) -> None:
    """Words about secrets are no secrets."""
    assert redacted(text) == text


@pytest.mark.parametrize("arguments", HIDDEN)
def test_secrets_are_masked_by_name_and_by_look(arguments: object) -> None:
    """At any depth, with a mask that is always the same length."""
    text = redacted(json.dumps(arguments))
    assert MASK in text
    for secret in ("hunter2", "c2VjcmV0", "abc", "0123456789", "hunter22", "t0ps3cret"):
        assert secret not in text


def test_text_that_is_no_json_is_searched_too() -> None:
    """A call that could not be parsed may hold a key as well."""
    assert redacted("{'k': 'ghp_0123456789012345678901'") == "{'k': '" + MASK + "'"
