"""`python -m mlxdeck`: the package's own folder has a link to this file."""

from __future__ import annotations

import sys

from mlxdeck.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
