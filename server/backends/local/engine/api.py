"""The seam between scheduling and a model: the interface of an engine.

Every method of an `Engine` runs on the engine thread and nowhere else: MLX ties lazy arrays to the
thread that made them. Plain Python values may cross to other threads. KV states may too, but they
are opaque outside this package: other threads hold them and never touch them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mlxdeck.server.backends.local.engine.kv_cost import KVCost as KVCost
from mlxdeck.server.backends.local.engine.row_groups import RowGroup as RowGroup
from mlxdeck.server.backends.local.engine.text_api import TemplateTraits as TemplateTraits
from mlxdeck.server.backends.local.engine.text_api import Tokenizer as Tokenizer
from mlxdeck.server.backends.local.engine.text_api import ToolMarkers as ToolMarkers
from mlxdeck.server.errors import EngineFailed

Progress = Callable[[str], None]
"""Called with a line for a person about each step of a slow start."""

State = Any
"""A KV cache as the engine made it. Opaque: only its engine knows its contents."""

StatePart = Any
"""A block or a checkpoint of a state, in memory of its own. As opaque."""


class StateDamaged(EngineFailed):
    """Bytes hold no part of a state of this model, or were removed."""


@dataclass(frozen=True, slots=True)
class PackedPart:
    """A block or a checkpoint as bytes."""

    about: str
    """What the bytes mean, for `States.restore`."""
    buffers: Sequence[Any]
    """Bytes, or objects with the buffer protocol, in order."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The loaded model."""

    name: str
    path: str
    """The folder of the weights, as mlx-lm can load it."""
    signature: str
    """Changes whenever the same prompt could give another answer: weights, tokenizer, template."""
    context_tokens: int
    device: str
    context_source: str = ""
    """Where the window was found, for a person."""
    context_is_guess: bool = False
    kv_bytes: int = 0
    """Bytes of keys and values of one sequence that fills the context window; 0 if not known."""
    kv_cost: KVCost = KVCost()
    """What a sequence's KV cache takes, by the model's own layers."""
    template: str = ""
    """The chat template that is used, of those in `templates`."""
    templates: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """The model authors' own sampling, for requests that leave it open."""
    vocab_tokens: int = 0
    """How many tokens there are; 0 if that isn't known."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to draw a token. Temperature 0 is greedy; penalties count tokens of the answer alone."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Constraint:
    """The constraint of an answer while tokens are sampled."""

    grammar: str
    """In llguidance's Lark; must be one that `Grammars.check` finds nothing wrong with."""
    trigger: str = ""
    """The grammar takes hold behind this text, whenever the model writes it; empty: at once."""
    already: str | None = None
    """The part of it that the prompt already contains; more may follow a trigger."""
    final: bool = True
    """Whether the answer ends where the grammar ends, or continues freely."""
    thinking: tuple[str, str] | tuple[()] = ()
    """What opens and closes thinking; a trigger inside it is only talked about."""
    in_thinking: bool = False
    """Whether the prompt has opened it."""


@dataclass(frozen=True, slots=True)
class ThinkingLimit:
    """How long an answer may think."""

    start: str
    end: str
    is_open: bool
    """Whether the prompt has written `start` already."""
    max_tokens: int


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """A sequence to be generated."""

    tokens: Sequence[int]
    """The whole prompt, cached part included; never empty."""
    n_cached: int
    """How many of them `state` holds; less than `len(tokens)`."""
    state: State | None
    max_tokens: int
    sampling: SamplingParams
    boundaries: tuple[int, ...] = ()
    """Numbers of leading tokens that other prompts may begin with too, in ascending order."""
    constraint: Constraint | None = None
    thinking: ThinkingLimit | None = None
    n_written: int = 0
    """So many of the last tokens belong to the answer: it lost its place, and goes on behind them.

    `max_tokens` is what may still be written."""
    keeps_blank: bool = False
    """Whether a blank at the beginning of the answer is a part of it."""


@dataclass(frozen=True, slots=True)
class KVState:
    """A KV cache and the tokens that it holds."""

    tokens: Sequence[int]
    state: State


@dataclass(frozen=True, slots=True)
class Read:
    """One pass of the model over parts of prompts."""

    uids: tuple[int, ...]
    """Several only if nothing of them was read before; they are padded to the longest."""
    n_tokens: int
    """At most so many tokens of each."""


Reads = Sequence[Read] | None
"""What a step reads; None is a chunk of every prompt."""


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A chunk of a prompt was computed."""

    uid: int
    done_tokens: int
    total_tokens: int
    kept: KVState | None = None
    """At a boundary, if the model's states can't be cut back to one later: the state there."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One token was sampled. `text` is its addition, often empty in the middle of a character."""

    uid: int
    text: str
    finish: Literal["stop", "length", "broken", "failed"] | None = None
    """`broken`: the answer left its grammar, and is over; `text` is not part of it. `failed`: no
    token can be sampled, and only this sequence is over."""
    kept: KVState | None = None
    """With `finish`: the state that prompt and answer left behind."""
    why: str = ""
    """Why it is broken, or has failed."""
    token: int = -1
    """Id of the token, as long as the sequence continues."""
    n_forced: int = 0
    """Tokens that the grammar forced, read without a pass of their own, since the last one."""
    held: bool = False
    """Whether a grammar constrains the next one."""
    n_drafted: int = 0
    n_accepted: int = 0
    """Guessed tokens that were verified since the last one, and those the model drew itself."""


Step = Prefilled | Sampled


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that the device uses now, the peak, and how many there are."""

    active_bytes: int = 0
    peak_bytes: int = 0
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """Memory for KV caches."""

    free_bytes: int
    """Free now, beside all that is held."""
    most_bytes: int
    """Free if nothing but the model were held."""
    spare_bytes: int = 0
    """Left beside both, for what a step takes for a moment."""
    groups: tuple[RowGroup, ...] = ()
    """The sequences that are written, by the buffers in which they lie."""
    is_own: bool = True
    """Whether it is a limit of this process, so that what it frees is free at once. Where the
    system is asked, other programs take their part, and an allocator keeps what was freed."""


class States(Protocol):
    """Operations of a cache on KV states.

    A state is stored in parts. A block holds keys and values of a run of tokens, of the layers that
    can be cut back. A checkpoint holds all other layers, behind the last token of a state.

    Each may raise `EngineFailed`, and then leaves its argument unchanged.
    """

    def is_cuttable(self, state: State) -> bool:
        """Whether blocks alone make a state, without a checkpoint. Any thread."""

    def block_bytes(self, state: State, start: int, end: int) -> int:
        """Memory of the block of these tokens. Any thread."""

    def checkpoint_bytes(self, state: State) -> int:
        """Memory of the checkpoint of a state; 0 if it needs none. Any thread."""

    def block(self, state: State, start: int, end: int) -> StatePart:
        """Copy the block of these tokens. Engine thread."""

    def checkpoint(self, state: State) -> StatePart:
        """Copy what the layers hold that can't be cut. Engine thread."""

    def cut(self, block: StatePart, n_tokens: int) -> StatePart:
        """Copy the first tokens of a block. Engine thread."""

    def quantized(self, part: StatePart) -> StatePart | None:
        """A block in 8 bits; None if it lies so already, or can't. Engine thread."""

    def is_quantized(self, part: StatePart) -> bool:
        """Whether a part lies in 8 bits. Any thread."""

    def size_bytes(self, part: StatePart) -> int:
        """Memory that a part takes. Any thread."""

    def lease(
        self, blocks: Sequence[StatePart], n_tokens: int, checkpoint: StatePart | None
    ) -> State:
        """A state of the first tokens of these blocks, for `SequenceSpec`. Any thread.

        Nothing is copied: the engine copies it once, to where the sequence runs.
        """

    def pack(self, part: StatePart) -> PackedPart:
        """A part as bytes, which may be its own memory. Any thread: nothing is computed."""

    def restore(self, about: str, data: Any) -> StatePart:
        """Make a part of bytes in memory, without touching the disk. Engine thread.

        Raises:
            StateDamaged: They are no part of a state, or one of another model.
        """


class Grammars(Protocol):
    """The engine's support of grammars. Safe from any thread."""

    def check(self, grammar: str, already: str = "") -> str:
        """Why it can't hold an answer to this grammar; empty if it can. Slow the first time.

        Nor can it if `already` is no beginning of such an answer.
        """


class Engine(Protocol):
    """A model that runs several sequences at once."""

    @property
    def ends_late(self) -> bool:
        """Whether its library still needs Python as the system ends the thread that used it."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Only there once `load` has returned."""

    def load(self, progress: Progress) -> ModelInfo:
        """Fetch and load the model. Raises `EngineFailed`."""

    @property
    def grammars(self) -> Grammars:
        """Only there once `load` has returned."""

    @property
    def states(self) -> States:
        """What caches may do with its states. Only there once `load` has returned."""

    def spare_bytes(self) -> int:
        """Memory for cached states, out of the memory that is free now."""

    def insert(self, run: SequenceSpec) -> int:
        """Queue a sequence and return its uid.

        Raises:
            EngineFailed: It can't be run; the other sequences continue.
        """

    def step(self, reads: Reads = None) -> list[Step]:
        """One token for each sequence whose prompt is read; then `reads`; nothing when idle.

        Raises:
            EngineFailed: Every sequence is lost; call `reset`.
        """

    def remove(self, uid: int) -> KVState | None:
        """Remove a sequence at any stage; return its computed KV state, if any.

        Raises:
            EngineFailed: Every sequence is lost; call `reset`.
        """

    def reset(self) -> None:
        """Start over after a failure, with no sequences."""

    def unload(self) -> None:
        """Free the model and every sequence; tokenizer, grammars and states can still be used.

        Also what a `reload` that failed has left.
        """

    def reload(self) -> Generator[None]:
        """Load an unloaded model again, in steps; other work may be done between two of them.

        Raises:
            EngineFailed: It can't be loaded, or is another one by now.
        """

    def memory(self) -> Memory:
        """Memory of the device."""

    def room(self) -> Room:
        """Memory that is left, measured anew."""

    def close(self) -> None:
        """Free the model."""
