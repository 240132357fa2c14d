"""A Python of its own for what must not happen in pytest's: first imports, forks, compilation without a cache."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TIMEOUT_S = 240.0


def run_python(script: str, root: Path = REPOSITORY, **environment: str | None) -> str:
    """What the script prints; `numbactc` comes from root, and a variable of None is not set."""
    variables = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    for name, value in environment.items():
        variables.pop(name, None)
        if value is not None:
            variables[name] = value
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root, env=variables, timeout=TIMEOUT_S, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"the script ended with {result.returncode}:\n{result.stdout}{result.stderr}"
    return result.stdout
