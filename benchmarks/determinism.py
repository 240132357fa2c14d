"""Determinism: how many different results, to the bit, a peer has in many runs of one call, and whether the bits of an
utterance depend on who else is in the batch, on the order there, on padding, or on the number of threads.

    python -m benchmarks.determinism --threads 2 --peers numbactc,torch

prints JSON rows on standard output, of this number of threads. Losses and gradients are compared by digests, frame by
frame up to an utterance's length.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.children import TimeLeft, collect, send, until
from benchmarks.peers import PEERS, Evaluation
from benchmarks.rows import OK, TIME_IS_UP, DeterminismRow, Row, as_row, failed, not_installed
from benchmarks.shapes import DETERMINISM_SHAPES, Problem, Shape, draw_ragged
from benchmarks.speed import confine

RUNS = 100
PADDING = 37
"""Frames, and no multiple of any vector."""


def digests(result: Evaluation, lengths: np.ndarray) -> tuple[str, ...]:
    """One digest an utterance, of its loss and of its gradient up to its length."""
    losses, gradient = result
    found = []
    for n, length in enumerate(lengths):
        bits = losses[n].tobytes() + np.ascontiguousarray(gradient[:length, n]).tobytes()
        found.append(hashlib.blake2b(bits, digest_size=8).hexdigest())
    return tuple(found)


def different(some: Sequence[str], others: Sequence[str]) -> int:
    """How many utterances have other bits."""
    return sum(a != b for a, b in zip(some, others, strict=True))


def pick(problem: Problem, utterances: Sequence[int]) -> Problem:
    """The batch of these utterances, in this order; nothing is cropped."""
    chosen = list(utterances)
    return Problem(
        np.ascontiguousarray(problem.logits[:, chosen]),
        problem.targets[chosen], problem.input_lengths[chosen], problem.target_lengths[chosen],
    )  # fmt: skip


def pad(problem: Problem, frames: int) -> Problem:
    """The same batch with more frames behind every length."""
    more = np.random.default_rng(2).standard_normal((frames, *problem.logits.shape[1:]), dtype=np.float32)
    return replace(problem, logits=np.concatenate([problem.logits, more]))


def count_results(evaluate: Callable[[], Evaluation], lengths: np.ndarray, runs: int, time_left: TimeLeft) -> list[int]:
    """Number of runs, fewer where the time is up but two, and of different results among them."""
    found: list[tuple[str, ...]] = []
    while len(found) < runs and (len(found) < 2 or time_left() > 0):
        found.append(digests(evaluate(), lengths))
    return [len(found), len(set(found))]


def _row(shape: Shape, name: str, threads: int) -> DeterminismRow:
    sizes = shape.T, shape.N, shape.C, shape.L
    return DeterminismRow(shape.name, *sizes, name, PEERS[name].version, threads, OK)


def measure_peer(
    shape: Shape, name: str, threads: int, runs: int, time_left: TimeLeft = lambda: math.inf
) -> DeterminismRow:
    """The row of one peer; `threads_differ` is for whoever has the row of one thread."""
    row = _row(shape, name, threads)
    if missing := PEERS[name].missing:
        return replace(row, status=not_installed(missing))
    if time_left() <= 0:
        return replace(row, status=TIME_IS_UP)
    problem = draw_ragged(shape)
    lengths, backwards = problem.input_lengths, range(shape.N)[::-1]

    def bits(problem: Problem) -> tuple[str, ...]:
        return digests(PEERS[name].load(problem).evaluate(), problem.input_lengths)

    try:
        calls = PEERS[name].load(problem)
        whole = digests(calls.evaluate(), lengths)
        made, results = count_results(calls.evaluate, lengths, runs, time_left)
        return replace(
            row,
            runs=made,
            results=results,
            alone=different(whole, [bits(pick(problem, [n]))[0] for n in range(shape.N)]),
            order=different(whole, bits(pick(problem, backwards))[::-1]),
            padding=different(whole, bits(pad(problem, PADDING))),
            bits=whole,
        )
    except Exception as error:  # a peer that fails is a row of the table, not the end of the run
        return replace(row, status=failed(error))


def compare_threads(rows: list[Row]) -> list[Row]:
    """The rows of more than one thread with the number of utterances whose bits are not those of one thread."""
    alone = {(row["shape"], row["peer"]): row["bits"] for row in rows if row["threads"] == 1}
    for row in rows:
        before = alone.get((row["shape"], row["peer"]))
        if row["threads"] > 1 and before and row["bits"]:
            row["threads_differ"] = different(before, row["bits"])
    return rows


def measure(peers: Sequence[str], counts: Sequence[int], runs: int, limit_s: float) -> list[Row]:
    """A process for each number of threads; what one that dies has not sent are rows that say so."""
    rows, time_left = list[Row](), until(limit_s)
    for place, threads in enumerate(counts):
        share = time_left() / (len(counts) - place)
        arguments = ("--peers", ",".join(peers), "--threads", str(threads), "--runs", str(runs))
        sent, lost = collect("benchmarks.determinism", *arguments, limit_s=share)
        owed = [_row(shape, name, threads) for name in peers for shape in DETERMINISM_SHAPES]
        why = failed(RuntimeError(str(lost)))
        rows += sent + [as_row(replace(row, status=why)) for row in owed[len(sent) :]]
    return compare_threads(rows)


def main(arguments: list[str] | None = None) -> None:
    """Measure as asked and print the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds for everything; then runs are left out")
    options = parser.parse_args(arguments)
    confine(options.threads)
    jobs = [(name, shape) for name in options.peers.split(",") for shape in DETERMINISM_SHAPES]
    time_left = until(options.limit)
    for place, (name, shape) in enumerate(jobs):
        print(f"determinism, {options.threads} thread(s): {name}, {shape.name}", file=sys.stderr, flush=True)
        share = until(time_left() / (len(jobs) - place))
        with contextlib.redirect_stdout(sys.stderr):
            row = measure_peer(shape, name, options.threads, options.runs, share)
        send([row])


if __name__ == "__main__":
    main()
