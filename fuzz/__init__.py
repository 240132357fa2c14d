"""Calls of the public functions drawn from bytes, and what each must give: see `docs/reliability.md`."""

import sys
from pathlib import Path

# the oracles are the tests'
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
