"""Parts of a run in processes of their own: rows come line by line, and those that a dead process owes are told so."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

from benchmarks.environment import ROOT
from benchmarks.rows import AnyRow, Row, as_row

TimeLeft = Callable[[], float]
"""Seconds; nothing more is begun when there are none."""

PATIENCE_S = 300.0
"""How long a process may go on after its time: what it has begun is brought to an end."""


def until(seconds: float) -> TimeLeft:
    """Time left of so many seconds from now."""
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()


def send(rows: Iterable[AnyRow]) -> None:
    """Hand rows to the parent: a line of JSON on the real standard output, which nothing else of the child uses."""
    print(json.dumps([as_row(row) for row in rows]), file=sys.__stdout__, flush=True)


def collect(module: str, *arguments: str, limit_s: float = math.inf) -> tuple[list[Row], str | None]:
    """The rows that `python -m module arguments` sends, and what became of it where it did not end well."""
    command = [sys.executable, "-m", module, *arguments, f"--limit={max(limit_s, 0.0)}"]
    patience = None if math.isinf(limit_s) else max(limit_s, 0.0) + PATIENCE_S
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=patience, check=False)
        output, lost = done.stdout, f"exit status {done.returncode}" if done.returncode else None
    except subprocess.TimeoutExpired as error:
        sent = error.stdout or b""
        output, lost = sent.decode() if isinstance(sent, bytes) else sent, "it did not come to an end"
    whole, _, _ = output.rpartition("\n")  # a line that was being written is no row
    return [row for line in whole.splitlines() for row in json.loads(line)], lost
