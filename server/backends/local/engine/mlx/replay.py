"""An answer that lost its place goes on: what follows its tokens is told those that are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlxdeck.server.backends.local.engine.mlx.grammars import Processor
from mlxdeck.server.backends.local.engine.mlx.sampling import Penalties, Sampler, Seeded
from mlxdeck.server.backends.local.engine.mlx.thinking import ThinkingBudget


def replay(
    written: Sequence[int], draw: Sampler, processors: Sequence[Any], detokenizer: Any
) -> None:
    """Bring these to the state in which they were behind the last token that was written."""
    if isinstance(draw, Seeded):
        draw.skip(len(written))
    for token in written:
        detokenizer.add_token(token)
    # Its text is with the client.
    _ = detokenizer.last_segment
    grammars = [each for each in processors if isinstance(each, Processor)]
    budgets = [each for each in processors if isinstance(each, ThinkingBudget)]

    def saw(token: int) -> None:
        for grammar in grammars:
            grammar.saw([token])

    # A budget looks at the grammar, token by token.
    for budget in budgets:
        budget.replay(written, saw)
    if not budgets:
        for token in written:
            saw(token)
    for each in processors:
        if isinstance(each, Penalties):
            each.written = written
