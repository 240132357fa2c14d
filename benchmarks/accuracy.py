"""Accuracy: losses and gradients of every peer against PyTorch in float64, from the same float32 logits.

The reference widens the logits, which is exact, and keeps everything else in float64: its own error, some 1e-12, is
far below the last digit of any peer. Errors are taken utterance by utterance (`reduction="none"`, gradient of the
sum), so that no mean over the batch or over the labels hides any.
"""

from __future__ import annotations

import numpy as np

from benchmarks.peers import PEERS, Evaluation, load_torch
from benchmarks.rows import OK, AccuracyRow, failed, not_installed
from benchmarks.shapes import Case, draw


def errors(result: Evaluation, reference: Evaluation) -> tuple[float, float]:
    """Largest relative error of the losses, and largest absolute error of the gradient, over the whole batch."""
    losses, gradient = result
    true_losses, true_gradient = reference
    loss_error = np.abs(losses.astype(np.float64) - true_losses) / np.abs(true_losses)
    # Utterance by utterance: a float64 difference of everything would be another gigabyte.
    gradient_error = max(float(np.abs(gradient[:, n] - true_gradient[:, n]).max()) for n in range(gradient.shape[1]))
    return float(loss_error.max()), gradient_error


def measure_case(case: Case, peers: list[str]) -> list[AccuracyRow]:
    """One row a peer."""
    problem = draw(case.shape, case.sigma, case.wrong)
    reference = load_torch(problem, dtype="float64").evaluate()
    rows = []
    for name in peers:
        peer, shape = PEERS[name], case.shape
        status, loss, loss_error, gradient_error = OK, None, None, None
        if peer.missing:
            status = not_installed(peer.missing)
        else:
            try:
                result = peer.load(problem).evaluate()
                loss_error, gradient_error = errors(result, reference)
                loss = float(result[0].max())
            except Exception as error:  # a peer that fails is a row of the table, not the end of the run
                status = failed(error)
        ours = name == "numbactc"
        rows.append(
            AccuracyRow(
                case.name, shape.T, shape.N, shape.C, shape.L, case.sigma, name, peer.version, status,
                loss_nats=loss,
                loss_error=loss_error,
                gradient_error=gradient_error,
                loss_bound=case.loss_bound if ours else None,
                gradient_bound=case.gradient_bound if ours else None,
            )
        )
    return rows
