"""A deterministic engine without weights: bytes as tokens, and answers from a function.

It keeps the whole contract of `Engine`: chunked prefill, one token a step, KV states that must
match their tokens. So tests of the layers above need no model.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    Memory,
    ModelInfo,
    PackedPart,
    Prefilled,
    Progress,
    Reads,
    Room,
    Sampled,
    SequenceSpec,
    State,
    StateDamaged,
    StatePart,
    Step,
    TemplateTraits,
)
from mlxdeck.server.errors import EngineFailed

TOKEN_BYTES = 8
"""What a token of a state is said to take."""

Reply = Callable[[str], str]
"""(rendered prompt) -> the whole answer."""


def echo(prompt: str) -> str:
    """Say the last user turn again."""
    return prompt.rsplit("<user>", 1)[-1].split("</user>", 1)[0]


class ByteTokenizer:
    """A token is a byte of UTF-8, plus one. The template is one tag a turn."""

    traits = TemplateTraits(think_start="<think>", think_end="</think>", has_thinking=True)
    opening = ""

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        options: Mapping[str, Any],
    ) -> str:
        """Join the turns, each between tags of its role."""
        del tools, options
        turns = (f"<{m['role']}>{m['content']}</{m['role']}>" for m in messages)
        return "".join(turns) + "<assistant>"

    def is_control(self, text: str) -> bool:
        """No token is one."""
        del text
        return False

    def least_tokens(self, text: str) -> int:
        """One token a character."""
        return len(text)

    def count(self, text: str, enough: int) -> int:
        """The same, which is enough where texts are ASCII."""
        return min(len(text), enough)

    def encode(self, text: str) -> list[int]:
        """One token a byte."""
        return [byte + 1 for byte in text.encode()]

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """The same; a character ends with its last byte."""
        ends: list[int] = []
        for place, char in enumerate(text):
            n_bytes = len(char.encode())
            ends += [place] * (n_bytes - 1) + [place + 1]
        return self.encode(text), ends

    def control_texts(self, tokens: Sequence[int], text: str = "") -> list[str]:
        """None: every token is a byte."""
        del tokens, text
        return []

    def encode_apart(
        self, text: str, spans: Sequence[tuple[int, int]]
    ) -> tuple[list[int], list[int]]:
        """The same as ever."""
        del spans
        return self.encode_with_ends(text)


@dataclass(slots=True)
class _EchoSequence:
    run: SequenceSpec
    n_done: int
    answer: str = ""
    n_sampled: int = 0
    n_before: int = 0
    """Characters that were written before it lost its place; they are among `tokens`."""


class EchoStates:
    """A state is the tuple of the tokens that it holds, as if each took eight bytes.

    So is a block, of its own tokens.
    """

    def is_cuttable(self, state: State) -> bool:
        """Any prefix of a tuple is one."""
        del state
        return True

    def block_bytes(self, state: State, start: int, end: int) -> int:
        """Eight bytes a token."""
        del state
        return TOKEN_BYTES * (end - start)

    def checkpoint_bytes(self, state: State) -> int:
        """There is none."""
        del state
        return 0

    def block(self, state: State, start: int, end: int) -> StatePart:
        """Its tokens."""
        return state[start:end]

    def checkpoint(self, state: State) -> StatePart:
        """Never asked for."""
        raise EngineFailed("the echo engine has no checkpoints")

    def cut(self, block: StatePart, n_tokens: int) -> StatePart:
        """The first tokens."""
        return block[:n_tokens]

    def quantized(self, part: StatePart) -> StatePart | None:
        """Tokens have no precision."""
        del part
        return None

    def is_quantized(self, part: StatePart) -> bool:
        """Never."""
        del part
        return False

    def size_bytes(self, part: StatePart) -> int:
        """Eight bytes a token."""
        return TOKEN_BYTES * len(part)

    def lease(
        self, blocks: Sequence[StatePart], n_tokens: int, checkpoint: StatePart | None
    ) -> State:
        """All tokens in one tuple."""
        del checkpoint
        return tuple(itertools.chain.from_iterable(blocks))[:n_tokens]

    def pack(self, part: StatePart) -> PackedPart:
        """One JSON array."""
        return PackedPart("", [json.dumps(part).encode()])

    def restore(self, about: str, data: Any) -> StatePart:
        """The array as a tuple."""
        del about
        try:
            return tuple(json.loads(bytes(data)))
        except (ValueError, TypeError) as error:
            raise StateDamaged(f"the bytes hold no state: {error}") from None


class NoGrammars:
    """Holds answers to nothing: what this engine says is decided elsewhere."""

    def check(self, grammar: str, already: str = "") -> str:
        """It can't be done."""
        del grammar, already
        return "the echo engine says what it says"


class EchoEngine:
    """An `Engine` whose answers come from `reply`, at `step_s` a step."""

    ends_late = False

    def __init__(
        self,
        reply: Reply = echo,
        *,
        step_s: float = 0.0,
        prefill_chunk_tokens: int = 512,
        context_tokens: int = 100_000,
        name: str = "echo",
    ) -> None:
        self.tokenizer = ByteTokenizer()
        self.reply = reply
        self._name = name
        self.step_s = step_s
        self.n_prefilled_tokens = 0
        """Prompt tokens computed so far, over all sequences."""
        self._chunk = prefill_chunk_tokens
        self._context_tokens = context_tokens
        self._running: dict[int, _EchoSequence] = {}
        self._next_uid = 0
        self.is_loaded = True

    def load(self, progress: Progress) -> ModelInfo:
        """Nothing to load."""
        progress("loading echo")
        kv_bytes = TOKEN_BYTES * self._context_tokens
        return ModelInfo(
            self._name, "", self._name, self._context_tokens, "none", kv_bytes=kv_bytes
        )

    states = EchoStates()
    grammars = NoGrammars()

    def spare_bytes(self) -> int:
        """No practical limit."""
        return 1 << 40

    def insert(self, run: SequenceSpec) -> int:
        """Queue a sequence, checking that its state holds the tokens it claims."""
        if run.n_cached and run.state != tuple(run.tokens[: run.n_cached]):
            raise EngineFailed("the state is of other tokens")
        if not self.is_loaded:
            raise EngineFailed("there is no model")
        uid, self._next_uid = self._next_uid, self._next_uid + 1
        job = self._running[uid] = _EchoSequence(run, run.n_cached)
        if run.n_written:
            n_prompt = len(run.tokens) - run.n_written
            job.answer = self.reply(_text(run.tokens[:n_prompt]))
            job.n_sampled = job.n_before = len(_text(run.tokens[n_prompt:]))
        return uid

    def step(self, reads: Reads = None) -> list[Step]:
        """Advance sequences by what they are to read, or by a character."""
        if self._running and self.step_s:
            time.sleep(self.step_s)
        asked = asked_tokens(reads)
        steps = [
            self._advance(uid, job, self._chunk if asked is None else asked.get(uid, 0))
            for uid, job in list(self._running.items())
        ]
        return [step for step in steps if step is not None]

    def _advance(self, uid: int, job: _EchoSequence, n_tokens: int) -> Step | None:
        total = len(job.run.tokens)
        if job.n_done < total:
            if not (n := min(n_tokens, total - job.n_done)):
                return None
            job.n_done += n
            self.n_prefilled_tokens += n
            return Prefilled(uid, job.n_done, total)
        if not job.n_sampled:
            job.answer = self.reply(_text(job.run.tokens))
        char = job.answer[job.n_sampled : job.n_sampled + 1]
        job.n_sampled += 1
        if not char:
            return Sampled(uid, "", "stop", self.remove(uid))
        if job.n_sampled - job.n_before >= job.run.max_tokens:
            return Sampled(uid, char, "length", self.remove(uid))
        return Sampled(uid, char, token=ord(char))

    def remove(self, uid: int) -> KVState | None:
        """Remove a sequence and return its computed KV state."""
        job = self._running.pop(uid, None)
        if job is None or not job.n_done:
            return None
        answer = self.tokenizer.encode(job.answer[job.n_before : job.n_sampled])
        tokens = (*job.run.tokens[: job.n_done], *answer)
        return KVState(tokens, tokens)

    def reset(self) -> None:
        """Forget every sequence."""
        self._running.clear()

    def unload(self) -> None:
        """Answer nobody until it is loaded again."""
        self.reset()
        self.is_loaded = False

    def reload(self) -> Generator[None]:
        """One step, and it is there."""
        yield
        self.is_loaded = True

    def memory(self) -> Memory:
        """Nothing is held."""
        return Memory()

    def room(self) -> Room:
        """No practical limit."""
        return Room(1 << 40, 1 << 40)

    def close(self) -> None:
        """Nothing to free."""


def asked_tokens(reads: Reads) -> dict[int, int] | None:
    """How many tokens of which prompts are to be read; None is a chunk of each."""
    return None if reads is None else {uid: each.n_tokens for each in reads for uid in each.uids}


def _text(tokens: Sequence[int]) -> str:
    return bytes(token - 1 for token in tokens).decode(errors="replace")
