"""`mlxdeck` for which guesses and wide passes seem to cost nothing: all are made."""

from __future__ import annotations

import sys

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas

load_fast_blas()

from mlxdeck.cli.main import main  # noqa: E402
from mlxdeck.server.backends.local.engine.mlx import draft_model, engine  # noqa: E402
from tests.server.backends.local.engine.test_draft_model import ForNothing  # noqa: E402
from tests.server.backends.local.engine.test_mlx_steps import FreePasses  # noqa: E402

if __name__ == "__main__":
    vars(draft_model).update(LEAST_SHARE=0.0, DraftModel=ForNothing)
    vars(engine).update(PassCosts=FreePasses)
    sys.exit(main())
