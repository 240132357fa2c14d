"""Speed: forward, and forward + backward, of every peer on every shape, in one process with a fixed number of
threads.

    python -m benchmarks.speed --threads 1 --shapes text-line --peers numbactc,torch

prints JSON rows on standard output, a line a shape. Thread pools are sized when a framework is imported, so a number of
threads is a process of its own: it first confines itself to that many cores (`os.sched_setaffinity`), then sets the
variables the frameworks read, then imports them. What no variable limits is limited by the cores.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from benchmarks.children import TimeLeft, send, until
from benchmarks.peers import PEERS, REFERENCE, Calls
from benchmarks.rows import OK, TIME_IS_UP, SpeedRow, failed, not_installed
from benchmarks.shapes import SHAPES, TINY, Shape, draw, sweep_shapes
from benchmarks.timing import block_ms, paired_ratio, single_ms, spread, take_turns

PASSES = {
    "forward": ("forward", block_ms),
    "forward_backward": ("forward_backward", block_ms),
    "forward_backward_after_others": ("forward_backward", single_ms),
}
"""What a row tells: which call of a peer, and how it is timed."""
KNOWN = SHAPES | sweep_shapes() | {TINY.name: TINY}
PAUSE_S = 0.05
"""Longer than OpenMP's workers spin after a loop, and jax takes to give memory back, lest either meet the next peer."""


def confine(threads: int) -> None:
    """Limit this process to `threads` cores and every framework imported later to as many threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def load_peers(names: Sequence[str], load: Callable[[str], Calls]) -> tuple[dict[str, Calls], dict[str, str]]:
    """The peers that can be loaded, and the status of each: a peer that fails is a row, not the end of the run."""
    loaded: dict[str, Calls] = {}
    status: dict[str, str] = {}
    for name in names:
        missing = PEERS[name].missing
        status[name] = not_installed(missing) if missing else OK
        if not missing:
            try:
                loaded[name] = load(name)
            except Exception as error:
                status[name] = failed(error)
    return loaded, status


def measure_shape(
    shape: Shape,
    peers: Sequence[str],
    threads: int,
    rounds: int,
    budget_s: float,
    passes: Sequence[str] = tuple(PASSES),
    time_left: TimeLeft = lambda: math.inf,
) -> list[SpeedRow]:
    """The rows of one shape: every peer and pass. `budget_s` is for one pass of all peers together."""
    if time_left() <= 0:
        return [lost_row(shape, name, threads, what, TIME_IS_UP) for what in passes for name in peers]
    problem = draw(shape)
    loaded, status = load_peers(peers, lambda name: PEERS[name].load(problem))
    rows = []
    for what in passes:
        rows += _measure_pass(shape, what, loaded, status, threads, rounds, budget_s)
    return rows


def lost_row(shape: Shape, name: str, threads: int, what: str, status: str) -> SpeedRow:
    """A row without numbers."""
    return SpeedRow(
        shape.name, shape.T, shape.N, shape.C, shape.L, name, PEERS[name].version, threads, what, status
    )  # fmt: skip


def _measure_pass(
    shape: Shape, what: str, loaded: dict[str, Calls], known: dict[str, str], threads: int, rounds: int, budget_s: float
) -> list[SpeedRow]:
    status = dict(known)
    function, clock = PASSES[what]
    calls: dict[str, Callable[[], object]] = {}
    first: dict[str, float] = {}
    for name, bound in loaded.items():
        call = getattr(bound, function)
        try:
            first[name] = single_ms(call)
            call()
            calls[name] = call
        except Exception as error:  # as above
            status[name] = failed(error)
    turn = partial(block_ms, threads=threads) if clock is block_ms else clock
    samples = take_turns(calls, rounds, budget_s, PAUSE_S, turn)

    def row(name: str) -> SpeedRow:
        asked = name == "numbactc" and what.startswith("forward_backward") and threads == 1
        own = samples.get(name, [])
        return replace(
            lost_row(shape, name, threads, what, status[name]),
            repeats=len(own),
            first_call_ms=first.get(name),
            time_ms=spread(own) if own else None,
            ratio=paired_ratio(samples[REFERENCE], own) if own and REFERENCE in samples else None,
            floor=shape.floor if asked else None,
            aim=shape.aim if asked else None,
            samples_ms=tuple(round(sample, 4) for sample in own),
        )

    return [row(name) for name in status]


def main(arguments: list[str] | None = None) -> None:
    """Measure as asked and print the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", default=";".join(SHAPES), help="names with ; between them")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--passes", default=",".join(PASSES))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--budget", type=float, default=15.0, help="seconds for one pass of one shape, all peers")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds for everything")
    options = parser.parse_args(arguments)
    confine(options.threads)
    peers, passes, shapes = options.peers.split(","), options.passes.split(","), options.shapes.split(";")
    time_left = until(options.limit)
    for place, name in enumerate(shapes):
        print(f"speed, {options.threads} thread(s): {name}", file=sys.stderr, flush=True)
        share = max(time_left(), 0.0) / (len(shapes) - place) / len(passes)
        budget = min(options.budget, share)
        with contextlib.redirect_stdout(sys.stderr):
            rows = measure_shape(KNOWN[name], peers, options.threads, options.rounds, budget, passes, time_left)
        send(rows)


if __name__ == "__main__":
    main()
