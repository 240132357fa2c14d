"""Start-up: what the first call of numbactc costs in a fresh process, with an empty Numba cache and with the one that
left behind.

    python -m benchmarks.startup

prints one JSON row, of this process and whatever cache `NUMBA_CACHE_DIR` names.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile

from benchmarks.environment import ROOT
from benchmarks.peers import PEERS, version_of
from benchmarks.rows import OK, Row, StartupRow, as_row, failed, not_installed
from benchmarks.shapes import SHAPES, draw, tiny
from benchmarks.timing import single_ms


def measure_here(cache: str) -> StartupRow:
    """Import, first and second call in this process, which must be fresh."""
    importlib.import_module("torch")
    problem = draw(tiny(SHAPES["characters"]))
    import_ms = single_ms(lambda: importlib.import_module("numbactc"))
    call = PEERS["numbactc"].load(problem).forward_backward
    return StartupRow(cache, OK, version_of("numbactc"), import_ms, single_ms(call), single_ms(call))


def measure() -> list[Row]:
    """Two fresh processes on one new cache folder: the first compiles, the second reads what the first left."""
    if PEERS["numbactc"].missing:
        return [as_row(StartupRow(cache, not_installed(PEERS["numbactc"].missing))) for cache in ("cold", "warm")]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        for cache in ("cold", "warm"):
            command = [sys.executable, "-m", "benchmarks.startup", cache]
            try:
                done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, text=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
            except subprocess.CalledProcessError as error:
                rows.append(as_row(StartupRow(cache, failed(RuntimeError(f"exit status {error.returncode}")))))
    return rows


if __name__ == "__main__":
    print(json.dumps(as_row(measure_here(sys.argv[1] if len(sys.argv) > 1 else "unknown"))))
