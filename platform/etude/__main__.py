"""`python -m etude`."""

from __future__ import annotations

import sys

from etude.cli import main

if __name__ == "__main__":
    sys.exit(main())
