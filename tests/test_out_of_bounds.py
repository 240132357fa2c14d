"""No kernel reads or writes where it must not: arrays beside forbidden pages, and every index checked.

`make bounds` runs more of the tests with NUMBA_BOUNDSCHECK=1.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from processes import REPOSITORY, TIMEOUT_S, run_python

CALLS = 150
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects pages as Linux does")


def guarded(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tests/guarded.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, timeout=TIMEOUT_S, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("side", ["start", "end"])
def test_nothing_beside_an_array_is_touched(side: str) -> None:
    """Drawn calls of all functions, in all layouts; what is only to be read cannot be written either."""
    result = guarded(side, str(CALLS))
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > CALLS / 2


@pytest.mark.parametrize("wrong", ["read-beyond", "read-before", "write"])
def test_a_forbidden_page_is_one(wrong: str) -> None:
    assert guarded(wrong).returncode == -signal.SIGSEGV


CHECKED = """
import numpy as np
from numbactc.kernels.jit import entry
from numbactc.kernels.cpu.vector import I64
from numbactc.kernels.cpu.vector_memory import gather, gather_listed, load, load_first, store, store_first

@entry
def use(what, array, rows, places, at, count):
    if what == 0:
        store(array, 0, load(array, at))
    elif what == 1:
        store(array, at, load(array, 0))
    elif what == 2:
        store(array, 0, load_first(array, at, count, 0.0))
    elif what == 3:
        store_first(array, at, count, load(array, 0))
    elif what == 4:
        store(array, 0, gather(rows, (1, 0), load(places, 0)))
    elif what == 5:
        store(array, 0, gather_listed(array, places, 0))
    else:
        store(array, 0, load(rows, (at, 0)))

array, rows, places = np.zeros(20), np.zeros((2, 9)), np.arange(8)
right = [(0, 12, 0), (1, 12, 0), (2, 17, 3), (3, 17, 3), (2, 20, 0), (4, 0, 0), (5, 0, 0), (6, 1, 0)]
wrong = [(0, 13, 0), (1, 13, 0), (1, -1, 0), (2, 17, 4), (3, 17, 4), (6, 2, 0), (6, -1, 0)]
for what, at, count in right:
    use(what, array, rows, places, at, count)
places[5] = 9
for what, at, count in [*wrong, (4, 0, 0)]:
    try:
        use(what, array, rows, places, at, count)
    except IndexError:
        continue
    print("nobody noticed", what, at, count)
places[5] = 20
try:
    use(5, array, rows, places, 0, 0)
except IndexError:
    print("checked")
"""


def test_vectors_are_checked_as_indices_are(tmp_path: Path) -> None:
    """With NUMBA_BOUNDSCHECK=1 a vector that is not all in its array raises IndexError."""
    script = tmp_path / "checked.py"  # Numba caches what comes from a file
    script.write_text(CHECKED)
    cache = str(tmp_path / "cache")
    printed = run_python(f"import runpy; runpy.run_path({str(script)!r})", NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=cache)
    assert printed == "checked\n"
