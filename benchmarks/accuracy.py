"""Accuracy: losses and gradients of every peer against PyTorch in float64, from the same float32 logits.

The reference widens the logits, which is exact, and keeps everything else in float64: its own error, some 1e-12, is
far below the last digit of any peer. Errors are taken utterance by utterance (`reduction="none"`, gradient of the
sum), so that no mean over the batch or over the labels hides any.

    python -m benchmarks.accuracy --shapes text-line --peers numbactc,torch

prints JSON rows on standard output, a line a case.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.children import TimeLeft, collect, send, until
from benchmarks.environment import cores
from benchmarks.peers import PEERS, Evaluation, load_torch
from benchmarks.rows import OK, TIME_IS_UP, AccuracyRow, Row, as_row, failed, not_installed
from benchmarks.shapes import SHAPES, Case, accuracy_cases, draw
from benchmarks.speed import confine


def errors(result: Evaluation, reference: Evaluation) -> tuple[float, float]:
    """Largest relative error of the losses, and largest absolute error of the gradient, over the whole batch."""
    losses, gradient = result
    true_losses, true_gradient = reference
    loss_error = np.abs(losses.astype(np.float64) - true_losses) / np.abs(true_losses)
    # Utterance by utterance: a float64 difference of everything would be another gigabyte.
    gradient_error = max(float(np.abs(gradient[:, n] - true_gradient[:, n]).max()) for n in range(gradient.shape[1]))
    return float(loss_error.max()), gradient_error


def row_of(case: Case, name: str, status: str) -> AccuracyRow:
    """A row without numbers but those that are asked of numbactc."""
    shape, ours = case.shape, name == "numbactc"
    sizes = shape.T, shape.N, shape.C, shape.L
    return AccuracyRow(
        case.name, *sizes, case.sigma, name, PEERS[name].version, status,
        loss_bound=case.loss_bound if ours else None,
        gradient_bound=case.gradient_bound if ours else None,
    )  # fmt: skip


def measure_case(case: Case, peers: Sequence[str], time_left: TimeLeft = lambda: math.inf) -> list[AccuracyRow]:
    """One row a peer."""
    if time_left() <= 0:
        return [row_of(case, name, TIME_IS_UP) for name in peers]
    problem = draw(case.shape, case.sigma, case.wrong)
    reference = load_torch(problem, dtype="float64").evaluate()
    rows = []
    for name in peers:
        if missing := PEERS[name].missing:
            rows.append(row_of(case, name, not_installed(missing)))
            continue
        try:
            result = PEERS[name].load(problem).evaluate()
            loss_error, gradient_error = errors(result, reference)
            row = replace(
                row_of(case, name, OK),
                loss_nats=float(result[0].max()), loss_error=loss_error, gradient_error=gradient_error,
            )  # fmt: skip
        except Exception as error:  # a peer that fails is a row of the table, not the end of the run
            row = row_of(case, name, failed(error))
        rows.append(row)
    return rows


def measure(shapes: list[str], peers: Sequence[str], extremes: bool, limit_s: float) -> list[Row]:
    """All cases in a process of their own; what one that dies has not sent are rows that say so."""
    arguments = ["--shapes", ",".join(shapes), "--peers", ",".join(peers)] + ([] if extremes else ["--no-extremes"])
    rows, lost = collect("benchmarks.accuracy", *arguments, limit_s=limit_s)
    why, there = failed(RuntimeError(str(lost))), {row["case"] for row in rows}
    owed = [case for case in accuracy_cases(shapes, extremes) if case.name not in there]
    return rows + [as_row(row_of(case, name, why)) for case in owed for name in peers]


def main(arguments: list[str] | None = None) -> None:
    """Measure as asked, on all cores, and print the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--no-extremes", action="store_true")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds for everything")
    options = parser.parse_args(arguments)
    confine(cores())
    time_left = until(options.limit)
    for case in accuracy_cases(options.shapes.split(","), not options.no_extremes):
        print(f"accuracy: {case.name}", file=sys.stderr, flush=True)
        with contextlib.redirect_stdout(sys.stderr):
            rows = measure_case(case, options.peers.split(","), time_left)
        send(rows)


if __name__ == "__main__":
    main()
