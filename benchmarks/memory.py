"""Memory: the peak of forward + backward beyond the logits and their gradient, each peer in a fresh process.

    python -m benchmarks.memory --peer torch --shape pieces-5000

prints one JSON row. The process imports the peer, runs it on a tiny problem with as many classes (imports,
compilation, thread pools), draws the real problem, compiles for it where that is a step of its own, gives freed
memory back to the system, and notes its resident size: the baseline, logits included. Then it resets the kernel's
mark of the largest resident size (writing 5 to /proc/self/clear_refs), makes one call and reads the mark (VmHWM).
Extra memory is mark - baseline - gradient. Where that file does not exist the mark is `ru_maxrss`, which cannot be
reset and so may hide a peak below an earlier one; the row says so. Resident pages count, not what an allocator
reserves.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import re
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.environment import ROOT
from benchmarks.peers import PEERS
from benchmarks.rows import OK, MemoryRow, Row, as_row, failed, not_installed
from benchmarks.shapes import MEMORY_BOUND, MEMORY_SHAPES, SHAPES, Shape, draw, tiny

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _status_bytes(field: str) -> int:
    match = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    if match is None:
        raise OSError(f"{STATUS} has no {field}")
    return int(match[1]) * 1024


def trim() -> None:
    """Give freed memory back to the system, else the call under test would reuse it unseen."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def start_mark() -> tuple[int, str]:
    """Baseline in bytes and the name of the method; resets the mark of the largest size where the system can."""
    try:
        CLEAR_REFS.write_text("5")
        return _status_bytes("VmRSS"), "VmHWM after a reset by clear_refs"
    except OSError:
        return read_mark("ru_maxrss, not reset"), "ru_maxrss, not reset"


def read_mark(method: str) -> int:
    """Largest resident size since the mark was set, in bytes."""
    if method.startswith("VmHWM"):
        return _status_bytes("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def lost_row(shape: Shape, peer: str, threads: int, status: str) -> MemoryRow:
    """A row without numbers."""
    return MemoryRow(shape.name, shape.T, shape.N, shape.C, shape.L, peer, PEERS[peer].version, threads, status)


def measure_here(shape: Shape, name: str, threads: int) -> MemoryRow:
    """Measure in this process, which must be fresh."""
    warm = PEERS[name].load(draw(tiny(shape)))
    warm.forward_backward()
    problem = draw(shape)
    calls = PEERS[name].load(problem)
    calls.prepare()
    del warm
    trim()
    baseline, method = start_mark()
    result = calls.forward_backward()
    peak = read_mark(method)
    del result
    logits = shape.logits_bytes
    extra = peak - baseline - logits
    return replace(
        lost_row(shape, name, threads, OK),
        method=method,
        logits_bytes=logits,
        gradient_bytes=logits,
        baseline_bytes=baseline,
        peak_bytes=peak,
        extra_bytes=extra,
        extra_over_logits=extra / logits,
        bound=MEMORY_BOUND if (name, shape.name) == ("numbactc", MEMORY_SHAPES[-1]) else None,
    )


def measure(shape: str, peer: str, threads: int) -> Row:
    """The row of one shape and peer, measured in a process of its own."""
    if PEERS[peer].missing:
        return as_row(lost_row(SHAPES[shape], peer, threads, not_installed(PEERS[peer].missing)))
    command = [sys.executable, "-m", "benchmarks.memory", "--peer", peer, "--shape", shape, "--threads", str(threads)]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    except subprocess.CalledProcessError as error:  # killed for its memory, for example: a row all the same
        return as_row(lost_row(SHAPES[shape], peer, threads, failed(RuntimeError(f"exit status {error.returncode}"))))
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def main(arguments: list[str] | None = None) -> None:
    """Measure one peer on one shape and print the row as JSON."""
    from benchmarks.speed import confine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    confine(options.threads)
    print(json.dumps(as_row(measure_here(SHAPES[options.shape], options.peer, options.threads))))


if __name__ == "__main__":
    main()
