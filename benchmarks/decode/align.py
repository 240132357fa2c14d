"""Forced alignment: time, memory and whether the path is the best.

    python -m benchmarks.decode.align --part speed --threads 1

prints JSON rows. Time is taken in turns in one process; memory in a process for each peer and size, as
`benchmarks.memory` does: the size is allocated and a tiny problem aligned before the mark is set.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from typing import NamedTuple

import numpy as np

from benchmarks.decode.aligners import ALIGNERS, Align, Recordings, collapses_to, recordings, score_of
from benchmarks.decode.rows import AlignRow, PathRow
from benchmarks.environment import ROOT
from benchmarks.memory import read_mark, start_mark, trim
from benchmarks.rows import OK, Row, failed, not_installed
from benchmarks.speed import confine
from benchmarks.timing import single_ms, spread, take_turns

CLASSES = 29
ONCE_MS = 3_000.0
"""A call longer than this is timed once, and not in turns."""


class Size(NamedTuple):
    """T frames, N utterances, L labels, and who is asked: every peer where it is None."""

    T: int
    N: int
    L: int
    peers: tuple[str, ...] | None = None


SIZES = (
    Size(1_500, 1, 200),
    Size(1_500, 16, 200),
    Size(15_000, 1, 2_000),
    Size(60_000, 1, 8_000),
    Size(200_000, 1, 50_000, ("numbactc",)),
)
"""At the last, most peers die or take minutes."""


def _row(size: Size, peer: str, threads: int, status: str) -> AlignRow:
    return AlignRow(size.T, size.N, size.L, CLASSES, peer, ALIGNERS[peer].version, threads, status)


def _asked(size: Size, peers: list[str]) -> list[str]:
    return [peer for peer in peers if size.peers is None or peer in size.peers]


def measure_speed(size: Size, peers: list[str], threads: int, rounds: int, budget_s: float) -> list[Row]:
    """Time and score of every peer at a size, in turns."""
    given = recordings(size.T, size.N, size.L, CLASSES)
    rows: dict[str, AlignRow] = {}
    calls: dict[str, Align] = {}
    for peer in _asked(size, peers):
        rows[peer] = _row(size, peer, threads, OK)
        if ALIGNERS[peer].missing:
            rows[peer] = replace(rows[peer], status=not_installed(ALIGNERS[peer].missing))
            continue
        try:
            rows[peer], call = _first_call(rows[peer], peer, given)
        except Exception as error:  # a peer that fails is a row of the table, not the end of the run
            rows[peer] = replace(rows[peer], status=failed(error))
            continue
        if call is not None:
            calls[peer] = call
    for peer, samples in take_turns(calls, rounds, budget_s).items():
        rows[peer] = replace(
            rows[peer], repeats=len(samples), time_ms=spread(samples), samples_ms=tuple(round(s, 4) for s in samples)
        )
    return [asdict(row) for row in rows.values()]


def _first_call(row: AlignRow, peer: str, given: Recordings) -> tuple[AlignRow, Align | None]:
    """The row with the first call in it, and the call, unless it is too long to be made again."""
    call = ALIGNERS[peer].load(given)
    found: list[np.ndarray] = []
    row = replace(row, first_ms=single_ms(lambda: found.extend(call())))
    if found:
        row = replace(row, score=sum(score_of(path, scores) for path, scores in zip(found, given.scores, strict=True)))
    if peer != "numbactc" and (row.first_ms or 0) > ONCE_MS:
        once = (row.first_ms or 0.0,)
        return replace(row, repeats=1, time_ms=spread(once), samples_ms=once), None
    return row, call


def measure_memory_here(size: Size, peer: str, threads: int) -> Row:
    """The peak of one call, in this process, which must be fresh."""
    ALIGNERS[peer].load(recordings(50, 1, 10, CLASSES))()
    given = recordings(size.T, size.N, size.L, CLASSES)
    call = ALIGNERS[peer].load(given)
    trim()
    baseline, method = start_mark()
    found = call()
    extra = read_mark(method) - baseline
    del found
    return asdict(replace(_row(size, peer, threads, OK), method=method, extra_bytes=extra))


def measure_memory(peers: list[str]) -> list[Row]:
    """A process for each size and peer."""
    rows: list[Row] = []
    for number, size in enumerate(SIZES):
        for peer in _asked(size, peers):
            if ALIGNERS[peer].missing:
                rows.append(asdict(_row(size, peer, 1, not_installed(ALIGNERS[peer].missing))))
                continue
            print(f"memory: {peer}, T = {size.T}", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "benchmarks.decode.align", "--part", "memory"]
            command += ["--peers", peer, "--size", str(number)]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            if done.returncode:  # killed for its memory, for example: a row all the same
                status = failed(RuntimeError(f"exit status {done.returncode}"))
                rows.append(asdict(_row(size, peer, 1, status)))
            else:
                rows += json.loads(done.stdout.splitlines()[-1])
    return rows


def small_case(seed: int, half: bool) -> Recordings:
    """Up to 41 frames and 12 labels of few classes, from a model that knows little: many paths are nearly the best.

    `half` rounds the scores to half precision, where many paths then have exactly the same score.
    """
    generator = np.random.default_rng(seed)
    labels, classes = int(generator.integers(1, 13)), int(generator.integers(2, 6))
    frames = int(generator.integers(2 * labels, 2 * labels + 17))
    logits = generator.normal(0.0, (0.003, 0.03, 2.0)[seed % 3], (1, frames, classes))
    scores = (logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))).astype(np.float32)
    if half:
        scores = scores.astype(np.float16).astype(np.float32)
    return Recordings(scores, generator.integers(1, classes, (1, labels)))


def measure_paths(peers: list[str], half: bool, cases: int = 150, tolerance: float = 1e-4) -> list[Row]:
    """How often each peer's path is worse than the best that any of them found."""
    dtype = "float16" if half else "float32"
    rows = {
        peer: PathRow(dtype, cases, peer, ALIGNERS[peer].version, OK, 0, 0, 0.0, tolerance)
        for peer in peers
        if ALIGNERS[peer].exact
    }
    for peer, row in rows.items():
        if ALIGNERS[peer].missing:
            rows[peer] = _lost(row, not_installed(ALIGNERS[peer].missing))
    for seed in range(cases):
        given = small_case(seed, half)
        scores: dict[str, float] = {}
        for peer, row in rows.items():
            if row.status != OK:
                continue
            try:
                [path] = ALIGNERS[peer].load(given)()
            except Exception as error:  # as above
                rows[peer] = _lost(row, failed(error))
                continue
            if collapses_to(path, given.targets[0]):
                scores[peer] = score_of(path, given.scores[0])
            else:
                rows[peer] = replace(row, invalid=(row.invalid or 0) + 1)
        best = max(scores.values(), default=0.0)
        for peer, score in scores.items():
            row, short = rows[peer], best - score
            worse = (row.worse or 0) + (short > tolerance)
            rows[peer] = replace(row, worse=worse, largest=max(row.largest or 0.0, short))
    return [asdict(row) for row in rows.values()]


def _lost(row: PathRow, status: str) -> PathRow:
    return replace(row, status=status, worse=None, invalid=None, largest=None)


def main(arguments: list[str] | None = None) -> None:
    """Measure as asked and print the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["speed", "memory", "paths"], required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", default=",".join(ALIGNERS))
    parser.add_argument("--size", type=int, help="which of the sizes; all where it is left out")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--budget", type=float, default=8.0, help="seconds for one size, all peers")
    options = parser.parse_args(arguments)
    confine(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    peers = options.peers.split(",")
    sizes = SIZES if options.size is None else SIZES[options.size : options.size + 1]
    rows: list[Row] = []
    with contextlib.redirect_stdout(sys.stderr):
        if options.part == "paths":
            rows = measure_paths(peers, half=False) + measure_paths(peers, half=True)
        for size in sizes if options.part != "paths" else ():
            if options.part == "memory":
                rows.append(measure_memory_here(size, peers[0], options.threads))
            else:
                print(f"align, {options.threads} thread(s): T = {size.T}, N = {size.N}, L = {size.L}", flush=True)
                rows += measure_speed(size, peers, options.threads, options.rounds, options.budget)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
