"""Where the host is while numbactc computes next to nothing.

    python -m benchmarks.host

prints one JSON row. A timer interrupts the main thread every millisecond while forward + backward of a tiny problem are
repeated, and the innermost function of numbactc on its stack is noted; what has none is PyTorch, its autograd engine
for the most part, and the loop. Python handles the interruption when the C function under way returns to it, so that
the time of a kernel counts for the function that called it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from benchmarks.children import collect, send
from benchmarks.peers import PEERS
from benchmarks.report import ELSEWHERE
from benchmarks.rows import OK, HostRow, Row, as_row, failed, not_installed
from benchmarks.shapes import TINY, draw
from benchmarks.speed import confine

EVERY_S = 0.001
SAMPLES = 3000


def place_of(frame: FrameType | None, package: str) -> str:
    """`file.function` of the innermost frame within the package, a folder."""
    while frame is not None:
        file, code = frame.f_code.co_filename, frame.f_code
        if file.startswith(package + os.sep):
            return f"{file[len(package) + 1 :].removesuffix('.py').replace(os.sep, '/')}.{code.co_name}"
        frame = frame.f_back
    return ELSEWHERE


def watch(call: Callable[[], object], package: str, samples: int, limit_s: float) -> collections.Counter[str]:
    """How often each place was met, while `call` is repeated until there are so many samples or no time is left."""
    found: collections.Counter[str] = collections.Counter()
    watching = True

    def note(_: int, frame: FrameType | None) -> None:
        found[place_of(frame, package)] += 1
        if watching:  # the next one not before this is noted, or a slow machine never gets out of here
            signal.setitimer(signal.ITIMER_REAL, EVERY_S)

    before = signal.signal(signal.SIGALRM, note)
    signal.setitimer(signal.ITIMER_REAL, EVERY_S)
    end = time.monotonic() + limit_s
    try:
        while found.total() < samples and time.monotonic() < end:
            call()
    finally:
        watching = False
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    return found


def measure_here(samples: int, limit_s: float) -> HostRow:
    """The row of numbactc, in this process."""
    name = "numbactc"
    row = HostRow(name, PEERS[name].version, OK)
    if PEERS[name].missing:
        return HostRow(name, None, not_installed(PEERS[name].missing))
    if not hasattr(signal, "setitimer"):
        return HostRow(name, row.version, "failed: this system has no interval timer")
    call = PEERS[name].load(draw(TINY)).forward_backward
    for _ in range(200):
        call()
    package = os.path.dirname(str(importlib.import_module(name).__file__))
    found = watch(call, package, samples, limit_s)
    shares = tuple((place, round(count / found.total(), 4)) for place, count in found.most_common())
    return HostRow(name, row.version, OK, found.total(), shares)


def measure() -> list[Row]:
    """The row, measured in a process of its own."""
    rows, lost = collect("benchmarks.host")
    return rows or [as_row(HostRow("numbactc", None, failed(RuntimeError(str(lost)))))]


def main(arguments: list[str] | None = None) -> None:
    """Measure on one thread and print the row as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds")
    options = parser.parse_args(arguments)
    confine(1)
    with contextlib.redirect_stdout(sys.stderr):
        row = measure_here(options.samples, options.limit)
    send([row])


if __name__ == "__main__":
    main()
