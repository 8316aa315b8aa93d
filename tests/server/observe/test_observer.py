"""What the server says of itself once a second."""

from __future__ import annotations

from dataclasses import replace

from mlxdeck.server.load import Load
from mlxdeck.server.observe.observer import Observer
from mlxdeck.telemetry.schema.events import Tick
from mlxdeck.telemetry.write.writer import MemoryWriter
from tests.server.http import running


async def test_a_tick_tells_how_much_there_is_room_for() -> None:
    """The batch and the queue of a model here; nothing where another server decides."""
    async with running(max_batch=3, max_waiting=7) as server:
        load = server.service.load
    assert (load.max_active, load.max_queued) == (3, 7)
    memory = MemoryWriter()
    observer = Observer(memory, "m", "off")
    observer.tick(replace(load, memory_limit_bytes=1 << 30), 0)
    observer.tick(Load(queued=None), 0)
    here, elsewhere = (line.attrs for line in memory.named("tick"))
    assert isinstance(here, Tick) and isinstance(elsewhere, Tick)
    assert (here.max_active, here.max_queued, here.memory_limit_bytes) == (3, 7, 1 << 30)
    assert (elsewhere.max_queued, elsewhere.memory_limit_bytes) == (None, None)
