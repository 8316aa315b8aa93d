"""`make schema`: writes the schema file, and the page that describes it."""

from __future__ import annotations

import json
from pathlib import Path

from mlxdeck.telemetry.schema.json_schema import json_schema
from mlxdeck.telemetry.schema.reference import reference

ROOT = Path(__file__).resolve().parents[1]


def texts() -> dict[Path, str]:
    """Each file of a checkout, and what it holds."""
    return {
        ROOT / "telemetry" / "schema" / "schema-v1.json": json.dumps(json_schema(), indent=1)
        + "\n",
        ROOT / "docs/telemetry.md": reference(),
    }


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
