"""The local time in a chat template: transformers offers it as `strftime_now(format)`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jinja2 import Environment, TemplateSyntaxError

CLOCK = "strftime_now"
# If the format can't be found in the template: the finest format in use for dates.
UNKNOWN = "%Y-%m-%d %H:%M"
_DIRECTIVE = re.compile(r"%[-_0^#]?[aAbBcdDeFHIjmMpSTuUVwWxXyYzZ]")


def clock_formats(template: object) -> tuple[str, ...]:
    """The formats in which a template prints the time; none if it doesn't.

    `template` is its text, or several of them by name, as tokenizers have them. Two prompts can
    only differ by the clock if one of these does.
    """
    texts = template.values() if isinstance(template, dict) else [template]
    found = {each for text in texts if isinstance(text, str) for each in _formats(text)}
    return tuple(sorted(found))


def _formats(source: str) -> Iterator[str]:
    if CLOCK not in source:
        return
    try:
        tokens = [
            (kind, value)
            for _, kind, value in Environment(autoescape=False).lex(source)
            if kind not in ("whitespace", "comment")
        ]
    except TemplateSyntaxError:
        yield UNKNOWN
        return
    texts = {value[1:-1] for kind, value in tokens if kind == "string"}
    for place, (kind, value) in enumerate(tokens):
        if kind != "name" or value != CLOCK or tokens[place + 1 : place + 2] != [("operator", "(")]:
            continue
        kind, argument = (*tokens[place + 2 : place + 3], ("", ""))[0]
        if kind == "string":
            yield argument[1:-1]
        else:
            # A variable: any text of the template's that is a format may be its value.
            yield from [text for text in texts if _DIRECTIVE.search(text)] or [UNKNOWN]
