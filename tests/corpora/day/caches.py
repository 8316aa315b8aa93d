"""Caches as the server has them, with nothing in them but names: least recently used goes first."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from tests.corpora.day.conversation import HASH_DIGITS, Prompt, short_hash

MIN_TAIL_TOKENS = 8
"""Of a prompt that is known whole, one part is left to run: the template's last words."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a cache knew of a request."""

    n_tokens: int = 0
    tier: str = ""
    reason: str = ""
    diverged_at: int = -1
    block: str = ""
    ours: str = ""
    theirs: str = ""


@dataclass(slots=True)
class AnswerCache:
    """Whole answers by their key: in RAM, and on disk until a restart of the model."""

    max_entries: int
    max_age_s: float
    model: str = ""
    _made_s: OrderedDict[str, float] = field(default_factory=OrderedDict)
    _on_disk: dict[str, tuple[float, str]] = field(default_factory=dict)
    _gone: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._made_s)

    def find(self, key: str, now_s: float) -> Lookup:
        """Whether an answer is there, or why not."""
        made_s = self._made_s.get(key)
        disk_s, model = self._on_disk.get(key, (-1.0, ""))
        if now_s - max(made_s or -1.0, disk_s) > self.max_age_s and (made_s or disk_s >= 0):
            self._made_s.pop(key, None)
            self._on_disk.pop(key, None)
            self._gone[key] = "expired"
        elif made_s is not None:
            self._made_s.move_to_end(key)
            return Lookup(tier="ram")
        elif disk_s >= 0:
            if model != self.model:
                return Lookup(reason="model_changed")
            self._put(key, disk_s)
            return Lookup(tier="disk")
        return Lookup(reason=self._gone.get(key, "cold"))

    def keep(self, key: str, now_s: float) -> None:
        """An answer is known from now on."""
        self._gone.pop(key, None)
        self._on_disk[key] = (now_s, self.model)
        self._put(key, now_s)

    def refuse(self, key: str) -> None:
        """An answer is none to repeat."""
        self._gone[key] = "not_kept"

    def _put(self, key: str, made_s: float) -> None:
        self._made_s[key] = made_s
        while len(self._made_s) > self.max_entries:
            gone, _ = self._made_s.popitem(last=False)
            if gone not in self._on_disk:
                self._gone[gone] = "evicted"

    def restart(self, model: str) -> None:
        """RAM is empty again."""
        self.model = model
        self._made_s.clear()
        self._gone.clear()


@dataclass(slots=True)
class StateCache:
    """States of prompts: the newest of each conversation in RAM, and quiet ones on disk."""

    max_tokens: int
    model: str = ""
    _ram: OrderedDict[str, Prompt] = field(default_factory=OrderedDict)
    _disk: dict[str, tuple[Prompt, str]] = field(default_factory=dict)
    _seen: OrderedDict[str, Prompt] = field(default_factory=OrderedDict)
    _clients: Counter[str] = field(default_factory=Counter)
    """How many states begin with what each client says first."""
    n_tokens: int = 0

    def __len__(self) -> int:
        return len(self._ram)

    def find(self, name: str, prompt: Prompt) -> Lookup:
        """How much of a prompt is known, and where it came from."""
        # Two conversations have in common what their client always says first, and no more.
        tier, n_known = "ram", prompt.ends[0] if self._clients[prompt.parts[0]] else 0
        if name in self._ram:
            n_known = max(n_known, self._n_tokens(self._ram[name], prompt))
        if name not in self._ram and name in self._disk:
            stored, model = self._disk[name]
            n = self._n_tokens(stored, prompt)
            if model == self.model and n > n_known:
                tier, n_known = "disk", n
        if name in self._ram:
            self._ram.move_to_end(name)
        why = self._why(name, prompt, n_known)
        self._seen[name] = prompt
        while len(self._seen) > 64:
            self._seen.popitem(last=False)
        n_known = min(n_known, prompt.n_tokens - 1)
        return Lookup(n_known, tier if n_known else "", *why)

    @staticmethod
    def _n_tokens(state: Prompt, prompt: Prompt) -> int:
        n_parts = state.n_common(prompt)
        if not n_parts:
            return 0
        return min(state.ends[n_parts - 1], prompt.ends[n_parts - 1])

    def _why(self, name: str, prompt: Prompt, n_known: int) -> tuple[str, int, str, str, str]:
        """Reason, token, block and both hashes of it, as the server explains a miss."""
        before = self._seen.get(name)
        if before is None:
            return ("", -1, "", "", "") if n_known else (self._first_reason(name), -1, "", "", "")
        n = before.n_common(prompt)
        if n < min(len(before.parts), len(prompt.parts)):
            ours, theirs = prompt.parts[n], before.parts[n]
            block, at = f"messages.{n - 1}", prompt.ends[n - 1]
            if not n:
                same_system = ours[:HASH_DIGITS] == theirs[:HASH_DIGITS]
                block = "tools.Lint" if same_system else "system"
                at = prompt.ends[0] // 2 if same_system else 17
            return "diverged", at, block, short_hash(ours)[:8], short_hash(theirs)[:8]
        if n_known < self._n_tokens(before, prompt) - MIN_TAIL_TOKENS:
            return "evicted", -1, "", "", ""
        return "", -1, "", "", ""

    def _first_reason(self, name: str) -> str:
        stored = self._disk.get(name)
        return "model_changed" if stored and stored[1] != self.model else "cold"

    def keep(self, name: str, prompt: Prompt) -> None:
        """The state of a prompt is known from now on."""
        if name in self._ram:
            self._drop(name)
        self._ram[name] = prompt
        self._clients[prompt.parts[0]] += 1
        self.n_tokens += prompt.n_tokens
        self._disk[name] = (prompt, self.model)
        while self.n_tokens > self.max_tokens and len(self._ram) > 1:
            self._drop(next(iter(self._ram)))
        while len(self._disk) > 400:
            del self._disk[next(iter(self._disk))]

    def _drop(self, name: str) -> None:
        gone = self._ram.pop(name)
        self._clients[gone.parts[0]] -= 1
        self.n_tokens -= gone.n_tokens

    def restart(self, model: str) -> None:
        """RAM is empty again."""
        self.model = model
        self._ram.clear()
        self._clients.clear()
        self._seen.clear()
        self.n_tokens = 0
