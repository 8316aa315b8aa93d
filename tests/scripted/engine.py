"""An engine whose answers stand in a script, at the pace of a real one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    Memory,
    ModelInfo,
    Prefilled,
    Progress,
    Reads,
    Sampled,
    SequenceSpec,
    State,
    StatePart,
    Step,
)
from mlxdeck.server.backends.local.engine.echo import (
    EchoEngine,
    EchoStates,
    NoGrammars,
    asked_tokens,
)
from mlxdeck.server.errors import EngineFailed
from tests.scripted.words import WordTokenizer

KV_BYTES = 98_304
"""What a token takes, as with a model of 30B."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says, and what goes wrong with it."""

    text: str
    fault: str = ""
    """`crash`, `hang`, `broken` or nothing; each happens once in a place of a script."""
    place: str = ""
    """Where in the script."""


Script = Callable[[str], Reply]
"""(rendered prompt) -> the answer."""


@dataclass(slots=True)
class _Writing:
    run: SequenceSpec
    n_done: int
    words: list[int] = field(default_factory=list)
    n_written: int = 0
    reply: Reply | None = None


class _States(EchoStates):
    def size_bytes(self, part: StatePart) -> int:
        """As a real one would have."""
        return KV_BYTES * len(part)

    def block_bytes(self, state: State, start: int, end: int) -> int:
        """The same."""
        return KV_BYTES * (end - start)


class _AnyGrammar(NoGrammars):
    def check(self, grammar: str, already: str = "") -> str:
        """What stands in the script is held to anything."""
        del grammar, already
        return ""


class ScriptedEngine(EchoEngine):
    """Says what its script says. Unlike echo's, its tokens are words."""

    states = _States()

    def __init__(
        self,
        script: Script,
        name: str,
        *,
        prefill_tokens_per_s: float = 9_000.0,
        decode_tokens_per_s: float = 160.0,
        chunk_tokens: int = 512,
        context_tokens: int = 131_072,
        hang_s: float = 0.0,
        is_held: bool = True,
    ) -> None:
        super().__init__(prefill_chunk_tokens=chunk_tokens, context_tokens=context_tokens)
        self.tokenizer: WordTokenizer = WordTokenizer()
        self.grammars = _AnyGrammar() if is_held else NoGrammars()
        self._script, self._name, self._hang_s = script, name, hang_s
        self._token_s = (1 / prefill_tokens_per_s, 1 / decode_tokens_per_s)
        self._writing: dict[int, _Writing] = {}
        self._happened: set[str] = set()
        self._peak_bytes = 0

    def load(self, progress: Progress) -> ModelInfo:
        """There is nothing to load; another name is another model."""
        progress(f"loading {self._name}")
        kv_bytes = KV_BYTES * self._context_tokens
        return ModelInfo(self._name, "", self._name, self._context_tokens, "cpu", kv_bytes=kv_bytes)

    def insert(self, run: SequenceSpec) -> int:
        """Queue a sequence, checking that its state holds the tokens it claims."""
        uid = super().insert(run)
        del self._running[uid]
        self._writing[uid] = _Writing(run, run.n_cached)
        return uid

    def step(self, reads: Reads = None) -> list[Step]:
        """What is to be read of prompts, and a word of each answer, in the time that it takes."""
        asked = asked_tokens(reads)
        steps = [
            self._go_on(uid, each, self._chunk if asked is None else asked.get(uid, 0))
            for uid, each in list(self._writing.items())
            if each.n_done == len(each.run.tokens) or asked is None or uid in asked
        ]
        n_read = sum(
            step.done_tokens - before for step, before in steps if isinstance(step, Prefilled)
        )
        read_s, write_s = self._token_s
        if steps:
            time.sleep(n_read * read_s + write_s * any(isinstance(s, Sampled) for s, _ in steps))
        return [step for step, _ in steps]

    def _go_on(self, uid: int, each: _Writing, n_tokens: int) -> tuple[Step, int]:
        """What comes next of a sequence, and how much of its prompt was read before."""
        before, total = each.n_done, len(each.run.tokens)
        if before < total:
            each.n_done = min(total, before + n_tokens)
            return Prefilled(uid, each.n_done, total), before
        return self._write(uid, each), before

    def _write(self, uid: int, each: _Writing) -> Step:
        if each.reply is None:
            each.reply = self._script(self.tokenizer.decode(each.run.tokens))
            each.words = self.tokenizer.encode(each.reply.text)
        due = bool(each.reply.fault) and each.n_written >= len(each.words) // 2
        if due and each.reply.place not in self._happened:
            self._happened.add(each.reply.place)
            if each.reply.fault == "broken":
                kept = self.remove(uid)
                return Sampled(uid, "", "broken", kept, "the script leaves its grammar here")
            self._fail(each.reply.fault)
        if each.n_written == len(each.words):
            return Sampled(uid, "", "stop", self.remove(uid))
        word = each.words[each.n_written]
        each.n_written += 1
        text = self.tokenizer.decode([word])
        if each.n_written >= each.run.max_tokens:
            return Sampled(uid, text, "length", self.remove(uid))
        return Sampled(uid, text, token=word)

    def _fail(self, fault: str) -> None:
        if fault == "hang":
            time.sleep(self._hang_s)
        else:
            raise EngineFailed("the model failed: [script] out of memory")

    def remove(self, uid: int) -> KVState | None:
        """Drop a sequence and return what it had computed."""
        each = self._writing.pop(uid, None)
        if each is None or not each.n_done:
            return None
        tokens = (*each.run.tokens[: each.n_done], *each.words[: each.n_written])
        return KVState(tokens, tokens)

    def reset(self) -> None:
        """Forget every sequence."""
        self._writing.clear()

    def memory(self) -> Memory:
        """Of what runs, and of a model of 17 GB."""
        held = sum(each.n_done + each.n_written for each in self._writing.values())
        active_bytes = 17_200_000_000 + KV_BYTES * held
        self._peak_bytes = max(self._peak_bytes, active_bytes)
        return Memory(active_bytes, self._peak_bytes)
