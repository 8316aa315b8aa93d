"""What is found of the clock in a template is what it prints."""

from __future__ import annotations

import pytest

from mlxdeck.server.backends.local.engine.mlx.template_clock import UNKNOWN, clock_formats

LLAMA = """{%- if not date_string is defined %}{%- if strftime_now is defined %}
{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}
{%- set date_string = "26 Jul 2024" %}{%- endif %}{%- endif %}"""


@pytest.mark.parametrize(
    ("template", "formats"),
    [
        (LLAMA, ("%d %b %Y",)),
        ("Current date: {{ strftime_now('%Y-%m-%d') }}", ("%Y-%m-%d",)),
        ("{{strftime_now ( '%A' )}} {{ strftime_now('%B') }}", ("%A", "%B")),
        # The format in a variable; `%s` is for `%`, not for seconds.
        ("{% set f = '%d %B %Y' %}{{ strftime_now(f) }}{{ '%s' % x }}", ("%d %B %Y",)),
        ("{{ strftime_now(format) }}", (UNKNOWN,)),
        # A tag that nobody knows is no matter; a text with an apostrophe isn't either.
        ("It's {% generation %}{{ strftime_now('%H') }}{% endgeneration %}", ("%H",)),
        ("{% if strftime_now('%H'", ("%H",)),
        ("{{ strftime_now('%H') }} {{ ' }}", (UNKNOWN,)),
        ("{# strftime_now('%H') #}{% raw %}strftime_now('%M'){% endraw %} hi", ()),
        ("{% if strftime_now is defined %}{% endif %}", ()),
        ("100 %d", ()),
        (None, ()),
        ({"default": "hi", "tool_use": "{{ strftime_now('%d') }}"}, ("%d",)),
    ],
)
def test_formats_are_read_off_the_template(template: object, formats: tuple[str, ...]) -> None:
    """Literals where they stand, variables as far as their values can be told."""
    assert clock_formats(template) == formats
