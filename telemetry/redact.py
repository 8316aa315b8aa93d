"""Secrets masked: by the name of a value, and by the form of known keys in any text.

For tool arguments, contents, messages of errors and reports alike. A mask has a fixed length, so
that it does not reveal the secret's length. Unknown forms are kept: use `--capture off` where this
is not acceptable. The time is linear in the text's length, for any text. No single step holds the
interpreter for long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mlxdeck.telemetry.secret_forms import (
    ASKS_FOR_PAGES,
    CURL_USER,
    HEADERS,
    IN_MARKUP,
    LOGIN_PROGRAMS,
    LOGINS,
    PEM_BEGIN,
    PEM_END,
    TOKENS,
    Form,
)
from mlxdeck.telemetry.secret_names import is_count, is_secret

MASK = "********"
MAX_DEPTH = 100
"""Values that lie deeper are searched as one text."""
_LINE_CHARS = 2_000
"""Maximal distance, in characters, between a program and its flag on a line."""
_SCHEMA_TYPES = {"string", "object", "array", "number", "integer", "boolean", "null"}
_Span = tuple[int, int]
_ANYWHERE = (*TOKENS, *HEADERS, *IN_MARKUP)

_NAMES = (
    *("password", "passwd", "passphrase", "passcode", "pass", "pwd", "secret", "token", "jwt"),
    *("credential", "auth", "key"),
)
"""Parts of the names of secrets, in lower case."""
_NAMED = re.compile(
    r"(?P<name>[\w.-]{0,64})"
    r"(?:\\{0,3}[\"'])?\]?[ \t]{0,8}(?P<sign>:=|=>|[:=]|(?<=\w)[ ])[ \t]{0,8}"
    r"(?:(?P<quote>\\{0,3}[\"'`])(?P<quoted>[^\"'`\n]{1,4096}+)(?:[\"'`]|\Z|(?=\n))"
    r"|[|>][+-]?[ ]{0,8}\r?\n(?P<indent>[ ]{1,64}+)"
    r"(?P<block>\S[^\n]{0,1024}+(?:\n(?P=indent)[^\n]{1,256}+){0,15}+)"
    r"|(?P<plain>[^\s\"'`,;(){}\[\]<>&|\\=]{1,4096}+={0,2})(?P<next>.?))",
    re.ASCII,
)
"""From where a name's telling part begins: the rest of the name, a sign, and a value.

A quote may be left open where the text ends, as in an answer that was cut. A block of YAML holds
the value in the lines below.
"""
_GIVES = re.compile(
    r"(?:^|[\s;&|\"'])(?:ENV|ARG|setx|(?:configure|config|secrets?|variable|env(?:ironment)?)[ ]"
    r"(?:set|add)|config[ ]--\w{1,16}|set[ ]-\w{1,4})(?:[ ]--?[\w-]{1,32})?[ ]{1,4}[\w.]{0,64}$"
)
"""What stands before a name in commands and Dockerfiles that take its value as the next word."""
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_OF_PEOPLE = re.compile("pass|pwd|secret", re.IGNORECASE)
_PLACEHOLDERS = "$<{(%["
_EMPTY_WORDS = {"true", "false", "none", "null", "undefined", "nil", "required", "optional"}


def redacted(arguments: str) -> str:
    """JSON text with its secrets masked; text that is no JSON is searched by looks alone.

    Text without secrets is given back byte for byte.
    """
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return redacted_text(arguments)
    masked = redacted_value(value)
    return arguments if masked == value else json.dumps(masked, ensure_ascii=False)


def redacted_value(value: Any, depth: int = 0) -> Any:
    """A value of JSON with its secrets masked."""
    if isinstance(value, str):
        return redacted_text(value)
    if depth > MAX_DEPTH and isinstance(value, dict | list):
        return redacted_text(repr(value))
    if isinstance(value, dict):
        return _object(value, depth)
    if isinstance(value, list):
        return _list(value, depth)
    return value


def _object(value: dict[str, Any], depth: int) -> dict[str, Any]:
    # A common form of environment variables: the name in one field, the value in the next.
    named = next((value[key] for key in ("name", "key") if isinstance(value.get(key), str)), "")
    found = {}
    for key, inner in value.items():
        secret = is_secret(key) or (key == "value" and is_secret(named))
        hidden = _hidden(inner, is_count(key), depth) if secret else inner
        found[redacted_text(key)] = redacted_value(hidden, depth + 1) if hidden is inner else hidden
    return found


def _hidden(value: Any, counts: bool, depth: int) -> Any:
    """A value with its secrets masked, whatever its type; harmless values stay."""
    if value is None or isinstance(value, bool) or value == "":
        return value
    if isinstance(value, int | float):
        return value if counts else MASK
    if isinstance(value, str) or depth > MAX_DEPTH:
        return MASK
    if isinstance(value, list):
        return [_hidden(each, counts, depth + 1) for each in value]
    if value.get("type") in _SCHEMA_TYPES:
        # A schema of a tool's input, not a value.
        return value
    return {key: _hidden(each, counts, depth + 1) for key, each in value.items()}


def _list(value: list[Any], depth: int) -> list[Any]:
    found, flag = [], ""
    for each in value:
        is_text = isinstance(each, str)
        if (
            is_text
            and flag in ("-u", "--user")
            and ":" in each
            or is_text
            and flag.startswith("--")
            and is_secret(flag)
            and not each.startswith("-")
        ):
            found.append(MASK)
        else:
            found.append(redacted_value(each, depth + 1))
        flag = each if is_text and each.startswith("-") else ""
    return found


def redacted_text(text: str) -> str:
    """Any text with what looks like a secret masked."""
    # Lower case must keep all offsets, so the one letter that gets longer is replaced first.
    lowered = text.replace("\u0130", "I").lower()
    spans = [
        *_private_keys(text),
        *(span for form in _ANYWHERE for span in _of_form(form, text, lowered)),
        *_given_to(ASKS_FOR_PAGES, CURL_USER, text, lowered),
        *(
            span
            for programs, form in zip(LOGIN_PROGRAMS, LOGINS, strict=True)
            for span in _given_to(programs, form, text, lowered)
        ),
        *_of_names(text, lowered),
    ]
    if not spans:
        return text
    parts, at = [], 0
    for start, end in sorted(spans):
        if start >= at:
            parts += [text[at:start], MASK]
        at = max(at, end)
    return "".join([*parts, text[at:]])


def _private_keys(text: str) -> Iterator[_Span]:
    """The text between the lines of a PEM key; without an end line, the rest of the text."""
    at = 0
    while (begin := text.find("-----BEGIN ", at)) >= 0:
        found = PEM_BEGIN.match(text, begin)
        at = begin + 1
        if found:
            end = text.find(PEM_END, found.end())
            at = end if end >= 0 else len(text)
            yield found.end(), at


def _of_form(form: Form, text: str, lowered: str) -> Iterator[_Span]:
    for literal in form.literals:
        at = 0
        while (place := lowered.find(literal, at)) >= 0:
            found = form.pattern.match(text, place)
            at = found.end() if found else place + len(literal)
            if found:
                yield found.span("s")


def _given_to(programs: Sequence[str], form: Form, text: str, lowered: str) -> Iterator[_Span]:
    """The arguments of certain programs, in their line."""
    if not any(program in lowered for program in programs):
        return
    for start, end in _of_form(form, text, lowered):
        line = lowered[max(0, start - _LINE_CHARS) : start].rpartition("\n")[2]
        if any(program in line for program in programs):
            yield start, end


def _of_names(text: str, lowered: str) -> Iterator[_Span]:
    """Values behind names that promise secrets, as code, settings and shells write them."""
    for literal in _NAMES:
        at = 0
        while (place := lowered.find(literal, at)) >= 0:
            at = place + len(literal)
            if found := _NAMED.match(text, place):
                name = _whole_name(text, place) + found["name"]
                if is_secret(name) and (group := _secret_group(text, found, name)):
                    yield found.span(group)
                    at = max(at, found.end(group))


def _whole_name(text: str, place: int) -> str:
    """The part of a name before a place."""
    start = place
    while start > max(0, place - 64) and (text[start - 1].isalnum() or text[start - 1] in "_-"):
        start -= 1
    return text[start:place]


def _secret_group(text: str, found: re.Match[str], name: str) -> str:
    """The group of a match that holds a secret; empty if its value can't be one."""
    sign, quoted, plain = found["sign"], found["quoted"], found["plain"]
    if found["block"] is not None:
        return "block" if sign == ":" and found["block"][0] not in _PLACEHOLDERS else ""
    if sign == " " and not name.startswith("--") and not _gives(text, found, name):
        return ""
    value = quoted if quoted is not None else plain
    if value[0] in _PLACEHOLDERS or value.lower().strip("\\") in _EMPTY_WORDS:
        return ""
    if quoted is not None:
        return "quoted" if _may_be_secret(name, value.rstrip("\\")) else ""
    if sign == " ":
        return "" if value.startswith("-") else "plain"
    return "plain" if _may_be_given(text, found, name, value) else ""


def _gives(text: str, found: re.Match[str], name: str) -> bool:
    """Whether a command or a Dockerfile gives a value to the name before it."""
    start = found.end("name") - len(name)
    return bool(_GIVES.search(text[max(0, start - 96) : start]))


def _may_be_secret(name: str, value: str) -> bool:
    """Whether a text in quotes is one rather than words for a person or a name in a program."""
    if any(character.isspace() for character in value):
        return False
    if not value.isalpha() or len(value) >= 16:
        return True
    if _OF_PEOPLE.search(name):
        # People choose words; a field's label says itself.
        return not _OF_PEOPLE.search(value)
    return not (value.islower() or value.isupper() or value[1:].islower())


def _tight(found: re.Match[str]) -> bool:
    """Whether there are no blanks around the sign."""
    return found.end("name") == found.start("sign") and found.end("sign") == found.start("plain")


def _may_be_given(text: str, found: re.Match[str], name: str, value: str) -> bool:
    """Whether a text without quotes is a value rather than code that finds one."""
    if found["next"] in ("(", "["):
        return False
    if value.isdigit() and len(value) < 6:
        return False
    start = found.start() - len(name) + len(found["name"])
    before = text[start - 1] if start > 0 else "\n"
    is_flag = name.startswith("--") and found["sign"] == "="
    if name.isupper() or is_flag or before in "?&=;":
        return True
    if before == "\n" and found["sign"] == "=" and found["next"] == "" and _tight(found):
        # A line of settings.
        return True
    return not _IDENTIFIER.fullmatch(value) or any(each.isdigit() for each in value)
