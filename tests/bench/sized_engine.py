"""An engine without a model, whose steps take the time and whose states take the memory of a real
one. No array is made: a state is a note of how many bytes it would have.

Bytes are counted where they are held. Each `Buffer` adds its size to a `Meter` as long as anything
refers to it, so that nobody's own account is believed.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    Memory,
    ModelInfo,
    PackedPart,
    Prefilled,
    Progress,
    Read,
    Reads,
    Room,
    Sampled,
    SequenceSpec,
    State,
    StatePart,
    Step,
)
from mlxdeck.server.backends.local.engine.echo import EchoEngine, EchoStates
from mlxdeck.server.backends.local.engine.hardware.device import Device
from mlxdeck.server.backends.local.engine.hardware.memory_use import MemoryUse
from mlxdeck.server.backends.local.engine.kv_cost import (
    COPIED_LAYERS,
    STEP_TOKENS,
    KVCost,
    LayerCost,
)
from mlxdeck.server.backends.local.engine.row_groups import RowGroup, nearest_group, passes

ROOM_TOKENS = 256
"""So many tokens of an answer have room behind a leased prompt."""
GROUP = 64
GB = 10**9


@dataclass(frozen=True, slots=True)
class Machine:
    """A Mac and a model. The defaults are Qwen3-30B-A3B in 4 bits on an M4 Max with 64 GB."""

    name: str = "Qwen3-30B-A3B-4bit, 64 GB"
    token_bytes: int = 98_304
    """Keys and values: 48 layers, 4 heads of 128, two bytes each."""
    n_layers: int = 48
    model_bytes: int = 17_200_000_000
    usable_bytes: int = 48 * 1024**3
    """The working set that Metal recommends: three quarters."""
    window_tokens: int = 131_072
    prefill_tokens_per_s: float = 1_450.0
    decode_s: float = 0.0145
    row_s: float = 0.0018
    """A decode step, and each row more in it."""
    disk_bytes_per_s: float = 2e9
    disk_bytes: int = 20 * 1024**3

    @property
    def kv_limit_bytes(self) -> int:
        """What is left beside the model."""
        return self.usable_bytes - self.model_bytes

    def pass_s(self, n_tokens: int) -> float:
        """A pass over a part of a prompt."""
        return self.decode_s + n_tokens / self.prefill_tokens_per_s


@dataclass(slots=True)
class Meter:
    """Bytes that are held now, and were at most."""

    held_bytes: int = 0
    peak_bytes: int = 0

    def add(self, n_bytes: int) -> None:
        """Some more, or fewer."""
        self.held_bytes += n_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)

    def pass_by(self, n_bytes: int) -> None:
        """So many are held beside the others for a moment."""
        self.peak_bytes = max(self.peak_bytes, self.held_bytes + n_bytes)


class Buffer:
    """Memory that is freed with the last reference to it."""

    def __init__(self, meter: Meter, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._meter = meter
        meter.add(n_bytes)

    def __del__(self) -> None:
        self._meter.add(-self.n_bytes)


@dataclass(frozen=True, slots=True, eq=False)
class SizedState:
    """Tokens, and what has to be held for their keys and values."""

    tokens: bytes
    held: object


@dataclass(frozen=True, slots=True, eq=False)
class SizedBlock:
    """A run of tokens in memory of its own."""

    tokens: bytes
    buffer: Buffer
    is_quantized: bool = False


class SizedStates(EchoStates):
    """The `States` of a model whose caches can all be cut."""

    def __init__(self, machine: Machine, meter: Meter) -> None:
        self._machine = machine
        self._meter = meter

    def block_bytes(self, state: State, start: int, end: int) -> int:
        """Of exact keys and values."""
        return (end - start) * self._machine.token_bytes

    def block(self, state: State, start: int, end: int) -> SizedBlock:
        """A buffer of its own."""
        return self._made(state.tokens[4 * start : 4 * end])

    def cut(self, block: StatePart, n_tokens: int) -> SizedBlock:
        """As precise as before."""
        return self._made(block.tokens[: 4 * n_tokens], is_quantized=block.is_quantized)

    def quantized(self, part: StatePart) -> SizedBlock | None:
        """Once, to eight bits a number and two numbers of sixteen for each group."""
        if part.is_quantized:
            raise AssertionError("a block is quantised twice")
        return self._made(part.tokens, is_quantized=True)

    def is_quantized(self, part: StatePart) -> bool:
        """As it was made."""
        return bool(part.is_quantized)

    def _made(self, tokens: bytes, *, is_quantized: bool = False) -> SizedBlock:
        n_bytes = len(tokens) // 4 * self._machine.token_bytes
        if is_quantized:
            n_bytes = n_bytes * (GROUP + 4) // (2 * GROUP)
        return SizedBlock(tokens, Buffer(self._meter, n_bytes), is_quantized)

    def size_bytes(self, part: StatePart) -> int:
        """Of its buffer."""
        n_bytes: int = part.buffer.n_bytes
        return n_bytes

    def lease(
        self, blocks: Sequence[StatePart], n_tokens: int, checkpoint: StatePart | None
    ) -> SizedState:
        """It holds the blocks, and no memory of its own."""
        del checkpoint
        return SizedState(b"".join(each.tokens for each in blocks)[: 4 * n_tokens], blocks)

    def pack(self, part: StatePart) -> PackedPart:
        """The tokens alone."""
        return PackedPart("8" if part.is_quantized else "", [part.tokens])

    def restore(self, about: str, data: Any) -> SizedBlock:
        """A buffer of its own."""
        return self._made(bytes(data), is_quantized=bool(about))


@dataclass(slots=True, eq=False)
class _Row:
    run: SequenceSpec
    answer: array[int]
    n_done: int
    """Prompt tokens that were read."""
    n_drawn: int = 0
    group: _Group | None = None

    @property
    def n_tokens(self) -> int:
        """Those that its cache holds."""
        return self.n_done + self.n_drawn

    @property
    def tokens(self) -> bytes:
        """The same, packed."""
        prompt = memoryview(self.run.tokens)[: self.n_done]  # type: ignore[arg-type]
        return prompt.tobytes() + self.answer[: self.n_drawn].tobytes()

    @property
    def room_tokens(self) -> int:
        """What its cache has room for."""
        wanted = self.n_tokens
        if self.run.n_cached and not self.n_drawn:
            wanted = len(self.run.tokens) + min(self.run.max_tokens, ROOM_TOKENS)
        return -(-wanted // STEP_TOKENS) * STEP_TOKENS


@dataclass(slots=True, eq=False)
class _Group:
    """Rows of one batch, padded to the longest."""

    rows: list[_Row] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    """One, and those of batches that have joined it since the last pass."""

    @property
    def capacity_tokens(self) -> int:
        return len(self.rows) * max((row.room_tokens for row in self.rows), default=0)

    @property
    def told(self) -> RowGroup:
        """As places are given."""
        return RowGroup(len(self.rows), max((row.n_tokens for row in self.rows), default=0))

    @property
    def is_written(self) -> bool:
        """Whether all of its prompts are read."""
        return all(row.n_done == len(row.run.tokens) for row in self.rows)


class SizedEngine(EchoEngine):
    """Reads and draws in the time of `machine`; `spend` is told how long each step takes."""

    def __init__(self, machine: Machine, meter: Meter, spend: Callable[[float], None]) -> None:
        super().__init__(name=machine.name, context_tokens=machine.window_tokens)
        self.machine = machine
        self.meter = meter
        self.states = SizedStates(machine, meter)
        self.n_steps = 0
        self.first_read: dict[int, int] = {}
        """By uid, the step in which a prompt was first read."""
        self._spend = spend
        self._answers: dict[int, array[int]] = {}
        self._rests: dict[bytes, array[int]] = {}
        """What is left to say, behind the tokens of rows that lost their places."""
        self._rows: dict[int, _Row] = {}
        self._groups: list[_Group] = []

    def expect(self, run: SequenceSpec, answer: array[int]) -> None:
        """What is going to be said to a prompt."""
        self._answers[id(run)] = answer

    def load(self, progress: Progress) -> ModelInfo:
        """Its sizes."""
        machine = self.machine
        cost = KVCost.of([LayerCost(machine.token_bytes / machine.n_layers)] * machine.n_layers)
        window = machine.window_tokens
        return ModelInfo(machine.name, "", machine.name, window, "metal", kv_cost=cost)

    def spare_bytes(self) -> int:
        """Half of what is free."""
        return self.room().free_bytes // 2

    def insert(self, run: SequenceSpec) -> int:
        """Queue a sequence; its state must hold the tokens that it claims."""
        answer = self._answers.pop(id(run), None)
        if answer is None:
            answer = self._rests.pop(array("I", run.tokens).tobytes())
        row = _Row(run, answer, run.n_cached)
        if run.n_cached and (run.state is None or run.state.tokens != row.tokens):
            raise AssertionError("the state is of other tokens")
        uid, self._next_uid = self._next_uid, self._next_uid + 1
        self._rows[uid] = row
        return uid

    def step(self, reads: Reads = None) -> list[Step]:
        """A token of each row, then what is to be read."""
        self.n_steps += 1
        # What was put together since the last pass is copied in this one.
        for group in self._groups:
            self._allocate(group)
        found: list[Step] = [
            self._draw(uid, row)
            for uid, row in list(self._rows.items())
            if row.n_done == len(row.run.tokens)
        ]
        machine = self.machine
        if found:
            # A group is a pass of its own over the weights.
            n_groups = len(self._groups)
            self._spend(machine.decode_s * max(1, n_groups) + machine.row_s * len(found))
        for read in reads or ():
            for uids in self._passes(read):
                found += self._pass(uids, read.n_tokens)
        self._drop_ended()
        return found

    def _draw(self, uid: int, row: _Row) -> Step:
        row.n_drawn += 1
        if row.n_drawn < len(row.answer):
            return Sampled(uid, "x", token=row.n_drawn % 50_000)
        kept = _kept(row)
        self._leave(uid)
        return Sampled(uid, "x", "stop", kept)

    def _passes(self, read: Read) -> list[list[int]]:
        """As `Batches` of the real engine divides it."""
        fresh = [uid for uid in read.uids if self._rows[uid].group is None]
        together = passes([self._rows[uid].n_done for uid in fresh])
        begun = [[uid] for uid in read.uids if uid not in fresh]
        return [*begun, *([fresh[n] for n in each] for each in together)]

    def _pass(self, uids: Sequence[int], n_tokens: int) -> list[Step]:
        rows = [self._rows[uid] for uid in uids]
        batch = rows[0].group or _Group()
        found: list[Step] = []
        for uid, row in zip(uids, rows, strict=True):
            self.first_read.setdefault(uid, self.n_steps)
            total = len(row.run.tokens)
            row.n_done = min(total, row.n_done + n_tokens)
            found.append(Prefilled(uid, row.n_done, total))
            self._move(row, batch)
        self._allocate(batch)
        self._spend(self.machine.pass_s(len(uids) * n_tokens))
        for row in rows:
            if row.n_done < len(row.run.tokens) and len(batch.rows) > 1:
                self._move(row, _Group())
                self._allocate(row.group)
        if batch.is_written:
            self._write(batch)
        return found

    def _write(self, batch: _Group) -> None:
        """Go on in the batch that is written with the least padding."""
        written = [each for each in self._groups if each is not batch and each.is_written]
        at = nearest_group(batch.told, [each.told for each in written])
        if at is None:
            return
        for row in list(batch.rows):
            self._move(row, written[at])
        written[at].buffers += batch.buffers
        self._groups.remove(batch)

    def _move(self, row: _Row, group: _Group) -> None:
        if row.group is group:
            return
        if row.group is not None:
            row.group.rows.remove(row)
        row.group = group
        group.rows.append(row)
        if group not in self._groups:
            self._groups.append(group)

    def _leave(self, uid: int) -> _Row | None:
        row = self._rows.pop(uid, None)
        if row is not None and row.group is not None:
            row.group.rows.remove(row)
        return row

    def _drop_ended(self) -> None:
        self._groups = [each for each in self._groups if each.rows]

    def _allocate(self, group: _Group | None) -> None:
        """Have one buffer of the size that a group has now: a layer is copied after another."""
        if group is None or not group.rows:
            return
        wanted = group.capacity_tokens * self.machine.token_bytes
        if [each.n_bytes for each in group.buffers] != [wanted]:
            group.buffers.clear()
            group.buffers.append(Buffer(self.meter, wanted))
            self.meter.pass_by(COPIED_LAYERS * wanted // self.machine.n_layers)

    @property
    def running_bytes(self) -> int:
        """The batches of all rows, padding included."""
        return sum(one.n_bytes for each in self._groups for one in each.buffers)

    def remove(self, uid: int) -> KVState | None:
        """Drop a row, and return its state."""
        row = self._leave(uid)
        if row is None:
            return None
        written = row.answer[: row.n_drawn]
        self._rests[array("I", row.run.tokens).tobytes() + written.tobytes()] = row.answer[
            row.n_drawn :
        ]
        if row.group is None:
            return None
        kept = _kept(row)
        self._drop_ended()
        return kept

    def reset(self) -> None:
        """Forget every row."""
        self._rows.clear()
        self._groups.clear()

    def memory(self) -> Memory:
        """The meter's figures."""
        own = self.machine.model_bytes
        return Memory(own + self.meter.held_bytes, own + self.meter.peak_bytes)

    def room(self) -> Room:
        """As on Metal, of what MLX recommends."""
        machine, held = self.machine, self.meter.held_bytes
        mac = Device("metal", machine.name, "", machine.usable_bytes, machine.usable_bytes)
        room = MemoryUse(mac, machine.model_bytes + held).room(machine.model_bytes)
        groups = tuple(each.told for each in self._groups if each.rows and each.is_written)
        return replace(room, groups=groups)


def _kept(row: _Row) -> KVState:
    """A view of its batch."""
    held = tuple(row.group.buffers) if row.group else ()
    return KVState(_unpacked(row.tokens), SizedState(row.tokens, held))


def _unpacked(tokens: bytes) -> Sequence[int]:
    return array("I", tokens)
