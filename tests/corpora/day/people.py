"""Who works with the server: people with coding agents, agents of theirs, and programs.

Each is a process of the simulation. Times are drawn from long-tailed distributions, as waiting for
people and for tools is.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.corpora.day.conversation import (
    CHECKS,
    MAIN,
    SCRIPT,
    SEARCH,
    SIDE,
    TITLE,
    Client,
    Conversation,
)
from tests.corpora.day.requests import Ask, Call, Outcome
from tests.corpora.day.simulation import Process, Simulation

COMPACT_AT = 0.82
"""The share of the window at which an agent sums up its conversation."""
MAX_RETRIES = 10
STOP_REQUEST = "Request interrupted by user"
FILES = ("src/orders.py", "src/tickets.ts", "tests/test_orders.py", "docs/orders.md", "Makefile")
COMMANDS = ("make test", "git status", "git diff", "ls -la src", "ruff check .")


@dataclass(slots=True)
class World:
    """What all of them share."""

    simulation: Simulation
    chance: random.Random
    ends_s: float
    window_tokens: int
    main: Client = MAIN
    """What agents say first."""
    talking: dict[str, Conversation] = field(default_factory=dict)
    """Sessions that go on, by their names."""
    _n: int = 0

    @property
    def over(self) -> bool:
        """Whether nobody begins anything new."""
        return self.simulation.now_s > self.ends_s

    def update(self, main: Client) -> None:
        """Agents say something else first from now on, also in the middle of a session."""
        self.main = main
        for conversation in self.talking.values():
            conversation.client = main

    def name(self, kind: str) -> str:
        """A name that nobody else has."""
        self._n += 1
        return f"{kind}-{self._n}"

    def id(self) -> str:
        """A UUID, always the same for the same seed."""
        digits = self.chance.randbytes(16).hex()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def seconds(self, median: float, spread: float = 0.8) -> float:
        """A time with a long tail."""
        return median * self.chance.lognormvariate(0, spread)

    def happens(self, share: float) -> bool:
        """Whether something does."""
        return self.chance.random() < share


def call(chance: random.Random) -> Call:
    """A tool call; a few are wrong in one way or the other."""
    kind = chance.choices(("Read", "Bash", "Edit", "Grep", "Glob", "Write"), (9, 7, 5, 4, 2, 1))[0]
    arguments: dict[str, object]
    if kind == "Bash":
        arguments = {"command": chance.choice(COMMANDS), "description": "Look around"}
    elif kind in ("Grep", "Glob"):
        arguments = {"pattern": chance.choice(FILES), "path": "src"}
    else:
        arguments = {"file_path": f"/home/me/proj/{chance.choice(FILES)}"}
    if kind == "Edit":
        arguments |= {"old_string": "return None", "new_string": f"return {chance.randrange(99)}"}
    elif kind == "Write":
        arguments |= {"content": "pass\n" * chance.randrange(1, 30)}
    raw = json.dumps(arguments)
    made = Call(kind, raw, id=f"toolu_{chance.randbytes(12).hex()}")
    drawn = chance.random()
    if drawn < 0.012:
        return replace(made, parse_error="the arguments are no JSON object", arguments=raw[:-9])
    if drawn < 0.03:
        return replace(made, repaired=True)
    return replace(made, valid=drawn > 0.036)


def ask(world: World, conversation: Conversation, calls: tuple[Call, ...]) -> Ask:
    """The next request of an agent."""
    chance = world.chance
    thinks = not conversation.agent_id and world.happens(0.35)
    n_thought = int(world.seconds(120)) if thinks else 0
    n_called = sum(len(each.arguments) // 4 + 20 for each in calls)
    made = Ask(
        conversation,
        n_thought + n_called + int(world.seconds(40 if calls else 150)) + 1,
        calls,
        thinking=None if conversation.agent_id else True,
        reasoning_tokens=n_thought,
    )
    drawn = chance.random()
    if drawn < 0.004:
        made.ended_by, made.calls, made.output_tokens = "loop", (), 256 + made.output_tokens
    elif drawn < 0.006 and calls:
        made.let_go = "token 151645 is not allowed here"
    elif drawn < 0.03:
        made.leaves_after_s = world.seconds(6)
    elif drawn < 0.033:
        made.max_tokens = made.output_tokens = 1_024
    elif drawn < 0.034:
        made.malformed = "messages.7.content.0.type: expected text, got 'video'"
    return made


def tries(world: World, made: Ask) -> Process:
    """Ask until there is an answer, as clients do; returns the last outcome."""
    for attempt in range(MAX_RETRIES):
        outcome: Outcome = yield made
        if outcome not in (Outcome.BUSY, Outcome.FAILED, Outcome.DOWN):
            return outcome
        yield min(0.5 * 2**attempt, 32.0) * world.chance.uniform(0.75, 1.25)
        made = replace(made, leaves_after_s=0.0, let_go="")
    return Outcome.FAILED


def turn(world: World, conversation: Conversation, n_steps: int, *, depth: int = 0) -> Process:
    """An agent at work, from what it was told to its last word."""
    chance = world.chance
    for step in range(n_steps):
        if conversation.n_tokens > COMPACT_AT * world.window_tokens:
            yield from compact(world, conversation)
        last = step == n_steps - 1
        n_calls = 0 if last else chance.choices((1, 2, 3), (8, 2, 1))[0]
        made = ask(world, conversation, tuple(call(chance) for _ in range(n_calls)))
        outcome = yield from tries(world, made)
        if outcome is Outcome.TOO_LONG:
            yield from compact(world, conversation)
            continue
        if outcome in (Outcome.FAILED, Outcome.REFUSED):
            return
        conversation.say(("answer", made.key), made.output_tokens)
        if outcome is Outcome.LEFT:
            conversation.say(STOP_REQUEST, 14)
            return
        if depth < 2 and not last and world.happens(0.07 if depth == 0 else 0.02):
            yield from helpers(world, conversation, depth)
        elif not last:
            yield world.seconds(0.6, 1.4)
        conversation.say(("results", made.key), int(world.seconds(380, 1.1)) + 30)


def compact(world: World, conversation: Conversation) -> Process:
    """A summary, by a request of its own, takes the place of the conversation."""
    conversation.say("Sum up what was said and done.", 900)
    made = Ask(conversation, int(world.seconds(1_400, 0.3)), max_tokens=20_000)
    yield from tries(world, made)
    conversation.compact(made.output_tokens + 600)


def helpers(world: World, parent: Conversation, depth: int) -> Process:
    """Agents that an agent starts, all at the same time."""
    chance = world.chance
    client = chance.choice((SIDE, SIDE, SEARCH))
    task = world.name("task")
    n = chance.choices((1, 2, 3, 4, 6), (4, 4, 3, 2, 1))[0]
    # Now and then all are told the same, and ask the same to the last byte.
    same = world.happens(0.1)
    yield [_helper(world, parent, client, task if same else f"{task} {n}", depth) for n in range(n)]


def _helper(world: World, parent: Conversation, client: Client, task: str, depth: int) -> Process:
    agent_id = f"a{world.chance.randbytes(8).hex()}"
    conversation = Conversation(task, client, parent.session_id, agent_id, parent.agent_id)
    conversation.say(task, world.chance.randrange(300, 1_500))
    conversation.say("reminder", 220)
    yield from turn(world, conversation, world.chance.randrange(2, 11), depth=depth + 1)


def person(world: World, lunch_s: float) -> Process:
    """Somebody who works with a coding agent all day, and eats in the middle of it."""
    chance = world.chance
    yield world.seconds(300)
    while not world.over:
        yield from session(world)
        if abs(world.simulation.now_s - lunch_s) < 1_500:
            yield world.seconds(2_400, 0.3)
        else:
            yield world.seconds(420 if chance.random() < 0.8 else 1_800)


def session(world: World) -> Process:
    """A conversation of several turns."""
    conversation = Conversation(world.name("session"), world.main, world.id())
    world.talking[conversation.name] = conversation
    yield from _talk(world, conversation)
    del world.talking[conversation.name]


def _talk(world: World, conversation: Conversation) -> Process:
    chance = world.chance
    conversation.say("instructions", chance.randrange(700, 2_500))
    titled = Conversation(f"{conversation.name} title", TITLE, conversation.session_id)
    titled.say(conversation.name, chance.randrange(40, 300))
    for number in range(chance.randrange(2, 13)):
        if world.over:
            return
        conversation.say(("user", number), int(world.seconds(70)) + 5)
        if world.happens(0.02):
            # A log as long as the window.
            conversation.say(("pasted", number), int(world.window_tokens * chance.uniform(0.7, 1)))
        n_steps = 1 + int(chance.expovariate(1 / 7))
        parts = [turn(world, conversation, n_steps)]
        if number == 0:
            parts.append(_single(world, titled, 14))
        yield parts
        if world.happens(0.03):
            # A reminder in front changes: all behind it is unknown.
            conversation.change(0)
        yield world.seconds(55)


def _single(world: World, conversation: Conversation, output_tokens: int) -> Process:
    yield from tries(world, Ask(conversation, output_tokens, max_tokens=512))


def checks(world: World, every_s: float) -> Process:
    """A program that asks the same few things again and again."""
    while not world.over:
        yield every_s
        for number in range(6):
            conversation = Conversation(f"check {number}", CHECKS, "nightly-checks")
            conversation.say(("check", number), 400 + 90 * number)
            made = Ask(conversation, 60 + 11 * number, temperature=0, max_tokens=400)
            made.fresh = number == 5
            if number == 4:
                # The model never gets this call right, so that no answer is one to repeat.
                made.calls = (Call("", '{"file_path": ', "the arguments end too early"),)
            yield from tries(world, made)


def script(world: World, every_s: float) -> Process:
    """A batch over OpenAI's API: many short requests at once, far apart."""
    while not world.over:
        yield world.seconds(every_s, 0.3)
        name = world.name("batch")
        yield list(_batch(world, name, world.chance.randrange(12, 60)))


def _batch(world: World, name: str, n: int) -> Iterator[Process]:
    for number in range(n):
        conversation = Conversation(f"{name} {number}", SCRIPT, name)
        conversation.say(number, world.chance.randrange(60, 900))
        made = Ask(conversation, world.chance.randrange(20, 200), stream=False, temperature=0.2)
        yield _once(made)


def _once(made: Ask) -> Process:
    yield made
