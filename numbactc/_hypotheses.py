"""What beam search returns: texts with their tokens, times and scores."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from numbactc import _devices, _dispatch_texts, _threads
from numbactc._dispatch_beam import Found
from numbactc._validation_decoding import Utterances


class Hypothesis(NamedTuple):
    """One of an utterance's likely texts.

    Attributes:
        tokens: (L,) int64, on the CPU.
        times: (L,) int64: the frame in which each token begins, on the best path that the beam has kept.
        score: what texts are ranked by: the log-probability that the beam has found, in nats, or `log_prob` if they
            were rescored, plus what a language model and other extras add.
        log_prob: the exact log-probability of the tokens, all alignments, whatever the beam has lost; without extras.
        lm_score: log-probability that the language model gives the tokens, in nats, unweighted; 0.0 without one.
    """

    tokens: Tensor
    times: Tensor
    score: float
    log_prob: float
    lm_score: float


def of(
    found: list[Found], utterances: Utterances, n_best: int, rescore: bool, exact: bool = True
) -> list[list[Hypothesis]]:
    """The n_best of what was found, with exact log-probabilities, or NaN in their place."""
    found = [_at_least_one(some) for some in found]
    log_probs = _log_probs(found, utterances) if exact else [np.full(some.scores.size, math.nan) for some in found]
    hypotheses = [_hypotheses_of(some, exact, rescore) for some, exact in zip(found, log_probs, strict=True)]
    if rescore:
        hypotheses = [sorted(some, key=lambda hypothesis: -hypothesis.score) for some in hypotheses]
    return [some[:n_best] for some in hypotheses]


def _at_least_one(found: Found) -> Found:
    """The empty text, if there is none with a probability."""
    if found.scores.size:
        return found
    score = -math.inf if found.is_number else math.nan
    return found._replace(
        scores=np.array([score]), lm_scores=np.zeros(1), log_probs=np.array([score]), lengths=np.zeros(1, np.int64)
    )


def _log_probs(found: list[Found], utterances: Utterances) -> list[np.ndarray]:
    """The exact log-probability of each text."""
    scores, frames, blank = utterances
    results = [np.full(some.scores.size, math.nan) for some in found]

    def run(some: np.ndarray) -> None:
        for n in some.tolist():
            _, _, least, lengths, tokens, _, is_number = found[n]
            if is_number:
                exact = _dispatch_texts.log_probs(scores, n, int(frames[n]), blank, tokens, lengths, least.min())
                results[n] = _by_loss(n, found[n], utterances) if exact is None else exact

    _threads.share(run, len(found), lambda: frames * np.array([20 + some.scores.size for some in found]))
    return results


def _by_loss(utterance: int, found: Found, utterances: Utterances) -> np.ndarray:
    """The same by the loss, whose numbers have exponents apart: at any distance, but text by text."""
    scores, frames, blank = utterances
    # the same scores for every text: a stride of 0, no copy
    repeated = scores[:, utterance : utterance + 1].expand(-1, found.scores.size, -1)
    lengths = [int(frames[utterance])] * found.scores.size
    tokens = torch.from_numpy(found.tokens)
    problem = _devices.prepare(repeated, tokens, lengths, found.lengths.tolist(), blank, False, False, True)
    losses, _ = _devices.forward(repeated, problem, keep=False)
    exact: np.ndarray = 0.0 - losses.numpy()
    return exact


def _hypotheses_of(found: Found, log_probs: np.ndarray, rescore: bool) -> list[Hypothesis]:
    lost = np.zeros_like(log_probs)
    if rescore:
        np.subtract(log_probs, found.log_probs, out=lost, where=np.isfinite(found.log_probs))
    ends = np.cumsum(found.lengths)[:-1]
    texts = zip(np.split(found.tokens, ends), np.split(found.times, ends), strict=True)
    return [
        Hypothesis(torch.from_numpy(tokens), torch.from_numpy(times), float(score), float(exact), float(lm_score))
        for (tokens, times), score, exact, lm_score in zip(
            texts, found.scores + lost, log_probs, found.lm_scores, strict=True
        )
    ]
