"""Names that say that their value is a secret, of fields, variables and flags."""

from __future__ import annotations

import re
from itertools import pairwise

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_MAX_NAME = 200
_ANYWHERE = {
    *("password", "passwd", "passphrase", "passcode", "secret", "secrets", "apikey", "accesskey"),
    *("secretkey", "privatekey", "authtoken", "accesstoken", "refreshtoken", "credential"),
    *("credentials", "authorization", "cookie", "cookies", "passwords", "apikeys", "clientsecret"),
}
_AT_THE_END = {"token", "pass", "pwd", "auth", "jwt"}
_OF_KEYS = {
    *("api", "access", "secret", "private", "signing", "encryption", "master", "account", "auth"),
    *("shared", "subscription", "service", "license", "deploy", "webhook", "decryption", "hmac"),
}
"""Words before `key` that make it the name of a secret."""
_HARMLESS_END = {
    *("policy", "length", "len", "min", "max", "name", "names", "field", "id", "ids", "type"),
    *("count", "path", "file", "filename", "required", "strength", "reset", "url", "uri", "env"),
    *("prompt", "label", "hint", "provider", "expiry", "expires", "ttl", "at", "in", "hash"),
    *("less", "manager", "version", "enabled", "arn", "ref", "limit", "scheme", "header", "jar"),
}
_HARMLESS_TOKENS = {
    *("eos", "bos", "pad", "unk", "sep", "cls", "mask", "stop", "start", "end", "next", "prev"),
    *("page", "special", "image", "first", "last", "continuation", "sync", "per", "begin"),
}
"""Tokens of a text, or of a list's pages."""
_ENDINGS = (
    *("password", "passwd", "passphrase", "secret", "apikey", "accesskey", "secretkey", "token"),
    *("privatekey",),
)


def is_secret(name: str) -> bool:
    """Whether a name is the name of a secret, in camel case, snake case or any other."""
    words = [word.lower() for word in _WORD.findall(name[-_MAX_NAME:])]
    while words and (words[-1].isdigit() or words[-1] in ("value", "string", "base")):
        words.pop()
    if not words or words[-1] in _HARMLESS_END:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in _AT_THE_END:
        return before not in _HARMLESS_TOKENS
    if not _ANYWHERE.isdisjoint(words):
        return True
    if any(key in ("key", "keys") and of in _OF_KEYS for of, key in pairwise(words)):
        return True
    # Written together, as `dbpassword`.
    return last.endswith(_ENDINGS) and not last.startswith(tuple(_HARMLESS_TOKENS))


def is_count(name: str) -> bool:
    """Whether numbers under a secret's name are just numbers, as of tests that pass."""
    return _WORD.findall(name)[-1:] in (["pass"], ["Pass"], ["PASS"])
