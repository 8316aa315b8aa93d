"""Which prompts the next step reads, and how much of them. Values in, values out, no clock.

Each step draws a token for every sequence that is written, then makes at most one pass over
prompts. Its size and its frequency come from how long the model takes:

    nothing else runs or waits    a whole chunk a step, or `LONE_PASS_S` of one on a slow machine:
                                  a lone prompt loses nothing, and who comes next waits for a pass
    something else waits          passes of `PAUSE_STEPS` decode steps, so that it can soon begin
    something is written          such passes take turns with decode steps, in the proportion of
                                  `PREFILL_SHARE`; what fits into one or two passes does not wait
                                  for its turn, but it is taken from those behind it
    an answer has just begun      the proportion is `FRESH_SHARE`: most that are short end in it
    much is written               both are larger, as small prompts come often

Small prompts, up to a chunk, come first, the shortest before all others. Every `EVERY`th pass
belongs to the prompt that has waited longest. Large prompts have a pass in every `AGE_STEPS` steps
at least, whoever comes between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mlxdeck.server.backends.local.engine.api import Read
from mlxdeck.server.backends.local.scheduler.fair_share import FairShare
from mlxdeck.server.backends.local.scheduler.pace import Speeds

PREFILL_SHARE = 0.5
"""Seconds of reading for each second of writing."""
FRESH_SHARE = 0.25
"""`PREFILL_SHARE` beside an answer of at most `FRESH_TOKENS` so far, such as a title."""
FRESH_TOKENS = 16
PAUSE_STEPS = 2.0
"""How long a pass may be if others wait, in decode steps."""
FEW_ROWS = 2
"""So few answers are written: with the wait for a pass, a short one takes less than twice its time.
Beside more of them, small prompts would wait too long for one another."""
MANY_SHARE = 1.0
"""`PREFILL_SHARE` beside many answers, while a small prompt is read."""
MANY_PAUSE_STEPS = 3.0
"""`PAUSE_STEPS` beside many answers: a longer pass reads more tokens a second."""
BURST_SHARE = 2
"""Small prompts that come together are read in one pass of so large a part of a chunk, also beside
what is written."""
WHOLE_PASSES = 2
"""A prompt that is no longer than so many passes is read in one, and can share it."""
MOST_PADDED = 2
"""Who shares a pass is at most so many times as long as who is read for his turn."""
LEAST_TOKENS = 16
"""A pass reads at least so many: the weights are read for a single one too."""
AGE_STEPS = 16
EVERY = 4
LONE_PASS_S = 0.5
"""How long a pass of a lone prompt may take, as the next request waits for it."""
LONE_SHARE = 4
"""Such a pass is no smaller than this part of a chunk: so far, it costs no more a token."""
QUIET_STEPS = 64
"""So long after others have run, a prompt that is read meanwhile is read in small passes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt that is being read."""

    uid: int
    left_tokens: int
    session: str
    is_begun: bool
    """Whether some of it was read by now: it can't share a pass."""


class StepPlanner:
    """Plans step after step; remembers who was served when."""

    def __init__(self, chunk_tokens: int, budget_tokens: int = 0) -> None:
        """`budget_tokens` bounds a pass beside others; 0 chooses by the model's speed."""
        self._chunk = chunk_tokens
        self._fixed = min(budget_tokens, chunk_tokens)
        self._step = 0
        self._n_passes = Counter[bool]()
        """Of small prompts, and of large ones."""
        self._served: dict[int, int] = {}
        """Per prompt, the step in which it came or was last read."""
        self._large_step = 0
        """The step in which a large prompt was last read, or none was there."""
        self._busy_step = -QUIET_STEPS
        """The step in which something else ran or waited beside a prompt."""
        self._credit_s = 0.0
        """Time that passes may still take from those that are written."""
        self._share = FairShare(chunk_tokens)
        self._most = self._at_once = self._whole = chunk_tokens
        """Tokens of this step's pass: over a part of a prompt, over whole ones, and the longest
        prompt that is read as a whole."""

    def plan(
        self,
        readings: Sequence[Reading],
        n_decoding: int,
        speeds: Speeds,
        *,
        expects: bool = False,
        is_fresh: bool = False,
    ) -> list[Read]:
        """What the next step reads. If nothing is written, then it reads something.

        `expects` is whether a request is on its way, `is_fresh` whether one of the answers that
        are written has no more than `FRESH_TOKENS` so far.
        """
        self._step += 1
        self._share.begin_step(each.session for each in readings)
        self._note(readings)
        if not readings:
            self._credit_s = 0.0
            self._busy_step = self._step - QUIET_STEPS - 1
            return []
        most = self._most_tokens(n_decoding, speeds)
        small = [each for each in readings if self._is_small(each)]
        large = [each for each in readings if not self._is_small(each)]
        is_urgent = n_decoding > FEW_ROWS and bool(small)
        share = FRESH_SHARE if is_fresh and n_decoding <= FEW_ROWS else PREFILL_SHARE
        self._earn(n_decoding, MANY_SHARE if is_urgent else share, most, speeds)
        if n_decoding or expects or (small and len(readings) > 1):
            self._busy_step = self._step
        if not n_decoding and self._step - self._busy_step > QUIET_STEPS:
            most = self._lone_tokens(speeds)
        self._most = min(most, self._share.most)
        self._at_once = self._at_once_tokens(n_decoding, most)
        alone_together = len(readings) > 1 and not n_decoding and not expects
        self._whole = self._whole_tokens(most, speeds, alone_together=alone_together)
        chosen: Reading | None = None
        if large and self._step - self._large_step >= AGE_STEPS:
            chosen = self._choose(large)
        ready = [each for each in readings if self._may_read(each, n_decoding, speeds)]
        for is_small in (True, False):
            group = [each for each in ready if self._is_small(each) is is_small]
            chosen = chosen or (self._choose(group) if group else None)
        if chosen is None:
            # All that may be read are ahead of their share: those that are less so come first.
            chosen = min(readings, key=lambda each: (self._share.ahead(each.session), each.uid))
            if chosen not in ready:
                return []
        return [self._pass(chosen, small, n_decoding, speeds)]

    def _note(self, readings: Sequence[Reading]) -> None:
        self._served = {each.uid: self._served.get(each.uid, self._step) for each in readings}
        if all(map(self._is_small, readings)):
            self._large_step = self._step

    def _most_tokens(self, n_decoding: int, speeds: Speeds) -> int:
        """The size of a pass if others wait."""
        n_steps = MANY_PAUSE_STEPS if n_decoding > FEW_ROWS else PAUSE_STEPS
        within = speeds.tokens_within(n_steps * speeds.decode_s)
        return self._fixed or min(self._chunk, max(LEAST_TOKENS, within))

    def _lone_tokens(self, speeds: Speeds) -> int:
        """The size of a pass if nobody else is there."""
        within = speeds.tokens_within(LONE_PASS_S)
        return min(self._chunk, max(self._chunk // LONE_SHARE, within))

    def _at_once_tokens(self, n_decoding: int, most: int) -> int:
        """The size of a pass over whole small prompts.

        Read at once they delay others no more than one after the other, and cost less.
        """
        if not n_decoding:
            return self._chunk
        return self._fixed or max(most, self._chunk // BURST_SHARE)

    def _whole_tokens(self, most: int, speeds: Speeds, *, alone_together: bool) -> int:
        """The longest prompt that is read as a whole.

        If several prompts wait and nothing else, then the shortest may take as long as a lone one.
        """
        if self._fixed:
            return most
        whole = WHOLE_PASSES * most
        return max(whole, self._lone_tokens(speeds)) if alone_together else whole

    def _part(self, reading: Reading) -> int:
        """How much of a prompt a pass reads."""
        left = reading.left_tokens
        return left if self._is_whole(reading) else min(self._most, left)

    def _is_whole(self, reading: Reading) -> bool:
        """Whether a prompt is read at once."""
        limit = min(self._whole, self._at_once, self._share.most)
        return not reading.is_begun and reading.left_tokens <= limit

    def _earn(self, n_decoding: int, share: float, most: int, speeds: Speeds) -> None:
        if not n_decoding:
            self._credit_s = 0.0
            return
        self._credit_s += share * speeds.decode_s
        self._credit_s = min(self._credit_s, speeds.pass_over_s(most))

    def _may_read(self, reading: Reading, n_decoding: int, speeds: Speeds) -> bool:
        if not n_decoding or self._fixed:
            return True
        if reading.left_tokens <= WHOLE_PASSES * self._most:
            return self._credit_s > -speeds.pass_over_s(self._chunk)
        return self._credit_s >= speeds.pass_over_s(self._most)

    def _choose(self, readings: Sequence[Reading]) -> Reading | None:
        """The next to be read, of those whose session has not had more than its share."""
        fair = [each for each in readings if self._share.allows(each.session, self._part(each))]
        if self._n_passes[self._is_small(readings[0])] % EVERY == EVERY - 1:
            return min(fair, key=lambda each: (self._served[each.uid], each.uid), default=None)
        return min(fair, key=lambda each: (each.left_tokens, each.uid), default=None)

    def _is_small(self, reading: Reading) -> bool:
        return reading.left_tokens <= self._chunk

    def _together(self, chosen: Reading, small: Sequence[Reading]) -> list[Reading]:
        """What is read in one pass with it, as far as the padding lets it."""
        found, longest = [chosen], chosen.left_tokens
        for each in sorted(small, key=lambda each: (each.left_tokens, each.uid)):
            n = max(longest, each.left_tokens)
            if each is chosen or n * (len(found) + 1) > self._at_once or not self._is_whole(each):
                continue
            if n > max(self._most, MOST_PADDED * chosen.left_tokens):
                continue
            if self._share.allows(each.session, each.left_tokens):
                longest = n
                found.append(each)
                self._share.give(each.session, each.left_tokens)
        return found

    def _pass(
        self, chosen: Reading, small: Sequence[Reading], n_decoding: int, speeds: Speeds
    ) -> Read:
        self._share.give(chosen.session, self._part(chosen))
        together = self._together(chosen, small) if self._is_whole(chosen) else [chosen]
        n_tokens = max(map(self._part, together))
        for each in together:
            self._served[each.uid] = self._step
        is_small = self._is_small(chosen)
        self._n_passes[is_small] += 1
        if not is_small:
            self._large_step = self._step
        if n_decoding:
            self._credit_s -= speeds.pass_over_s(n_tokens * len(together))
        return Read(tuple(each.uid for each in together), n_tokens)
