"""The event that says how far a request is, in the form that `events` describes."""

from __future__ import annotations

from mlxdeck.telemetry.schema.attributes import Attrs, Seconds, SmallCount, Tokens, always, named
from mlxdeck.telemetry.schema.closed_sets import ProgressState


class RequestProgress(Attrs, frozen=True, kw_only=True):
    """How far a request is: of slow ones, at most four times a second, and only what is new.

    A state also begins anew where the request had to give up its place and waits again. Another
    server tells no tokens before its answer ends: of one that it answers, they are absent.
    """

    NAME = "request.progress"

    state: ProgressState = named("mlx.progress.state", "")
    """`prepare` while its prompt is made, `wait` for a place or another server, `prefill` while
    its prompt is read, `decode` while it is written."""
    state_s: Seconds = always(0.0, "mlx.progress.state_s")
    """Seconds since this state began."""
    position: SmallCount | None = named("mlx.queue.position", None)
    """Its place among those that wait, 1 for the next; absent if it doesn't wait."""
    waits_for: str = named("mlx.queue.reason", "")
    """Why it waits, for a person; also of a prompt that has a place and is not read now."""
    prompt_tokens: Tokens | None = named("gen_ai.usage.input_tokens", None)
    """Tokens of the prompt."""
    cached_tokens: Tokens | None = named("gen_ai.usage.cache_read.input_tokens", None)
    """Those of them that were known."""
    read_tokens: Tokens | None = named("mlx.progress.read_tokens", None)
    """Those that are read by now, the known ones included."""
    output_tokens: Tokens | None = named("gen_ai.usage.output_tokens", None)
    """Tokens of the answer by now."""
    output_chars: Tokens | None = named("mlx.progress.output_chars", None)
    """Characters of the answer by now; absent of lines of earlier versions."""
    held: bool = always(False, "mlx.progress.held")
    """Whether a grammar constrains what is written at this moment."""
    text: str = named("mlx.progress.text", "")
    """The end of what is written by now, but for its last word; only with `--capture full`."""
