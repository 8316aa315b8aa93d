"""What each regrouping does, in words for people."""

from __future__ import annotations

from mlxdeck.server.backends.local.prompt.regroupings import CONTENT_IN_PARTS
from mlxdeck.server.backends.local.prompt.template_messages import (
    EMPTY_TURNS_KEPT,
    ONE_TURN,
    OPTIONS_LEFT_OUT,
    SCHEMAS_FILLED,
    TOOLS_AS_TEXT,
)

DONE = {
    "system_folded": "a system prompt leads the first user turn",
    "content_left_out": "an empty text beside calls is left out",
    "arguments_as_json": "arguments of calls are put as JSON",
    "ids_named": "ids of calls name their tools",
    CONTENT_IN_PARTS: "texts are put as lists of parts",
    "results_first": "a tool result comes before a text",
    "text_into_result": "a text behind a tool result becomes its end",
    EMPTY_TURNS_KEPT: "empty turns are kept",
    "roles_joined": "two turns of the assistant in a row become one",
    "orphans_as_text": "a result without its call becomes text",
    "open_calls_answered": "a call without its result gets one",
    "opened_by_user": "a user turn is put before the assistant's first",
    "empty_filled": "an empty text says that it is one",
    "calls_apart": "several calls get a turn each",
    "text_before_calls": "a text beside calls gets a turn of its own",
    "answers_parted": "a user turn is put between two of the assistant",
    "markers_parted": "a marker in an answer's text gets a blank",
    "thinking_left_out": "earlier thinking is left out",
    OPTIONS_LEFT_OUT: "options such as effort are left out",
    SCHEMAS_FILLED: "gaps in the schemas of tools are filled",
    "system_added": "a system prompt is added where there is none",
    TOOLS_AS_TEXT: "tools, their calls and results are put as text",
    ONE_TURN: "a conversation becomes one user turn",
}
"""By the regrouping's name, as a sentence."""
