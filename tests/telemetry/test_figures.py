"""One row more in the table of figures, and everything has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlxdeck.telemetry.schema.events import EVENTS

ROOT = Path(__file__).parent.parent.parent
ADDED = """
import asyncio, csv, json, sys
from pathlib import Path

from mlxdeck.telemetry.schema import events, figures

kind, value = sys.argv[1], json.loads(sys.argv[2])
event = events.EVENTS[sys.argv[3]]
added = figures.Figure(
    "depth", kind, "mlx.new.depth", "depth of it", "how deep it is",
    field="depth", example=sys.argv[4], event=event,
)
figures.FIGURES = (*figures.FIGURES, added)

from mlxdeck.telemetry.analyze.request_detail import detail
from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.telemetry.export.tables import take, write
from mlxdeck.telemetry.query.fields import FIELDS
from mlxdeck.telemetry.query.filters import parse
from mlxdeck.tui.app import Dashboard
from tests.streams import NAME, START_TS, Made, Stream
from tests.tui.running import Running

folder = Path(sys.argv[5])
stream, lines = Stream(), []
for number in range(2):
    lines += stream.request(Made(10 + number), number)
known = b'"attrs":{"mlx.new.depth":' + json.dumps(value).encode() + b","
path = folder / NAME
marked = [
    line.replace(b'"attrs":{', known) if event.NAME.encode() in line and b"_0001" in line else line
    for line in lines
]
path.write_bytes(stream.header() + b"".join(marked))
store = read([path])
import numpy as np
write(take(store, np.arange(store.n)), folder / "t.csv")
exported = [row["depth"] for row in csv.DictReader((folder / "t.csv").open())]

async def shown():
    app = Dashboard([path], clock=lambda: START_TS + 20)
    async with app.run_test(size=(120, 100)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n == 2)
        await run.press("enter")
        return next((line for line in run.text.splitlines() if "depth of it" in line), "")

print(json.dumps({
    "detail": [detail(store, row)["figures"]["depth"] for row in range(2)],
    "exported": exported,
    "example": FIELDS["depth"].example,
    "found": parse(sys.argv[4]).mask(store).tolist(),
    "shown": asyncio.run(shown()),
}))
"""


@pytest.mark.parametrize(
    ("kind", "value", "event", "example", "shown"),
    [
        ("seconds", 2.5, "request.end", "depth>2s", "2.50s"),
        ("text", "low", "request.start", "depth:lo", "low"),
    ],
)
def test_a_row_reaches_store_export_filter_and_view(
    tmp_path: Path, kind: str, value: object, event: str, example: str, shown: str
) -> None:
    """Told by an event of the second request, and not known of the first."""
    assert event in EVENTS
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / ".pkg"), str(ROOT)])}
    arguments = [kind, json.dumps(value), event, example, str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-c", ADDED, *arguments],
        env=environ,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["detail"] == [None, value]
    assert found["exported"] == ["", str(value)]
    assert (found["example"], found["found"]) == (example, [False, True])
    assert shown in found["shown"]
